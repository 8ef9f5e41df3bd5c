"""Tables as wide as PostgreSQL allows: 1,600 columns, those that were dropped included."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import psycopg

from smartstream.status import read_lake
from smartstream.verify.compare import _now as now
from tests.running_pipeline import assert_equal, query, running, settings_for, wait_until

COLUMNS = int(os.environ.get("SMARTSTREAM_TEST_COLUMNS", "250"))
"""With 1600, PostgreSQL's limit, half a minute; `make soak` does that."""
KINDS = (
    ("smallint", "n"),
    ("boolean", "n % 2 = 0"),
    ("date", "'2020-01-01'::date + n"),
    ("text", "'v' || n"),
    ("numeric(6,2)", "n / 7.0"),
    ("integer[]", "NULL"),
    ("uuid", "NULL"),
    ("timestamptz", "NULL"),
)


def create(admin: psycopg.Connection[Any], name: str, count: int) -> None:
    """A table of ``count`` columns, of a type each in turn; a row has at most 8 kB, so some are null."""
    kinds = {f"c{number}": KINDS[number % len(KINDS)] for number in range(1, count)}
    columns = ", ".join(f"{column} {kind}" for column, (kind, _) in kinds.items())
    values = ", ".join(value for _, value in kinds.values())
    admin.execute(f"CREATE TABLE {name} (id integer PRIMARY KEY, {columns})".encode())
    admin.execute(f"INSERT INTO {name} SELECT n, {values} FROM generate_series(1, 20) n".encode())


def test_a_wide_table_is_copied_changed_and_altered(database: str, tmp_path: Path) -> None:
    source = {"url": database, "discover_every": "2s", "heartbeat": "300ms"}
    settings = settings_for(database, tmp_path, source=source)
    with psycopg.connect(database, autocommit=True) as admin:
        create(admin, "wide", COLUMNS - 2)
        with running(settings) as pipeline:
            columns = ", ".join(f"c{number}" for number in range(1, COLUMNS - 2))
            admin.execute(f"INSERT INTO wide SELECT id + 100, {columns} FROM wide".encode())
            admin.execute("UPDATE wide SET c3 = 'one' WHERE id = 1")
            admin.execute("DELETE FROM wide WHERE id = 2")
            admin.execute("ALTER TABLE wide ADD COLUMN more integer DEFAULT 7")
            admin.execute("ALTER TABLE wide DROP COLUMN c4")
            admin.execute("INSERT INTO wide (id, more) VALUES (200, 8)")
            admin.execute("ALTER TABLE wide ADD COLUMN last text")
            admin.execute("UPDATE wide SET last = 'x' WHERE id = 3")
            found = admin.execute("SELECT (pg_current_wal_lsn() - '0/0')::int8").fetchone()
            assert found is not None
            wait_until(lambda: pipeline._errors or pipeline.progress().applied_lsn >= found[0], 60)
            wait_until(lambda: pipeline._errors or pipeline.ready(), 60)
            assert_equal(settings)
    (table,) = read_lake(settings, now).tables
    assert (len(table.columns), table.rows) == (COLUMNS - 1, 40)
    assert query(settings, "SELECT more, last, c3 FROM wide WHERE id = 3") == [(7, "x", "v3")]
    assert len(query(settings, "FROM wide LIMIT 1")[0]) == COLUMNS - 1 + 2
