"""Results as text: a table for people, CSV and JSON for programs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

import pyarrow as pa

TABLE_ROWS_MAX = 1_000
CELL_CHARS_MAX = 80

_NEEDS_QUOTES = re.compile(r'[",\r\n]')
# DuckDB writes NaN and the infinities bare, which is not JSON.  Outside strings only.
_BARE = re.compile(r'("(?:[^"\\]|\\.)*")|(-?\b(?:NaN|Infinity)\b)')


def table_lines(names: Sequence[str], batches: Iterable[pa.RecordBatch]) -> Iterator[bytes]:
    """Render an aligned table of the first TABLE_ROWS_MAX rows, long values cut."""
    rows: list[list[str]] = []
    more = False
    for batch in batches:
        columns = [batch.column(n).to_pylist() for n in range(batch.num_columns)]
        rows += [[_cell(value) for value in row] for row in zip(*columns, strict=True)]
        more = len(rows) > TABLE_ROWS_MAX
        if more:
            break
    rows = rows[:TABLE_ROWS_MAX]
    widths = [max(map(len, column)) for column in zip(names, *rows, strict=True)]
    lines = [_aligned(names, widths), "─┼─".join("─" * width for width in widths)]
    lines += [_aligned(row, widths) for row in rows]
    end = f"({len(rows)} row{'' if len(rows) == 1 else 's'})"
    if more:
        end = f"(the first {TABLE_ROWS_MAX} rows; -o csv, json or parquet give all)"
    yield "\n".join([*lines, end, ""]).encode()


def csv_lines(names: Sequence[str], batches: Iterable[pa.RecordBatch]) -> Iterator[bytes]:
    """Render CSV with a header: null is nothing, empty text is a pair of quotes."""
    yield (",".join(map(_csv_value, names)) + "\n").encode()
    for batch in batches:
        columns = [map(_csv_value, batch.column(n).to_pylist()) for n in range(batch.num_columns)]
        yield "".join(",".join(row) + "\n" for row in zip(*columns, strict=True)).encode()


def json_lines(batches: Iterable[pa.RecordBatch]) -> Iterator[bytes]:
    """Render a JSON array, one object a line."""
    separator = "[\n"
    for batch in batches:
        lines = [
            _BARE.sub(_quote_bare, line) if "NaN" in line or "Infinity" in line else line
            for line in batch.column(0).to_pylist()
        ]
        if lines:
            yield (separator + ",\n".join(lines)).encode()
            separator = ",\n"
    yield b"[]\n" if separator == "[\n" else b"\n]\n"


def plan_lines(batches: Iterable[pa.RecordBatch]) -> Iterator[bytes]:
    """Render what EXPLAIN says, a drawing over many lines."""
    for batch in batches:
        yield "".join(f"{text.rstrip()}\n" for text in batch.column(1).to_pylist()).encode()


def _cell(value: str | None) -> str:
    """A value in a table: on one line and not too long."""
    if value is None:
        return "NULL"
    value = value.replace("\r", "\\r").replace("\n", "\\n").replace("\t", "\\t")
    return value if len(value) <= CELL_CHARS_MAX else value[: CELL_CHARS_MAX - 1] + "…"


def _aligned(row: Sequence[str], widths: Sequence[int]) -> str:
    """A row of a table."""
    return " │ ".join(value.ljust(width) for value, width in zip(row, widths, strict=True)).rstrip()


def _csv_value(value: str | None) -> str:
    """A value in CSV."""
    if value is None:
        return ""
    return '"' + value.replace('"', '""') + '"' if not value or _NEEDS_QUOTES.search(value) else value


def _quote_bare(match: re.Match[str]) -> str:
    """A bare NaN or Infinity as a string."""
    return match[1] or f'"{match[2]}"'
