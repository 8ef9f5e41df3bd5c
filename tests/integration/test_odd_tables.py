"""Tables with odd names, seen from every side: captured, queried, verified, asked for by name."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
from ruamel.yaml import YAML

from smartstream.config import Settings, load
from smartstream.doctor import Status, diagnose
from smartstream.errors import NoTables, SchemaError, TablesClash
from smartstream.query import open_lake
from smartstream.sql_text import quoted
from smartstream.verify import verify
from tests.integration.command_line import Capture, Shop
from tests.running_pipeline import assert_equal, once, running, wait_until

NAMES = (
    'say "hi"',
    "a.dot",
    "it's",
    "two words",
    " blanks ",
    "größe ñ 表",
    "UPPER",
    "select",
    "a/slash",
    "back\\slash",
    "100%",
    "new\nline",
    "..",
    "%s",
    "{}",
    "$1",
    "🦆",
    "../../up",
    "#?&=",
    "a*b[c]",
    "x" * 63,
    "ä" * 31,
    "-- comment",
    "; drop",
)


class OddShop(Shop):
    """A folder whose configuration takes tables by any pattern."""

    def take(self, **tables: Any) -> Settings:
        content = {
            "source": {"url": self._url, "discover_every": "300ms", "heartbeat": "300ms"},
            "defaults": {"flush": {"every": "100ms"}},
            "tables": tables,
        }
        with (self.folder / "smartstream.yaml").open("w") as out:
            YAML().dump(content, out)
        return load(self.folder / "smartstream.yaml")


@pytest.fixture
def admin(database: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(database, autocommit=True) as connection:
        yield connection


@pytest.fixture
def shop(database: str, tmp_path: Path, capsys: Capture) -> OddShop:
    return OddShop(tmp_path, database, capsys)


def execute(connection: psycopg.Connection[Any], *statements: str) -> None:
    for statement in statements:
        connection.execute(statement.encode())


@dataclass(frozen=True)
class Odd:
    """A table with odd names."""

    schema: str
    name: str
    key: str
    value: str

    @property
    def id(self) -> str:
        return f"{self.schema}.{self.name}"

    @property
    def sql(self) -> str:
        return f"{quoted(self.schema)}.{quoted(self.name)}"

    @property
    def lake(self) -> str:
        return self.name if self.schema == "public" else f"{self.schema}__{self.name}"


HALF = len(NAMES) // 2
TABLES = [
    Odd("public" if one == "it's" else one, other, one, other)
    for one, other in zip(NAMES[:HALF], NAMES[HALF:], strict=True)
]
ODDEST = TABLES[:2]
"""Of every kind of odd letter; asked for in every command."""


def test_any_name_of_schema_table_and_column_is_carried(admin: Any, shop: OddShop) -> None:
    for table in TABLES:
        execute(
            admin,
            f"CREATE SCHEMA IF NOT EXISTS {quoted(table.schema)}",
            f"CREATE TABLE {table.sql} ({quoted(table.key)} integer PRIMARY KEY, {quoted(table.value)} text)",
            f"INSERT INTO {table.sql} VALUES (1, 'a'), (2, 'b'), (3, 'c'), (4, NULL)",
        )
    patterns: dict[str, Any] = {table.id: {} for table in TABLES}
    for table in ODDEST:
        patterns[table.id] = {"quality": [{"not_null": [table.value], "name": "value"}]}
    settings = shop.take(**patterns)
    with running(settings) as pipeline:
        for table in TABLES:
            key, value = quoted(table.key), quoted(table.value)
            execute(
                admin,
                f"UPDATE {table.sql} SET {value} = 'x' WHERE {key} = 1",
                f"UPDATE {table.sql} SET {key} = 9 WHERE {key} = 2",
                f"DELETE FROM {table.sql} WHERE {key} = 3",
            )
        assert_equal(settings)
        for table in ODDEST:
            code, _, err = shop.say("resync", table.id, "--yes")
            assert code == 0, err
        wait_until(pipeline.ready, 60)
    with open_lake(settings) as lake:
        for table in TABLES:
            found = lake.execute(f"SELECT * FROM trusted.{quoted(table.lake)} ORDER BY 1").fetchall()
            held = table in ODDEST
            assert [row[:2] for row in found] == [(1, "x"), (4, None), (9, "b")][:: 2 if held else 1], table
    with open_lake(settings, "history " + " ".join(table.lake for table in ODDEST)) as lake:
        for table in ODDEST:
            versions = lake.execute(f"SELECT count(*) FROM history.{quoted(table.lake)}").fetchone()
            assert versions is not None and versions[0] >= 5, table
    listed = {table.id for table in TABLES}
    assert {table["table"] for table in shop.ask("status")["lake"]["tables"]} == listed
    assert {table["table"] for table in shop.ask("tables")["tables"]} == listed
    assert {table["table"] for table in shop.ask("quarantine", "ls")["tables"]} == {t.id for t in ODDEST}


@pytest.mark.parametrize("number", range(len(ODDEST)))
def test_commands_find_a_table_by_its_odd_name(number: int, admin: Any, shop: OddShop) -> None:
    table = ODDEST[number]
    execute(
        admin,
        f"CREATE SCHEMA IF NOT EXISTS {quoted(table.schema)}",
        f"CREATE TABLE {table.sql} ({quoted(table.key)} integer PRIMARY KEY, {quoted(table.value)} text)",
        f"INSERT INTO {table.sql} VALUES (1, 'a'), (4, NULL)",
    )
    settings = shop.take(**{table.id: {"quality": [{"not_null": [table.value], "name": "value"}]}})
    once(settings)
    assert [one["table"] for one in shop.ask("verify", table.id)["tables"]] == [table.id]
    assert shop.ask("why", table.id, "1")["table"] == table.id
    (command,) = [line for line in shop.say("tables")[1].splitlines() if "smartstream sql" in line]
    assert shlex.quote(f"SELECT count(*) FROM {quoted(table.lake)}") in command
    assert [row["key"] for row in shop.ask("quarantine", "show", table.id)["rows"]] == [{table.key: "4"}]
    code, out, _ = shop.say("sql", f"SELECT count(*) AS n FROM {quoted(table.lake)}", "-o", "csv")
    assert (code, out.split()) == (0, ["n", "1"])


CLASHES = {
    "only case differs": ('"Orders"', "orders", "public.Orders", "public.orders"),
    "the name says the schema": ("shop__orders", "shop.orders", "public.shop__orders", "shop.orders"),
    "dots in both": ('"a.b".c', 'a."b.c"', "table c of schema a.b", "table b.c of schema a"),
}


@pytest.mark.parametrize("names", CLASHES.values(), ids=CLASHES)
def test_two_tables_that_would_be_one_in_the_lake_are_refused(
    names: tuple[str, ...], admin: Any, shop: OddShop
) -> None:
    execute(admin, 'CREATE SCHEMA shop; CREATE SCHEMA a; CREATE SCHEMA "a.b"')
    for number, table in enumerate(names[:2]):
        execute(
            admin, f"CREATE TABLE {table} (id integer PRIMARY KEY); INSERT INTO {table} VALUES ({number})"
        )
    settings = shop.take(**{"*.*": {}})
    with pytest.raises(TablesClash) as refused:
        once(settings)
    assert all(name in str(refused.value) for name in names[2:])
    assert "Rename one of the tables" in refused.value.hint
    (check,) = [check for check in diagnose(settings) if check.name == "names"]
    assert check.status is Status.FAIL
    assert all(name in check.found for name in names[2:])
    execute(admin, f"DROP TABLE {names[1]}")
    once(settings)
    assert_equal(settings)


def test_a_table_that_comes_later_never_takes_the_name_of_another(admin: Any, shop: OddShop) -> None:
    execute(admin, "CREATE TABLE orders (id integer PRIMARY KEY)", "INSERT INTO orders VALUES (1)")
    settings = shop.take(**{"public.*": {}})
    with running(settings) as pipeline:
        execute(admin, 'CREATE TABLE "ORDERS" (id integer PRIMARY KEY)', 'INSERT INTO "ORDERS" VALUES (2)')
        execute(admin, "CREATE TABLE later (id integer PRIMARY KEY)", "INSERT INTO orders VALUES (3)")
        wait_until(lambda: "public.later" in pipeline.progress().tables and pipeline.ready(), 60)
        assert set(pipeline.progress().tables) == {"public.orders", "public.later"}
        report = verify(settings)
        assert (report.ok, report.left_out) == (True, ("public.ORDERS",))
    (check,) = [check for check in diagnose(settings) if check.name == "names"]
    assert check.found == "public.ORDERS would be ORDERS in the lake, where public.orders is orders"
    # It stays so when the first is gone: its rows are still in the lake.
    execute(admin, "DROP TABLE orders")
    with pytest.raises(TablesClash, match=r"public\.ORDERS"):
        once(settings)
    execute(admin, 'ALTER TABLE "ORDERS" RENAME TO more_orders')
    once(settings)
    with open_lake(settings) as lake:
        assert lake.execute("SELECT id FROM more_orders").fetchall() == [(2,)]


def test_columns_that_differ_only_in_case_are_refused(admin: Any, shop: OddShop) -> None:
    execute(admin, 'CREATE TABLE t ("Col" integer PRIMARY KEY, col integer)')
    with pytest.raises(SchemaError, match=r"public\.t.*only in case"):
        once(shop.take(**{"public.*": {}}))


def test_patterns_choose_tables_and_say_when_they_choose_none(admin: Any, shop: OddShop) -> None:
    for table in ("orders", "order_lines", "secret", '"Audit"'):
        execute(admin, f"CREATE TABLE {table} (id integer PRIMARY KEY)", f"INSERT INTO {table} VALUES (1)")
    patterns: dict[str, Any] = {
        "public.order*": {},
        "public.secrets": {"exclude": True},  # misspelt
        "public.audit": {},  # upper case in PostgreSQL
        "public.tmp_*": {"exclude": True},  # for later
    }
    settings = shop.take(**patterns)
    (check,) = [check for check in diagnose(settings) if check.name == "patterns"]
    file = shop.folder / "smartstream.yaml"
    lines = file.read_text().splitlines()
    line = 1 + next(number for number, text in enumerate(lines) if "public.secrets" in text)
    assert f"public.secrets ({file}:{line}) matches no table, but public.secret is there" in check.found
    assert "public.audit (" in check.found
    assert "tmp_" not in check.found
    assert "order" not in check.found
    with running(settings) as pipeline:
        execute(admin, "CREATE TABLE order_notes (id integer PRIMARY KEY)", "CREATE TABLE tmp_x (id int)")
        wait_until(lambda: "public.order_notes" in pipeline.progress().tables and pipeline.ready(), 60)
        assert set(pipeline.progress().tables) == {f"public.order{end}" for end in ("s", "_lines", "_notes")}
    # A table that stops matching is captured no longer; what the lake has of it stays.
    settings = shop.take(**{"public.orders": {}})
    execute(admin, "INSERT INTO orders VALUES (2)", "INSERT INTO order_lines VALUES (2)")
    once(settings)
    with open_lake(settings) as lake:
        counts = lake.execute("SELECT (SELECT count(*) FROM orders), (SELECT count(*) FROM order_lines)")
        assert counts.fetchall() == [(2, 1)]
    settings = shop.take(**{"public.nothing": {}})
    with pytest.raises(NoTables, match=r"matches public\.nothing \(.*smartstream\.yaml:\d+\)"):
        once(settings)
