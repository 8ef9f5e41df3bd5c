"""What a lake must return for PostgreSQL's text of a value, told without the product's code."""

from __future__ import annotations

import re
import struct
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any, LiteralString

import psycopg
import pyarrow as pa

TEXT_SETTINGS: LiteralString = (
    "SET DateStyle = ISO; SET IntervalStyle = postgres; SET TimeZone = 'UTC'; SET extra_float_digits = 3;"
    " SET bytea_output = hex; SET search_path = pg_catalog;"
    " SET quote_all_identifiers = off"
)

_COLUMNS: LiteralString = """
SELECT a.attname, format('%%I.%%I', n.nspname, o.proname) AS own, e.output AS elements
FROM pg_attribute a
JOIN pg_type t ON t.oid = a.atttypid
JOIN pg_proc o ON o.oid = t.typoutput JOIN pg_namespace n ON n.oid = o.pronamespace
LEFT JOIN pg_type d ON d.oid = t.typbasetype
LEFT JOIN LATERAL (
    SELECT format('%%I.%%I', m.nspname, p.proname) AS output
    FROM pg_type x JOIN pg_proc p ON p.oid = x.typoutput JOIN pg_namespace m ON m.oid = p.pronamespace
    WHERE x.oid = CASE WHEN t.typcategory = 'A' THEN coalesce(nullif(t.typelem, 0), d.typelem) END
        AND p.proname <> 'record_out'
) e ON true
WHERE a.attrelid = %s::regclass AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum
"""


def bits(value: float | None, width: str) -> bytes | None:
    """A float as IEEE has it: -0 is not 0; NaN is NaN."""
    return None if value is None else struct.pack(width, value)


def value_of(text: str | None, kind: str) -> Any:
    """The value of an Iceberg type, no list, that PostgreSQL prints as ``text``; see ``shown``."""
    if text is None:
        return None
    if kind in ("int", "long"):
        return int(text)
    if kind in ("float", "double"):
        return bits(float(text), "<f" if kind == "float" else "<d")
    if kind == "boolean":
        return {"t": True, "f": False}[text]
    if kind.startswith("decimal"):
        return Decimal(text)
    if kind == "binary":
        return bytes.fromhex(text.removeprefix("\\x"))
    if kind == "date":
        return date.fromisoformat(text)
    if kind == "time":
        return time.fromisoformat(_full(text))
    if kind in ("timestamp", "timestamptz"):
        found = datetime.fromisoformat(_full(text.removesuffix("+00")))
        return found.replace(tzinfo=UTC) if kind == "timestamptz" else found
    assert kind == "string"
    return text


def shown(value: Any, kind: str) -> Any:
    """A value that the lake returns, in the form of ``value_of``."""
    if kind.startswith("list"):
        return None if value is None else [shown(element, kind[5:-1]) for element in value]
    if kind in ("float", "double"):
        return bits(value, "<f" if kind == "float" else "<d")
    return value


def _full(text: str) -> str:
    """A time with six decimals: Python 3.11 reads three or six."""
    return re.sub(r"\.(\d+)$", lambda found: f".{found[1]:0<6}", text)


def source_rows(url: str, table: str) -> dict[int, dict[str, tuple[str | None, list[str | None] | None]]]:
    """Of each row, by ``id``: column → (what PostgreSQL prints, the elements' texts of an array)."""
    with psycopg.connect(url) as connection:
        connection.execute(TEXT_SETTINGS)
        columns = connection.execute(_COLUMNS, (f"public.{_quoted(table)}",)).fetchall()
        parts = []
        for name, output, element in columns:
            quoted = _quoted(name)
            parts.append(_printed(quoted, output))
            parts.append(_elements(quoted, element) if element else "NULL::text[]")
        query = f"SELECT id, {', '.join(parts)} FROM public.{_quoted(table)}"
        rows = connection.execute(query.encode()).fetchall()
    names = [name for name, _, _ in columns]
    return {row[0]: dict(zip(names, zip(row[1::2], row[2::2], strict=True), strict=True)) for row in rows}


def _quoted(name: str) -> str:
    """A quoted name."""
    return '"' + name.replace('"', '""') + '"'


def _printed(value: str, output: str) -> str:
    """SQL for what PostgreSQL prints of a value; refcursor's function can't be called with it."""
    return f"{value}::text" if output == "pg_catalog.textout" else f"textin({output}({value}))"


def _elements(column: str, output: str) -> str:
    """SQL for the texts of an array's elements."""
    texts = f"SELECT {_printed('e', output)} FROM unnest({column}) WITH ORDINALITY u(e, n) ORDER BY n"
    return f"CASE WHEN {column} IS NOT NULL THEN ARRAY({texts}) END"


def expected(source: tuple[str | None, list[str | None] | None], kind: str) -> Any:
    """What the lake must return for a value that its type can hold."""
    text, elements = source
    if not kind.startswith("list"):
        return value_of(text, kind)
    return None if elements is None else [value_of(element, kind[5:-1]) for element in elements]


def python_rows(table: pa.Table, key: str = "id") -> dict[int, dict[str, Any]]:
    """Rows of a result by their key, times in UTC."""
    fields = [
        pa.field(f.name, pa.timestamp("us", "UTC") if getattr(f.type, "tz", None) else f.type)
        for f in table.schema
    ]
    return {row[key]: row for row in table.cast(pa.schema(fields)).to_pylist()}
