"""Transactions that stay open for long, and ones that are larger than memory."""

from __future__ import annotations

import signal
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest

from smartstream import doctor
from smartstream.capture import catchup
from smartstream.capture.catchup import CatchupReader
from smartstream.capture.replication import StreamingReader
from smartstream.capture.slot import SlotInfo
from smartstream.capture.transactions import OpenTransaction
from smartstream.cli.render import receiving_lines, source_lines
from smartstream.doctor import source as doctor_source
from smartstream.manifest import EntryKind
from smartstream.raw import receiving
from smartstream.raw.store import open_store
from smartstream.status import SourceStatus, beside, read_lake, read_source
from smartstream.verify.compare import _now as now
from tests.faults.daemon import Daemon
from tests.integration.test_pipeline import entries
from tests.running_pipeline import assert_equal, once, query, running, settings_for, wait_until

MIB = 1 << 20
HOUR = timedelta(hours=1)


@pytest.fixture
def admin(database: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("CREATE TABLE t (id integer PRIMARY KEY, v text, n integer DEFAULT 0)")
        connection.execute("INSERT INTO t SELECT n, 'v' || n FROM generate_series(1, 500) n")
        yield connection


@pytest.fixture
def rounds(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often a slot was read in bulk, streamed, and gave way to that; rounds and limits are small."""
    counted: Counter[str] = Counter()
    monkeypatch.setattr(catchup, "AGAIN_BYTES_MAX", MIB)
    monkeypatch.setattr(catchup, "ROUND_CHANGES_MAX", 1000)
    read, start, trailing = CatchupReader._round, StreamingReader._start, CatchupReader._gives_way

    def spy_round(reader: CatchupReader) -> bool:
        reader._round_changes = min(reader._round_changes, 1000)
        counted["rounds"] += 1
        return read(reader)

    def spy_start(reader: StreamingReader, source: Any) -> None:
        counted["streams"] += 1
        start(reader, source)

    def spy_trailing(reader: CatchupReader, handed_out: int) -> int:
        before = reader._again_bytes
        found = trailing(reader, handed_out)
        counted["again_bytes"] += reader._again_bytes - before
        counted["gave_way"] += found > 0
        return found

    monkeypatch.setattr(CatchupReader, "_round", spy_round)
    monkeypatch.setattr(CatchupReader, "_gives_way", spy_trailing)
    monkeypatch.setattr(StreamingReader, "_start", spy_start)
    return counted


def work(admin: Any, transactions: int) -> int:
    """Commit transactions of 100 changes each; the bytes of WAL they made."""
    (before,) = admin.execute("SELECT pg_current_wal_insert_lsn()").fetchone()
    for number in range(transactions):
        admin.execute("UPDATE t SET n = n + 1, v = repeat('x', 200) WHERE id %% 5 = %s", (number % 5,))
    admin.execute("CHECKPOINT")  # writes down which transactions run: slots can move on
    (count,) = admin.execute("SELECT pg_current_wal_insert_lsn() - %s::pg_lsn", (before,)).fetchone()
    return int(count)


def test_an_open_transaction_does_not_make_a_catch_up_quadratic(
    admin: Any, database: str, tmp_path: Path, rounds: Counter[str]
) -> None:
    settings = settings_for(database, tmp_path)
    once(settings)
    rounds.clear()
    with psycopg.connect(database) as holder:
        holder.execute("INSERT INTO t VALUES (1001, 'held open')")
        made = work(admin, 200)
        once(settings)
        assert rounds["gave_way"] == 1 and rounds["streams"] == 1, rounds
        assert rounds["again_bytes"] <= 2 * MIB + made, rounds
        assert rounds["rounds"] < 20, rounds
        for _ in range(2):  # from where the open transaction began, each time, and once
            made += work(admin, 40)
            rounds.clear()
            once(settings)
            assert rounds["rounds"] <= 3 and rounds["streams"] <= 1, rounds
            assert rounds["again_bytes"] <= 2 * made, (rounds, made)
        assert query(settings, "SELECT count(*) FROM t WHERE id = 1001") == [(0,)]
    once(settings)
    assert query(settings, "SELECT v FROM t WHERE id = 1001") == [("held open",)]
    assert_equal(settings)


def test_without_an_open_transaction_a_catch_up_goes_through(
    admin: Any, database: str, tmp_path: Path, rounds: Counter[str]
) -> None:
    settings = settings_for(database, tmp_path)
    once(settings)
    rounds.clear()
    for _ in range(40):
        work(admin, 5)
    once(settings)
    assert rounds["rounds"] > 12 and rounds["gave_way"] == 0, rounds
    assert_equal(settings)


def test_a_catch_up_is_closed_at_once_while_the_server_decodes(
    admin: Any, database: str, tmp_path: Path
) -> None:
    settings = settings_for(database, tmp_path)
    once(settings)
    work(admin, 10)
    (end,) = admin.execute("SELECT (pg_current_wal_flush_lsn() - '0/0')::bigint").fetchone()
    with psycopg.connect(database) as holder:
        holder.execute("LOCK TABLE pg_catalog.pg_publication")  # decoding waits for it, for ever
        reader = CatchupReader(settings.source, upto_lsn=end)
        waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"
        wait_until(lambda: admin.execute(waiting).fetchone() != (0,))
        closed = threading.Thread(target=reader.close, daemon=True)
        closed.start()
        closed.join(30.0)
        assert not closed.is_alive()
    once(settings)
    assert_equal(settings)


def test_status_and_doctor_name_the_oldest_open_transaction(
    admin: Any, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_for(database, tmp_path)
    once(settings)
    with psycopg.connect(database, application_name="forgotten") as holder:
        holder.execute("INSERT INTO t VALUES (1001, 'held open')")
        pid = holder.info.backend_pid
        work(admin, 50)
        found = read_source(settings, 1)
        assert found.oldest is not None and found.oldest.pid == pid
        assert found.slot is not None and found.slot.retained_bytes > 0
        assert found.to_dict()["oldest_transaction"]["state"] == "idle in transaction"
        monkeypatch.setattr(doctor_source, "OPEN_MAX", timedelta(0))
        (check,) = [c for c in doctor.diagnose(settings) if c.name == "open transactions"]
        assert check.status is doctor.Status.WARN
        assert f"process {pid} (idle in transaction, forgotten" in check.found and "of WAL" not in check.found
        assert "The slot keeps all WAL since it began" in check.why
        assert check.sql == (f"SELECT pg_terminate_backend({pid});",)
    (check,) = [c for c in doctor.diagnose(settings) if c.name == "open transactions"]
    assert check.status is doctor.Status.OK


def test_status_says_who_holds_wal_back_and_what_comes_in() -> None:
    forgotten = OpenTransaction(7, None, "psql, role me, database shop", "idle in transaction", HOUR)
    held = SlotInfo("smartstream", "pgoutput", "shop", 5, 100, 50, "extended", None, None, 3_000_000)
    lines = source_lines(SourceStatus(None, 200, 100, held, forgotten), 100)
    assert lines[-2:] == [
        "slot    smartstream: read by server process 5, holds back 3.0 MB",
        "        from the oldest open transaction on: process 7 (idle in transaction, psql, role me,"
        " database shop), open for 1:00:00",
    ]
    young = replace(forgotten, age=timedelta(seconds=5))
    assert "open" not in "".join(source_lines(SourceStatus(None, 200, 100, held, young), 100))
    begun = datetime(2026, 1, 1, tzinfo=UTC)
    (line,) = receiving_lines(receiving.Receiving(1_250_000, 40_000_000, begun), begun + timedelta(seconds=9))
    assert line == (
        "coming  one large transaction: 1,250,000 changes (40.0 MB) written in 9 s, all visible at its end"
    )
    assert receiving_lines(None, begun) == []


@pytest.mark.parametrize(("version", "status"), [(150012, "warn"), (150013, "ok"), (180000, "ok")])
def test_doctor_warns_of_releases_that_decode_open_transactions_wrongly(version: int, status: str) -> None:
    patient: Any = SimpleNamespace(connection=SimpleNamespace(info=SimpleNamespace(server_version=version)))
    assert doctor_source.version(patient).status == status


@pytest.mark.parametrize("streamed", [True, False])
def test_a_transaction_larger_than_a_batch_is_visible_at_once_and_on_the_way_before(
    streamed: bool, admin: Any, database: str, tmp_path: Path
) -> None:
    rows = 30_000
    settings = settings_for(
        database,
        tmp_path,
        defaults={"flush": {"every": "100ms", "bytes": "512KiB"}},
        limits={"memory_bytes": "8MiB", "queue_bytes": "1MiB", "duckdb_memory": "64MiB"},
    )
    once(settings)
    insert = "INSERT INTO t SELECT n, repeat(md5(n::text), 3), n FROM generate_series(1001, %s) n"
    update = "UPDATE t SET n = n + 1, v = v || 'x' WHERE id > 500"
    with psycopg.connect(database) as big:
        big.execute(insert, (1000 + rows,))
        big.execute(update)
        big.execute("DELETE FROM t WHERE id <= 100")
        if not streamed:
            big.commit()
            once(settings)
        else:
            with running(settings) as pipeline:
                seen = Watch(settings)
                admin.execute("INSERT INTO t VALUES (501, 'before it')")
                big.commit()
                wait_until(lambda: seen.done(401 + rows), 60.0)
                assert pipeline.progress().receiving_count == 0
                assert seen.counts <= {500, 501, 401 + rows}, "half a transaction was visible"
                assert seen.coming, "nobody could see that it was on its way"
    once(settings)
    assert_equal(settings)
    assert receiving.read(open_store(settings.lake)) is None
    (last,) = [e for e in entries(settings) if sum(file.row_count for file in e.files) >= 2 * rows]
    assert last.kind is EntryKind.CHANGES and len(last.files) > 10


class Watch:
    """Looks at the table and at the lake's status while a transaction comes in."""

    def __init__(self, settings: Any) -> None:
        self._settings = settings
        self.counts: set[int] = set()
        self.coming: list[int] = []

    def done(self, count: int) -> bool:
        """Look; whether the table has so many rows now."""
        coming = read_lake(self._settings, now).receiving
        if coming is not None:
            self.coming.append(coming.changes)
        self.counts.add(query(self._settings, "SELECT count(*) FROM t")[0][0])
        return count in self.counts


def test_a_kill_inside_of_a_large_transaction_leaves_nothing_of_it(
    admin: Any, database: str, tmp_path: Path
) -> None:
    daemon = Daemon(tmp_path, database)
    daemon.configure(lambda text: text + "defaults: {flush: {every: 100ms, bytes: 64KiB}}\n")
    settings = settings_for(database, tmp_path)
    once(settings)
    store = open_store(settings.lake)
    daemon.start()
    daemon.wait_running()
    admin.execute("INSERT INTO t SELECT n, repeat('x', 100), n FROM generate_series(1001, 40000) n")
    wait_until(lambda: receiving.read(store) is not None, 60.0)
    assert daemon.end(signal.SIGKILL) == -signal.SIGKILL
    left = receiving.read(store)
    lake = read_lake(settings, now)
    if left is not None:  # else it was killed right behind the end
        assert lake.tables[0].rows == 500
    # As soon as the server has noticed: nobody receives it now.
    wait_until(lambda: beside(lake, read_source(settings, lake.durable_lsn)).receiving is None)
    once(settings)
    assert_equal(settings)
    assert receiving.read(store) is None
