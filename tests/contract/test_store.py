"""What every store promises, asked of each backend: a folder, a folder without hard links, S3."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from smartstream.config import Lake
from smartstream.errors import LakeNotWritable, RawCorrupt, Retry, StoreUnavailable
from smartstream.manifest import EntryKind, RawFile
from smartstream.raw import s3_store
from smartstream.raw.manifest_log import ManifestLog, entry_key
from smartstream.raw.reader import read_batches, read_schema
from smartstream.raw.store import AlreadyExists, NotFound, Store, open_store
from smartstream.raw.writer import RawWriter
from tests.contract.s3_emulator import S3Emulator
from tests.contract.test_store_local import refuse_links, wins
from tests.unit.raw_samples import NOON, ORDERS, changelog

_EARLY, _LATE = datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def s3() -> Iterator[S3Emulator]:
    """One emulator for this file."""
    emulator = S3Emulator()
    yield emulator
    emulator.stop()


@pytest.fixture
def one_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    """boto3 does not repeat requests: its waits would make the tests slow."""
    monkeypatch.setattr(s3_store, "_ATTEMPTS_MAX", 1)


@pytest.fixture
def short_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer that does not come is given up soon."""
    monkeypatch.setattr(s3_store, "_READ_TIMEOUT_S", 1)


@pytest.fixture(params=["local", "local without hard links", "s3", "s3 without prefix"])
def lake(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lake:
    """A fresh warehouse on each backend."""
    if "s3" in request.param:
        emulator = request.getfixturevalue("s3")
        lake: Lake = emulator.lake("" if "without" in request.param else "some/prefix")
        return lake
    if "without" in request.param:
        monkeypatch.setattr(os, "link", refuse_links)
    return Lake(warehouse=str(tmp_path / "a" / "lake"))


@pytest.fixture
def store(lake: Lake) -> Store:
    """The store of a fresh warehouse."""
    return open_store(lake)


def test_what_was_put_is_read_back_byte_for_byte(store: Store) -> None:
    for data in (b"", b"\x00\xff\r\n", os.urandom(300_000)):
        store.put("raw/a b/é=1.bin", data)
        assert store.get("raw/a b/é=1.bin") == data


def test_put_replaces_what_was_there(store: Store) -> None:
    store.put("raw/x", b"long before")
    store.put("raw/x", b"now")
    assert store.get("raw/x") == b"now"


def test_a_missing_object_is_not_found(store: Store) -> None:
    with pytest.raises(NotFound):
        store.get("raw/none")
    store.put("raw/x", b"")
    for key in ("raw/none", "raw/x/below"):
        with pytest.raises(NotFound):
            store.get(key)


def test_put_if_absent_keeps_the_first(store: Store) -> None:
    store.put("raw/x", b"first", if_absent=True)
    for data in (b"second", b"first"):
        with pytest.raises(AlreadyExists):
            store.put("raw/x", data, if_absent=True)
    assert store.get("raw/x") == b"first"
    store.delete("raw/x")
    store.put("raw/x", b"third", if_absent=True)
    assert store.get("raw/x") == b"third"


def test_of_many_threads_putting_one_key_exactly_one_wins(lake: Lake) -> None:
    stores = [open_store(lake) for _ in range(8)]
    contents = [bytes([65 + n]) * 5_000 for n in range(8)]
    for turn in range(15):
        barrier = threading.Barrier(len(stores))

        def race(n: int, key: str = f"raw/race/{turn}", barrier: threading.Barrier = barrier) -> bool:
            barrier.wait()
            return wins(stores[n], key, contents[n])

        with ThreadPoolExecutor(len(stores)) as pool:
            won = list(pool.map(race, range(len(stores))))
        assert won.count(True) == 1, f"turn {turn}: {won}"
        assert stores[0].get(f"raw/race/{turn}") == contents[won.index(True)]
    assert len(list(stores[0].list("raw/race/"))) == 15


def test_a_reader_never_sees_half_an_object(store: Store) -> None:
    first, second = b"a" * 400_000, b"b" * 500_000
    store.put("raw/x", first)
    stop = threading.Event()
    seen: list[bytes] = []

    def read() -> None:
        while not stop.is_set():
            seen.append(store.get("raw/x"))

    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(read)
        for n in range(20):
            store.put("raw/x", (first, second)[n % 2])
        stop.set()
        reading.result()
    assert seen
    assert set(seen) <= {first, second}


def test_a_created_object_appears_when_its_block_ends(store: Store) -> None:
    with store.create("raw/t/x.parquet") as file:
        for _ in range(10):
            file.write(b"0123456789")
        assert file.tell() == 100
        assert not list(store.list("raw/"))
    assert store.get("raw/t/x.parquet") == b"0123456789" * 10


def test_a_created_object_larger_than_a_part_arrives_whole(
    store: Store, monkeypatch: pytest.MonkeyPatch, lake: Lake
) -> None:
    monkeypatch.setattr(s3_store, "_PART_BYTES", 5 << 20)
    data = os.urandom(12 << 20)
    store = open_store(lake)
    with store.create("raw/large") as file:
        file.write(data)
    assert store.get("raw/large") == data
    assert store.discard_unfinished("raw/", before=_LATE) == 0


def test_a_created_object_whose_block_fails_leaves_nothing(store: Store) -> None:
    with pytest.raises(ZeroDivisionError), store.create("raw/t/x.parquet") as file:
        file.write(b"half" * (1 // 0))
    assert not list(store.list("raw/"))
    assert store.discard_unfinished("raw/", before=_LATE) == 0


def test_list_gives_keys_in_order_with_size_and_time(store: Store) -> None:
    keys = ["raw/a.b/2", "raw/a/1", "raw/a/2", "raw/a/b/3", "raw/b", "raw/b-1"]
    before = datetime.now(UTC) - timedelta(seconds=5)
    for n, key in enumerate(reversed(keys)):
        store.put(key, b"x" * n)
    found = list(store.list("raw/"))
    assert [f.key for f in found] == sorted(keys)
    assert [f.size_bytes for f in found] == [len(keys) - 1 - keys.index(f.key) for f in found]
    assert all(before < f.modified < before + timedelta(minutes=1) for f in found)
    assert [f.key for f in store.list("raw/a/")] == ["raw/a/1", "raw/a/2", "raw/a/b/3"]
    assert [f.key for f in store.list("raw/b")] == ["raw/b", "raw/b-1"]
    assert not list(store.list("raw/none/"))
    assert not list(store.list("none"))


def test_list_goes_on_behind_a_key_whether_it_exists_or_not(store: Store) -> None:
    for n in (1, 2, 4):
        store.put(f"raw/{n}", b"")
    assert [f.key for f in store.list("raw/", after="raw/2")] == ["raw/4"]
    assert [f.key for f in store.list("raw/", after="raw/3")] == ["raw/4"]
    assert not list(store.list("raw/", after="raw/4"))


def test_list_goes_past_one_page(s3: S3Emulator) -> None:
    store = open_store(s3.lake())
    keys = [f"raw/{n:02}" for n in range(25)]
    for key in keys:
        store.put(key, b"")
    s3.page_size = 10
    try:
        assert [f.key for f in store.list("raw/")] == keys
        assert [f.key for f in store.list("raw/", after=keys[3])] == keys[4:]
    finally:
        s3.page_size = None


def test_delete_removes_and_does_not_mind_what_is_gone(store: Store) -> None:
    store.put("raw/x", b"1")
    store.delete("raw/x")
    store.delete("raw/x")
    assert not list(store.list("raw/"))


def test_arrow_reads_the_object_under_its_path(store: Store) -> None:
    store.put("raw/a b/é.bin", b"0123456789")
    with store.filesystem.open_input_file(store.path("raw/a b/é.bin")) as file:
        assert file.read_at(4, 3) == b"3456"


def test_the_manifest_goes_on_where_another_process_left_it(lake: Lake) -> None:
    first = ManifestLog(open_store(lake), lambda: _EARLY)
    first.load()
    for lsn in (10, 20, 30):
        first.append(EntryKind.CHANGES, lsn=lsn)
    second = ManifestLog(open_store(lake), lambda: _EARLY)
    assert second.load() == first.state
    assert [entry.lsn for entry in second.entries(1)] == [20, 30]


def _write_orders(lake: Lake) -> RawFile:
    return RawWriter(open_store(lake), lambda: NOON).write(ORDERS, changelog(500))


def test_a_raw_file_is_read_back_as_it_was_written(lake: Lake) -> None:
    file = _write_orders(lake)
    assert pa.Table.from_batches(read_batches(open_store(lake), file)) == changelog(500)
    assert read_schema(open_store(lake), file) == ORDERS


def test_a_damaged_or_missing_raw_file_is_corrupt_wherever_it_lies(lake: Lake) -> None:
    store, file = open_store(lake), _write_orders(lake)
    data = bytearray(store.get(file.path))
    data[len(data) // 3] ^= 1
    store.put(file.path, bytes(data))
    with pytest.raises(RawCorrupt, match=file.path):
        list(read_batches(store, file))
    store.put(file.path, bytes(data[:-1]))
    with pytest.raises(RawCorrupt, match=file.path):
        list(read_batches(store, file))
    store.delete(file.path)
    with pytest.raises(RawCorrupt, match=file.path):
        read_schema(store, file)


# S3 alone.


@pytest.mark.usefixtures("short_timeout")
def test_an_answer_lost_on_the_way_is_repeated_and_recognised(s3: S3Emulator) -> None:
    log = ManifestLog(open_store(s3.lake()), lambda: _EARLY)
    log.load()
    s3.lost_answers = 1
    assert log.append(EntryKind.CHANGES, lsn=10).seq == 1
    assert s3.lost_answers == 0
    assert log.append(EntryKind.CHANGES, lsn=20).seq == 2


@pytest.mark.usefixtures("one_attempt", "short_timeout")
def test_a_write_whose_every_answer_was_lost_is_found_by_reading_back(s3: S3Emulator) -> None:
    store = open_store(s3.lake())
    s3.lost_answers = 1
    with pytest.raises(StoreUnavailable):
        store.put("raw/x", b"1", if_absent=True)
    assert store.get("raw/x") == b"1"
    log = ManifestLog(store, lambda: _EARLY)
    log.load()
    s3.lost_answers = 1
    entry = log.append(EntryKind.CHANGES, lsn=10)
    assert store.get(entry_key(1)) == entry.to_json()
    assert log.state.durable_lsn == 10


@pytest.mark.usefixtures("one_attempt")
@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (("403 Forbidden", "AccessDenied"), LakeNotWritable),
        (("400 Bad Request", "ExpiredToken"), LakeNotWritable),
        (("301 Moved", "PermanentRedirect"), LakeNotWritable),
        (("409 Conflict", "ConditionalRequestConflict"), StoreUnavailable),
        (("503 Slow Down", "SlowDown"), StoreUnavailable),
        (("500 Internal", "InternalError"), StoreUnavailable),
    ],
    ids=lambda value: value[1] if isinstance(value, tuple) else value.__name__,
)
def test_what_s3_answers_becomes_our_error(
    s3: S3Emulator, answer: tuple[str, str], expected: type[Exception]
) -> None:
    store = open_store(s3.lake())
    s3.refusal = answer
    try:
        with pytest.raises(expected):
            store.put("raw/x", b"1", if_absent=True)
        with pytest.raises(expected), store.create("raw/y") as file:
            file.write(b"1")
    finally:
        s3.refusal = None


@pytest.mark.usefixtures("one_attempt")
def test_a_bucket_that_is_not_there_is_not_writable(s3: S3Emulator) -> None:
    store = open_store(s3.lake_in("s3://no-such-bucket/x"))
    with pytest.raises(LakeNotWritable, match="NoSuchBucket"):
        store.put("raw/x", b"1")
    with pytest.raises(LakeNotWritable):
        list(store.list("raw/"))


@pytest.mark.usefixtures("one_attempt")
def test_a_store_that_does_not_answer_is_tried_again_later() -> None:
    emulator = S3Emulator()
    lake = emulator.lake()
    store, file = open_store(lake), _write_orders(lake)
    emulator.stop()
    with pytest.raises(StoreUnavailable) as error:
        store.put("raw/x", b"1")
    assert error.value.retry is Retry.TRANSIENT
    assert "testing" not in str(error.value)
    with pytest.raises(StoreUnavailable):
        store.get("raw/x")
    with pytest.raises(StoreUnavailable):
        list(store.list("raw/"))
    with pytest.raises(StoreUnavailable):
        list(read_batches(store, file))


def test_uploads_that_a_crash_left_are_discarded_when_old(s3: S3Emulator) -> None:
    lake = s3.lake()
    store, client, bucket = open_store(lake), s3.client(), lake.warehouse.split("/")[2]
    client.create_multipart_upload(Bucket=bucket, Key="some/prefix/raw/x")
    assert store.discard_unfinished("raw/", before=_EARLY) == 0
    assert store.discard_unfinished("raw/", before=_LATE) == 1
    assert store.discard_unfinished("raw/", before=_LATE) == 0
