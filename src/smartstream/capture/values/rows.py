"""Blocks of decoded rows as changelog tables."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from smartstream.capture.pgoutput import RowBlock
from smartstream.capture.values.cast import cast
from smartstream.capture.values.typed import Cast
from smartstream.capture.values.untyped import refuse_untyped_keys, untyped_json
from smartstream.change import INSERT, OLD_KEY, OP, TRUNCATE, UNCHANGED, UNTYPED
from smartstream.errors import ProtocolError, SchemaError
from smartstream.lsn import format_lsn
from smartstream.schema import Column, TableSchema

_NAMES = pa.list_(pa.field("element", pa.string()))


def changelog(block: RowBlock, schema: TableSchema) -> pa.Table:
    """Return a block's rows in ``schema.changelog_schema()``.

    Columns are matched by name; those that the relation lacks are null.  ``_old_key``
    is set where an update really changed the key's text.

    Raises:
        ProtocolError: a value is not what its type prints.
        SchemaError: a row does not say which row of the table it is for, or its key is
            a value that its Arrow type can't hold.
    """
    count = len(block.op)
    by_name = {c.name: v.values for c, v in zip(block.relation.columns, block.columns, strict=True)}
    _check_keys(block, schema, by_name)
    own: dict[str, pa.Array] = {}
    flagged: dict[str, tuple[pa.Array, pa.Array]] = {}
    for column in schema.columns:
        text = by_name.get(column.name)
        if text is None:
            own[column.name] = pa.nulls(count, column.type.arrow)
            continue
        done = _cast(text, column, block)
        own[column.name] = done.values
        if done.untyped is not None:
            flagged[column.name] = (done.untyped, text)
    refuse_untyped_keys(schema, flagged, _where(block))
    head = [block.op, block.commit_lsn, block.ordinal, block.commit_ts, block.xid]
    target = schema.changelog_schema()
    special = {
        UNCHANGED: _unchanged(block, schema),
        OLD_KEY: _old_key(block, schema, by_name),
        UNTYPED: untyped_json(count, flagged),
    }
    arrays = [*head, *(special[n] if n in special else own[n] for n in target.names[len(head) :])]
    return pa.table(arrays, schema=target)


def lacks_values(rows: pa.Table) -> bool:
    """Whether an insert leaves out values, which nobody has then.

    A row filter lets a row in by an update that left a TOASTed value as it was: the server makes it an
    insert, and has the value only where the old row was logged whole (REPLICA IDENTITY FULL).
    """
    if rows[UNCHANGED].null_count == len(rows):
        return False
    return bool(pc.any(pc.and_(pc.equal(rows[OP], INSERT), pc.is_valid(rows[UNCHANGED]))).as_py())


def _cast(text: pa.Array, column: Column, block: RowBlock) -> Cast:
    """One column typed; errors say where it stands."""
    try:
        return cast(text, column.type)
    except ProtocolError as error:
        raise ProtocolError(f"{_where(block)}, column {column.name}: {error}") from error


def _where(block: RowBlock) -> str:
    """The table and the transactions of a block, for errors."""
    first, last = (format_lsn(block.commit_lsn[index].as_py()) for index in (0, -1))
    return f"{block.relation.schema}.{block.relation.name}, transactions {first} to {last}"


def _check_keys(block: RowBlock, schema: TableSchema, values: dict[str, pa.Array]) -> None:
    """Every row but a truncate's names its key: without, a change would go to no row or a wrong one."""
    for name in schema.key:
        sent = values.get(name)
        if sent is not None and not sent.null_count:
            continue
        missing = pc.not_equal(block.op, TRUNCATE)
        if sent is not None:
            missing = pc.and_(missing, pc.is_null(sent))
        if pc.any(missing).as_py():
            raise SchemaError(
                f"{_where(block)}: changes come without the key column {name}; "
                f"the table's replica identity does not cover it"
            )


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
    patterns, which = np.unique(
        np.packbits(np.stack([mask for _, mask in columns], axis=1), axis=1), axis=0, return_inverse=True
    )
    lists = [
        [columns[i][0] for i in np.flatnonzero(np.unpackbits(pattern, count=len(columns)))] or None
        for pattern in patterns
    ]
    return pa.array(lists, _NAMES).take(pa.array(which.reshape(-1)))


def _old_key(block: RowBlock, schema: TableSchema, values: dict[str, pa.Array]) -> pa.Array:
    """The key before the update, where it really was another one."""
    target = pa.struct([pa.field(c.name, c.type.arrow) for c in schema.key_columns()])
    count = len(block.op)
    if block.old is None or block.has_old is None:
        return pa.nulls(count, target)
    absent = [name for name in schema.key if name not in block.old]
    if absent:
        raise SchemaError(
            f"{_where(block)}: the table's replica identity does not cover the key column {absent[0]}"
        )
    differs = np.zeros(count, np.bool_)
    for name in schema.key:
        unequal = pc.fill_null(pc.not_equal(block.old[name], values[name]), False)
        differs |= unequal.to_numpy(zero_copy_only=False)
    moved = differs & block.has_old
    if not moved.any():
        return pa.nulls(count, target)
    parts = [_cast(block.old[column.name], column, block).values for column in schema.key_columns()]
    return pa.StructArray.from_arrays(parts, fields=list(target), mask=pa.array(~moved))
