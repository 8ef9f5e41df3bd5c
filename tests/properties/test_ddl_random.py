"""Random schema changes among random changes of rows end in equality, or in an error that says where.

``SMARTSTREAM_TEST_DDL_SECONDS`` sets how long (make soak); the seed is printed and repeats the statements.
"""

from __future__ import annotations

import math
import os
import random
import threading
import time
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import psycopg

from smartstream.config import Settings
from smartstream.pipeline import Pipeline
from smartstream.verify import verify
from tests.running_pipeline import running, settings_for

SECONDS = float(os.environ.get("SMARTSTREAM_TEST_DDL_SECONDS", "4"))
ROUND_S = 20.0
UNSEEN_S = 2.0
"""A partition may go unseen as long; the pipeline looks every 0.3 s, unless it is held up."""
TABLES = ("a", "b", "c", "p", "p1")
HOLDS = {"quality": [{"range": {"column": "id", "max": 1000}}]}
BOUNDS = "FOR VALUES FROM (-2000) TO (200)"  # of p1
TYPES = ("integer", "bigint", "text", "varchar(30)", "numeric(12, 2)", "uuid", "boolean", "float8", "date")
WIDER = ("varchar(60)", "numeric(14, 2)", "numeric(14, 4)")
DEFAULTS = {
    "integer": ("7", "(random() * 100)::integer"),
    "bigint": ("7", "(random() * 100)::bigint"),
    "text": ("'so'", "random()::text"),
    "varchar(30)": ("'so'", "left(random()::text, 9)"),
    "numeric(12, 2)": ("1.25", "round((random() * 100)::numeric, 2)"),
    "uuid": ("'00000000-0000-0000-0000-000000000001'", "gen_random_uuid()"),
    "boolean": ("true", "random() < 0.5"),
    "float8": ("0.5", "random()"),
    "date": ("'2020-02-29'", "'2020-01-01'::date + (random() * 100)::integer"),
}


def columns_of(connection: psycopg.Connection[Any], table: str) -> list[str] | None:
    """But for those of its key; None if there is no such table now."""
    found = connection.execute(
        "SELECT attname FROM pg_attribute"
        " WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped",
        (table,),
    ).fetchall()
    return [name for (name,) in found if name not in ("id", "k")] if found else None


def create_statement(table: str) -> str:
    """A table as it is at first; one that is partitioned with its partitions."""
    columns = "(id integer PRIMARY KEY, c0 text, c1 integer)"
    if table == "p1":
        return f"CREATE TABLE p1 PARTITION OF p {BOUNDS}"
    if table == "p":
        return (
            f"CREATE TABLE p {columns} PARTITION BY RANGE (id);"
            f" CREATE TABLE IF NOT EXISTS p1 PARTITION OF p {BOUNDS};"
            " CREATE TABLE IF NOT EXISTS p2 PARTITION OF p FOR VALUES FROM (200) TO (100000)"
        )
    return f"CREATE TABLE {table} {columns}"


def key_change(table: str, columns: str) -> str:
    """Another primary key, in one statement; what the old one is called depends on its table's past."""
    return f"""
        DO $$ BEGIN EXECUTE (
            SELECT format('ALTER TABLE {table} DROP CONSTRAINT %I, ADD PRIMARY KEY ({columns})', conname)
            FROM pg_constraint WHERE conrelid = '{table}'::regclass AND contype = 'p'
        ); END $$""".strip()


def change_of_schema(chosen: random.Random, table: str, columns: list[str]) -> str:
    """One statement, which PostgreSQL may refuse."""
    column, other, kind = (
        chosen.choice(columns or ["c0"]),
        f"c{chosen.randrange(6)}",
        chosen.choice(TYPES),
    )
    head = f"ALTER TABLE {table}"
    volatile = DEFAULTS[kind][1]
    return chosen.choice(
        (
            f"{head} ADD COLUMN {other} {kind}",
            f"{head} ADD COLUMN {other} {kind} DEFAULT {DEFAULTS[kind][0]}",
            f"{head} ADD COLUMN {other} {kind} DEFAULT {volatile}",
            f"{head} ADD COLUMN {other} {kind} DEFAULT {volatile}; {head} ALTER COLUMN {other} DROP DEFAULT",
            f"{head} DROP COLUMN {column}",
            f"{head} RENAME COLUMN {column} TO {other}",
            f"{head} DROP COLUMN {column}; {head} ADD COLUMN {column} {kind}",
            f"{head} ALTER COLUMN {column} DROP DEFAULT; {head} ALTER COLUMN {column} TYPE text",
            # Not both on one table: with USING, a widening is the one change of values that can't be seen.
            f"{head} ALTER COLUMN c1 TYPE {'bigint' if table == 'a' else 'integer USING 7'}",
            f"{head} ALTER COLUMN {column} TYPE {chosen.choice(WIDER)}",
            f"UPDATE {table} SET {column} = DEFAULT WHERE {column} IS NULL;"
            f" {head} ALTER COLUMN {column} SET NOT NULL",
            f"{head} ALTER COLUMN {column} DROP NOT NULL",
            f"{head} ADD COLUMN IF NOT EXISTS k integer NOT NULL DEFAULT 1; {key_change(table, 'id, k')}",
            f"{key_change(table, 'id')}; {head} DROP COLUMN IF EXISTS k",
            f"{head} ADD COLUMN {other} integer GENERATED ALWAYS AS (id * 2) STORED",
            f"{head} ALTER COLUMN {column} DROP EXPRESSION",
        )
    )


def change_of_table(chosen: random.Random, table: str) -> str:
    """One statement about a table as a whole, which PostgreSQL may refuse."""
    head, index = f"ALTER TABLE {table}", f"ux_{table}"
    identities = (
        f"{head} REPLICA IDENTITY {chosen.choice(('FULL', 'DEFAULT'))}",
        f"CREATE UNIQUE INDEX IF NOT EXISTS {index} ON {table} (id);"
        f" {head} REPLICA IDENTITY USING INDEX {index}",
    )
    return chosen.choice(
        (
            f"TRUNCATE {table}",
            "TRUNCATE a, b",
            f"VACUUM FULL {table}",
            *(identities if table not in ("p", "p1") else ()),  # theirs must agree, or it is a typed error
            f"DROP TABLE {table}",
            f"DROP TABLE {table}; {create_statement(table)}",
            "ALTER TABLE a RENAME TO x; ALTER TABLE b RENAME TO a; ALTER TABLE x RENAME TO b",
            f"{head} RENAME TO {table}_away",
            f"{head} SET SCHEMA other",
            f"{head} SET SCHEMA other; ALTER TABLE other.{table} SET SCHEMA public",
            "ALTER TABLE p DETACH PARTITION p1",
            f"ALTER TABLE p ATTACH PARTITION p1 {BOUNDS}",
            f"ALTER TABLE p DETACH PARTITION p1; DROP TABLE p1; {create_statement('p1')}",
        )
    )


def way_back(chosen: random.Random, table: str) -> str:
    """One statement that may bring a table that is away."""
    return chosen.choice(
        (
            create_statement(table),
            f"ALTER TABLE {table}_away RENAME TO {table}",
            f"ALTER TABLE other.{table} SET SCHEMA public",
        )
    )


def change_of_rows(chosen: random.Random, table: str, columns: list[str]) -> str:
    """One statement about rows."""
    key, column = chosen.randrange(400), chosen.choice(columns or ["id"])
    return chosen.choice(
        (
            f"INSERT INTO {table} (id) VALUES ({key}) ON CONFLICT DO NOTHING",
            f"INSERT INTO {table} (id) SELECT generate_series({key}, {key + 30}) ON CONFLICT DO NOTHING",
            f"UPDATE {table} SET {column} = DEFAULT WHERE id % 7 = {key % 7}",
            f"UPDATE {table} SET {column} = NULL WHERE id = {key}",
            f"UPDATE {table} SET {column} = '{key % 10}' WHERE id % 5 = {key % 5}",  # most types take it
            f"UPDATE {table} SET id = id + 1000 WHERE id = {key}",
            f"DELETE FROM {table} WHERE id BETWEEN {key} AND {key + 5}",
        )
    )


def transaction(chosen: random.Random, connection: psycopg.Connection[Any]) -> str:
    """Some statements in one transaction, mostly committed; VACUUM has to stand alone."""
    table = chosen.choice(TABLES)
    columns = columns_of(connection, table)
    if columns is None:
        return way_back(chosen, table)
    rows = [change_of_rows(chosen, table, columns) for _ in range(chosen.randrange(4))]
    if chosen.random() < 0.3:
        change = (
            change_of_table(chosen, table)
            if chosen.random() < 0.4
            else change_of_schema(chosen, table, columns)
        )
        rows.insert(chosen.randrange(len(rows) + 1), change)
    if any(row.startswith("VACUUM") for row in rows):
        return next(row for row in rows if row.startswith("VACUUM"))
    return "; ".join(["BEGIN", *rows, chosen.choices(("COMMIT", "ROLLBACK"), (9, 1))[0]])


def wait_until_equal(settings: Settings, pipeline: Pipeline) -> None:
    """Within a minute, row for row."""
    pause = threading.Event()
    for _ in range(60):
        if pipeline._errors:
            raise pipeline._errors[0]
        report = verify(settings, rows=True)
        if report.ok:
            return
        pause.wait(1.0)
    raise AssertionError(report.to_dict())


class Restarted:
    """A pipeline that is stopped in the middle of it all, begun again, and asked for copies."""

    def __init__(self, settings: Settings) -> None:
        self._settings, self._stack = settings, ExitStack()
        self.pipeline = self._stack.enter_context(running(settings))
        self._partition_came = -math.inf

    def resync_what_nobody_saw(self, statement: str) -> None:
        """Do what docs/schema-changes.md asks for when a partition came and went between two looks."""
        goes = "DETACH" in statement or "DROP TABLE p" in statement
        if goes and time.monotonic() - self._partition_came < UNSEEN_S:
            for root in ("public.p", "other.p", "public.p_away"):
                self._ask_copy(root)
        if "PARTITION OF p" in statement or "ATTACH" in statement:
            self._partition_came = time.monotonic()

    def disturb(self, chosen: random.Random, table: str) -> None:
        """Now and then."""
        number = chosen.random()
        if number < 0.003:
            self._stack.close()
            self.pipeline = self._stack.enter_context(running(self._settings, ready=False))
        elif number < 0.01:
            self._ask_copy(f"public.{table}")

    def _ask_copy(self, table: str) -> None:
        """As ``smartstream resync`` does."""
        for schema in self.pipeline._tables.all():
            if schema.id == table:
                self.pipeline._drift.ask_copy(schema, accept=True)

    def close(self) -> None:
        self._stack.close()


def test_random_schema_changes_under_load_end_in_equality(database: str, tmp_path: Path, seed: str) -> None:
    chosen, tables = random.Random(seed), {"*.*": {}, "*.b": HOLDS, "*.p": HOLDS}
    settings = settings_for(database, tmp_path, tables=tables, quality={"quarantine_ratio_max": 1.0})
    ends, done, said = time.monotonic() + SECONDS, 0, []
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(b"CREATE SCHEMA other")
        for table in TABLES[:-1]:
            connection.execute(create_statement(table).encode())
        connection.execute("CREATE TABLE stays (id integer PRIMARY KEY)")
        try:
            with closing(Restarted(settings)) as kept:
                while time.monotonic() < ends or not done:
                    round_ends = min(max(ends, time.monotonic() + 2.0), time.monotonic() + ROUND_S)
                    while time.monotonic() < round_ends and not kept.pipeline._errors:
                        statement = transaction(chosen, connection)
                        try:
                            connection.execute(statement.encode())
                            said.append(statement)
                            kept.resync_what_nobody_saw(statement)
                        except psycopg.Error:
                            connection.execute("ROLLBACK")
                        kept.disturb(chosen, chosen.choice(TABLES))
                        threading.Event().wait(chosen.random() * 0.05)
                        done += 1
                    wait_until_equal(settings, kept.pipeline)
        except BaseException:
            print("the last:", *said[-40:], sep="\n")
            raise
        finally:
            print(f"seed {seed}, {done} transactions, {done - len(said)} of them refused")
