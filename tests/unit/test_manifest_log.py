"""The manifest log: its order, its replay, and what it does when the store fails."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from smartstream.errors import DiskFull, LakeError, ManifestConflict, RawCorrupt, StoreUnavailable
from smartstream.manifest import Entry, EntryKind, LakeState, RawFile, TableState
from smartstream.raw.local_store import LocalStore
from smartstream.raw.manifest_log import CHECKPOINT, ManifestLog, entry_key
from smartstream.raw.store import NotFound, StoredObject

FILE = RawFile("public.t", "raw/public.t/dt=2026-01-01/x.parquet", 3, 400, 10, 20, {"i": 2, "d": 1})
COPY = {
    "schema": '{"oid":1}',
    "generation": 1,
    "chunks": [["public.t", 0, 9], ["public.t", 10, 19]],
    "filenode": "5",
    "xmin": "700",
    "seen": "0/14",
}


def ticking() -> Callable[[], datetime]:
    """A clock that moves on by a second whenever it is read."""
    moments = iter(datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=n) for n in range(1_000_000))
    return lambda: next(moments)


class FaultyStore(LocalStore):
    """Fails a put-if-absent after (``after``) or before (``before``) it happened; may fail to read."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.before: list[LakeError] = []
        self.after: list[LakeError] = []
        self.reads: list[LakeError] = []

    def put(self, key: str, data: bytes, *, if_absent: bool = False) -> None:
        if self.before:
            raise self.before.pop(0)
        super().put(key, data, if_absent=if_absent)
        if self.after:
            raise self.after.pop(0)

    def get(self, key: str) -> bytes:
        if self.reads:
            raise self.reads.pop(0)
        return super().get(key)


@pytest.fixture
def store(tmp_path: Path) -> FaultyStore:
    """A fresh folder whose failures a test can order."""
    return FaultyStore(tmp_path)


def open_log(store: LocalStore) -> ManifestLog:
    """A log as another process would find it."""
    log = ManifestLog(store, ticking())
    log.load()
    return log


def filled(store: LocalStore) -> ManifestLog:
    """Seven entries of every kind."""
    log = open_log(store)
    log.append(EntryKind.CHANGES, lsn=10)
    log.append(EntryKind.COPY_START, lsn=10, table="public.t", detail=COPY)
    chunk = {"generation": 1, "chunk": 1}
    log.append(EntryKind.COPY_CHUNK, lsn=10, table="public.t", detail=chunk, files=[FILE])
    schemas = {"public.t": {"schema": '{"oid":2}', "fills": {"4": "x"}}}
    log.append(EntryKind.CHANGES, lsn=30, files=[FILE], detail={"schemas": schemas})
    log.append(EntryKind.COPY_CHUNK, lsn=10, table="public.t", detail={"generation": 1, "chunk": 0})
    log.append(EntryKind.COPY_END, lsn=30, table="public.t", detail={"generation": 1})
    log.append(
        EntryKind.CHANGES, lsn=40, detail={"schemas": {"public.t": {"schema": '{"oid":3}', "fills": {}}}}
    )
    return log


def test_an_empty_lake_has_the_empty_state(store: FaultyStore) -> None:
    log = ManifestLog(store, ticking())
    assert log.load() == log.state == LakeState()
    assert log.applied_seq == 0
    assert list(log.entries(0)) == []


def test_entries_are_numbered_from_one_and_read_back_as_they_were_appended(store: FaultyStore) -> None:
    log = open_log(store)
    written = [log.append(EntryKind.CHANGES, lsn=n, files=[FILE], detail={"n": n}) for n in (10, 20, 30)]
    assert [e.seq for e in written] == [1, 2, 3]
    assert list(log.entries(0)) == written
    assert list(log.entries(2)) == written[2:]
    assert list(log.entries(3)) == []


def test_another_process_replays_to_the_same_state(store: FaultyStore) -> None:
    log = filled(store)
    assert open_log(store).state == log.state
    table = log.state.tables["public.t"]
    assert log.state.durable_lsn == 40
    assert table == TableState(
        schema='{"oid":3}',
        generation=1,
        copy_seq=2,
        copy_lsn=10,
        chunks=(("public.t", 0, 9), ("public.t", 10, 19)),
        filenode="5",
        xmin="700",
        chunks_done=frozenset({0, 1}),
        copied=True,
        ready_lsn=30,
        reference=COPY["schema"],
        schema_lsn=40,
        seen_lsn=20,
        copy_schema=COPY["schema"],
    )


@pytest.mark.parametrize("checkpoint_after", range(8))
def test_a_checkpoint_anywhere_gives_the_same_state(store: FaultyStore, checkpoint_after: int) -> None:
    log = filled(store)
    state = LakeState()
    for entry in list(log.entries(0))[:checkpoint_after]:
        state = state.apply(entry)
    log.save_checkpoint(state, max(0, checkpoint_after - 1))
    again = open_log(store)
    assert again.state == log.state
    assert again.applied_seq == max(0, checkpoint_after - 1)
    assert again.append(EntryKind.CHANGES, lsn=50).seq == 8


@pytest.mark.parametrize("unknown", [["copy_schema"], ["copy_schema", "schema_lsn", "reference"]])
def test_a_checkpoint_of_an_older_version_still_says_what_was_applied(
    store: FaultyStore, unknown: list[str]
) -> None:
    log = filled(store)
    log.save_checkpoint(log.state, 5)
    saved = json.loads(store.get(CHECKPOINT))
    for table in saved["state"]["tables"].values():
        for name in unknown:
            del table[name]
    store.put(CHECKPOINT, json.dumps(saved).encode())
    again = open_log(store)
    assert (again.state, again.applied_seq) == (log.state, 5)


def test_a_copy_that_accepts_no_new_shape_keeps_the_reference(store: FaultyStore) -> None:
    log = filled(store)
    kept = {**COPY, "generation": 2, "schema": '{"oid":7}', "reference": COPY["schema"]}
    log.append(EntryKind.COPY_START, lsn=50, table="public.t", detail=kept)
    assert log.state.tables["public.t"].reference == COPY["schema"]
    log.append(EntryKind.COPY_START, lsn=50, table="public.t", detail={**COPY, "schema": '{"oid":8}'})
    assert log.state.tables["public.t"].reference == '{"oid":8}'


def test_a_checkpoint_saves_reading_the_entries_before_it(
    store: FaultyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = filled(store)
    log.save_checkpoint(log.state, 3)
    read: list[str] = []
    get = FaultyStore.get
    monkeypatch.setattr(FaultyStore, "get", lambda self, key: read.append(key) or get(self, key))
    assert open_log(store).state == log.state
    assert read == [CHECKPOINT, entry_key(7)]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"[]",
        b"null",
        b"{}",
        b'{"applied_seq": 1}',
        b'{"applied_seq": 99, "state": {"seq": 3, "durable_lsn": 1, "tables": {}}}',
        b'{"applied_seq": 0, "state": {"seq": 3, "durable_lsn": 1, "tables": {"public.t": {"chunks": []}}}}',
        b'{"applied_seq": 0, "state": {"seq": "x", "durable_lsn": 1, "tables": {}}}',
        b'{"applied_seq": 0, "state": {"seq": 3, "durable_lsn": 1, "tables": {"public.t": 7}}}',
    ],
)
def test_without_a_usable_checkpoint_the_whole_log_is_replayed(store: FaultyStore, data: bytes) -> None:
    log = filled(store)
    store.put(CHECKPOINT, data)
    again = open_log(store)
    assert again.state == log.state
    assert again.applied_seq == 0


def test_a_trimmed_log_without_its_checkpoint_is_corrupt(store: FaultyStore) -> None:
    log = filled(store)
    log.save_checkpoint(log.state, 7)
    for seq in (1, 2, 3):
        store.delete(entry_key(seq))
    assert open_log(store).state == log.state
    store.delete(CHECKPOINT)
    with pytest.raises(RawCorrupt, match=entry_key(1)):
        open_log(store)


def test_a_checkpoint_without_its_log_is_corrupt(store: FaultyStore) -> None:
    log = filled(store)
    log.save_checkpoint(log.state, 7)
    for seq in range(5, 8):
        store.delete(entry_key(seq))
    with pytest.raises(RawCorrupt, match=entry_key(7)):
        open_log(store)


def test_a_gap_is_corrupt_and_named(store: FaultyStore) -> None:
    filled(store)
    store.delete(entry_key(4))
    with pytest.raises(RawCorrupt, match=entry_key(4)):
        open_log(store)


def _without(name: str) -> Callable[[bytes], bytes]:
    return lambda data: json.dumps({k: v for k, v in json.loads(data).items() if k != name}).encode()


def _with(**values: object) -> Callable[[bytes], bytes]:
    return lambda data: json.dumps({**json.loads(data), **values}).encode()


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[: len(data) // 2],
        lambda data: b"\x00" * len(data),
        lambda data: b"[]",
        _without("seq"),
        _without("detail"),
        _with(seq=5),
        _with(lsn=7),
        _with(lsn="nonsense"),
        _with(kind="unheard of"),
        _with(files=[1]),
        _with(files=[{"table": "t"}]),
        _with(kind="copy_chunk", table="public.other"),
        _with(kind="copy_chunk", table=None),
        _with(kind="copy_start", table="public.t"),
        _with(kind="copy_end", table="public.t", detail=[]),
    ],
)
def test_a_damaged_entry_is_corrupt_and_named(store: FaultyStore, damage: Callable[[bytes], bytes]) -> None:
    filled(store)
    store.put(entry_key(4), damage(store.get(entry_key(4))))
    with pytest.raises(RawCorrupt, match=entry_key(4)):
        open_log(store)


def test_stray_files_beside_the_entries_are_passed_over(store: FaultyStore) -> None:
    log = filled(store)
    for name in (".DS_Store", "README", "0000.json", f"{3:020d}.json.bak"):
        store.put(f"raw/_manifest/{name}", b"stray")
    assert open_log(store).state == log.state


def test_a_listing_that_misses_a_name_is_no_gap(store: FaultyStore, monkeypatch: pytest.MonkeyPatch) -> None:
    log = filled(store)
    whole = FaultyStore.list

    def partial(self: FaultyStore, prefix: str, *, after: str | None = None) -> Iterator[StoredObject]:
        return (found for found in whole(self, prefix, after=after) if found.key != entry_key(6))

    monkeypatch.setattr(FaultyStore, "list", partial)
    assert open_log(store).state == log.state


def test_many_threads_append_without_gaps_or_losses(store: FaultyStore) -> None:
    log = open_log(store)
    with ThreadPoolExecutor(8) as pool:
        written = list(pool.map(lambda n: log.append(EntryKind.CHANGES, lsn=n), range(1, 81)))
    assert sorted(e.seq for e in written) == list(range(1, 81))
    assert {e.lsn for e in log.entries(0)} == set(range(1, 81))
    assert open_log(store).state == log.state


def test_of_two_processes_on_one_log_the_second_to_write_is_told(store: FaultyStore) -> None:
    first, second = open_log(store), open_log(store)
    first.append(EntryKind.CHANGES, lsn=10)
    with pytest.raises(ManifestConflict, match=entry_key(1)):
        second.append(EntryKind.CHANGES, lsn=20)
    assert second.state == LakeState()
    assert first.append(EntryKind.CHANGES, lsn=20).seq == 2


def test_racing_processes_never_both_write_an_entry(store: FaultyStore) -> None:
    for turn in range(10):
        logs = [open_log(store) for _ in range(6)]
        barrier = threading.Barrier(len(logs))

        def race(log: ManifestLog, barrier: threading.Barrier = barrier, turn: int = turn) -> Entry | None:
            barrier.wait()
            try:
                return log.append(EntryKind.CHANGES, lsn=turn, detail={"who": id(log)})
            except ManifestConflict:
                return None

        with ThreadPoolExecutor(len(logs)) as pool:
            won = [entry for entry in pool.map(race, logs) if entry]
        assert list(logs[0].entries(turn)) == won
        assert len(won) == 1


def unavailable() -> StoreUnavailable:
    """A time-out."""
    return StoreUnavailable("no answer")


def test_a_write_that_happened_without_an_answer_is_recognised(store: FaultyStore) -> None:
    log = open_log(store)
    store.after = [unavailable()]
    entry = log.append(EntryKind.CHANGES, lsn=10)
    assert (entry.seq, log.state.seq) == (1, 1)
    assert log.append(EntryKind.CHANGES, lsn=20).seq == 2
    assert len(list(log.entries(0))) == 2


def test_a_write_that_did_not_happen_is_an_error_and_may_be_repeated(store: FaultyStore) -> None:
    log = open_log(store)
    store.before = [unavailable()]
    with pytest.raises(StoreUnavailable):
        log.append(EntryKind.CHANGES, lsn=10)
    assert log.state == LakeState()
    assert log.append(EntryKind.CHANGES, lsn=10).seq == 1
    assert [e.lsn for e in log.entries(0)] == [10]


def test_an_entry_in_doubt_may_be_repeated_whether_it_happened_or_not(store: FaultyStore) -> None:
    log = open_log(store)
    store.after, store.reads = [unavailable()], [unavailable()]
    with pytest.raises(StoreUnavailable):
        log.append(EntryKind.CHANGES, lsn=10, files=[FILE])
    entry = log.append(EntryKind.CHANGES, lsn=10, files=[FILE])
    assert list(log.entries(0)) == [entry]


def test_an_entry_in_doubt_that_was_written_must_be_loaded_before_the_next(
    store: FaultyStore,
) -> None:
    log = open_log(store)
    store.after, store.reads = [unavailable()], [unavailable()]
    with pytest.raises(StoreUnavailable):
        log.append(EntryKind.CHANGES, lsn=10)
    with pytest.raises(StoreUnavailable, match="load the log again"):
        log.append(EntryKind.CHANGES, lsn=20)
    assert log.load().durable_lsn == 10
    assert log.append(EntryKind.CHANGES, lsn=20).seq == 2


def test_an_entry_in_doubt_that_was_not_written_stands_in_nobodys_way(store: FaultyStore) -> None:
    log = open_log(store)
    store.before = [unavailable()]
    with pytest.raises(StoreUnavailable):
        log.append(EntryKind.CHANGES, lsn=10)
    entry = log.append(EntryKind.CHANGES, lsn=20)
    assert list(log.entries(0)) == [entry]
    assert open_log(store).state == log.state


def test_an_entry_that_arrives_after_the_log_was_loaded_is_not_taken_for_another_processes(
    store: FaultyStore,
) -> None:
    log = open_log(store)
    late = open_log(store).append(EntryKind.CHANGES, lsn=10).to_json()
    store.delete(entry_key(1))
    log = open_log(store)
    store.before = [unavailable()]
    with pytest.raises(StoreUnavailable):
        log.append(EntryKind.CHANGES, lsn=10)
    assert log.load() == LakeState()
    assert log._in_doubt is not None
    assert log._in_doubt.to_json() == late
    store.put(entry_key(1), late)
    with pytest.raises(StoreUnavailable, match="written after all"):
        log.append(EntryKind.CHANGES, lsn=20)
    assert log.load().durable_lsn == 10
    assert log.append(EntryKind.CHANGES, lsn=20).seq == 2


def test_no_answer_and_anothers_entry_is_a_conflict(store: FaultyStore) -> None:
    first, second = open_log(store), open_log(store)
    first.append(EntryKind.CHANGES, lsn=10)
    store.before = [unavailable()]
    with pytest.raises(ManifestConflict):
        second.append(EntryKind.CHANGES, lsn=20)


def test_a_full_disk_is_no_doubt(store: FaultyStore) -> None:
    log = open_log(store)
    store.before = [DiskFull("no space")]
    with pytest.raises(DiskFull):
        log.append(EntryKind.CHANGES, lsn=10)
    assert log.append(EntryKind.CHANGES, lsn=20).seq == 1


def test_an_entry_whose_flush_failed_counts_only_once_a_repetition_flushed_it(store: FaultyStore) -> None:
    log = open_log(store)
    store.after = [LakeError("input/output error")]
    with pytest.raises(LakeError, match="input/output"):
        log.append(EntryKind.CHANGES, lsn=10)
    assert log.state == LakeState()
    assert log.append(EntryKind.CHANGES, lsn=10).seq == 1


def test_what_is_refused_by_the_state_is_not_written(store: FaultyStore) -> None:
    log = open_log(store)
    with pytest.raises(ValueError, match="before its copy_start"):
        log.append(EntryKind.COPY_END, lsn=1, table="public.t", detail={"generation": 1})
    with pytest.raises(NotFound):
        store.get(entry_key(1))
    assert log.append(EntryKind.CHANGES, lsn=1).seq == 1
