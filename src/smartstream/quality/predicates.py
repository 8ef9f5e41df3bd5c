"""Which rows break a check, as SQL over DuckDB columns, pure.

A value that Arrow can't hold is null in its column and stands as text in ``_untyped``.  Such a
value is present: it is neither null nor missing.  Whether it is valid can't be told, so it is not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date, datetime, time

import duckdb
import pyarrow as pa

from smartstream.change import UNTYPED
from smartstream.errors import ConfigInvalid
from smartstream.quality.config import Arguments, Metric, QualityCheck, Value
from smartstream.sql_text import literal, quoted

Types = Mapping[str, pa.DataType]
Flagged = Callable[[str], str]
"""SQL that tells whether the value of a column stands in ``_untyped``, never null."""

_MISSING_BY_DEFAULT: tuple[Value | None, ...] = (None, "")


def flagged_in_untyped(column: str) -> str:
    """Whether ``_untyped`` has a text for ``column``."""
    found = f"list_contains(json_keys({quoted(UNTYPED)}), {literal(column)})"
    return f"({quoted(UNTYPED)} IS NOT NULL AND {found})"


def violated(check: QualityCheck, types: Types, flagged: Flagged = flagged_in_untyped) -> str:
    """SQL that is true for rows that break a nullValues, missingValues or invalidValues check, never null.

    Args:
        types: the table's columns; values of the check are brought to their types.
    Raises:
        ConfigInvalid: no such column, a value that its type can't have, or a pattern that
            is none.
    """
    assert check.column is not None
    if check.column not in types:
        raise ConfigInvalid(f"quality check {check.metric}: there is no column {check.column}")
    column, kind = quoted(check.column), types[check.column]
    absent = f"({column} IS NULL AND NOT {flagged(check.column)})"
    if check.metric is Metric.NULL_VALUES:
        return absent
    if check.metric is Metric.MISSING_VALUES:
        listed = check.arguments.missing_values
        values = _MISSING_BY_DEFAULT if listed is None else listed
        return _missing(check, kind, values, absent)
    assert check.metric is Metric.INVALID_VALUES, check.metric
    valid = " AND ".join(_valid(check, column, kind))
    return f"({flagged(check.column)} OR ({column} IS NOT NULL AND NOT coalesce({valid}, false)))"


def _missing(check: QualityCheck, kind: pa.DataType, values: Sequence[Value | None], absent: str) -> str:
    """Null if it is listed, and the listed values that the column's type can have."""
    texts = [value for value in values if value is not None]
    if not is_text(kind):
        texts = [value for value in texts if value != ""]  # no other type can be empty
    parts = [absent] if None in values else []
    if texts:
        parts.append(f"coalesce({quoted(str(check.column))} IN ({_list(check, kind, texts)}), false)")
    return f"({' OR '.join(parts) or 'false'})"


def _valid(check: QualityCheck, column: str, kind: pa.DataType) -> Iterator[str]:
    """What the arguments of invalidValues ask of a value that is not null."""
    arguments = check.arguments
    if arguments.valid_values is not None:
        yield f"{column} IN ({_list(check, kind, arguments.valid_values)})"
    of_texts = (arguments.pattern, arguments.min_length, arguments.max_length)
    if of_texts != (None, None, None) and not is_text(kind):
        raise _wrong(check, f"pattern and length are of texts, the column is {kind}")
    if arguments.pattern is not None:
        _check_pattern(check, arguments.pattern)
        yield f"regexp_matches({column}, {literal(arguments.pattern)})"
    if arguments.min_length is not None:
        yield f"length({column}) >= {arguments.min_length}"
    if arguments.max_length is not None:
        yield f"length({column}) <= {arguments.max_length}"
    for sign, bound in _limits(arguments):
        if is_text(kind) and not isinstance(bound, str):
            raise _wrong(check, "the ends of a range of texts are texts: put them in quotes")
        yield f"{column} {sign} {_list(check, kind, [bound])}"


def _limits(arguments: Arguments) -> Iterator[tuple[str, Value]]:
    """The ends of the valid range that are given."""
    ends = {
        ">=": arguments.minimum,
        "<=": arguments.maximum,
        ">": arguments.exclusive_minimum,
        "<": arguments.exclusive_maximum,
    }
    for sign, bound in ends.items():
        if bound is not None:
            yield sign, bound


def is_text(kind: pa.DataType) -> bool:
    """Whether values are texts."""
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _list(check: QualityCheck, kind: pa.DataType, values: Sequence[Value]) -> str:
    """Values as SQL, each in the column's type, so that DuckDB need not guess which side to cast."""
    if pa.types.is_nested(kind) or pa.types.is_binary(kind):
        raise _wrong(check, f"the column is {kind}, whose values can't be listed")
    texts = [_text(value) for value in values]
    if is_text(kind):
        return ", ".join(literal(text) for text in texts)
    name = _sql_type(kind)
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        for text in texts:
            if not _fits(connection, text, name, kind):
                raise _wrong(check, f"{text!r} is not a value of {kind}")
    return ", ".join(f"CAST({literal(text)} AS {name})" for text in texts)


def _fits(connection: duckdb.DuckDBPyConnection, text: str, name: str, kind: pa.DataType) -> bool:
    """Whether a column of the type can have the value that ``text`` says."""
    fits = f"TRY_CAST($1 AS {name}) IS NOT NULL"
    if pa.types.is_integer(kind) or pa.types.is_decimal(kind):
        # DuckDB rounds 1.5 to an INTEGER without a word; a DOUBLE tells.
        fits += f" AND TRY_CAST($1 AS {name})::DOUBLE IS NOT DISTINCT FROM TRY_CAST($1 AS DOUBLE)"
    found: bool = connection.execute(f"SELECT {fits}", [text]).fetchall()[0][0]
    return found


def _text(value: Value) -> str:
    """A value of the file as text that SQL reads back."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return value.isoformat() if isinstance(value, date | datetime | time) else str(value)


def _check_pattern(check: QualityCheck, pattern: str) -> None:
    """Whether DuckDB takes the pattern."""
    with duckdb.connect() as connection:
        try:
            connection.execute("SELECT regexp_matches('', $1)", [pattern])
        except duckdb.Error as error:
            raise _wrong(check, "the pattern is not a regular expression (RE2)") from error


def _wrong(check: QualityCheck, what: str) -> ConfigInvalid:
    """The error of a check that does not fit its column."""
    return ConfigInvalid(f"quality check {check.metric} of column {check.column}: {what}")


def _sql_type(kind: pa.DataType) -> str:
    """DuckDB's name of a type."""
    if pa.types.is_decimal(kind):
        return f"DECIMAL({kind.precision}, {kind.scale})"
    names: dict[pa.DataType, str] = {
        pa.bool_(): "BOOLEAN",
        pa.int32(): "INTEGER",
        pa.int64(): "BIGINT",
        pa.float32(): "FLOAT",
        pa.float64(): "DOUBLE",
        pa.date32(): "DATE",
        pa.time64("us"): "TIME",
        pa.timestamp("us"): "TIMESTAMP",
        pa.timestamp("us", tz="UTC"): "TIMESTAMPTZ",
    }
    return names[kind]
