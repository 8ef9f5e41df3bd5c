"""Fold: a changelog reduced to its net effect on each key.

The only difficulty is what PostgreSQL leaves out: an UPDATE does not repeat a
TOASTed value that it did not change.  Such a value is the one the row had before,
so fold follows the row back, through changes of its key too, to the last change
that carried it; when that lies before this changelog, the caller looks it up in
the trusted table (``Missing``) and ``fill`` puts it in.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from smartstream.change import (
    COMMIT_LSN,
    COMMIT_TS,
    DELETE,
    INSERT,
    OLD_KEY,
    OP,
    ORDINAL,
    READ,
    TRUNCATE,
    UNCHANGED,
    UNTYPED,
)
from smartstream.schema import TableSchema
from smartstream.transform.keys import Ints, concat_keys, find_keys, key_ids, unique_keys
from smartstream.transform.rows import trusted_rows

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Missing:
    """Values of one column that this changelog does not carry.

    Attributes:
        column: its name.
        rows: (n,) int64, indices into ``NetChanges.upserts``.
        origin_keys: (n, len(key)), the key under which the trusted table knows each row.
    """

    column: str
    rows: Ints
    origin_keys: pa.Table


@dataclass(frozen=True, slots=True)
class NetChanges:
    """What a changelog does to a table: remove ``keys``, then add ``upserts``.

    Attributes:
        upserts: (n_upserts, trusted schema), unique keys, in changelog order.
        keys: (n_keys, len(key)), every key that the changelog touches, unique.
        stamps: (n_upserts, ``_op`` and ``_commit_ts``) of the changes that made ``upserts``.
        truncate: remove all rows first (changes before the last TRUNCATE are gone).
        missing: what ``fill`` must supply before ``upserts`` is complete.
    """

    upserts: pa.Table
    keys: pa.Table
    stamps: pa.Table
    truncate: bool
    missing: tuple[Missing, ...] = ()


def fold(changelog: pa.Table, schema: TableSchema) -> NetChanges:
    """Reduce a changelog to its net effect on each key.

    The change with the greatest (commit LSN, ordinal) wins, so folding overlapping
    changelogs gives the same result (idempotent).  Does not check that the
    changelog is complete.

    Args:
        changelog: (n_changes, ``schema.changelog_schema()``), any order.
        schema: of the rows; its key columns are never null but in truncates.
    Returns:
        NetChanges; keys of ``upserts`` are a subset of ``keys``.
    """
    changelog, truncate = _after_truncate(_ordered(changelog))
    row_keys = changelog.select(list(schema.key))
    moved = np.flatnonzero(pc.is_valid(changelog[OLD_KEY]).to_numpy())
    all_keys = concat_keys([row_keys, _old_keys(changelog, moved, schema)], schema.key)
    ids = key_ids(all_keys)
    row_ids, old_ids = ids[: len(changelog)], ids[len(changelog) :]
    winners = _winners(changelog, row_ids, old_ids, moved)
    representative = _last_index(ids, np.arange(len(ids)))
    deciding = changelog.take(pa.array(winners))
    upserts, stamps = trusted_rows(deciding, schema), deciding.select([OP, COMMIT_TS])
    net = NetChanges(upserts, all_keys.take(pa.array(representative)), stamps, truncate)
    if pc.any(pc.is_valid(deciding[UNCHANGED])).as_py():
        return _carry_unchanged(net, changelog, winners, row_ids, moved, schema)
    return net


@dataclass(frozen=True, slots=True)
class Filled:
    """``upserts`` complete, and the keys of rows left out because a value was nowhere.

    Attributes:
        kept: (len(net.upserts),) which rows ``upserts`` has.
    """

    upserts: pa.Table
    unresolved: pa.Table
    kept: Mask


def fill(net: NetChanges, old_rows: pa.Table, schema: TableSchema, *, exact: bool) -> Filled:
    """Complete ``net.upserts`` with values of ``old_rows``, looked up under the origin keys.

    While a copy is being caught up with, the trusted table can be ahead of the changelog.
    A row that keeps its key is then at worst a later one, which later changes put right.
    But a row whose key changes may find a stranger under its origin key, one that has
    been inserted there since: it is left out rather than guessed.

    Args:
        old_rows: (n, key columns + missing columns + ``_untyped``), the trusted rows of
            the origin keys; where a key occurs twice the last counts.
        exact: the trusted table is where the changelog begins, not ahead of it.
    """
    upserts = net.upserts
    lost = np.zeros(len(upserts), np.bool_)
    for missing in net.missing:
        source = origins(net, missing, old_rows, schema, exact=exact)
        found = source >= 0
        upserts = replace_values(upserts, missing.column, missing.rows[found], old_rows, source[found])
        lost[missing.rows[~found]] = True
    keys = upserts.select(list(schema.key)).filter(pa.array(lost))
    return Filled(upserts.filter(pa.array(~lost)) if lost.any() else upserts, keys, ~lost)


def origins(
    net: NetChanges, missing: Missing, old_rows: pa.Table, schema: TableSchema, *, exact: bool
) -> Ints:
    """For each of the rows that miss a value the old row to take it from, -1 for none; see ``fill``."""
    source = find_keys(old_rows, missing.origin_keys, schema.key)
    if not exact:
        source = np.where(_moved(net, missing, schema), -1, source)
    return source


def wanted_keys(net: NetChanges, schema: TableSchema) -> pa.Table:
    """The unique keys under which ``fill`` looks for old rows."""
    return unique_keys(concat_keys([missing.origin_keys for missing in net.missing], schema.key))


def _moved(net: NetChanges, missing: Missing, schema: TableSchema) -> Mask:
    """Which of the rows have another key than their origin."""
    present = net.upserts.select(list(schema.key)).take(pa.array(missing.rows))
    ids = key_ids(concat_keys([missing.origin_keys, present], schema.key))
    moved: Mask = ids[: len(present)] != ids[len(present) :]
    return moved


def _ordered(changelog: pa.Table) -> pa.Table:
    """The changelog in (commit LSN, ordinal) order; equal positions keep their order."""
    lsn, ordinal = changelog[COMMIT_LSN].to_numpy(), changelog[ORDINAL].to_numpy()
    later = (lsn[1:] > lsn[:-1]) | ((lsn[1:] == lsn[:-1]) & (ordinal[1:] >= ordinal[:-1]))
    if later.all():
        return changelog
    return changelog.take(pa.array(np.lexsort((ordinal, lsn))))


def _after_truncate(changelog: pa.Table) -> tuple[pa.Table, bool]:
    """What follows the last TRUNCATE, and whether there was one."""
    truncates = np.flatnonzero(pc.equal(changelog[OP], TRUNCATE).to_numpy())
    if not len(truncates):
        return changelog, False
    return changelog.slice(int(truncates[-1]) + 1), True


def _old_keys(changelog: pa.Table, moved: Ints, schema: TableSchema) -> pa.Table:
    """The keys that rows had before an update changed them, for the rows ``moved``."""
    old = changelog[OLD_KEY].take(pa.array(moved))
    arrays = [pc.struct_field(old, [name]) for name in schema.key]
    return pa.table(arrays, names=list(schema.key))


def _last_index(ids: Ints, positions: Ints, size: int | None = None) -> Ints:
    """For each id the last of its ``positions`` (in array order), -1 where there is none."""
    last = np.full(int(ids.max(initial=-1)) + 1 if size is None else size, -1, np.int64)
    last[ids[: len(positions)]] = positions  # NumPy keeps the last of repeated indices
    return last


def _winners(changelog: pa.Table, row_ids: Ints, old_ids: Ints, moved: Ints) -> Ints:
    """Indices of the changes that decide a living row, ascending."""
    size = int(max(row_ids.max(initial=-1), old_ids.max(initial=-1))) + 1
    last_row = _last_index(row_ids, np.arange(len(row_ids)), size)
    last_left = _last_index(old_ids, moved, size)
    candidates = last_row[(last_row >= 0) & (last_row >= last_left)]
    deletes = pc.equal(changelog[OP], DELETE).to_numpy()
    winners: Ints = np.sort(candidates[~deletes[candidates]])
    return winners


def _carry_unchanged(
    net: NetChanges, changelog: pa.Table, winners: Ints, row_ids: Ints, moved: Ints, schema: TableSchema
) -> NetChanges:
    """Resolve the values that the winners' updates left out."""
    rows, origins = _lineage(changelog, row_ids, moved, schema)
    order = np.argsort(rows, kind="stable")
    starts = _group_starts(rows[order])
    upserts, missing = net.upserts, []
    for column, unchanged in _unchanged_masks(changelog):
        source = _last_sent(changelog, unchanged, order, starts)
        want = np.flatnonzero(unchanged[winners])
        found = source[winners[want]]
        here, there = want[found >= 0], want[found < 0]
        if len(here):
            upserts = replace_values(upserts, column, here, changelog, found[found >= 0])
        if len(there):
            first = origins[rows[winners[there]]]
            missing.append(Missing(column, there, _origin_keys(changelog, first, schema)))
    return replace(net, upserts=upserts, missing=tuple(missing))


def _lineage(changelog: pa.Table, row_ids: Ints, moved: Ints, schema: TableSchema) -> tuple[Ints, Ints]:
    """Which row of the table each change belongs to, and the first change of each.

    Without updates that change a key and leave out a value, a row is its key.  With
    them the changes are walked one by one: rare enough to be simple.
    """
    unchanged = pc.is_valid(changelog[UNCHANGED]).to_numpy()
    rows = row_ids if not unchanged[moved].any() else _walk_lineage(changelog, row_ids, moved, schema)
    reverse = np.arange(len(rows))[::-1]
    return rows, _last_index(rows[reverse], reverse)


def _walk_lineage(changelog: pa.Table, row_ids: Ints, moved: Ints, schema: TableSchema) -> Ints:
    """Number the rows by following each key change from the old key to the new one."""
    keys = concat_keys([changelog.select(list(schema.key)), _old_keys(changelog, moved, schema)], schema.key)
    old_of = dict(zip(moved.tolist(), key_ids(keys)[len(changelog) :].tolist(), strict=True))
    ids = key_ids(keys)[: len(changelog)].tolist()
    current: dict[int, int] = {}
    rows = np.empty(len(row_ids), np.int64)
    count = 0
    for index, (key, op) in enumerate(zip(ids, changelog[OP].to_pylist(), strict=True)):
        row = current.pop(old_of[index], None) if index in old_of else current.get(key)
        if row is None or op in (INSERT, READ):
            row, count = count, count + 1
        current[key] = rows[index] = row
    return rows


def _group_starts(groups: Ints) -> Ints:
    """For each element of a sorted array, the index where its run of equals begins."""
    first = np.concatenate([[True], groups[1:] != groups[:-1]])
    starts: Ints = np.maximum.accumulate(np.where(first, np.arange(len(groups)), 0))
    return starts


def _unchanged_masks(changelog: pa.Table) -> list[tuple[str, Mask]]:
    """Each column that some update left out, with the mask of these updates."""
    lists = pa.concat_arrays(changelog[UNCHANGED].chunks)
    names = pc.list_flatten(lists)
    parents = pc.list_parent_indices(lists).to_numpy()
    masks = []
    for name in pc.unique(names).to_pylist():
        mask = np.zeros(len(changelog), np.bool_)
        mask[parents[pc.equal(names, name).to_numpy(zero_copy_only=False)]] = True
        masks.append((name, mask))
    return masks


def _last_sent(changelog: pa.Table, unchanged: Mask, order: Ints, starts: Ints) -> Ints:
    """For each change the latest change of its row, itself included, that carries the value; -1 if none."""
    carries = ~unchanged & pc.not_equal(changelog[OP], DELETE).to_numpy()
    latest = np.maximum.accumulate(np.where(carries[order], np.arange(len(order)), -1))
    source = np.empty(len(order), np.int64)
    source[order] = np.where(latest >= starts, order[latest], -1)
    return source


def _origin_keys(changelog: pa.Table, first: Ints, schema: TableSchema) -> pa.Table:
    """The key under which each row was known before its first change here."""
    changes = changelog.take(pa.array(first))
    old = changes[OLD_KEY]
    arrays = [
        pc.if_else(pc.is_valid(old), pc.struct_field(old, [name]), changes[name]) for name in schema.key
    ]
    return pa.table(arrays, names=list(schema.key))


def replace_values(target: pa.Table, column: str, rows: Ints, origin: pa.Table, source: Ints) -> pa.Table:
    """``target`` with ``column`` at ``rows`` taken from ``origin`` at ``source``, flags included."""
    if column not in target.column_names:
        return target
    index = target.schema.get_field_index(column)
    field = target.schema.field(index)
    values = origin[column].take(pa.array(source)).combine_chunks().cast(field.type)
    if len(rows) == len(target):  # values that are left out are large: none of the copies below
        filled = values if (rows[1:] > rows[:-1]).all() else values.take(pa.array(np.argsort(rows)))
    else:  # not replace_with_mask: it lacks lists
        position = np.arange(len(target))
        position[rows] = len(target) + np.arange(len(rows))
        filled = pa.concat_arrays([_one_chunk(target[column]), _one_chunk(values)]).take(pa.array(position))
    target = target.set_column(index, field, filled)
    flags = origin[UNTYPED].take(pa.array(source))
    if flags.null_count == len(flags):
        return target
    return _carry_flags(target, column, rows, flags.to_pylist())


def _one_chunk(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    """The column as one array."""
    if isinstance(column, pa.ChunkedArray):
        return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
    return column


def _carry_flags(target: pa.Table, column: str, rows: Ints, flags: Sequence[str | None]) -> pa.Table:
    """Copy the untyped text of ``column`` along with its (null) value; rows without one are left."""
    index = target.schema.get_field_index(UNTYPED)
    texts = target[UNTYPED].to_pylist()
    for row, flag in zip(rows.tolist(), flags, strict=True):
        text = json.loads(flag).get(column) if flag else None
        if text is not None:
            texts[row] = json.dumps({**json.loads(texts[row] or "{}"), column: text}, ensure_ascii=False)
    return target.set_column(index, target.schema.field(index), pa.array(texts, pa.string()))
