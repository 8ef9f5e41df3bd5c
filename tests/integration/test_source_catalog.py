"""What the source's catalog says about tables, columns and types."""

from __future__ import annotations

import time
from typing import Any

import pytest

from smartstream.capture import catalog
from smartstream.errors import SchemaError, TableWithoutKey
from smartstream.schema import Kind, TableSchema

from .source_setup import connected, run_sql, table


def discovered(url: str, pattern: str = "") -> catalog.Discovery:
    """All tables, or those whose id contains ``pattern``."""
    with connected(url) as connection:
        return catalog.discover(connection, lambda id_: pattern in id_)


def described(url: str, name: str) -> TableSchema:
    """One table of public."""
    with connected(url) as connection:
        return table(connection, name)


def test_permanent_tables_are_found_and_nothing_else(database: str) -> None:
    run_sql(
        database,
        "CREATE SCHEMA sales",
        'CREATE TABLE sales."Order Lines" (id int PRIMARY KEY)',
        "CREATE TABLE plain (id int PRIMARY KEY)",
        "CREATE UNLOGGED TABLE unlogged (id int PRIMARY KEY)",
        "CREATE VIEW seen AS SELECT * FROM plain",
        "CREATE MATERIALIZED VIEW kept AS SELECT * FROM plain",
    )
    found = discovered(database)
    assert [schema.id for schema in found.tables] == ["public.plain", "sales.Order Lines"]
    assert found.keyless == ()


def test_partitions_are_left_out_when_their_root_is_wanted(database: str) -> None:
    run_sql(
        database,
        "CREATE TABLE p (id int, at date, PRIMARY KEY (id, at)) PARTITION BY RANGE (at)",
        "CREATE TABLE p_24 PARTITION OF p DEFAULT PARTITION BY LIST (id)",
        "CREATE TABLE p_24_a PARTITION OF p_24 DEFAULT",
    )
    assert [schema.id for schema in discovered(database).tables] == ["public.p"]
    assert [schema.id for schema in discovered(database, "p_24_a").tables] == ["public.p_24_a"]


def test_columns_keep_their_attnums_without_dropped_and_generated_ones(database: str) -> None:
    run_sql(
        database,
        "CREATE TABLE t (a int, b text NOT NULL, c int GENERATED ALWAYS AS (a + 1) STORED, d int)",
        "ALTER TABLE t ADD PRIMARY KEY (d, a)",
        "ALTER TABLE t DROP COLUMN b",
        "ALTER TABLE t ADD COLUMN e varchar(5) NOT NULL",
    )
    schema = described(database, "t")
    assert [(c.name, c.attnum, c.nullable) for c in schema.columns] == [
        ("a", 1, False),
        ("d", 4, False),
        ("e", 5, False),
    ]
    assert schema.key == ("d", "a")


def test_the_replica_identity_index_is_the_key(database: str) -> None:
    run_sql(
        database,
        "CREATE TABLE t (id int PRIMARY KEY, a int NOT NULL, b text NOT NULL, c int)",
        "CREATE UNIQUE INDEX t_ba ON t (b, a) INCLUDE (c)",
        "ALTER TABLE t REPLICA IDENTITY USING INDEX t_ba",
    )
    assert described(database, "t").key == ("b", "a")
    run_sql(database, "ALTER TABLE t REPLICA IDENTITY FULL")
    assert described(database, "t").key == ("id",)


def test_tables_without_a_usable_key_are_listed_with_the_reason(database: str) -> None:
    run_sql(
        database,
        "CREATE TABLE none (id int)",
        "CREATE TABLE nothing (id int PRIMARY KEY)",
        "ALTER TABLE nothing REPLICA IDENTITY NOTHING",
        "CREATE TABLE whole (id int)",
        "ALTER TABLE whole REPLICA IDENTITY FULL",
        "CREATE TABLE later (id int PRIMARY KEY DEFERRABLE)",
        "CREATE TABLE made (id int, g int GENERATED ALWAYS AS (id * 2) STORED NOT NULL PRIMARY KEY)",
        "CREATE TABLE p (id int PRIMARY KEY) PARTITION BY RANGE (id)",
        "CREATE TABLE p_1 PARTITION OF p DEFAULT",
        "ALTER TABLE p_1 REPLICA IDENTITY FULL",
    )
    found = discovered(database)
    assert found.tables == ()
    reasons = {keyless.id.removeprefix("public."): keyless.reason for keyless in found.keyless}
    assert {name: reason.split(",")[0] for name, reason in reasons.items()} == {
        "later": "its primary key is DEFERRABLE",
        "made": "its key has a generated column",
        "none": "it has no primary key",
        "nothing": "its REPLICA IDENTITY is NOTHING",
        "p": "partition public.p_1 has another REPLICA IDENTITY than the table",
        "whole": "it has no primary key",
    }


def test_a_single_table_is_described_or_refused_or_gone(database: str) -> None:
    run_sql(database, "CREATE TABLE t (id int PRIMARY KEY)")
    with connected(database) as connection:
        schema = table(connection, "t")
        assert catalog.table_schema(connection, schema.oid) == schema
        run_sql(database, "ALTER TABLE t DROP CONSTRAINT t_pkey")
        with pytest.raises(TableWithoutKey, match=r"public\.t"):
            catalog.table_schema(connection, schema.oid)
        run_sql(database, "DROP TABLE t")
        assert catalog.table_schema(connection, schema.oid) is None


@pytest.mark.parametrize("columns", ["_lsn int", "_OP text", "_untyped int", '"Name" int, name int'])
def test_column_names_that_the_lake_cannot_hold_are_refused(database: str, columns: str) -> None:
    run_sql(
        database, f"CREATE TABLE t (id int PRIMARY KEY, {columns.replace('_OP', chr(34) + '_OP' + chr(34))})"
    )
    with pytest.raises(SchemaError, match=r"public\.t"):
        discovered(database)


TYPES = {
    "int2": (Kind.INT2, "smallint"),
    "int4": (Kind.INT4, "integer"),
    "int8": (Kind.INT8, "bigint"),
    "float4": (Kind.FLOAT4, "real"),
    "float8": (Kind.FLOAT8, "double precision"),
    "bool": (Kind.BOOL, "boolean"),
    "text": (Kind.TEXT, "text"),
    "varchar(7)": (Kind.TEXT, "character varying(7)"),
    "name": (Kind.TEXT, "name"),
    "char(3)": (Kind.BPCHAR, "character(3)"),
    '"char"': (Kind.OTHER, '"char"'),
    "bytea": (Kind.BYTEA, "bytea"),
    "uuid": (Kind.UUID, "uuid"),
    "date": (Kind.DATE, "date"),
    "time(3)": (Kind.TIME, "time(3) without time zone"),
    "timetz": (Kind.OTHER, "time with time zone"),
    "timestamp": (Kind.TIMESTAMP, "timestamp without time zone"),
    "timestamptz(3)": (Kind.TIMESTAMPTZ, "timestamp(3) with time zone"),
    "json": (Kind.JSON, "json"),
    "jsonb": (Kind.JSON, "jsonb"),
    "interval": (Kind.OTHER, "interval"),
    "money": (Kind.OTHER, "money"),
    "inet": (Kind.OTHER, "inet"),
    "int4range": (Kind.OTHER, "int4range"),
    "int2vector": (Kind.OTHER, "int2vector"),
    "box[]": (Kind.OTHER, "box[]"),
    "inet[]": (Kind.OTHER, "inet[]"),
    "pair": (Kind.OTHER, "public.pair"),
    "mood": (Kind.ENUM, "public.mood"),
    "mood[]": (Kind.ARRAY, "public.mood[]"),
    "small": (Kind.NUMERIC, "numeric(6,2)"),
    "smaller": (Kind.NUMERIC, "numeric(6,2)"),
    "ids": (Kind.ARRAY, "integer[]"),
}


def test_types_are_resolved_to_what_is_stored(database: str) -> None:
    run_sql(
        database,
        "CREATE TYPE mood AS ENUM ('sad', 'ok')",
        "CREATE TYPE pair AS (a int, b int)",
        "CREATE DOMAIN small AS numeric(6,2)",
        "CREATE DOMAIN smaller AS small CHECK (value < 10)",
        "CREATE DOMAIN ids AS int[]",
        "CREATE TABLE t (id int PRIMARY KEY, "
        + ", ".join(f"c{i} {name}" for i, name in enumerate(TYPES))
        + ")",
    )
    columns = described(database, "t").columns[1:]
    assert {name: (c.type.kind, c.type.name) for name, c in zip(TYPES, columns, strict=True)} == TYPES
    by_name = {name: c.type for name, c in zip(TYPES, columns, strict=True)}
    assert (by_name["smaller"].precision, by_name["smaller"].scale) == (6, 2)
    assert by_name["mood[]"].element is not None
    assert by_name["mood[]"].element.kind is Kind.ENUM
    assert by_name["ids"].element is not None
    assert by_name["ids"].element.kind is Kind.INT4
    assert by_name["int4"].output == "pg_catalog.int4out"
    assert by_name["mood"].output == "pg_catalog.enum_out"


def test_output_functions_outside_pg_catalog_are_qualified_and_quoted(database: str) -> None:
    run_sql(
        database,
        'CREATE SCHEMA "my types"',
        'CREATE TYPE "my types".odd',
        'CREATE FUNCTION "my types"."Odd in"(cstring) RETURNS "my types".odd'
        " LANGUAGE internal IMMUTABLE STRICT AS 'textin'",
        'CREATE FUNCTION "my types"."Odd out"("my types".odd) RETURNS cstring'
        " LANGUAGE internal IMMUTABLE STRICT AS 'textout'",
        'CREATE TYPE "my types".odd'
        ' (INPUT = "my types"."Odd in", OUTPUT = "my types"."Odd out", LIKE = text)',
        'CREATE TABLE t (id int PRIMARY KEY, o "my types".odd)',
        "INSERT INTO t VALUES (1, 'x')",
    )
    with connected(database) as connection:
        output = table(connection, "t").column("o").type.output
        assert output == '"my types"."Odd out"'
        query = f"SELECT pg_catalog.textin({output}(o)) FROM public.t"
        assert connection.execute(query).fetchone() == ("x",)  # type: ignore[call-overload]


@pytest.mark.parametrize(
    ("declared", "expected"),
    [
        ("numeric", (None, None)),
        ("numeric(10)", (10, 0)),
        ("numeric(1000,0)", (1000, 0)),
        ("numeric(38,38)", (38, 38)),
    ],
)
def test_numeric_precision_and_scale_are_read_from_the_typmod(
    database: str, declared: str, expected: tuple[int | None, int | None]
) -> None:
    run_sql(database, f"CREATE TABLE t (id int PRIMARY KEY, n {declared}, a {declared}[])")
    schema = described(database, "t")
    number, array = schema.column("n").type, schema.column("a").type
    assert (number.precision, number.scale) == expected
    assert array.element is not None
    assert array.element.name == number.name
    assert (array.element.precision, array.element.scale) == expected


@pytest.mark.parametrize(("declared", "expected"), [("numeric(3,-2)", (3, -2)), ("numeric(2,5)", (2, 5))])
def test_scales_outside_the_precision_are_read_too(
    database: str, declared: str, expected: tuple[int, int]
) -> None:
    with connected(database) as connection:
        if connection.info.server_version < 150000:
            pytest.skip("PostgreSQL 15 and later")
    run_sql(database, f"CREATE TABLE t (id int PRIMARY KEY, n {declared})")
    number = described(database, "t").column("n").type
    assert (number.precision, number.scale) == expected


def test_one_type_can_be_looked_up_by_oid_and_typmod(database: str) -> None:
    run_sql(
        database,
        "CREATE DOMAIN small AS numeric(6,2)",
        "CREATE TABLE t (id int PRIMARY KEY, a numeric(9,3)[], b small, c varchar(3))",
    )
    with connected(database) as connection:
        columns = connection.execute(
            "SELECT attname, atttypid, atttypmod FROM pg_attribute"
            " WHERE attrelid = 'public.t'::regclass AND attnum > 0"
        )
        for name, oid, typmod in columns.fetchall():
            assert catalog.pg_type(connection, oid, typmod) == table(connection, "t").column(name).type
        with pytest.raises(SchemaError):
            catalog.pg_type(connection, 4_000_000_000, -1)


def defaults_of(url: str, *added: str) -> catalog.AddedDefaults:
    """What columns hold in old rows that are added to a table of two rows."""
    run_sql(
        url,
        "CREATE TYPE mood AS ENUM ('sad', 'ok')",
        "CREATE DOMAIN seven AS int DEFAULT 7",
        "CREATE TABLE t (id int PRIMARY KEY)",
        "INSERT INTO t VALUES (1), (2)",
        *(f"ALTER TABLE t ADD COLUMN {column}" for column in added),
    )
    with connected(url) as connection:
        return catalog.missing_defaults(connection, table(connection, "t").oid, range(2, len(added) + 2))


def test_constant_defaults_of_added_columns_are_known(database: str) -> None:
    found = defaults_of(
        database,
        "a int DEFAULT 5",
        "b text DEFAULT 'it''s, {\"x\"}'",
        "c timestamptz DEFAULT '2024-01-01 00:00+01'",
        "d int[] DEFAULT '{1,2}'",
        "e mood DEFAULT 'ok'",
        "f char(4) DEFAULT 'x'",
        "g bool DEFAULT true",
        "h box DEFAULT '(1,1),(0,0)'",
        "i bytea DEFAULT '\\x00ff'",
        "j text",
        "k text DEFAULT ''",
    )
    assert not found.rewritten
    assert found.constants == {
        2: "5",
        3: 'it\'s, {"x"}',
        4: "2023-12-31 23:00:00+00",
        5: "{1,2}",
        6: "ok",
        7: "x   ",
        8: "t",
        9: "(1,1),(0,0)",
        10: "\\x00ff",
        12: "",
    }


@pytest.mark.parametrize(
    "column",
    ["a float8 DEFAULT random()", "a int GENERATED ALWAYS AS IDENTITY", "a serial", "a seven"],
)
def test_values_that_differ_by_row_need_the_rows_again(database: str, column: str) -> None:
    found = defaults_of(database, column)
    assert found.rewritten or found.constants == {2: "7"}, (
        "a domain's default is either seen or asks for a copy"
    )
    with connected(database) as connection:
        values = [row[0] for row in connection.execute("SELECT a FROM public.t ORDER BY id")]
    assert None not in values


def test_a_column_added_without_default_is_null(database: str) -> None:
    assert defaults_of(database, "a int", "b int NULL") == catalog.AddedDefaults({}, rewritten=False)


def test_five_hundred_tables_are_described_at_once(database: str) -> None:
    run_sql(
        database,
        "DO $$ BEGIN FOR i IN 1..500 LOOP "
        "EXECUTE format('CREATE TABLE t%s (id int PRIMARY KEY, a text, b numeric(10,2), c timestamptz)', i); "
        "END LOOP; END $$",
    )
    with connected(database) as connection:
        started = time.monotonic()
        found = catalog.discover(connection, lambda _: True)
        elapsed = time.monotonic() - started
    assert len(found.tables) == 500
    assert elapsed < 3.0


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ("ALTER TABLE t DROP CONSTRAINT t_pkey, DROP COLUMN k, ADD PRIMARY KEY (id)", [("id",)]),
        ("DROP TABLE t", []),
    ],
)
def test_a_table_that_changes_between_two_queries_is_looked_at_again(
    database: str, change: str, key: list[tuple[str, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    run_sql(
        database, "CREATE TABLE t (id int, k int, PRIMARY KEY (id, k))", "CREATE TABLE u (id int PRIMARY KEY)"
    )
    ask, changed = catalog._query, []

    def change_first(connection: Any, statement: Any, arguments: Any) -> list[Any]:
        if statement == catalog._COLUMNS and not changed:
            changed.append(change)
            run_sql(database, change)
        return ask(connection, statement, arguments)

    monkeypatch.setattr(catalog, "_query", change_first)
    found = discovered(database)
    assert [schema.key for schema in found.tables] == [*key, ("id",)]
    assert found.keyless == ()
