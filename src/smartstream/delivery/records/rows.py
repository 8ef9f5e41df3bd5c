"""Records of one table, parsed or decoded, as a changelog and what is damaged."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from smartstream.capture.values import untyped_json
from smartstream.change import DELETE, INSERT, OLD_KEY, READ, SNAPSHOT_ORDINAL, UNCHANGED, UNTYPED, UPDATE
from smartstream.delivery.records.options import (
    KEY_UNTYPED,
    NO_BEFORE_IMAGE,
    NO_KEY,
    NO_PLACE,
    Options,
)
from smartstream.delivery.records.place import places
from smartstream.delivery.records.values import Typed, typed
from smartstream.errors import ProtocolError
from smartstream.schema import TableSchema

OPERATIONS = {"load": READ, "insert": INSERT, "update": UPDATE, "delete": DELETE}

Mask = npt.NDArray[np.bool_]
_STAMP = pa.timestamp("us", tz="UTC")


@dataclass(frozen=True, slots=True)
class Rows:
    """(n,) data records of one table.

    Attributes:
        operations, positions, committed: strings of the metadata; the last two null in loads.
        transactions: int64.
        data: values by column; columns that no record has are missing.
        before: values of key columns before an update.
        has_before: whether a record has a before-image at all.
        numbers: of the records in their object.
    """

    operations: pa.Array
    positions: pa.Array
    committed: pa.Array
    transactions: pa.Array
    data: dict[str, pa.Array]
    before: dict[str, pa.Array]
    has_before: Mask
    numbers: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.operations)

    def slice(self, first: int, count: int) -> Rows:
        """Some of them."""
        return Rows(
            self.operations.slice(first, count),
            self.positions.slice(first, count),
            self.committed.slice(first, count),
            self.transactions.slice(first, count),
            {name: values.slice(first, count) for name, values in self.data.items()},
            {name: values.slice(first, count) for name, values in self.before.items()},
            self.has_before[first : first + count],
            self.numbers[first : first + count],
        )

    def deletes(self, schema: TableSchema, *, before: bool) -> Rows:
        """Deletes of the keys that the rows have, or had ``before``, and nothing else of them."""
        return replace(
            self,
            operations=pa.array(["delete"] * len(self), pa.string()),
            data={name: self._key_part(name, before=before) for name in schema.key},
        )

    def _key_part(self, name: str, *, before: bool) -> pa.Array:
        """A column of the key; what a before-image does not tell is as it was."""
        return pc.coalesce(self.before[name], self.data[name]) if before else self.data[name]


@dataclass(frozen=True, slots=True)
class Changes:
    """What rows say.

    Attributes:
        changelog: (n, ``schema.changelog_schema()``); of a damaged change newer than the row
            only that the row is not to be had any more: a delete.
        reasons: by the number of the record in its object, what is wrong with it.
    """

    changelog: pa.Table
    reasons: dict[int, str]


def changes_of(rows: Rows, schema: TableSchema, options: Options) -> Changes:
    """Return the changelog of rows.

    Raises:
        ProtocolError: a value is not one of its column's type; which row's is not said.
    """
    lsn, ordinal, placed = places(rows.positions)
    is_load = pc.equal(rows.operations, "load").to_numpy(zero_copy_only=False)
    lsn[is_load], ordinal[is_load] = 0, SNAPSHOT_ORDINAL
    reasons = _Reasons(rows.numbers)
    reasons.add(NO_PLACE, ~(placed | is_load))
    values = {
        column.name: typed(rows.data[column.name], column, options)
        for column in schema.columns
        if column.name in rows.data
    }
    for found in values.values():
        for reason, mask in found.damage:
            reasons.add(reason, mask.to_numpy(zero_copy_only=False))
    keyless = _without_key(values, schema, reasons, len(rows))
    is_update = pc.equal(rows.operations, "update").to_numpy(zero_copy_only=False)
    if options.before_image_required:
        reasons.add(NO_BEFORE_IMAGE, is_update & ~rows.has_before)
    old_key = _old_key(rows, schema, values, options, is_update & placed, keyless)
    changelog = _table(rows, schema, values, old_key, (lsn, ordinal))
    return Changes(
        _without_damaged(changelog, schema, reasons.mask, placed | is_load, keyless), reasons.by_number
    )


class _Reasons:
    """What is wrong with which rows; of several reasons the first."""

    def __init__(self, numbers: npt.NDArray[np.int64]) -> None:
        self._numbers = numbers
        self.mask: Mask = np.zeros(len(numbers), np.bool_)
        self.by_number: dict[int, str] = {}

    def add(self, reason: str, rows: Mask) -> None:
        """Mark rows."""
        for number in self._numbers[rows & ~self.mask].tolist():
            self.by_number[number] = reason
        self.mask |= rows


def _without_key(values: dict[str, Typed], schema: TableSchema, reasons: _Reasons, count: int) -> Mask:
    """Which rows do not say whose they are; they can't even be deletes."""
    lost: Mask = np.zeros(count, np.bool_)
    for name in schema.key:
        found = values.get(name)
        if found is None:
            lost[:] = True
            continue
        if found.cast.untyped is not None:
            untyped = found.cast.untyped.to_numpy(zero_copy_only=False)
            reasons.add(KEY_UNTYPED, untyped)
            lost |= untyped
        for _, mask in found.damage:
            lost |= mask.to_numpy(zero_copy_only=False)
        if found.cast.values.null_count:
            lost |= found.cast.values.is_null().to_numpy(zero_copy_only=False)
    reasons.add(NO_KEY, lost & ~reasons.mask)
    return lost


def _old_key(
    rows: Rows,
    schema: TableSchema,
    values: dict[str, Typed],
    options: Options,
    updates: Mask,
    keyless: Mask,
) -> pa.Array:
    """The key before an update, where it was another one; also where the new one can't be read."""
    target = pa.struct([pa.field(column.name, column.type.arrow) for column in schema.key_columns()])
    nothing = pa.nulls(len(rows), target)
    if not rows.has_before.any() or any(name not in rows.before for name in schema.key):
        return nothing
    moved, differs, olds = updates & rows.has_before, keyless.copy(), []
    for column in schema.key_columns():
        was = typed(rows.before[column.name], column, options)
        old = was.cast.values
        for mask in (was.cast.untyped, *(mask for _, mask in was.damage)):
            if mask is not None:  # No row of the lake ever had such a key.
                moved = moved & ~mask.to_numpy(zero_copy_only=False)
        if column.name in values:  # A part of the key that is not told is as it was.
            new = values[column.name].cast.values
            old = pc.coalesce(old, new)
            differs |= pc.fill_null(pc.not_equal(old, new), False).to_numpy(zero_copy_only=False)
        moved = moved & old.is_valid().to_numpy(zero_copy_only=False)
        olds.append(old)
    moved = moved & differs
    if not moved.any():
        return nothing
    return pa.StructArray.from_arrays(olds, fields=list(target), mask=pa.array(~moved))


def _table(
    rows: Rows,
    schema: TableSchema,
    values: dict[str, Typed],
    old_key: pa.Array,
    place: tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]],
) -> pa.Table:
    """All of it as a changelog."""
    target, count = schema.changelog_schema(), len(rows)
    operations = rows.operations
    for name, short in OPERATIONS.items():
        operations = pc.if_else(pc.equal(operations, name), short, operations)
    flagged = {
        name: (found.cast.untyped, found.texts)
        for name, found in values.items()
        if found.cast.untyped is not None and found.texts is not None
    }
    head = [operations, pa.array(place[0]), pa.array(place[1]), _moments(rows.committed), rows.transactions]
    special = {
        UNCHANGED: pa.nulls(count, target.field(UNCHANGED).type),
        OLD_KEY: old_key,
        UNTYPED: untyped_json(count, flagged),
    }
    arrays = [
        special[field.name]
        if field.name in special
        else values[field.name].cast.values
        if field.name in values
        else pa.nulls(count, field.type)
        for field in list(target)[len(head) :]
    ]
    return pa.table([*head, *arrays], schema=target)


def _moments(texts: pa.Array) -> pa.Array:
    """When transactions were committed; null where that is not told."""
    try:
        return texts.cast(_STAMP)
    except pa.ArrowInvalid:
        clean = pc.match_substring_regex(texts, r"^\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d{1,6})?Z$")
        try:
            return pc.if_else(clean, texts, pa.scalar(None, pa.string())).cast(_STAMP)
        except pa.ArrowInvalid as error:
            raise ProtocolError("a commit's time is none") from error


def _without_damaged(
    changelog: pa.Table, schema: TableSchema, damaged: Mask, placed: Mask, keyless: Mask
) -> pa.Table:
    """Damaged changes as deletes of their keys, old and new; nothing is left where neither is known."""
    if not damaged.any():
        return changelog
    moved = changelog.filter(pa.array(damaged & placed))
    moved = moved.filter(moved[OLD_KEY].is_valid())
    bad = changelog.filter(pa.array(damaged & placed & ~keyless))
    parts = [changelog.filter(pa.array(~damaged)), _deletes(bad, schema)]
    if moved.num_rows:
        olds = {name: pc.struct_field(moved[OLD_KEY], [name]) for name in schema.key}
        parts.append(_deletes(moved, schema, olds))
    return pa.concat_tables(parts)


def _deletes(
    changes: pa.Table, schema: TableSchema, keys: dict[str, pa.ChunkedArray] | None = None
) -> pa.Table:
    """Deletes at the same places."""
    count, kept = len(changes), {"_commit_lsn", "_ordinal", "_commit_ts", "_xid"}
    keys = {name: changes[name] for name in schema.key} if keys is None else keys
    arrays = [
        pa.repeat(DELETE, count)
        if field.name == "_op"
        else keys[field.name]
        if field.name in keys
        else changes[field.name]
        if field.name in kept
        else pa.nulls(count, field.type)
        for field in changes.schema
    ]
    return pa.table(arrays, schema=changes.schema)
