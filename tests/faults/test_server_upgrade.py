"""pg_upgrade: the lake goes on from the new cluster, or says why it can't."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from smartstream import errors
from smartstream.cli import main
from smartstream.config import Settings
from smartstream.manifest import EntryKind
from smartstream.pipeline.adopt import adopt
from smartstream.pipeline.resync import resync
from smartstream.testing.postgres import PostgresServer
from tests.faults.server_setup import HEAVY, refuses, settings_of, sql, start_server, workload
from tests.faults.upgraded_server import upgraded
from tests.integration.test_pipeline import entries
from tests.running_pipeline import assert_equal, once, query, running

SETUP = (
    "CREATE TABLE t (id integer PRIMARY KEY, v integer, big text)",
    "INSERT INTO t SELECT n, 0, 'x' FROM generate_series(1, 200) n",
    "CREATE TYPE mood AS ENUM ('glad', 'sad')",
    "CREATE TABLE parts (id integer, m mood, PRIMARY KEY (id)) PARTITION BY RANGE (id)",
    "CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (100)",
    "INSERT INTO parts SELECT n, 'glad' FROM generate_series(1, 50) n",
    "CREATE TABLE dropped (id integer PRIMARY KEY)",
    "ALTER TABLE t ADD COLUMN late integer DEFAULT 5",
)


def now() -> datetime:
    return datetime.now(UTC)


@pytest.fixture
def old(pytestconfig: pytest.Config) -> Iterator[PostgresServer]:
    with start_server(pytestconfig.option.postgres) as server:
        sql(server.url, *SETUP)
        yield server


def copies(settings: Settings) -> dict[str, int]:
    found = [entry.table for entry in entries(settings) if entry.kind is EntryKind.COPY_START]
    return {str(table): found.count(table) for table in found}


def test_an_upgraded_cluster_is_gone_on_from_without_a_copy(
    old: PostgresServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if old.version < 17:
        pytest.skip("slots survive pg_upgrade from PostgreSQL 17 on")
    with running(settings_of(old.url, tmp_path)):
        with workload(old.url) as work:
            work.more()
        sql(old.url, "DROP TABLE dropped")
        assert_equal(settings_of(old.url, tmp_path))
    with upgraded(old) as new:
        settings = settings_of(new.url, tmp_path)
        refuses(settings, errors.SourceReplaced, "pg_upgrade", "`smartstream adopt`")
        sql(new.url, "UPDATE t SET v = 77 WHERE id < 9", "UPDATE parts SET m = 'sad' WHERE id = 3")
        adopted = adopt(settings, clock=now)
        assert (adopted.kept, adopted.rewritten) == (("public.parts", "public.t"), ())
        with running(settings):
            with workload(new.url) as work:
                work.more()
            assert_equal(settings)
        assert copies(settings) == {"public.dropped": 1, "public.parts": 1, "public.t": 1}
        with pytest.raises(errors.UpgradeUnfit, match="already"):
            adopt(settings, clock=now)


@HEAVY
def test_what_was_written_anew_and_not_seen_is_copied(old: PostgresServer, tmp_path: Path) -> None:
    if old.version < 17:
        pytest.skip("slots survive pg_upgrade from PostgreSQL 17 on")
    once(settings_of(old.url, tmp_path))
    sql(old.url, "ALTER TABLE t ALTER COLUMN big TYPE text USING 'rewritten'")
    # As if the pipeline had read on and ended just before its next look; pg_upgrade insists on the former.
    sql(old.url, "SELECT pg_replication_slot_advance('smartstream', pg_current_wal_lsn())")
    with upgraded(old) as new:
        settings = settings_of(new.url, tmp_path)
        (tmp_path / "smartstream.yaml").write_text(
            f"source: {{url: '{new.url}'}}\nlake: {{warehouse: ./lake}}\n"
        )
        assert main(["-C", str(tmp_path), "adopt"]) == errors.ExitCode.OK
        once(settings)
        assert query(settings, "SELECT DISTINCT big FROM t") == [("rewritten",)]
        assert_equal(settings)
        assert copies(settings) == {"public.dropped": 1, "public.parts": 1, "public.t": 2}


@HEAVY
def test_without_the_slot_or_as_another_database_it_is_refused(old: PostgresServer, tmp_path: Path) -> None:
    """Before 17 slots stay behind; and a dump that was restored has other numbers."""
    once(settings_of(old.url, tmp_path))
    sql(old.url, "SELECT pg_drop_replication_slot('smartstream')")
    with upgraded(old) as new:
        settings = settings_of(new.url, tmp_path)
        with pytest.raises(errors.UpgradeUnfit, match="there is no slot smartstream"):
            adopt(settings, clock=now)
        slot = "SELECT pg_create_logical_replication_slot('smartstream', 'pgoutput')"
        sql(new.url, slot, "DROP TABLE t", SETUP[0], SETUP[1])
        with pytest.raises(errors.UpgradeUnfit, match=r"public\.t has oid \d+, not \d+"):
            adopt(settings, clock=now)
        resync(settings, clock=now)
        once(settings)
        assert_equal(settings)
