"""A source whose every state is written down, for the tests of history."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import duckdb
import psycopg

from smartstream.config import Settings
from smartstream.query import open_lake

TABLES = {"a": "id", "b": "k, m"}
CREATE = (
    "CREATE TABLE a (id integer PRIMARY KEY, v text, big text, n integer)",
    "ALTER TABLE a ALTER big SET STORAGE EXTERNAL",
    "CREATE TABLE b (k text, m integer, big text, made timestamptz, PRIMARY KEY (k, m))",
    "ALTER TABLE b ALTER big SET STORAGE EXTERNAL",
    "INSERT INTO a SELECT i, 'v' || i, repeat(md5(i::text), 100), 0 FROM generate_series(1, 30) i",
    "INSERT INTO b SELECT 'k' || i % 3, i, repeat(md5(i::text), 90), 'epoch' FROM generate_series(1, 30) i",
)
"""Tables with a key of one column and of two, and values large enough to be left out of updates."""

State = dict[str, list[tuple[Any, ...]]]


@dataclass
class Recorder:
    """Runs transactions and writes down what the tables held after each."""

    admin: Any
    columns: dict[str, str] = field(default_factory=lambda: {"a": "id, v, big, n", "b": "k, m, big, made"})
    seen: list[tuple[int, datetime, State]] = field(default_factory=list)

    def run(self, *statements: str) -> None:
        """One transaction; nothing happens when a key would be there twice."""
        with suppress(psycopg.errors.UniqueViolation), self.admin.transaction():
            for statement in statements:
                self.admin.execute(statement)
        self.note()

    def note(self) -> None:
        """Write down the present state, with its LSN and its time."""
        # The end of the WAL is where the next commit may begin: what is before it has happened.
        (lsn,) = self.admin.execute("SELECT (pg_current_wal_lsn() - '0/0')::bigint - 1").fetchone()
        (time,) = self.admin.execute("SELECT clock_timestamp()").fetchone()
        self.seen.append((lsn, time, self.state()))

    def state(self) -> State:
        """All rows."""
        return {
            table: self.admin.execute(
                f"SELECT {columns} FROM {table} ORDER BY {self.columns[table]}"
            ).fetchall()
            for table, columns in self.columns.items()
        }


def fetched(lake: duckdb.DuckDBPyConnection, statement: str) -> list[tuple[Any, ...]]:
    """The rows of a statement."""
    columns = lake.sql(statement).to_arrow_table().columns
    return list(zip(*(column.to_pylist() for column in columns), strict=True))


def state_as_of(settings: Settings, moment: int | datetime, columns: dict[str, str]) -> State:
    """All rows of the lake as of a moment."""
    with open_lake(settings, " ".join(columns), as_of=moment) as lake:
        return {
            table: fetched(lake, f"SELECT {names} FROM {table} ORDER BY {names}")
            for table, names in columns.items()
        }


def state_from_history(settings: Settings, lsn: int, columns: dict[str, str]) -> State:
    """The same out of history tables."""
    with open_lake(settings, f"history {' '.join(columns)}") as lake:
        return {
            table: fetched(
                lake,
                f"SELECT {names} FROM history.{table} WHERE valid_from_lsn <= {lsn} "
                f"AND (valid_to_lsn > {lsn} OR is_current) ORDER BY {names}",
            )
            for table, names in columns.items()
        }


def random_statements(random_: random.Random) -> list[str]:
    """The statements of one transaction: inserts, updates, deletes, key changes, TOAST, truncates."""
    makers: list[Callable[[int], str]] = [
        lambda n: f"INSERT INTO a VALUES ({n}, 'i{n}', repeat(md5('{n}'), 100), 0) ON CONFLICT DO NOTHING",
        lambda n: f"UPDATE a SET n = n + 1 WHERE id = {n}",
        lambda n: f"UPDATE a SET v = 'u{random_.random()}' WHERE id % 5 = {n % 5}",
        lambda n: f"UPDATE a SET big = repeat(md5('{random_.random()}'), 100) WHERE id = {n}",
        lambda n: f"DELETE FROM a WHERE id = {n}",
        lambda n: (
            f"UPDATE a SET id = {n + 100} WHERE id = {n} AND NOT EXISTS (SELECT FROM a WHERE id = {n + 100})"
        ),
        lambda n: f"UPDATE a SET id = {n} WHERE id = {n + 100} AND NOT EXISTS (SELECT FROM a WHERE id = {n})",
        lambda n: f"UPDATE b SET m = m + 1000 WHERE m = {n}",
        lambda n: f"UPDATE b SET k = k || 'x', made = now() WHERE m = {n} AND length(k) < 5",
        lambda n: (
            f"UPDATE b SET m = m - 1000 WHERE m = {n + 1000} AND NOT EXISTS (SELECT FROM b WHERE m = {n})"
        ),
        lambda n: f"DELETE FROM b WHERE m % 7 = {n % 7} AND m < 20",
        lambda n: (
            f"INSERT INTO b VALUES ('k{n % 3}', {n}, repeat('{n} ', 2000), now()) ON CONFLICT DO NOTHING"
        ),
    ]
    statements = [random_.choice(makers)(random_.randint(1, 40)) for _ in range(random_.randint(1, 4))]
    if random_.random() < 0.05:
        statements.insert(
            random_.randrange(len(statements) + 1), random_.choice(["TRUNCATE a", "TRUNCATE a, b"])
        )
    return statements
