"""The publication is altered behind our back: what was not sent is copied again, or a typed error says so."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest

from smartstream import errors
from smartstream.config import Settings
from smartstream.doctor import diagnose
from smartstream.pipeline.resync import resync
from smartstream.testing.postgres import PostgresServer
from tests.faults.server_setup import (
    HEAVY,
    new_database,
    refuses,
    settings_of,
    sql,
    start_server,
    state_of,
    stops_with,
    workload,
)
from tests.running_pipeline import assert_equal, once, running, settings_for, wait_until

CHANGES = (
    "UPDATE t SET v = v + 1 WHERE id < 50",
    "DELETE FROM t WHERE id BETWEEN 50 AND 60",
    "INSERT INTO t VALUES (9000, 1)",
)
OUT = "ALTER PUBLICATION smartstream DROP TABLE t"
IN = "ALTER PUBLICATION smartstream ADD TABLE ONLY t"
QUICK = ("dropped and put back",)
ALTERATIONS = {
    "dropped": (OUT, *CHANGES),
    "dropped and put back": (OUT, *CHANGES, IN),
    "inserts only": ("ALTER PUBLICATION smartstream SET (publish = 'insert')", *CHANGES),
    "inserts only for a while": (
        "ALTER PUBLICATION smartstream SET (publish = 'insert')",
        *CHANGES,
        "ALTER PUBLICATION smartstream SET (publish = 'insert, update, delete, truncate')",
    ),
    "row filter": ("ALTER PUBLICATION smartstream SET TABLE ONLY t WHERE (id > 55)", *CHANGES),
    "column list": ("ALTER PUBLICATION smartstream SET TABLE ONLY t (id, v)", *CHANGES),
    "filtered for a while": (
        "ALTER PUBLICATION smartstream SET TABLE ONLY t WHERE (id > 55)",
        *CHANGES,
        "ALTER PUBLICATION smartstream SET TABLE ONLY t",
    ),
    "recreated": (
        "DROP PUBLICATION smartstream",
        "CREATE PUBLICATION smartstream FOR TABLE ONLY t WITH (publish_via_partition_root = true)",
    ),
}


@pytest.fixture(scope="module")
def server(pytestconfig: pytest.Config) -> Iterator[PostgresServer]:
    with start_server(pytestconfig.option.postgres) as one:
        yield one


@pytest.fixture
def database(server: PostgresServer, request: pytest.FixtureRequest) -> Iterator[str]:
    with new_database(server, f"published_{abs(hash(request.node.name))}") as url:
        yield url


def generation(settings: Settings) -> int:
    """How often table t was copied."""
    return state_of(settings).tables["public.t"].generation


@pytest.mark.parametrize(
    "what", [what if what in QUICK else pytest.param(what, marks=HEAVY) for what in ALTERATIONS]
)
def test_what_was_not_sent_while_nobody_looked_is_copied_again(
    database: str, tmp_path: Path, what: str
) -> None:
    settings = settings_of(database, tmp_path)
    once(settings)
    sql(database, *ALTERATIONS[what])
    once(settings)
    assert_equal(settings)
    copied = generation(settings)
    assert copied >= 2
    sql(database, *CHANGES[:2])
    once(settings)
    assert_equal(settings)
    assert generation(settings) == copied, "once is enough"


@pytest.mark.parametrize(
    "what",
    ["dropped", pytest.param("inserts only", marks=HEAVY), pytest.param("filtered for a while", marks=HEAVY)],
)
def test_what_is_not_sent_while_the_pipeline_runs_is_copied_again(
    database: str, tmp_path: Path, what: str
) -> None:
    alter, back = ALTERATIONS[what][0], ALTERATIONS[what][len(CHANGES) + 1 :]
    settings = settings_of(database, tmp_path)
    with running(settings) as pipeline, workload(database) as work:
        sql(database, alter)
        work.more(3)
        sql(database, *back, "SELECT 1")
        wait_until(lambda: generation(settings) >= 2, 60.0)
        wait_until(pipeline.ready, 60.0)
        work.more()
        work.end()
        assert_equal(settings)


@HEAVY
def test_a_publication_that_was_gone_ends_in_a_resync_where_the_server_cannot_read_on(
    server: PostgresServer, database: str, tmp_path: Path
) -> None:
    settings = settings_of(database, tmp_path)
    once(settings)
    sql(database, "DROP PUBLICATION smartstream", *CHANGES)
    if server.version >= 18:  # such changes are passed over, and the table is copied again
        once(settings)
    else:
        for _ in range(2):
            refuses(settings, errors.PublicationLost, "smartstream", "`smartstream resync`")
        resync(settings, clock=lambda: datetime.now(UTC))
        once(settings)
    assert_equal(settings)


@HEAVY
def test_what_may_not_be_mended_is_named(database: str, tmp_path: Path) -> None:
    """The publication belongs to somebody else: nothing is passed over."""
    parts = urlsplit(database)
    sql(database, "CREATE ROLE reader LOGIN REPLICATION PASSWORD 'word'", "GRANT SELECT ON t TO reader")
    try:
        sql(
            database,
            "CREATE PUBLICATION smartstream FOR TABLE ONLY t WITH (publish_via_partition_root = true)",
        )
        url = database.replace(f"postgres:{parts.password}@", "reader:word@")
        settings = settings_of(url, tmp_path)
        error = stops_with(settings, errors.MissingRight, lambda: sql(database, OUT))
        assert "publication smartstream" in str(error)
        sql(database, *CHANGES)
        refuses(settings, errors.MissingRight, "publication smartstream")
        sql(database, IN)
        once(settings)
        assert_equal(settings)
        assert generation(settings) == 2
    finally:
        sql(database, "DROP OWNED BY reader", "DROP ROLE reader")


@HEAVY
def test_a_table_of_no_interest_may_come_and_go(database: str, tmp_path: Path) -> None:
    sql(database, "CREATE TABLE u (id integer PRIMARY KEY)")
    tables = {"public.*": {}, "public.u": {"exclude": True}}
    settings = settings_for(database, tmp_path, tables=tables)
    once(settings)
    sql(database, "ALTER PUBLICATION smartstream ADD TABLE u", *CHANGES)
    once(settings)
    assert_equal(settings)
    assert generation(settings) == 1, "the copy is whole"


@HEAVY
def test_a_table_that_was_excluded_for_a_while_is_copied_again(database: str, tmp_path: Path) -> None:
    sql(database, "CREATE TABLE u (id integer PRIMARY KEY)")
    settings = settings_of(database, tmp_path)
    once(settings)
    without = settings_for(database, tmp_path, tables={"public.*": {}, "public.t": {"exclude": True}})
    once(without)
    sql(database, *CHANGES)
    once(settings)
    assert_equal(settings)


def test_no_replica_identity_is_foretold_by_doctor_and_loses_nothing_while_it_runs(
    database: str, tmp_path: Path
) -> None:
    """The application's UPDATE fails at the server, so there is nothing to miss; INSERTs go on."""
    settings = settings_of(database, tmp_path)
    with running(settings):
        sql(database, "ALTER TABLE t REPLICA IDENTITY NOTHING")
        with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="replica identity"):
            sql(database, "UPDATE t SET v = 1 WHERE id = 1")
        (check,) = [check for check in diagnose(settings) if check.name == "keys"]
        assert "public.t: its REPLICA IDENTITY is NOTHING" in check.found
        assert "fail" in check.why
        assert check.sql == ('ALTER TABLE "public"."t" REPLICA IDENTITY DEFAULT;',)
        sql(database, "ALTER TABLE t REPLICA IDENTITY DEFAULT", *CHANGES)
        assert_equal(settings)


@HEAVY
def test_without_a_replica_identity_a_run_is_refused_with_the_statement_that_mends_it(
    database: str, tmp_path: Path
) -> None:
    settings = settings_of(database, tmp_path)
    once(settings)
    sql(database, "ALTER TABLE t REPLICA IDENTITY NOTHING")
    refuses(
        settings,
        errors.TableWithoutKey,
        "public.t",
        "REPLICA IDENTITY is NOTHING",
        "REPLICA IDENTITY DEFAULT",
    )
    sql(database, "ALTER TABLE t REPLICA IDENTITY DEFAULT", *CHANGES)
    once(settings)
    assert_equal(settings)
