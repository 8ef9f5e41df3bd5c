"""Every value of the table of types, through a pipeline in four ways, is what the source prints."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest

from smartstream.query import open_lake
from smartstream.testing.postgres import PostgresServer
from smartstream.trusted.catalog import open_catalog
from tests.running_pipeline import assert_equal, once, settings_for
from tests.types_database import fresh_database
from tests.types_reading import expected, python_rows, shown, source_rows
from tests.types_table import ARRAYS, SCALARS, SETUP, TypeCase, create_statement
from tests.types_values import UNFILLABLE

WAYS = {"copied": 0, "inserted": 1000, "updated": 2000, "left alone": 3000}
"""How a value comes to the lake, and the first id of its rows.  *Left alone*: another column was updated."""

HOSTILE = (
    "DateStyle = 'SQL, DMY'",
    "IntervalStyle = sql_standard",
    "TimeZone = 'Asia/Kathmandu'",
    "extra_float_digits = -15",
    "bytea_output = escape",
    "search_path = public, pg_catalog",
    "quote_all_identifiers = on",
    "xmlbinary = hex",
    "array_nulls = on",
)
"""A database's own settings; none may show in the lake."""

TABLES = {"everything": SCALARS, "arrays": ARRAYS}


@dataclass(frozen=True)
class Fidelity:
    """One database and its lake after all values went through.

    Attributes:
        source, duckdb, iceberg: of each table the rows by id.
        kinds: of each table the Iceberg types.
        missing: what the server can't have.
    """

    source: dict[str, dict[int, Any]]
    duckdb: dict[str, dict[int, Any]]
    iceberg: dict[str, dict[int, Any]]
    kinds: dict[str, dict[str, str]]
    missing: frozenset[str]


def everything(case: TypeCase) -> tuple[str, ...]:
    return case.values + case.flagged + case.huge


def missing_features(admin: psycopg.Connection[Any]) -> frozenset[str]:
    """Create what the server has of what types need; return the rest."""
    known = {name for (name,) in admin.execute("SELECT name FROM pg_available_extensions").fetchall()}
    missing = set()
    for need in {case.needs for case in SCALARS} - {""}:
        if need in known:
            admin.execute(f"CREATE EXTENSION {need}".encode())
        elif need != "libxml":
            missing.add(need)
    try:
        admin.execute("SELECT '<a/>'::xml")
    except psycopg.errors.FeatureNotSupported:
        missing.add("libxml")
    return frozenset(missing)


def write_rows(
    admin: psycopg.Connection[Any], table: str, cases: Sequence[TypeCase], first: int, *, update: bool
) -> None:
    """One row of nulls, then rows that go through all values of all columns."""
    for row in range(max(len(everything(case)) for case in cases)):
        values = {case.column: everything(case)[row % len(everything(case))] for case in cases}
        typed = [f"({values[case.column]})::{case.sql}" for case in cases]
        if update:
            sets = ", ".join(f"{case.column} = {value}" for case, value in zip(cases, typed, strict=True))
            admin.execute(f"UPDATE {table} SET {sets} WHERE id = {first + row + 1}".encode())
        else:
            names = ", ".join(["id", *(case.column for case in cases)])
            statement = f"INSERT INTO {table} ({names}) VALUES ({first + row + 1}, {', '.join(typed)})"
            admin.execute(statement.encode())
    if not update:
        admin.execute(f"INSERT INTO {table} (id) VALUES ({first})".encode())


@pytest.fixture(scope="module")
def lake(postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fidelity]:
    """Both tables, after a copy and two rounds of changes."""
    with fresh_database(postgres, "fidelity") as url:
        yield through_pipeline(url, tmp_path_factory.mktemp("fidelity"))


def through_pipeline(url: str, folder: Path) -> Fidelity:
    """Write, run, write, run; then read everything."""
    settings = settings_for(url, folder)
    with psycopg.connect(url, autocommit=True) as admin:
        for setting in HOSTILE:
            admin.execute(f"ALTER DATABASE fidelity SET {setting}".encode())
    with psycopg.connect(url, autocommit=True) as admin:
        admin.execute(SETUP)
        missing = missing_features(admin)
        tables = {name: [c for c in cases if c.needs not in missing] for name, cases in TABLES.items()}
        for name, cases in tables.items():
            admin.execute(create_statement(name, cases).encode())
            admin.execute(f"ALTER TABLE {name} ADD COLUMN touched integer DEFAULT 0".encode())
            admin.execute(f"INSERT INTO {name} (id) SELECT generate_series(2000, 2040)".encode())
            write_rows(admin, name, cases, WAYS["copied"], update=False)
            write_rows(admin, name, cases, WAYS["left alone"], update=False)
        once(settings)
        for name, cases in tables.items():
            for style, way in (("iso_8601", "inserted"), ("postgres_verbose", "updated")):
                admin.execute(f"SET IntervalStyle = {style}".encode())
                write_rows(admin, name, cases, WAYS[way], update=way == "updated")
            admin.execute(f"UPDATE {name} SET touched = 1 WHERE id >= 3000".encode())
        once(settings)
    assert_equal(settings)
    catalog = open_catalog(settings.lake)
    iceberg = {name: catalog.load_table(("trusted", name)) for name in tables}
    with open_lake(settings) as connection:
        duckdb = {name: connection.sql(f"FROM {name}").to_arrow_table() for name in tables}
    return Fidelity(
        source={name: source_rows(url, name) for name in tables},
        duckdb={name: python_rows(rows) for name, rows in duckdb.items()},
        iceberg={name: python_rows(table.scan().to_arrow()) for name, table in iceberg.items()},
        kinds={
            name: {f.name: str(f.field_type) for f in table.schema().fields}
            for name, table in iceberg.items()
        },
        missing=missing,
    )


CELLS = [pytest.param(name, case, id=case.sql) for name, cases in TABLES.items() for case in cases]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("table", "case"), CELLS)
def test_a_value_is_what_the_source_prints(table: str, case: TypeCase, way: str, lake: Fidelity) -> None:
    if case.needs in lake.missing:
        pytest.skip(f"the server has no {case.needs}")
    kind = lake.kinds[table][case.column]
    assert kind == case.carried
    flagged = set(case.flagged) | (set() if kind in ("string", "binary") else set(case.huge))
    for row, literal in enumerate(["NULL", *everything(case)]):
        number = WAYS[way] + row
        source = lake.source[table][number][case.column]
        for reader in (lake.duckdb, lake.iceberg):
            found = reader[table][number]
            texts = json.loads(found["_untyped"] or "{}")
            if literal in flagged:
                assert found[case.column] is None, literal
                assert texts[case.column] == source[0], literal
            else:
                assert shown(found[case.column], kind) == expected(source, kind), literal
                assert case.column not in texts, literal


@pytest.mark.parametrize("table", TABLES)
def test_all_rows_are_there_and_no_others(table: str, lake: Fidelity) -> None:
    assert lake.source[table].keys() == lake.duckdb[table].keys() == lake.iceberg[table].keys()


def test_the_table_has_every_built_in_type(database: str) -> None:
    with psycopg.connect(database, autocommit=True) as admin:
        admin.execute(SETUP)
        missing = missing_features(admin)
        for name, cases in TABLES.items():
            listed = [case for case in cases if case.needs not in missing or case.needs == "libxml"]
            admin.execute(create_statement(name, listed).encode())
        untested = admin.execute(
            "SELECT typname FROM pg_type WHERE typnamespace = 'pg_catalog'::regnamespace"
            " AND typtype IN ('b', 'r', 'm') AND oid NOT IN (SELECT atttypid FROM pg_attribute"
            " WHERE attrelid >= 'everything'::regclass)"
        ).fetchall()
    # Arrays of catalog's own row types, and of types that nobody can write.
    names = {name for (name,) in untested if not name.startswith("_")}
    assert names == UNFILLABLE
