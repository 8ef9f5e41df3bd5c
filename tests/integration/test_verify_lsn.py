"""Verify compares both sides at one LSN, whatever the lake is doing."""

from __future__ import annotations

import random
import threading
from pathlib import Path

import psycopg
import pyarrow as pa
import pytest

from smartstream.capture.catchup import current_wal_lsn
from smartstream.capture.connect import connect
from smartstream.config import Settings
from smartstream.errors import VerifyError
from smartstream.manifest import EntryKind
from smartstream.raw.manifest_log import ManifestLog
from smartstream.raw.store import open_store
from smartstream.raw.writer import RawWriter
from smartstream.verify import TableReport, verify
from smartstream.verify.source import SourceSnapshot
from tests.integration.lake_setup import clock, copied, put, settings_of
from tests.integration.source_setup import run_sql
from tests.integration.verify_setup import Change, changelog, check, simple, with_log


@pytest.fixture
def settings(database: str, tmp_path: Path) -> Settings:
    return settings_of(database, tmp_path)


def test_a_column_that_the_lake_lacks_is_named(settings: Settings, database: str) -> None:
    with_log(settings, simple(settings, database))
    run_sql(database, "ALTER TABLE t ADD COLUMN extra int DEFAULT 4")
    report = _verified_at_head(settings, database)
    assert not report.equal
    assert "column extra is not in the lake" in (report.reason or "")


def test_a_lake_that_is_behind_says_so(settings: Settings, database: str) -> None:
    schema = simple(settings, database)
    with_log(settings, schema)
    report = verify(settings, None, False, 1.0, clock=clock)
    assert report.ok  # nothing happened to this table since
    run_sql(database, "UPDATE t SET name = 'x' WHERE id = 1")
    report = verify(settings, None, False, 1.0, clock=clock)
    assert not report.ok
    assert report.behind_bytes > 0
    assert "the lake is behind" in (report.tables[0].reason or "")
    assert report.to_dict()["tables"][0]["equal"] is False


def test_the_snapshot_is_exactly_what_committed_before_its_lsn(settings: Settings, database: str) -> None:
    run_sql(database, "CREATE TABLE marks (id bigserial PRIMARY KEY)")
    stop = threading.Event()

    def write() -> None:
        with psycopg.connect(database, autocommit=True) as connection:
            while not stop.is_set():
                connection.execute("INSERT INTO marks DEFAULT VALUES")

    with connect(settings.source) as admin:
        admin.execute("CREATE PUBLICATION p FOR TABLE public.marks")
        admin.execute("SELECT pg_create_logical_replication_slot('marks', 'pgoutput')")
        writers = [threading.Thread(target=write) for _ in range(3)]
        for writer in writers:
            writer.start()
        seen = []
        for number in range(5):
            held = SourceSnapshot(settings.source, slot=f"v{number}", wait_seconds=5)
            with held as snapshot, snapshot.session() as session:
                rows = session.execute("SELECT id FROM public.marks").fetchall()
                seen.append((snapshot.lsn, {id_ for (id_,) in rows}))
        stop.set()
        for writer in writers:
            writer.join()
        commits = _commits(admin)
    assert len(commits) > 100
    for lsn, ids in seen:
        assert ids == {id_ for commit, id_ in commits if commit < lsn}


def test_an_old_transaction_is_waited_for_and_then_named(settings: Settings, database: str) -> None:
    simple(settings, database, 1)
    with psycopg.connect(database) as connection:
        connection.execute("UPDATE t SET name = 'x'")
        with pytest.raises(VerifyError, match="a transaction has been open"):
            verify(settings, None, False, 0.3, clock=clock)
    with psycopg.connect(database, autocommit=True) as connection:
        left = connection.execute(
            "SELECT count(*) FROM pg_replication_slots WHERE slot_name LIKE 'smartstream_verify%'"
        ).fetchone()
    assert left == (0,)


def test_a_lake_that_is_catching_up_is_waited_for(settings: Settings, database: str) -> None:
    schema = simple(settings, database, 10)
    log = with_log(settings, schema)
    with connect(settings.source) as connection:
        connection.execute("SELECT pg_create_logical_replication_slot('not_there', 'pgoutput')")
    run_sql(database, "DELETE FROM t WHERE id = 1")
    table = changelog(schema, [("d", 1, None, None)], log.state.durable_lsn)
    file = RawWriter(open_store(settings.lake), clock).write(schema, table)

    def catch_up() -> None:
        position = log.append(EntryKind.CHANGES, lsn=log.state.durable_lsn + 1, files=(file,))
        log.append(EntryKind.CHANGES, lsn=position.lsn + (1 << 40))
        lake = put(settings, schema, schema.trusted_schema().empty_table())
        lake.delete("id = 1", snapshot_properties={"smartstream.lsn": str(position.lsn)})
        with lake.transaction() as transaction:
            transaction.set_properties({"smartstream.seq": str(position.seq), "smartstream.generation": "1"})

    timer = threading.Timer(0.7, catch_up)
    timer.name = "smartstream-capture"  # a pipeline's, to who looks whether one runs
    timer.start()
    report = verify(settings, None, True, 10.0, clock=clock)
    timer.join()
    assert report.ok, report
    assert (report.behind_bytes, report.tables[0].pending_changes) == (0, 0)


def test_changes_in_raw_are_laid_over_the_trusted_table(settings: Settings, database: str) -> None:
    """Random changes, a part of them in the trusted table, all in raw; seed printed on failure."""
    seed = random.randrange(1 << 32)
    rng = random.Random(seed)
    schema = simple(settings, database, 300)
    log = with_log(settings, schema)
    writer = RawWriter(open_store(settings.lake), clock)
    for _ in range(6):
        changes = [_random_change(rng, database) for _ in range(rng.randint(1, 30))]
        with connect(settings.source) as connection:
            lsn = current_wal_lsn(connection)
        table = changelog(schema, [change for change in changes if change], lsn - 1)
        file = writer.write(schema, table)
        log.append(EntryKind.CHANGES, lsn=lsn, files=(file,))
        report = verify(settings, None, True, 10.0, clock=clock)
        assert report.ok, (seed, report)
        assert report.tables[0].pending_changes > 0
    run_sql(database, "UPDATE t SET name = 'lost' WHERE id = (SELECT min(id) FROM t)")
    assert not verify(settings, None, True, 10.0, clock=clock).ok


def test_unchanged_toasted_values_and_moved_keys_are_followed_to_their_old_rows(
    settings: Settings, database: str
) -> None:
    schema = simple(settings, database, 10)
    log = with_log(settings, schema)
    run_sql(
        database,
        "UPDATE t SET amount = 9 WHERE id = 3",
        "UPDATE t SET id = 40, amount = 8 WHERE id = 4",
        "UPDATE t SET id = 41 WHERE id = 40",
    )
    with connect(settings.source) as connection:
        lsn = current_wal_lsn(connection)
    changes = [("u", 3, None, 9.0), ("u", 40, None, 8.0), ("u", 41, None, 8.0)]
    table = changelog(schema, changes, lsn - 1)
    unchanged = pa.array([["name"]] * 3, schema.changelog_schema().field("_unchanged").type)
    old = pa.array([None, {"id": 4}, {"id": 40}], schema.changelog_schema().field("_old_key").type)
    for name, values in (("_unchanged", unchanged), ("_old_key", old)):
        table = table.set_column(table.schema.get_field_index(name), name, values)
    file = RawWriter(open_store(settings.lake), clock).write(schema, table)
    log.append(EntryKind.CHANGES, lsn=lsn, files=(file,))
    report = verify(settings, None, True, 10.0, clock=clock)
    assert report.ok, report
    assert report.tables[0].pending_changes == 3


def test_changes_after_the_common_lsn_are_not_counted(settings: Settings, database: str) -> None:
    schema = simple(settings, database, 10)
    log = with_log(settings, schema)
    far = 1 << 60
    table = changelog(schema, [("d", 1, None, None)], far)
    file = RawWriter(open_store(settings.lake), clock).write(schema, table)
    log.append(EntryKind.CHANGES, lsn=far + 1, files=(file,))
    put(settings, schema, copied(settings, schema), position=(far + 1, log.state.seq, 1))  # all rows twice
    report = verify(settings, None, True, 10.0, clock=clock)
    assert report.ok, report
    assert report.behind_bytes == 0


def test_a_truncate_in_raw_empties_the_table(settings: Settings, database: str) -> None:
    schema = simple(settings, database, 10)
    log = with_log(settings, schema)
    run_sql(database, "TRUNCATE t", "INSERT INTO t VALUES (4, 'new', 0.5)")
    with connect(settings.source) as connection:
        lsn = current_wal_lsn(connection)
    table = changelog(schema, [("t", None, None, None), ("i", 4, "new", 0.5)], lsn - 1)
    file = RawWriter(open_store(settings.lake), clock).write(schema, table)
    log.append(EntryKind.CHANGES, lsn=lsn, files=(file,))
    report = verify(settings, None, True, 10.0, clock=clock)
    assert report.ok, report


def _commits(admin: psycopg.Connection[tuple[object, ...]]) -> list[tuple[int, int]]:
    """(commit LSN, id) of each insert, as the stream says."""
    rows = admin.execute(
        "SELECT data FROM pg_logical_slot_peek_binary_changes('marks', NULL, NULL,"
        " 'proto_version', '1', 'publication_names', 'p')"
    ).fetchall()
    found = []
    commit = 0
    for (message,) in rows:
        assert isinstance(message, bytes)
        if message[:1] == b"B":
            commit = int.from_bytes(message[1:9], "big")
        elif message[:1] == b"I":
            length = int.from_bytes(message[9:13], "big")
            found.append((commit, int(message[13 : 13 + length])))
    return found


def _verified_at_head(settings: Settings, url: str) -> TableReport:
    """Verify with a log that has caught up."""
    log = ManifestLog(open_store(settings.lake), clock)
    log.load()
    with connect(settings.source) as connection:
        log.append(EntryKind.CHANGES, lsn=current_wal_lsn(connection) + (1 << 40))
    return check(settings)


def _random_change(rng: random.Random, url: str) -> Change | None:
    """Make a random change at the source, and return it as a change of the stream."""
    id_, name, amount = rng.randint(1, 400), f"n{rng.random()}", rng.choice([-0.0, 1.5, float("nan")])
    with psycopg.connect(url, autocommit=True) as connection:
        if rng.random() < 0.3:
            done = connection.execute("DELETE FROM t WHERE id = %s", (id_,)).rowcount
            return ("d", id_, None, None) if done else None
        connection.execute(
            "INSERT INTO t VALUES (%s, %s, %s) ON CONFLICT (id) DO UPDATE SET name = excluded.name,"
            " amount = excluded.amount",
            (id_, name, amount),
        )
        return "u", id_, name, amount
