"""The slot: created once, and refused when the lake cannot go on from it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from smartstream import errors
from smartstream.capture import slot
from smartstream.capture.connect import connect
from smartstream.lsn import LSN_MAX, parse_lsn
from smartstream.manifest import LakeState
from smartstream.testing.postgres import PostgresServer

from .source_setup import FakeSource, SlotName, connected, run_sql

NAME = SlotName().name
EMPTY = LakeState()


@pytest.fixture
def source(database: str) -> Iterator[FakeSource]:
    """A source whose slot is dropped afterwards."""
    yield FakeSource(database)
    with connected(database) as connection:
        slot.drop(connection, NAME)


def lake_at(lsn: int) -> LakeState:
    """A lake that has everything up to ``lsn``."""
    return LakeState(seq=1, durable_lsn=lsn)


def current_lsn(connection: psycopg.Connection[tuple[Any, ...]]) -> int:
    """The end of WAL."""
    row = connection.execute("SELECT pg_current_wal_lsn()::text").fetchone()
    assert row is not None
    return parse_lsn(row[0])


def test_a_new_slot_for_a_new_lake(source: FakeSource) -> None:
    with connect(source) as connection:
        assert slot.inspect(connection, NAME) is None
        before = current_lsn(connection)
        created = slot.ensure(connection, source, EMPTY)
        assert before <= created.confirmed_flush_lsn <= current_lsn(connection)
        assert (created.plugin, created.active, created.lost) == ("pgoutput", False, False)
        assert created.database == connection.info.dbname
        assert created.wal_status == "reserved"
        assert slot.ensure(connection, source, EMPTY).confirmed_flush_lsn == created.confirmed_flush_lsn


def test_retained_wal_grows_with_what_is_not_acknowledged(source: FakeSource) -> None:
    with connect(source) as connection:
        before = slot.ensure(connection, source, EMPTY).retained_bytes
        run_sql(source.dsn, "CREATE TABLE t AS SELECT g, repeat('x', 100) FROM generate_series(1, 5000) g")
        after = slot.inspect(connection, NAME)
        assert after is not None
        assert after.retained_bytes > before + 500_000


def test_a_lake_goes_on_from_a_slot_at_or_behind_it(source: FakeSource) -> None:
    with connect(source) as connection:
        created = slot.ensure(connection, source, EMPTY)
        assert slot.check(connection, NAME, lake_at(created.confirmed_flush_lsn)) == slot.inspect(
            connection, NAME
        )
        run_sql(source.dsn, "CREATE TABLE t (id int)")
        slot.check(connection, NAME, lake_at(current_lsn(connection)))


def test_a_missing_slot_is_lost_for_a_lake_that_has_begun(source: FakeSource) -> None:
    with connect(source) as connection:
        with pytest.raises(errors.SlotLost):
            slot.ensure(connection, source, lake_at(1))
        assert slot.inspect(connection, NAME) is None, "a lost slot is not created again silently"


def test_a_slot_past_the_lake_is_refused(source: FakeSource) -> None:
    with connect(source) as connection:
        created = slot.ensure(connection, source, EMPTY)
        with pytest.raises(errors.SlotAhead):
            slot.check(connection, NAME, lake_at(created.confirmed_flush_lsn - 1))


def test_a_server_that_ends_before_the_lake_is_another_one(source: FakeSource) -> None:
    with connect(source) as connection:
        slot.ensure(connection, source, EMPTY)
        with pytest.raises(errors.SourceRewound):
            slot.check(connection, NAME, lake_at(LSN_MAX))


def test_a_slot_of_something_else_is_not_taken(source: FakeSource) -> None:
    run_sql(source.dsn, f"SELECT pg_create_physical_replication_slot('{NAME}')")
    with connect(source) as connection, pytest.raises(errors.SlotForeign, match="something else"):
        slot.ensure(connection, source, EMPTY, release_wait_s=0)


def test_a_slot_that_is_read_is_waited_for_then_refused(source: FakeSource) -> None:
    with connect(source) as connection:
        slot.ensure(connection, source, EMPTY)
        run_sql(source.dsn, "CREATE PUBLICATION none")
        reader = connect(source, replication=True)
        start = f"START_REPLICATION SLOT {NAME} LOGICAL 0/0 (proto_version '1', publication_names 'none')"
        reader.pgconn.exec_(start.encode())
        with pytest.raises(errors.SlotInUse, match=str(reader.info.backend_pid)):
            slot.ensure(connection, source, EMPTY, release_wait_s=0.1)
        with pytest.raises(errors.SlotInUse):
            slot.drop(connection, NAME)
        threading.Timer(0.3, reader.close).start()
        assert not slot.ensure(connection, source, EMPTY, release_wait_s=5.0).active


def test_a_slot_whose_wal_was_removed_is_lost(source: FakeSource) -> None:
    with connect(source) as connection:
        created = slot.ensure(connection, source, EMPTY)
        try:
            run_sql(source.dsn, "ALTER SYSTEM SET max_slot_wal_keep_size = '1MB'", "SELECT pg_reload_conf()")
            for _ in range(4):
                run_sql(
                    source.dsn, "SELECT pg_logical_emit_message(false, '', 'x')", "SELECT pg_switch_wal()"
                )
            run_sql(source.dsn, "CHECKPOINT")
            info = slot.inspect(connection, NAME)
            assert info is not None
            assert info.lost
            with pytest.raises(errors.SlotLost, match="gave up"):
                slot.check(connection, NAME, lake_at(created.confirmed_flush_lsn))
        finally:
            run_sql(source.dsn, "ALTER SYSTEM RESET max_slot_wal_keep_size", "SELECT pg_reload_conf()")


def test_no_free_slot_is_said_so(source: FakeSource) -> None:
    names = [f"fill_{n}" for n in range(100)]
    made = []
    try:
        with connect(source) as connection:
            free = connection.execute("SHOW max_replication_slots").fetchone()
            assert free is not None
            for name in names[: int(free[0])]:
                slot.create(connection, name)
                made.append(name)
            with pytest.raises(errors.NoFreeSlot):
                slot.create(connection, NAME)
            with pytest.raises(errors.SlotInUse):
                slot.create(connection, made[0])
    finally:
        with connected(source.dsn) as connection:
            for name in made:
                slot.drop(connection, name)


def test_creating_a_slot_gives_up_on_a_transaction_that_does_not_end(source: FakeSource) -> None:
    with psycopg.connect(source.dsn) as other, connect(source) as connection:
        other.execute("CREATE TABLE t (id int)")
        with pytest.raises(errors.SourceBusy, match=str(other.info.backend_pid)):
            slot.create(connection, NAME, timeout_s=0.3)
        assert slot.inspect(connection, NAME) is None
        assert connection.execute("SHOW statement_timeout").fetchone() == ("0",)
        other.rollback()
        assert slot.create(connection, NAME) > 0


@pytest.fixture(scope="module")
def other_server() -> Iterator[PostgresServer]:
    """A server that is set up otherwise."""
    settings = {"wal_level": "replica"}
    with PostgresServer.start(settings=settings) as server:
        yield server


def test_a_server_without_logical_wal_is_refused(other_server: PostgresServer) -> None:
    with connected(other_server.url) as connection, pytest.raises(errors.WalLevelTooLow, match="replica"):
        slot.ensure(connection, FakeSource(other_server.url), EMPTY)
