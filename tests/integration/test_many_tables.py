"""Hundreds of tables in one pipeline: all are copied, all follow, and nothing costs their square."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import duckdb
import psycopg
import pytest

from smartstream.query import open_lake
from smartstream.status import read_lake
from smartstream.verify import verify
from smartstream.verify.compare import _now as now
from tests.running_pipeline import running, settings_for, wait_until

TABLES = int(os.environ.get("SMARTSTREAM_TEST_TABLES", "20"))
"""With 500 two minutes; `make soak` does that."""
MEMORY_MAX_BYTES = 700 << 20


def peak_bytes() -> int:
    """Of this process, which other tests may have made larger before."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def test_many_tables_are_copied_and_followed(database: str, tmp_path: Path) -> None:
    before = peak_bytes()
    names = [f"t{number}" for number in range(TABLES)]
    with psycopg.connect(database, autocommit=True) as admin:
        for name in names:
            admin.execute(f"CREATE TABLE {name} (id integer PRIMARY KEY, v text)".encode())
            admin.execute(f"INSERT INTO {name} SELECT n, 'v' || n FROM generate_series(1, 9) n".encode())
        settings = settings_for(database, tmp_path)
        with running(settings, ready=False) as pipeline:
            wait_until(lambda: pipeline._errors or pipeline.ready(), 60 + TABLES)
            with admin.transaction():  # one transaction changes all
                for name in names:
                    admin.execute(f"UPDATE {name} SET v = 'new' WHERE id < 4".encode())
                    admin.execute(f"DELETE FROM {name} WHERE id = 5".encode())
            found = admin.execute("SELECT (pg_current_wal_lsn() - '0/0')::int8").fetchone()
            assert found is not None
            wait_until(lambda: pipeline._errors or pipeline.progress().applied_lsn >= found[0], 60 + TABLES)
    report = verify(settings)
    assert report.ok, report.to_dict()
    assert [table.lake_rows for table in report.tables] == [8] * TABLES
    assert {(table.status, table.rows) for table in read_lake(settings, now).tables} == {("ready", 8)}
    assert peak_bytes() - before < MEMORY_MAX_BYTES


def test_a_query_plans_only_the_tables_that_it_names(database: str, tmp_path: Path) -> None:
    with psycopg.connect(database, autocommit=True) as admin:
        admin.execute("CREATE TABLE named (id integer PRIMARY KEY)")
        admin.execute("CREATE TABLE other (id integer PRIMARY KEY, v text)")
        admin.execute("INSERT INTO other VALUES (1, 'x')")
    settings = settings_for(database, tmp_path)
    with running(settings):
        pass
    with open_lake(settings, "SELECT count(*) FROM named") as lake:
        assert lake.execute("SELECT count(*) FROM named").fetchall() == [(0,)]
        columns = lake.execute("SELECT column_name FROM (DESCRIBE other)").fetchall()
        assert [name for (name,) in columns] == ["id", "v", "_lsn", "_untyped"]
        # What composes a name is told so, and never that there are no rows.
        for statement in ("SELECT count(*) FROM other", "SELECT 1 FROM query_table('oth' || 'er')"):
            with pytest.raises(duckdb.Error, match=r'write the name trusted\."other" out in the statement'):
                lake.execute(statement).fetchall()
