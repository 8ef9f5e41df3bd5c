"""The snapshot copy's columns: what to select, and how to take what ADBC returns.

A column is read in binary where the result is provably the stream's; else as the
text that its output function prints, which is what the stream carries.

Measured with adbc-driver-postgresql 1.13: dates and timestamps come as PostgreSQL's
integers shifted to the Unix epoch with wrap-around, so ±infinity and far values are
recognised by what they wrap to, and nothing is lost.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from smartstream.capture.values.calendar import date_text, timestamp_text
from smartstream.capture.values.cast import cast
from smartstream.capture.values.temporal import DATE_MAX, DATE_MIN, STAMP_MAX, STAMP_MIN
from smartstream.capture.values.typed import Cast
from smartstream.capture.values.untyped import refuse_untyped_keys, untyped_json
from smartstream.change import (
    CHANGE_FIELDS,
    COMMIT_LSN,
    OLD_KEY,
    OP,
    ORDINAL,
    READ,
    SNAPSHOT_ORDINAL,
    UNTYPED,
)
from smartstream.schema import Column, Kind, TableSchema
from smartstream.sql_text import quoted

_BINARY = frozenset(
    {
        *(Kind.INT2, Kind.INT4, Kind.INT8, Kind.FLOAT4, Kind.FLOAT8, Kind.BOOL),
        *(Kind.TEXT, Kind.BPCHAR, Kind.BYTEA, Kind.DATE, Kind.TIMESTAMP, Kind.TIMESTAMPTZ),
    }
)
_EPOCH_DAYS, _EPOCH_US = 10957, 946_684_800_000_000


def snapshot_expression(column: Column) -> str:
    """SQL that selects a column in the form that ``from_snapshot`` expects."""
    name = quoted(column.name)
    if column.type.kind in _BINARY:
        return name
    return f"pg_catalog.textin({column.type.output}({name})) AS {name}"


def from_snapshot(table: pa.Table, schema: TableSchema, copy_lsn: int) -> pa.Table:
    """Return rows that ADBC read as a changelog of op ``r``.

    Args:
        table: (n, columns of ``schema`` in order), as ``snapshot_expression`` selects them.
        copy_lsn: of the generation; see change.py for the order.
    """
    count = table.num_rows
    own: dict[str, pa.Array] = {}
    flagged: dict[str, tuple[pa.Array, pa.Array]] = {}
    for index, column in enumerate(schema.columns):
        values = table.column(index).combine_chunks()
        if isinstance(values, pa.ChunkedArray):
            values = pa.concat_arrays(values.chunks)
        done, text = _take(values, column)
        own[column.name] = done.values
        if done.untyped is not None:
            flagged[column.name] = (done.untyped, text)
    refuse_untyped_keys(schema, flagged, schema.id)
    target = schema.changelog_schema()
    fixed = {
        OP: pa.repeat(READ, count),
        COMMIT_LSN: pa.repeat(pa.scalar(copy_lsn, pa.int64()), count),
        ORDINAL: pa.repeat(pa.scalar(SNAPSHOT_ORDINAL, pa.int64()), count),
        UNTYPED: untyped_json(count, flagged),
    }
    absent = {f.name for f in CHANGE_FIELDS} | {OLD_KEY}
    arrays = [
        fixed[f.name] if f.name in fixed else pa.nulls(count, f.type) if f.name in absent else own[f.name]
        for f in target
    ]
    return pa.table(arrays, schema=target)


def _take(values: pa.Array, column: Column) -> tuple[Cast, pa.Array]:
    """One column typed, with the texts of its untyped values."""
    kind = column.type.kind
    if kind is Kind.DATE:
        return _dates(values)
    if kind in (Kind.TIMESTAMP, Kind.TIMESTAMPTZ):
        return _stamps(values, column)
    if kind in _BINARY:
        return Cast(values.cast(column.type.arrow)), values
    text = values.cast(pa.string())
    return cast(text, column.type), text


def _dates(values: pa.Array) -> tuple[Cast, pa.Array]:
    """Dates; those outside of the years 0001 to 9999 by their text."""
    days = values.cast(pa.int32())
    odd = _outside(days, DATE_MIN, DATE_MAX)
    if odd is None:
        return Cast(values), values
    shifted = days.fill_null(0).to_numpy() - np.int32(_EPOCH_DAYS)  # wraps back
    text = _texts(shifted, odd, date_text)
    return Cast(pc.if_else(odd, pa.scalar(None, values.type), values), odd), text


def _stamps(values: pa.Array, column: Column) -> tuple[Cast, pa.Array]:
    """Timestamps; those outside of the years 0001 to 9999 by their text."""
    target = column.type.arrow
    stamps = values.cast(pa.int64())
    odd = _outside(stamps, STAMP_MIN, STAMP_MAX)
    if odd is None:
        return Cast(stamps.cast(target)), values
    shifted = stamps.fill_null(0).to_numpy() - np.int64(_EPOCH_US)  # wraps back
    zone = "+00" if column.type.kind is Kind.TIMESTAMPTZ else ""
    text = _texts(shifted, odd, lambda us: timestamp_text(us, zone))
    return Cast(pc.if_else(odd, pa.scalar(None, pa.int64()), stamps).cast(target), odd), text


def _outside(numbers: pa.Array, low: int, high: int) -> pa.Array | None:
    """Which values lie outside; None if none does."""
    odd = pc.or_(pc.less(numbers, low), pc.greater(numbers, high))
    return pc.fill_null(odd, False) if pc.any(odd).as_py() else None


def _texts(numbers: npt.NDArray[np.signedinteger], odd: pa.Array, render: Callable[[int], str]) -> pa.Array:
    """The texts of the odd values, null elsewhere."""
    texts = np.full(len(numbers), None, object)
    for row in np.flatnonzero(odd.to_numpy(zero_copy_only=False)).tolist():
        texts[row] = render(int(numbers[row]))
    return pa.array(texts, pa.string())
