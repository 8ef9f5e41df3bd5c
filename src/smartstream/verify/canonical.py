"""One text for each value, the same from PostgreSQL and from the lake, pure.

The two sides store values in different ways; what can be compared is a text that both
can make exactly: decimal digits for integers, IEEE bits for floats (so -0 is not 0),
PostgreSQL's internal microseconds for times, hexadecimal digits for bytes, else the
text that PostgreSQL prints.  A row's text is that of its columns, each so closed that
no two rows share one; its hash is the first 64 bits of the text's MD5.

PostgreSQL's numerics are compared without trailing zeros, which carry no meaning.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from smartstream.query.relation import sql_type
from smartstream.schema import Kind, PgType

BUCKETS = 1024
ARGUMENTS_MAX = 100
"""That many a function of PostgreSQL takes."""

Sums = Mapping[int, tuple[int, int]]
"""Bucket of row hashes → (row count, sum of row hashes)."""
_EPOCH_US = 946_684_800_000_000  # 2000-01-01, where PostgreSQL's time begins, in Unix microseconds

_INTEGERS = (Kind.INT2, Kind.INT4, Kind.INT8)
# Of these, no text contains a comma, so a comma can close it.
_CLOSED = (
    *_INTEGERS,
    Kind.FLOAT4,
    Kind.FLOAT8,
    Kind.BOOL,
    Kind.BYTEA,
    Kind.UUID,
    Kind.DATE,
    Kind.TIME,
    Kind.TIMESTAMP,
    Kind.TIMESTAMPTZ,
    Kind.NUMERIC,
)
_SEND = {
    Kind.FLOAT4: "float4send",
    Kind.FLOAT8: "float8send",
    Kind.DATE: "date_send",
    Kind.TIME: "time_send",
    Kind.TIMESTAMP: "timestamp_send",
    Kind.TIMESTAMPTZ: "timestamptz_send",
}


@dataclass(frozen=True, slots=True)
class Search:
    """Which rows to look at for differences.

    Attributes:
        buckets: of row hashes.
        digits: of the MD5 of the key's text that must be 0: each takes a sixteenth of
            the rows, the same on both sides.
    """

    buckets: tuple[int, ...]
    digits: int

    def condition(self, key_md5: str) -> str:
        """As SQL over columns ``h``, and an expression for the MD5 of the key's text."""
        buckets = f"h & {BUCKETS - 1} IN ({', '.join(map(str, self.buckets))})"
        return f"{buckets} AND substr({key_md5}, 1, {self.digits}) = '{'0' * self.digits}'"


@dataclass(frozen=True, slots=True)
class FoundRow:
    """A row's hash, the canonical text of its key, and its key as people know it."""

    hash: int
    key: str
    shown: tuple[str | None, ...]


def source_text(kind: PgType, value: str) -> str:
    """Return PostgreSQL's expression for the text of ``value``, an expression of this type; null for null."""
    match kind.kind:
        case Kind.BOOL:
            return f"CASE WHEN {value} THEN 't' WHEN NOT {value} THEN 'f' END"
        case Kind.FLOAT4 | Kind.FLOAT8:
            return f"CASE WHEN {value} = 'NaN' THEN 'NaN' ELSE encode({_SEND[kind.kind]}({value}), 'hex') END"
        case Kind.DATE | Kind.TIME | Kind.TIMESTAMP | Kind.TIMESTAMPTZ:
            return f"encode({_SEND[kind.kind]}({value}), 'hex')"
        case Kind.BYTEA:
            return f"encode({value}, 'hex')"
        case Kind.NUMERIC:
            return f"trim_scale({value})::text"
        case Kind.BPCHAR | Kind.OTHER:
            return f"textin({kind.output}({value}))"
        case Kind.ARRAY:
            return _source_array(kind, value)
        case _:
            return f"{value}::text"


def lake_text(kind: PgType, value: str) -> str:
    """Return DuckDB's expression for the same text; ``value`` is of type ``kind.arrow``."""
    match kind.kind:
        case Kind.BOOL:
            return f"CASE WHEN {value} THEN 't' WHEN NOT {value} THEN 'f' END"
        case Kind.FLOAT4 | Kind.FLOAT8:
            return f"CASE WHEN isnan({value}) THEN 'NaN' ELSE {_hex_bits(value)} END"
        case Kind.DATE:
            return _hex_bits(f"CAST({value} - DATE '2000-01-01' AS INTEGER)")
        case Kind.TIME:
            return _hex_bits(f"epoch_us({value})")
        case Kind.TIMESTAMP | Kind.TIMESTAMPTZ:
            return _hex_bits(f"(epoch_us({value}) - {_EPOCH_US})")
        case Kind.BYTEA:
            return f"lower(hex({value}))"
        case Kind.NUMERIC:
            return _lake_numeric(kind, value)
        case Kind.ARRAY:
            assert kind.element is not None
            element = _field(lake_text(kind.element, "element"), _is_closed(kind.element))
            return f"'L' || array_to_string(list_transform({value}, lambda element: {element}), '')"
        case _:
            return f"CAST({value} AS VARCHAR)"


def source_row(columns: Sequence[tuple[PgType, str]]) -> str:
    """Return PostgreSQL's expression for the text of these columns."""
    fields = [_field(source_text(kind, value), _is_closed(kind)) for kind, value in columns]
    groups = (fields[start : start + ARGUMENTS_MAX] for start in range(0, len(fields), ARGUMENTS_MAX))
    return " || ".join(f"concat({', '.join(group)})" for group in groups)


def lake_row(columns: Sequence[tuple[PgType, str]], exact: Sequence[str | None] = ()) -> str:
    """Return DuckDB's expression for the same text.

    Args:
        exact: per column an expression that is its text where not null, for values
            that the lake keeps as text.
    """
    fields = []
    for number, (kind, value) in enumerate(columns):
        text = lake_text(kind, f"CAST({value} AS {sql_type(kind.arrow)})")
        if exact and exact[number]:
            text = f"coalesce({exact[number]}, {text})"
        fields.append(_field(text, _is_closed(kind)))
    # Not ||: each would keep its own copy of all that stands before it, for a whole batch of rows.
    return f"concat({', '.join(fields)})"


def source_hash(row: str, *, utf8: bool = True) -> str:
    """Return PostgreSQL's expression for the hash (bigint) of a row's text.

    Args:
        utf8: the database's encoding is UTF-8; otherwise the text is made so.
    """
    return f"('x' || left({source_md5(row, utf8=utf8)}, 16))::bit(64)::bigint"


def source_md5(text: str, *, utf8: bool = True) -> str:
    """Return PostgreSQL's expression for the MD5 of a text in UTF-8."""
    return f"md5({text})" if utf8 else f"md5(convert_to({text}, 'UTF8'))"


def lake_hash(row: str) -> str:
    """Return DuckDB's expression for the same hash."""
    return f"CAST(CAST(unhex(substr(md5({row}), 1, 16)) AS BIT) AS BIGINT)"


def _field(text: str, closed: bool) -> str:
    """A text that ends where it says; null is ~.  Lengths are in characters, whatever the encoding."""
    if closed:
        return f"coalesce(({text}) || ',', '~')"
    return f"coalesce(length({text}) || ':' || ({text}), '~')"


def _is_closed(kind: PgType) -> bool:
    """Whether no text of this type contains a comma."""
    return kind.kind in _CLOSED


def _source_array(kind: PgType, value: str) -> str:
    """An array by its elements; one that a list can't hold, by what PostgreSQL prints."""
    assert kind.element is not None
    element = _field(source_text(kind.element, "u.element"), _is_closed(kind.element))
    return (
        f"CASE WHEN {value} IS NULL THEN NULL"
        f" WHEN cardinality({value}) = 0 OR array_ndims({value}) = 1 AND array_lower({value}, 1) = 1"
        f" THEN 'L' || coalesce((SELECT string_agg({element}, '' ORDER BY u.number)"
        f" FROM unnest({value}) WITH ORDINALITY AS u(element, number)), '')"
        f" ELSE 'A' || textin({kind.output}({value})) END"
    )


def _lake_numeric(kind: PgType, value: str) -> str:
    """A decimal without trailing zeros; DuckDB may leave out the 0 before the point."""
    text = f"CAST({value} AS VARCHAR)"
    if not pa.types.is_decimal(kind.arrow):
        # Wider than a decimal: PostgreSQL's text, with trailing zeros only after a point.
        return f"CASE WHEN contains({text}, '.') THEN rtrim(rtrim({text}, '0'), '.') ELSE {text} END"
    if kind.arrow.scale == 0:
        return text
    if kind.arrow.scale == kind.arrow.precision:
        text = (
            f"CASE WHEN {text} LIKE '.%' THEN '0' || {text}"
            f" WHEN {text} LIKE '-.%' THEN '-0' || substr({text}, 2) ELSE {text} END"
        )
    return f"rtrim(rtrim({text}, '0'), '.')"


def _hex_bits(value: str) -> str:
    """The bits of a number in hexadecimal digits, highest first."""
    return f"lower(hex(CAST(CAST({value} AS BIT) AS BLOB)))"
