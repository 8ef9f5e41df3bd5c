"""Random tables of all types under random changes: the lake has what the source prints, value by value."""

from __future__ import annotations

import itertools
import json
import os
import random
import time
from pathlib import Path
from typing import Any

import psycopg

from smartstream.config import Settings
from smartstream.query import open_lake
from smartstream.testing.postgres import PostgresServer
from smartstream.trusted.catalog import open_catalog
from smartstream.verify import verify
from tests.running_pipeline import once, settings_for
from tests.types_database import fresh_database
from tests.types_random import RandomTable, quoted, random_tables
from tests.types_reading import expected, python_rows, shown, source_rows
from tests.types_values import SETUP

SECONDS = float(os.environ.get("SMARTSTREAM_TEST_TYPES_SECONDS", "8"))
TABLES, ROWS, TRANSACTIONS = 4, 12, 12


def attempt(connection: psycopg.Connection[Any], statement: str) -> None:
    """Run a statement, which may break a key or be out of a type's range."""
    try:
        with connection.transaction():
            connection.execute(statement.encode())
    except (psycopg.errors.IntegrityError, psycopg.errors.DataError, psycopg.errors.ProgramLimitExceeded):
        pass


def work(url: str, tables: list[RandomTable], rng: random.Random) -> None:
    """Random transactions over all tables; some are rolled back."""
    with psycopg.connect(url) as connection:
        for _ in range(TRANSACTIONS):
            for _ in range(rng.randint(1, 12)):
                attempt(connection, rng.choice(tables).change())
            if rng.random() < 0.1:
                connection.rollback()
            connection.commit()


def compare(settings: Settings, url: str, table: RandomTable) -> int:
    """Check each value of a table in both readers, by the source's text; the number of values."""
    source = source_rows(url, table.name)
    iceberg = open_catalog(settings.lake).load_table(("trusted", table.name))
    kinds = {f.name: str(f.field_type) for f in iceberg.schema().fields}
    with open_lake(settings) as lake:
        duckdb = lake.sql(f"FROM {quoted(table.name)}").to_arrow_table()
    for found in (python_rows(duckdb), python_rows(iceberg.scan().to_arrow())):
        assert found.keys() == source.keys(), table.name
        for number, row in source.items():
            texts = json.loads(found[number]["_untyped"] or "{}")
            for column, printed in row.items():
                value = shown(found[number][column], kinds[column])
                if column in texts:
                    assert (value, texts[column]) == (None, printed[0]), (table.name, column, number)
                else:
                    assert value == expected(printed, kinds[column]), (table.name, column, number)
    return sum(len(row) for row in source.values())


def one_round(postgres: PostgresServer, folder: Path, name: str, rng: random.Random) -> int:
    """New tables, a copy, two rounds of changes; the number of values compared."""
    with fresh_database(postgres, name) as url:
        policy = rng.choice(("null_and_flag", "null_and_flag", "clamp", "quarantine"))
        settings = settings_for(url, folder, tables={"*.*": {"unrepresentable": policy}})
        tables = list(random_tables(rng, TABLES))
        with psycopg.connect(url, autocommit=True) as admin:
            admin.execute(SETUP)
            for table in tables:
                for statement in table.create():
                    admin.execute(statement.encode())
        with psycopg.connect(url) as connection:
            for table in tables:
                for _ in range(ROWS):
                    attempt(connection, table.insert())
        for _ in range(2):
            once(settings)
            work(url, tables, rng)
        once(settings)
        report = verify(settings, rows=True)
        count = 0
        if policy == "null_and_flag":  # under the others not every value is the source's
            count = sum(compare(settings, url, table) for table in tables)
        assert report.ok, report.to_dict()
        assert len(report.tables) == TABLES
        assert sum(table.source_rows or 0 for table in report.tables)
        return count


def test_random_tables_of_all_types_are_equal(postgres: PostgresServer, tmp_path: Path, seed: str) -> None:
    print(f"seed {seed}")
    end, compared = time.monotonic() + SECONDS, 0
    for number in itertools.count():
        if number and time.monotonic() > end:
            break
        rng = random.Random(f"{seed} {number}")
        try:
            compared += one_round(postgres, tmp_path / str(number), f"random_types_{number}", rng)
        except BaseException:
            print(f"in round {number} of seed {seed}")
            raise
    print(f"{number} rounds, {compared} values compared by text")
