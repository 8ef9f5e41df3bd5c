"""What a folder as a store promises beyond the contract: durability, other processes, full disks."""

from __future__ import annotations

import errno
import multiprocessing
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from smartstream.errors import DiskFull, LakeNotWritable
from smartstream.raw.local_store import LocalStore
from smartstream.raw.store import AlreadyExists, Store

_EARLY, _LATE = datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)


def refuse_links(*_: Any, **__: Any) -> None:
    """os.link, where there are no hard links."""
    raise OSError(errno.EPERM, "Operation not permitted")


def wins(store: Store, key: str, data: bytes) -> bool:
    """Whether this put-if-absent was the first."""
    try:
        store.put(key, data, if_absent=True)
        return True
    except AlreadyExists:
        return False


def _race_in_process(root: str, links: bool, barrier: Any, number: int, results: Any) -> None:
    if not links:
        os.link = refuse_links  # type: ignore[assignment]
    store = LocalStore(root)
    won = []
    for turn in range(20):
        barrier.wait(30)
        won.append(wins(store, f"raw/race/{turn}", bytes([65 + number]) * 5_000))
    results.put((number, won))


@pytest.mark.parametrize("links", [True, False], ids=["hard links", "no hard links"])
def test_of_many_processes_putting_one_key_exactly_one_wins(tmp_path: Path, links: bool) -> None:
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(4), context.Queue()
    workers = [
        context.Process(target=_race_in_process, args=(str(tmp_path), links, barrier, n, results))
        for n in range(4)
    ]
    for worker in workers:
        worker.start()
    won = dict(results.get(timeout=60) for _ in workers)
    for worker in workers:
        worker.join(30)
    for turn in range(20):
        winners = [number for number in won if won[number][turn]]
        assert len(winners) == 1, f"turn {turn}: {winners}"
        assert LocalStore(tmp_path).get(f"raw/race/{turn}") == bytes([65 + winners[0]]) * 5_000


def test_half_written_files_are_no_objects_and_are_discarded_when_old(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    store.put("raw/t/x", b"1")
    (tmp_path / "raw/t/.tmp-0123").write_bytes(b"half")
    assert [f.key for f in store.list("raw/")] == ["raw/t/x"]
    assert store.discard_unfinished("raw/", before=_EARLY) == 0
    assert store.discard_unfinished("raw/", before=_LATE) == 1
    assert os.listdir(tmp_path / "raw/t") == ["x"]


def test_the_file_and_its_folder_are_flushed_before_put_returns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    fsync, link = os.fsync, os.link

    def traced_fsync(descriptor: int) -> None:
        path = os.readlink(f"/proc/self/fd/{descriptor}")
        steps.append("flush folder" if os.path.isdir(path) else "flush file")
        fsync(descriptor)

    def traced_link(source: Path, target: Path) -> None:
        steps.append("name")
        link(source, target)

    (tmp_path / "raw").mkdir()
    monkeypatch.setattr(os, "fsync", traced_fsync)
    monkeypatch.setattr(os, "link", traced_link)
    LocalStore(tmp_path).put("raw/x", b"1", if_absent=True)
    assert steps == ["flush file", "name", "flush folder"]
    with pytest.raises(AlreadyExists):
        LocalStore(tmp_path).put("raw/x", b"1", if_absent=True)
    assert steps[3:] == ["flush file", "name", "flush folder"]


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (errno.ENOSPC, DiskFull),
        (errno.EDQUOT, DiskFull),
        (errno.EACCES, LakeNotWritable),
        (errno.EROFS, LakeNotWritable),
        (errno.EPERM, LakeNotWritable),
    ],
)
def test_errors_of_the_file_system_become_ours_and_leave_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, expected: type[Exception]
) -> None:
    store = LocalStore(tmp_path)
    store.put("raw/x", b"old")
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(number, os.strerror(number))))
    with pytest.raises(expected, match=os.strerror(number)):
        store.put("raw/x", b"new")
    with pytest.raises(expected), store.create("raw/y") as file:
        file.write(b"1")
    monkeypatch.setattr(os, "fsync", fsync)
    assert os.listdir(tmp_path / "raw") == ["x"]
    assert store.get("raw/x") == b"old"


def test_a_file_where_a_folder_belongs_is_not_writable(tmp_path: Path) -> None:
    (tmp_path / "lake").write_text("a file")
    with pytest.raises(LakeNotWritable):
        LocalStore(tmp_path / "lake").put("raw/x", b"1")
