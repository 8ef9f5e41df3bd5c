"""Every carried type with its edge values: the tests run it and docs/types.md is made from it."""

from __future__ import annotations

import sys
from dataclasses import dataclass


@dataclass(frozen=True)
class TypeCase:
    """A column type, how it is carried, and SQL literals that it must survive.

    ``flagged`` are values that Arrow can't hold: null in the column, text in ``_untyped``.
    """

    column: str
    sql: str
    carried: str
    values: tuple[str, ...]
    flagged: tuple[str, ...] = ()


# fmt: off
# ruff: noqa: E501
CASES: tuple[TypeCase, ...] = (
    TypeCase("c_smallint", "smallint", "int", ("0", "-32768", "32767")),
    TypeCase("c_integer", "integer", "int", ("0", "-2147483648", "2147483647")),
    TypeCase("c_bigint", "bigint", "long", ("0", "-9223372036854775808", "9223372036854775807")),
    TypeCase(
        "c_real",
        "real",
        "float",
        ("0", "'-0'", "1.1", "3.4028235e38", "1e-45", "'NaN'", "'Infinity'", "'-Infinity'"),
    ),
    TypeCase(
        "c_double",
        "double precision",
        "double",
        ("0", "'-0'", "0.1", "1.7976931348623157e308", "5e-324", "'NaN'", "'Infinity'", "'-Infinity'"),
    ),
    TypeCase("c_bool", "boolean", "boolean", ("true", "false")),
    TypeCase(
        "c_text",
        "text",
        "string",
        ("''", "'a'", "E'tab\\tnewline\\n\\\\ quote '' \"'", "'žluť 😀'", "'NULL'", "repeat('x', 10000)"),
    ),
    TypeCase("c_varchar", "varchar(20)", "string", ("''", "'trailing   '")),
    TypeCase("c_char", "char(5)", "string, padded", ("''", "'ab'", "'abcde'")),
    TypeCase("c_name", "name", "string", ("'a name'",)),
    TypeCase("c_bytea", "bytea", "binary", ("''", r"'\x00'", r"'\xdeadbeef00ff'")),
    TypeCase(
        "c_uuid",
        "uuid",
        "string",
        ("'00000000-0000-0000-0000-000000000000'", "'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'"),
    ),
    TypeCase(
        "c_date",
        "date",
        "date",
        ("'2000-01-01'", "'0001-01-01'", "'9999-12-31'", "'1969-12-31'"),
        (
            "'infinity'",
            "'-infinity'",
            "'0044-03-15 BC'",
            "'4713-01-01 BC'",
            "'10000-01-01'",
            "'5874897-12-31'",
        ),
    ),
    TypeCase("c_time", "time", "time", ("'00:00'", "'23:59:59.999999'", "'12:34:56.5'"), ("'24:00'",)),
    TypeCase(
        "c_timestamp",
        "timestamp",
        "timestamp",
        ("'2000-01-01'", "'0001-01-01'", "'9999-12-31 23:59:59.999999'", "'1969-12-31 23:59:59.1'"),
        (
            "'infinity'",
            "'-infinity'",
            "'0044-03-15 01:02:03 BC'",
            "'294276-12-31 23:59:59.999999'",
            "'10000-01-01 00:00:00.5'",
        ),
    ),
    TypeCase(
        "c_timestamptz",
        "timestamptz",
        "timestamptz, UTC",
        ("'2000-01-01 00:00+00'", "'2026-03-29 02:30+02'", "'9999-12-31 23:59:59.999999+00'"),
        ("'infinity'", "'-infinity'", "'4713-01-01 00:00+00 BC'", "'294276-12-31 00:00+00'"),
    ),
    TypeCase("c_json", "json", "string", ("'{}'", '\'{"a":  [1, null, "ž"]}\'', "'null'")),
    TypeCase("c_jsonb", "jsonb", "string", ("'{}'", '\'{"b": 1.10, "a": "x"}\'')),
    TypeCase(
        "c_numeric", "numeric(10,2)", "decimal(10,2)", ("0", "-99999999.99", "99999999.99", "1.5"), ("'NaN'",)
    ),
    TypeCase(
        "c_numeric_38",
        "numeric(38,10)",
        "decimal(38,10)",
        ("0", "9999999999999999999999999999.9999999999"),
        ("'NaN'",),
    ),
    TypeCase("c_numeric_small", "numeric(4,4)", "decimal(4,4)", ("0", "0.9999", "-0.0001")),
    TypeCase(
        "c_numeric_wide",
        "numeric(60,5)",
        "string",
        ("1", "'1234567890123456789012345678901234567890.12345'", "'NaN'"),
    ),
    TypeCase(
        "c_numeric_bare",
        "numeric",
        "decimal(38,20)",
        ("0", "1.500000000000000000000000", "-123456789012345678.12345678901234567890", "1e15"),
        ("'NaN'", "'1e30'", "1e-21", "repeat('9', 2000)::numeric"),
    ),
    TypeCase("c_enum", "mood", "string", ("'sad'", "'very happy'")),
    TypeCase("c_domain", "positive", "as its base", ("1", "2147483647")),
    TypeCase(
        "c_int_array",
        "integer[]",
        "list<int>",
        ("'{}'", "'{1,NULL,-3}'"),
        ("'{{1,2},{3,4}}'", "'[0:1]={1,2}'"),
    ),
    TypeCase("c_bigint_array", "bigint[]", "list<long>", ("'{9223372036854775807}'",)),
    TypeCase(
        "c_text_array",
        "text[]",
        "list<string>",
        ("'{}'", "ARRAY['', 'a,b', 'q\"q', E'b\\\\s', NULL, 'NULL', '{x}', ' sp ']", "'{plain,NULL}'"),
        ("ARRAY[['a'],['b']]",),
    ),
    TypeCase("c_float_array", "double precision[]", "list<double>", ("'{0.1,NaN,-Infinity,-0}'",)),
    TypeCase("c_bool_array", "boolean[]", "list<boolean>", ("'{t,f,NULL}'",)),
    TypeCase(
        "c_numeric_array", "numeric(6,2)[]", "list<decimal(6,2)>", ("'{1.50,NULL,-2}'",), ("'{1,NaN}'",)
    ),
    TypeCase("c_date_array", "date[]", "list<date>", ("'{2000-01-01,NULL}'",), ("'{2000-01-01,infinity}'",)),
    TypeCase("c_timestamptz_array", "timestamptz[]", "list<timestamptz>", ("'{\"2000-01-01 00:00+00\"}'",)),
    TypeCase("c_bytea_array", "bytea[]", "list<binary>", (r"ARRAY['\x00ff'::bytea, NULL, '\x'::bytea]",)),
    TypeCase(
        "c_uuid_array", "uuid[]", "list<string>", ("ARRAY['a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'::uuid]",)
    ),
    TypeCase("c_json_array", "jsonb[]", "list<string>", ("ARRAY['{\"a\": 1}'::jsonb, NULL]",)),
    TypeCase("c_enum_array", "mood[]", "list<string>", ("'{sad,\"very happy\"}'",)),
    TypeCase("c_interval", "interval", "string", ("'0'", "'1 year -2 days 03:04:05.6'")),
    TypeCase("c_timetz", "timetz", "string", ("'24:00:00+00'", "'12:00:00-07'")),
    TypeCase("c_money", "money", "string", ("0", "-12.34")),
    TypeCase("c_inet", "inet", "string", ("'10.0.0.1'", "'::1/64'")),
    TypeCase("c_cidr", "cidr", "string", ("'10.0.0.0/8'",)),
    TypeCase("c_macaddr", "macaddr", "string", ("'08:00:2b:01:02:03'",)),
    TypeCase("c_bit", "bit(3)", "string", ("B'101'",)),
    TypeCase("c_varbit", "varbit", "string", ("B''", "B'1'")),
    TypeCase("c_range", "int4range", "string", ("'empty'", "'[1,5)'", "'(,)'")),
    TypeCase("c_multirange", "int4multirange", "string", ("'{}'", "'{[1,5),[7,9)}'")),
    TypeCase("c_point", "point", "string", ("'(1.5,-2)'",)),
    TypeCase("c_box_array", "box[]", "string", ("'{(1,1),(0,0);(2,2),(1,1)}'",)),
    TypeCase("c_tsvector", "tsvector", "string", ("'a fat cat'",)),
    TypeCase("c_pair", "pair", "string", ("ROW(1, 'a,b\"')::pair", "ROW(NULL, NULL)::pair")),
    TypeCase("c_quoted_char", '"char"', "string", ("'x'",)),
    TypeCase("c_oid", "oid", "string", ("4294967295",)),
)

SETUP = """
CREATE TYPE mood AS ENUM ('sad', 'very happy');
CREATE DOMAIN positive AS integer CHECK (VALUE > 0);
CREATE TYPE pair AS (a integer, b text);
"""


def create_statement(table: str, cases: tuple[TypeCase, ...] = CASES) -> str:
    """CREATE TABLE with a key and a column per case."""
    columns = ", ".join(f"{case.column} {case.sql}" for case in cases)
    return f"CREATE TABLE {table} (id integer PRIMARY KEY, {columns})"


def insert_statements(table: str, cases: tuple[TypeCase, ...] = CASES, first_id: int = 1) -> list[str]:
    """One row of nulls, then rows that go through all values of all columns."""
    statements = [f"INSERT INTO {table} (id) VALUES ({first_id})"]
    length = max(len(case.values) + len(case.flagged) for case in cases)
    for row in range(length):
        literals = []
        for case in cases:
            values = case.values + case.flagged
            literals.append(f"({values[row % len(values)]})::{case.sql}")
        statements.append(f"INSERT INTO {table} VALUES ({first_id + row + 1}, {', '.join(literals)})")
    return statements


HEAD = """# Types

How each PostgreSQL type is carried. This page is made from the table that the tests run: every type is
written with its edge values, read by the snapshot copy and by the stream, and both must agree.

Carried exactly, or *flagged*: where the lake's type can't hold a value, the column is null and
`_untyped`, a JSON object in the same row, holds PostgreSQL's own text of it. Nothing is rounded, clamped
or dropped. To find such rows: `SELECT * FROM t WHERE _untyped IS NOT NULL`.

| PostgreSQL | in the lake | flagged |
|---|---|---|
"""

TAIL = """
Every type not listed is carried as PostgreSQL's own text. Domains are carried as their base type.
Trailing zeros of a `numeric` are not kept: 1.50 and 1.5 are the same number. An array is a list when it
has one dimension and begins at 1; otherwise it is flagged as a whole. `numeric(p,s)` is a decimal up to 38
digits with 0 ≤ s ≤ p, text beyond.
"""


def page() -> str:
    """docs/types.md."""
    rows = []
    for case in CASES:
        flagged = ", ".join(f"`{_shown(value)}`" for value in case.flagged)
        rows.append(f"| `{case.sql}` | {case.carried} | {flagged} |\n")
    return HEAD + "".join(rows) + TAIL


def _shown(value: str) -> str:
    """A literal as a reader would write it."""
    return value.replace("'", "").replace("|", "\\|").replace("repeat(9, 2000)::numeric", "a number of 2000 digits")


if __name__ == "__main__":
    sys.stdout.write(page())
