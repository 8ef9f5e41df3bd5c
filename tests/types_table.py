"""The table of types: tables and rows of all values, and docs/types.md made of the same."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence

from tests.types_values import SCALARS, SETUP, UNFILLABLE, TypeCase

__all__ = ["ARRAYS", "CASES", "SETUP", "TypeCase", "create_statement", "insert_statements", "page"]

_LISTED_TEXTS = frozenset(
    {
        *("text", "varchar(20)", "char(5)", "name", "refcursor", "uuid", "json", "jsonb", "mood"),
        *(case.sql for case in SCALARS if case.sql.startswith("numeric")),
    }
)
"""Types carried as strings whose arrays are lists nevertheless: what an element is, is known."""


def array_of(case: TypeCase) -> TypeCase:
    """The arrays of a type: with nulls, several dimensions and other lower bounds, of all of its values."""
    elements = [f"({value})::{case.sql}" for value in case.values]
    first, target = elements[0], f"{case.sql}[]"
    held = [
        f"'{{}}'::{target}",
        f"ARRAY[{', '.join(elements)}, NULL]",
        f"ARRAY[NULL]::{target}",
        f"ARRAY[{elements[-1]}]",
    ]
    odd = [
        f"array_fill({first}, ARRAY[2, 1, 2])",
        f"ARRAY[ARRAY[{elements[-1]}, NULL], ARRAY[{first}, {first}]]",
        f"array_fill({first}, ARRAY[2], ARRAY[0])",
        f"array_fill({first}, ARRAY[1], ARRAY[-5])",
        f"array_fill({elements[-1]}, ARRAY[1, 2], ARRAY[2, 1])",
        *(f"ARRAY[{first}, ({value})::{case.sql}]" for value in case.flagged),
    ]
    is_list = not case.carried.startswith("list") and (case.carried != "string" or case.sql in _LISTED_TEXTS)
    name = f"{case.column}_array"
    if is_list:
        return TypeCase(name, target, f"list<{case.carried}>", tuple(held), tuple(odd), needs=case.needs)
    return TypeCase(name, target, "string", (*held, *odd), needs=case.needs)


CASES = tuple(case for case in SCALARS if not case.needs)
ARRAYS = tuple(array_of(case) for case in SCALARS if not case.sql.endswith("[]"))


def create_statement(table: str, cases: Sequence[TypeCase] = CASES) -> str:
    """CREATE TABLE with a key and a column per case."""
    columns = ", ".join(f"{case.column} {case.sql}" for case in cases)
    return f"CREATE TABLE {table} (id integer PRIMARY KEY, {columns})"


def insert_statements(table: str, cases: Sequence[TypeCase] = CASES, first_id: int = 1) -> list[str]:
    """One row of nulls, then rows that go through all values of all columns but the huge ones."""
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

How each PostgreSQL type is carried. This page is made from the table that the tests run: each value below is
written to a real server, read by the snapshot copy, as an insert and as an update of the stream, and as a
value that an update left alone; what the lake then returns, through `smartstream sql` and through pyiceberg,
is compared with what the server prints.

Carried exactly, or *held as text*: where the lake's type can't hold a value, the column is null and
`_untyped`, a JSON object in the same row, holds PostgreSQL's own text of it. Nothing is rounded, clamped
or dropped unless a table says so ([unrepresentable](transform.md#unrepresentable-values)). To find such rows:
`SELECT * FROM t WHERE _untyped IS NOT NULL`.

| PostgreSQL | in the lake | values tested, exact | held as text | its array |
|---|---|---|---|---|
"""

TAIL = """
- **Null** is null, for every type.
- **Every type not listed** is carried as PostgreSQL's own text: what its output function prints in a session
  with `DateStyle` ISO, `IntervalStyle` postgres, `TimeZone` UTC, `extra_float_digits` 3, `bytea_output` hex
  and the search path `pg_catalog`, whatever the server, database, role or writing session have.
- **Arrays** are lists when they have one dimension and begin at 1, as nearly all do; otherwise, or where an
  element can't be held, the array is held as text as a whole. Arrays of types that are carried as text are
  text as a whole. An empty array is an empty list, not null.
- **Domains** are carried as their base type, of whatever depth.
- **Enums** may be extended while SmartStream runs. When a label is renamed, or a composite type gets another
  attribute, PostgreSQL shows the rows that are there otherwise and writes nothing about it: `smartstream
  verify` shows the difference, `smartstream resync TABLE` follows it. So it is with **names of objects**
  (`regclass` and its like): they are text, as the object was called when the row was read.
- **An array in the key** is refused when the pipeline starts: lists can't be looked up in the lake.
- **A value in the key that can't be held** stops the pipeline with an error that names table and column: null
  in a key would find no row again.
- **Text that is none**: a database of the encoding `SQL_ASCII` may hold bytes that are not UTF-8; copy and
  stream stop with an error there.
- **`numeric(p,s)`** is a decimal up to 38 digits with 0 ≤ s ≤ p, text beyond. In decimals trailing zeros
  carry no meaning; in text they are kept.
- **-0, NaN and infinities** of floats are floats. Times have no NaN, but ±infinity, which no type of the lake
  has.
- A type that PostgreSQL makes for itself alone ({unfillable}) can be a column, but nobody can put a value
  into it.
"""


def page() -> str:
    """docs/types.md."""
    arrays = {case.column: case.carried for case in ARRAYS}
    rows = []
    for case in SCALARS:
        cells = [
            f"`{case.sql}`" + (f" ({case.needs})" if case.needs not in ("", "libxml") else ""),
            case.carried + (f"; {case.note}" if case.note else ""),
            _listed(case.values + (case.huge if case.carried in ("string", "binary") else ())),
            _listed(case.flagged + (case.huge if case.carried not in ("string", "binary") else ())),
            arrays.get(f"{case.column}_array", ""),
        ]
        rows.append(f"| {' | '.join(cells)} |\n")
    unfillable = ", ".join(f"`{name}`" for name in sorted(UNFILLABLE))
    return HEAD + "".join(rows) + TAIL.replace("{unfillable}", unfillable)


def _listed(values: Sequence[str]) -> str:
    """Values in a cell."""
    return " ".join(f"`{_shown(value)}`" for value in values)


def _shown(value: str) -> str:
    """A value as a reader of the page would write it."""
    if re.fullmatch(r"'[^'\\]*'", value):
        value = value[1:-1] or "''"
    value = re.sub(r"\)::numeric$", ")", value)
    return value.replace("|", "\\|").replace("`", "'")


if __name__ == "__main__":
    sys.stdout.write(page())
