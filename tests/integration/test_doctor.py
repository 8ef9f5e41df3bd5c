"""Doctor: every lack of a real server is found, and its SQL repairs it."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest

from smartstream.capture import publication
from smartstream.capture.catalog import discover
from smartstream.capture.connect import connect
from smartstream.config import Settings
from smartstream.doctor import Check, Status, diagnose, sql_script
from smartstream.manifest import EntryKind
from smartstream.raw.manifest_log import ManifestLog
from smartstream.raw.store import open_store
from smartstream.testing.postgres import PostgresServer
from tests.integration.source_setup import run_sql

_NUMBERS = itertools.count(1)


@pytest.fixture(scope="module")
def poor_server() -> Iterator[PostgresServer]:
    """A server as it comes from the box: no logical decoding, no slot to have."""
    settings = {"wal_level": "replica", "max_replication_slots": "1", "fsync": "off", "max_wal_senders": "1"}
    with PostgresServer.start(settings=settings) as server:
        run_sql(server.url, "CREATE TABLE t (id int PRIMARY KEY)")
        yield server


@pytest.fixture
def role(postgres: PostgresServer) -> Iterator[str]:
    """A role that may log in and nothing else; its name needs quotes."""
    name = f'Weird "role" {next(_NUMBERS)}'
    quoted = '"' + name.replace('"', '""') + '"'
    with psycopg.connect(postgres.url, autocommit=True) as admin:
        admin.execute(f"CREATE ROLE {quoted} LOGIN PASSWORD 'pw'")
        yield name
        for (database,) in admin.execute(
            "SELECT datname FROM pg_database WHERE datallowconn AND NOT datistemplate"
        ).fetchall():
            with psycopg.connect(postgres.url_of(database), autocommit=True) as there:
                there.execute(f"DROP OWNED BY {quoted} CASCADE")
        admin.execute(f"DROP ROLE {quoted}")


def settings_of(url: str, folder: Path, **source: Any) -> Settings:
    warehouse = {"warehouse": str(folder / "lake")}
    return Settings.model_validate({"source": {"url": url, **source}, "lake": warehouse})


def as_role(url: str, role: str) -> str:
    """The same database for another role."""
    parts = urlsplit(url)
    return f"host={parts.hostname} port={parts.port} dbname={parts.path[1:]} user='{role}' password=pw"


def examine(
    url: str, folder: Path, clock: Callable[[], datetime] | None = None, **source: Any
) -> dict[str, Check]:
    settings = settings_of(url, folder, **source)
    return {check.name: check for check in (diagnose(settings, clock=clock) if clock else diagnose(settings))}


def failures(checks: dict[str, Check]) -> set[str]:
    return {name for name, check in checks.items() if check.status is Status.FAIL}


def test_a_good_server_passes(database: str, tmp_path: Path) -> None:
    run_sql(database, "CREATE TABLE t (id int PRIMARY KEY)")
    checks = examine(database, tmp_path)
    assert failures(checks) == set()
    assert len(checks) == 24
    assert not list((tmp_path / "lake" / "raw").rglob("*.*")), "the probe is removed"
    assert all(check.why and check.fix for check in checks.values() if check.status is not Status.OK)


def test_a_server_that_does_not_answer_leaves_the_checks_of_the_lake(tmp_path: Path) -> None:
    checks = examine("postgresql://u:canary@127.0.0.1:1/d", tmp_path)
    assert failures(checks) == {"connect"}
    assert checks["lake"].status is Status.OK
    assert "canary" not in str(checks)


def test_wal_level_and_slots_are_found_lacking(poor_server: PostgresServer, tmp_path: Path) -> None:
    run_sql(poor_server.url, "SELECT pg_create_physical_replication_slot('someone_elses')")
    checks = examine(poor_server.url, tmp_path)
    assert failures(checks) == {"wal_level", "free slots"}
    assert checks["wal_level"].sql[0].startswith("ALTER SYSTEM SET wal_level = logical;")
    assert checks["free slots"].found == "1 of 1 replication slots in use"
    run_sql(poor_server.url, "SELECT pg_drop_replication_slot('someone_elses')")
    assert examine(poor_server.url, tmp_path)["free slots"].status is Status.WARN, "none left for verify"


def test_a_role_without_rights_is_repaired_by_the_printed_sql(
    database: str, role: str, tmp_path: Path
) -> None:
    run_sql(
        database,
        'CREATE SCHEMA "we ird"',
        'CREATE TABLE "we ird"."T""1" (id int PRIMARY KEY)',
        "CREATE TABLE parts (id int PRIMARY KEY) PARTITION BY RANGE (id)",
        "CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (9)",
        "CREATE TABLE guarded (id int PRIMARY KEY)",
        "ALTER TABLE guarded ENABLE ROW LEVEL SECURITY",
    )
    url = as_role(database, role)
    settings = Settings.model_validate(
        {"source": {"url": url}, "lake": {"warehouse": str(tmp_path)}, "tables": {"*.*": {}}}
    )
    checks = diagnose(settings)
    found = {check.name: check for check in checks}
    assert failures(found) == {"replication right", "select rights", "row security", "publication"}
    script = sql_script(checks)
    assert 'GRANT SELECT ON TABLE "public"."parts_1"' in script
    assert 'GRANT USAGE ON SCHEMA "we ird" TO' in script
    statements = [line for line in script.splitlines() if not line.startswith(("--", "ALTER SYSTEM"))]
    run_sql(database, *statements)
    assert failures({check.name: check for check in diagnose(settings)}) == set()


def test_an_owner_with_create_may_make_the_publication_itself(
    database: str, role: str, tmp_path: Path
) -> None:
    quoted = '"' + role.replace('"', '""') + '"'
    run_sql(database, "CREATE TABLE t (id int PRIMARY KEY)", f"ALTER TABLE t OWNER TO {quoted}")
    assert "has no CREATE right" in examine(as_role(database, role), tmp_path)["publication"].found
    name = urlsplit(database).path[1:]
    run_sql(database, f"GRANT CREATE ON DATABASE {name} TO {quoted}")
    assert examine(as_role(database, role), tmp_path)["publication"].status is Status.OK


def test_a_publication_that_lacks_tables_or_kinds_of_change_is_found(
    database: str, role: str, tmp_path: Path
) -> None:
    run_sql(
        database,
        "CREATE TABLE a (id int PRIMARY KEY)",
        "CREATE TABLE b (id int PRIMARY KEY)",
        "CREATE PUBLICATION smartstream FOR TABLE a WITH (publish = 'insert')",
    )
    assert "adds them" in examine(database, tmp_path)["publication"].found, "the superuser may alter it"
    found = examine(as_role(database, role), tmp_path)["publication"]
    assert found.status is Status.FAIL
    assert "public.b" in found.found
    assert "public.a" not in found.found
    run_sql(database, *found.sql)
    assert examine(as_role(database, role), tmp_path)["publication"].status is Status.OK


def test_a_publication_for_all_tables_will_do(database: str, tmp_path: Path) -> None:
    run_sql(
        database,
        "CREATE TABLE a (id int PRIMARY KEY)",
        "CREATE PUBLICATION smartstream FOR ALL TABLES WITH (publish_via_partition_root = true)",
    )
    assert "sends every" in examine(database, tmp_path)["publication"].found


def test_a_publication_that_smartstream_made_is_complete(database: str, tmp_path: Path) -> None:
    run_sql(database, "CREATE TABLE p (id int PRIMARY KEY) PARTITION BY RANGE (id)")
    settings = settings_of(database, tmp_path)
    with connect(settings.source) as connection:
        publication.ensure(connection, "smartstream", discover(connection, lambda _: True).tables)
    assert "sends every" in examine(database, tmp_path)["publication"].found


def test_a_table_without_key_gets_the_statement_that_fits(database: str, tmp_path: Path) -> None:
    run_sql(
        database,
        "CREATE TABLE good (id int PRIMARY KEY)",
        "CREATE TABLE bare (x int)",
        'CREATE TABLE uniq (x int NOT NULL CONSTRAINT "Uniq Key" UNIQUE)',
        "CREATE TABLE nothing (id int PRIMARY KEY)",
        "ALTER TABLE nothing REPLICA IDENTITY NOTHING",
        "CREATE TABLE nullable (x int UNIQUE)",
        "CREATE TABLE parts (id int PRIMARY KEY) PARTITION BY RANGE (id)",
        'CREATE TABLE "Part 1" PARTITION OF parts DEFAULT',
        'ALTER TABLE "Part 1" REPLICA IDENTITY FULL',
        "CREATE TABLE indexed (id int PRIMARY KEY) PARTITION BY RANGE (id)",
        "CREATE TABLE indexed_1 PARTITION OF indexed DEFAULT",
        "ALTER TABLE indexed REPLICA IDENTITY USING INDEX indexed_pkey",
    )
    found = examine(database, tmp_path)["keys"]
    assert found.status is Status.FAIL
    assert [line.split("  --")[0] for line in found.sql] == [
        '-- ALTER TABLE "public"."bare" ADD PRIMARY KEY (…);',
        '-- ALTER TABLE "public"."bare" ADD COLUMN … bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY;',
        '-- ALTER TABLE "public"."indexed_1" REPLICA IDENTITY USING INDEX …;',
        'ALTER TABLE "public"."nothing" REPLICA IDENTITY DEFAULT;',
        '-- ALTER TABLE "public"."nullable" ADD PRIMARY KEY (…);',
        '-- ALTER TABLE "public"."nullable" ADD COLUMN … bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY;',
        'ALTER TABLE "public"."Part 1" REPLICA IDENTITY DEFAULT;',
        'ALTER TABLE "public"."uniq" REPLICA IDENTITY USING INDEX "Uniq Key";',
    ]
    run_sql(database, *(line for line in found.sql if not line.startswith("--")))
    left = examine(database, tmp_path)["keys"].found
    assert "bare" in left
    assert "uniq" not in left
    assert "nothing" not in left
    assert "parts" not in left


def test_no_table_at_all_is_a_failure(database: str, tmp_path: Path) -> None:
    assert "tables" in failures(examine(database, tmp_path))


def test_a_lake_whose_slot_is_gone_is_told_to_resync(database: str, tmp_path: Path) -> None:
    run_sql(database, "CREATE TABLE t (id int PRIMARY KEY)")
    log = ManifestLog(open_store(settings_of(database, tmp_path).lake), lambda: datetime.now(UTC))
    log.append(EntryKind.CHANGES, lsn=1)
    found = examine(database, tmp_path)["slot"]
    assert found.status is Status.FAIL
    assert found.why == "SlotLost"
    assert "resync" in found.fix


def test_a_slot_that_holds_back_much_is_a_warning(database: str, tmp_path: Path) -> None:
    run_sql(
        database,
        "CREATE TABLE t (id int PRIMARY KEY)",
        "SELECT pg_create_logical_replication_slot('doctor_much', 'pgoutput')",
        "INSERT INTO t SELECT generate_series(1, 20000)",
    )
    found = examine(database, tmp_path, slot={"name": "doctor_much", "max_retained": "1MiB"})["slot"]
    assert found.status is Status.WARN
    assert "source.slot.max_retained" in found.why


def test_a_slot_of_something_else_is_a_failure(database: str, tmp_path: Path) -> None:
    run_sql(
        database,
        "CREATE TABLE t (id int PRIMARY KEY)",
        "SELECT pg_create_physical_replication_slot('doctor_other')",
    )
    try:
        assert examine(database, tmp_path, slot={"name": "doctor_other"})["slot"].status is Status.FAIL
    finally:
        run_sql(database, "SELECT pg_drop_replication_slot('doctor_other')")


def test_clocks_that_differ_are_a_warning(database: str, tmp_path: Path) -> None:
    late = examine(database, tmp_path, clock=lambda: datetime.now(UTC) - timedelta(seconds=60))["clock"]
    assert late.status is Status.WARN
    assert "60.0 s ahead of this machine" in late.found


def test_a_lake_that_cannot_be_written_is_a_failure(database: str, tmp_path: Path) -> None:
    (tmp_path / "lake").write_text("a file where the folder should be")
    checks = examine(database, tmp_path)
    assert {"lake", "catalog"} <= failures(checks)
    assert checks["lake"].why == "LakeNotWritable"
    assert os.path.isfile(tmp_path / "lake")


def test_a_database_of_unknown_encoding_is_a_warning(postgres: PostgresServer, tmp_path: Path) -> None:
    run_sql(postgres.url, "CREATE DATABASE doctor_ascii ENCODING 'SQL_ASCII' TEMPLATE template0")
    try:
        assert examine(postgres.url_of("doctor_ascii"), tmp_path)["encoding"].status is Status.WARN
    finally:
        run_sql(postgres.url, "DROP DATABASE doctor_ascii WITH (FORCE)")
