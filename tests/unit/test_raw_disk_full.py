"""A full disk under the raw zone: a clear error, no torn file, and on it goes once there is space."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from smartstream.errors import DiskFull, Retry
from smartstream.manifest import EntryKind, RawFile
from smartstream.raw.local_store import LocalStore
from smartstream.raw.manifest_log import ManifestLog
from smartstream.raw.reader import read_batches
from smartstream.raw.writer import RawWriter
from tests.unit.raw_samples import NOON, ORDERS, changelog

SIZE = 1 << 20


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one mebibyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True).returncode != 0:
        pytest.skip("mounting needs root; the test of the file size limit stands in")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_is_named_and_nothing_is_torn(small_disk: Path) -> None:
    store = LocalStore(small_disk)
    writer, log = RawWriter(store, lambda: NOON), ManifestLog(store, lambda: NOON)
    log.load()
    files: list[RawFile] = []

    def write_on() -> None:
        for lsn in range(1, 1_000):
            files.append(writer.write(ORDERS, changelog(3_000, seed=lsn)))
            log.append(EntryKind.CHANGES, lsn=lsn, files=files[-1:])

    with pytest.raises(DiskFull, match=r"orders.*No space") as error:
        write_on()
    assert error.value.retry is Retry.OPERATOR
    assert [found.key for found in store.list("raw/public")] == sorted(file.path for file in files)
    assert store.discard_unfinished("raw/", before=datetime(2100, 1, 1, tzinfo=UTC)) == 0
    for file in files:
        assert sum(batch.num_rows for batch in read_batches(store, file)) == 3_000

    (small_disk / "ballast").write_bytes(b"x" * (SIZE - _used(small_disk) - 4_096 * 2))
    written = log.state.seq
    with pytest.raises(DiskFull, match="_manifest"):
        [log.append(EntryKind.CHANGES, lsn=lsn) for lsn in range(2_000, 3_000)]
    replayed = ManifestLog(store, lambda: NOON)
    assert replayed.load() == log.state

    (small_disk / "ballast").unlink()
    assert log.append(EntryKind.CHANGES, lsn=5_000).seq == log.state.seq > written


def _used(folder: Path) -> int:
    status = os.statvfs(folder)
    return (status.f_blocks - status.f_bfree) * status.f_frsize


def test_a_file_size_limit_is_a_full_disk_and_leaves_nothing(tmp_path: Path) -> None:
    """Runs without root too; in a process of its own, because the limit can't be taken back."""
    code = """
        import resource, signal, sys
        from smartstream.errors import DiskFull
        from smartstream.raw.local_store import LocalStore
        from smartstream.raw.writer import RawWriter
        from tests.unit.raw_samples import NOON, ORDERS, changelog
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
        store = LocalStore(sys.argv[1])
        small = RawWriter(store, lambda: NOON).write(ORDERS, changelog(10))
        for write in (
            lambda: RawWriter(store, lambda: NOON).write(ORDERS, changelog(20_000)),
            lambda: store.put("raw/x", b"x" * 50_001, if_absent=True),
        ):
            try:
                write()
            except DiskFull:
                continue
            raise SystemExit("the write did not fail")
        assert [found.key for found in store.list("raw/")] == [small.path]
    """
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), str(tmp_path)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert not [name for _, _, names in os.walk(tmp_path) for name in names if name.startswith(".tmp-")]
