"""The slot is lost, dropped, moved, created anew or not ours: a typed error, and `resync` makes it equal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from smartstream import errors
from smartstream.config import Settings
from smartstream.pipeline import Pipeline
from smartstream.pipeline.resync import resync
from smartstream.testing.postgres import PostgresServer
from tests.faults.server_setup import (
    HEAVY,
    new_database,
    refuses,
    settings_of,
    sql,
    start_server,
    stops_with,
    workload,
)
from tests.running_pipeline import assert_equal, once, running, wait_until

DROP = "SELECT pg_drop_replication_slot('smartstream')"
CREATE = "SELECT pg_create_logical_replication_slot('smartstream', 'pgoutput')"
ADVANCE = "SELECT pg_replication_slot_advance('smartstream', pg_current_wal_insert_lsn())"
WRITE_MUCH = "SELECT pg_logical_emit_message(false, 'x', repeat('x', 1000)), pg_switch_wal()"
CHANGE = "UPDATE t SET v = v + 1 WHERE id < 50"
STATE = "SELECT to_jsonb(s) FROM pg_replication_slots s WHERE slot_name = 'smartstream'"


@pytest.fixture(scope="module")
def server(pytestconfig: pytest.Config) -> Iterator[PostgresServer]:
    with start_server(pytestconfig.option.postgres) as one:
        yield one


@pytest.fixture
def database(server: PostgresServer, request: pytest.FixtureRequest) -> Iterator[str]:
    with new_database(server, f"slots_{abs(hash(request.node.name))}") as url:
        yield url


def made_good(settings: Settings) -> None:
    """What the error's hint says, then a run, under load: equal."""
    resync(settings, clock=lambda: datetime.now(UTC))
    url = settings.source.dsn
    with running(settings):
        with workload(url) as work:
            work.more()
        assert_equal(settings)


def dropped(url: str) -> None:
    sql(url, DROP, CHANGE)


def created_anew(url: str) -> None:
    sql(url, DROP, CHANGE, CREATE)


def moved_by_another_consumer(url: str) -> None:
    sql(
        url,
        CHANGE,
        "SELECT count(*) FROM pg_logical_slot_get_binary_changes('smartstream', NULL, NULL,"
        " 'proto_version', '1', 'publication_names', 'smartstream')",
    )


def advanced(url: str) -> None:
    sql(url, CHANGE, ADVANCE)


@pytest.mark.parametrize(
    ("happens", "kind", "word"),
    [
        (dropped, errors.SlotLost, "does not exist"),
        pytest.param(created_anew, errors.SlotAhead, "created it anew", marks=HEAVY),
        pytest.param(moved_by_another_consumer, errors.SlotAhead, "somebody else read it", marks=HEAVY),
        pytest.param(advanced, errors.SlotAhead, "somebody else read it", marks=HEAVY),
    ],
)
def test_a_slot_that_lacks_changes_is_refused_and_resync_makes_it_good(
    database: str, tmp_path: Path, happens: Callable[[str], None], kind: type[errors.SourceError], word: str
) -> None:
    settings = settings_of(database, tmp_path)
    once(settings)
    happens(database)
    refuses(settings, kind, word, "smartstream resync")
    refuses(settings, kind, word)
    made_good(settings)


def test_a_slot_that_is_created_anew_while_the_stream_is_open_is_noticed(
    database: str, tmp_path: Path
) -> None:
    """Between two sessions: the walsender is ended, the slot dropped and made again; a row is lost."""
    settings = settings_of(database, tmp_path)

    def happens() -> None:
        sql(
            database,
            "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE active",
            "SELECT pg_sleep(0.05)",
            DROP,
            CHANGE,
            CREATE,
        )

    error = stops_with(settings, errors.SlotAhead, happens)
    assert "created it anew" in str(error)
    made_good(settings)


@HEAVY
def test_a_slot_without_its_wal_is_named_with_the_reason(
    server: PostgresServer, database: str, tmp_path: Path
) -> None:
    settings = settings_of(database, tmp_path)
    once(settings)
    try:
        sql(database, "ALTER SYSTEM SET max_slot_wal_keep_size = '1MB'", "SELECT pg_reload_conf()", CHANGE)
        for _ in range(4):
            sql(database, WRITE_MUCH)
        sql(database, "CHECKPOINT")
        refuses(settings, errors.SlotLost, "smartstream resync")
    finally:
        sql(database, "ALTER SYSTEM RESET max_slot_wal_keep_size", "SELECT pg_reload_conf()")
    made_good(settings)


@HEAVY
def test_a_slot_that_nobody_read_for_too_long_is_named_with_the_reason(
    server: PostgresServer, database: str, tmp_path: Path
) -> None:
    if server.version < 18:
        pytest.skip("idle_replication_slot_timeout came with PostgreSQL 18")
    settings = settings_of(database, tmp_path)
    once(settings)
    try:
        sql(database, "ALTER SYSTEM SET idle_replication_slot_timeout = '1s'", "SELECT pg_reload_conf()")
        wait_until(lambda: "idle_timeout" in str(sql(database, "CHECKPOINT", STATE)), 60.0)
        refuses(settings, errors.SlotLost, "idle_replication_slot_timeout", "smartstream resync")
    finally:
        sql(database, "ALTER SYSTEM RESET idle_replication_slot_timeout", "SELECT pg_reload_conf()")
    made_good(settings)


@pytest.mark.parametrize(
    "make",
    [
        "SELECT pg_create_physical_replication_slot('smartstream')",
        "SELECT pg_create_logical_replication_slot('smartstream', 'test_decoding')",
    ],
)
@HEAVY
def test_a_slot_of_something_else_is_left_alone(database: str, tmp_path: Path, make: str) -> None:
    settings = settings_of(database, tmp_path)
    once(settings)
    sql(database, DROP)
    try:
        sql(database, make)
    except Exception as error:
        if "test_decoding" in str(error):
            pytest.skip("this server has no test_decoding")
        raise
    before = sql(database, STATE)
    refuses(settings, errors.SlotForeign, "belongs to something else", "source.slot.name")
    with pytest.raises(errors.SlotForeign):
        resync(settings, clock=lambda: datetime.now(UTC))
    assert sql(database, STATE) == before
    sql(database, DROP)


@HEAVY
def test_a_slot_of_another_database_is_left_alone(
    server: PostgresServer, database: str, tmp_path: Path
) -> None:
    with new_database(server, "slots_of_another") as other:
        sql(other, CREATE)
        refuses(settings_of(database, tmp_path), errors.SlotForeign, "slots_of_another", "source.url")


@HEAVY
def test_a_lowered_wal_level_is_named_before_the_missing_slot(
    server: PostgresServer, database: str, tmp_path: Path
) -> None:
    settings = settings_of(database, tmp_path)
    once(settings)
    sql(database, DROP)  # the server does not start below logical while there is one
    try:
        server.restart(settings={"wal_level": "replica"})
        refuses(settings, errors.WalLevelTooLow, "replica", "wal_level = logical")
    finally:
        server.restart(settings={"wal_level": "logical"})
    refuses(settings, errors.SlotLost, "smartstream resync")
    made_good(settings)


@HEAVY
def test_the_second_of_two_pipelines_is_refused(database: str, tmp_path: Path) -> None:
    settings = settings_of(database, tmp_path)
    with running(settings):
        with pytest.raises(errors.SlotInUse, match="smartstream"):
            Pipeline(settings).run(once=True)
        with workload(database) as work:
            work.more()
        assert_equal(settings)
