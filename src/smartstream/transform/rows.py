"""Changelog rows brought into another shape: a later schema, a trusted table."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pyarrow as pa
import pyarrow.compute as pc

from smartstream.change import CHANGE_FIELDS, COMMIT_LSN, OLD_KEY, UNCHANGED, UNTYPED
from smartstream.schema import TRUSTED_LSN, TableSchema


def trusted_rows(changes: pa.Table, schema: TableSchema) -> pa.Table:
    """Return the rows in ``schema.trusted_schema()``: the table's columns, LSN and flags."""
    target = schema.trusted_schema()
    arrays = [changes[COMMIT_LSN] if f.name == TRUSTED_LSN else changes[f.name] for f in target]
    return pa.table(arrays, schema=target)


def renamed(rows: pa.Table, old: TableSchema, new: TableSchema) -> pa.Table:
    """Return rows of ``old.trusted_schema()`` under the names that ``new`` has for the same columns."""
    if old == new:
        return rows
    names = {column.attnum: column.name for column in old.columns}
    arrays = [rows[names[column.attnum]] for column in new.columns]
    arrays += [rows[TRUSTED_LSN], _rename_flags(rows[UNTYPED], old, new)]
    return pa.table(arrays, schema=new.trusted_schema())


def same_key(old: TableSchema, new: TableSchema) -> bool:
    """Whether both schemas identify rows by the same columns (whatever their names)."""
    return [c.attnum for c in old.key_columns()] == [c.attnum for c in new.key_columns()]


def project(
    changes: pa.Table, old: TableSchema, new: TableSchema, fills: Mapping[int, pa.Scalar]
) -> pa.Table:
    """Return changes made under ``old`` as if they had been made under ``new``.

    Columns are matched by attnum: renamed ones renamed, dropped ones dropped, widened
    ones widened, added ones filled with what the server shows in existing rows.
    Requires ``same_key(old, new)``.

    Args:
        changes: (n, ``old.changelog_schema()``).
        fills: attnum → value of added columns; null where absent.
    Returns:
        (n, ``new.changelog_schema()``).
    """
    if old == new:
        return changes
    target = new.changelog_schema()
    names = {column.attnum: column.name for column in old.columns}
    arrays: list[pa.ChunkedArray | pa.Array] = []
    own = {column.name: column for column in new.columns}
    fixed = {field.name for field in CHANGE_FIELDS}
    for field in target:
        column = own.get(field.name)
        if field.name == UNCHANGED:
            arrays.append(_rename_lists(changes[UNCHANGED], old, new))
        elif field.name == OLD_KEY:
            arrays.append(_rename_struct(changes[OLD_KEY], old, field))
        elif field.name == UNTYPED:
            arrays.append(_rename_flags(changes[UNTYPED], old, new))
        elif field.name in fixed or column is None:
            arrays.append(changes[field.name])
        elif column.attnum in names:
            arrays.append(changes[names[column.attnum]].cast(field.type))
        else:
            arrays.append(_constant(fills.get(column.attnum), len(changes), field.type))
    return pa.table(arrays, schema=target)


def _constant(value: pa.Scalar | None, count: int, dtype: pa.DataType) -> pa.Array:
    """``count`` times the value, or nulls."""
    return pa.nulls(count, dtype) if value is None else pa.repeat(value.cast(dtype), count)


def _rename_lists(lists: pa.ChunkedArray, old: TableSchema, new: TableSchema) -> pa.ChunkedArray:
    """The lists of unchanged columns, by their new names; most changelogs have none."""
    if lists.null_count == len(lists):
        return lists
    attnums = {column.name: column.attnum for column in old.columns}
    names = {column.attnum: column.name for column in new.columns}
    renamed = [
        None if row is None else [names[attnums[name]] for name in row if attnums[name] in names]
        for row in lists.to_pylist()
    ]
    return pa.chunked_array([pa.array(renamed, lists.type)])


def _rename_flags(flags: pa.ChunkedArray, old: TableSchema, new: TableSchema) -> pa.ChunkedArray:
    """The texts of untyped values under the columns' new names; most changelogs have none."""
    if flags.null_count == len(flags):
        return flags
    attnums = {column.name: column.attnum for column in old.columns}
    names = {column.attnum: column.name for column in new.columns}
    renamed: list[str | None] = []
    for flag in flags.to_pylist():
        texts = json.loads(flag) if flag else {}
        kept = {names[attnums[name]]: text for name, text in texts.items() if attnums[name] in names}
        renamed.append(json.dumps(kept, ensure_ascii=False) if kept else None)
    return pa.chunked_array([pa.array(renamed, pa.string())])


def _rename_struct(structs: pa.ChunkedArray, old: TableSchema, field: pa.Field) -> pa.Array:
    """The old keys with the fields' new names, by position."""
    array = pa.concat_arrays(structs.chunks) if structs.num_chunks else pa.array([], structs.type)
    parts = [
        pc.struct_field(array, [name]).cast(target.type)
        for name, target in zip(old.key, field.type, strict=True)
    ]
    return pa.StructArray.from_arrays(parts, fields=list(field.type), mask=pc.is_null(array))
