"""Blocks of decoded rows as changelog tables."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from smartstream.capture.pgoutput import RowBlock
from smartstream.capture.values.cast import cast
from smartstream.capture.values.untyped import untyped_json
from smartstream.change import OLD_KEY, UNCHANGED, UNTYPED
from smartstream.schema import TableSchema

_NAMES = pa.list_(pa.field("element", pa.string()))


def changelog(block: RowBlock, schema: TableSchema) -> pa.Table:
    """Return a block's rows in ``schema.changelog_schema()``.

    Columns are matched by name; those that the relation lacks are null.

    Raises:
        ProtocolError: a value is not what its type prints.
    """
    count = len(block.op)
    by_name = {c.name: v for c, v in zip(block.relation.columns, block.columns, strict=True)}
    own: dict[str, pa.Array] = {}
    flagged: dict[str, tuple[pa.Array, pa.Array]] = {}
    for column in schema.columns:
        text = by_name.get(column.name)
        if text is None:
            own[column.name] = pa.nulls(count, column.type.arrow)
            continue
        done = cast(text.values, column.type)
        own[column.name] = done.values
        if done.untyped is not None:
            flagged[column.name] = (done.untyped, text.values)
    head = [block.op, block.commit_lsn, block.ordinal, block.commit_ts, block.xid]
    target = schema.changelog_schema()
    special = {
        UNCHANGED: _unchanged(block, schema),
        OLD_KEY: _old_key(block, schema, {name: v.values for name, v in by_name.items()}),
        UNTYPED: untyped_json(count, flagged),
    }
    arrays = [*head, *(special[n] if n in special else own[n] for n in target.names[len(head) :])]
    return pa.table(arrays, schema=target)


def _unchanged(block: RowBlock, schema: TableSchema) -> pa.Array:
    """For each row the names of the columns that were not sent; null mostly."""
    names = {column.name for column in schema.columns}
    columns = [
        (c.name, v.unchanged)
        for c, v in zip(block.relation.columns, block.columns, strict=True)
        if v.unchanged is not None and c.name in names
    ]
    count = len(block.op)
    if not columns:
        return pa.nulls(count, _NAMES)
    matrix = np.stack([mask for _, mask in columns], axis=1)
    patterns, which = np.unique(matrix, axis=0, return_inverse=True)
    lists = [[columns[i][0] for i in np.flatnonzero(pattern)] or None for pattern in patterns]
    return pa.array(lists, _NAMES).take(pa.array(which.reshape(-1)))


def _old_key(block: RowBlock, schema: TableSchema, values: dict[str, pa.Array]) -> pa.Array:
    """The key before the update, where it really was another one."""
    target = pa.struct([pa.field(c.name, c.type.arrow) for c in schema.key_columns()])
    count = len(block.op)
    old = block.old
    if old is None or block.has_old is None or not all(name in old for name in schema.key):
        return pa.nulls(count, target)
    differs = np.zeros(count, np.bool_)
    for name in schema.key:
        unequal = pc.fill_null(pc.not_equal(old[name], values[name]), False)
        differs |= unequal.to_numpy(zero_copy_only=False)
    moved = differs & block.has_old
    if not moved.any():
        return pa.nulls(count, target)
    parts = [cast(old[column.name], column.type).values for column in schema.key_columns()]
    return pa.StructArray.from_arrays(parts, fields=list(target), mask=pa.array(~moved))
