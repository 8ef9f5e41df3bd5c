"""Which changes of a delivery are newer than what a table already has, pure.

A change is placed by ``(commit LSN, ordinal)``.  A ledger has for each key the place
of its newest change; a key that it does not have has never been seen.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from smartstream.change import COMMIT_LSN, DELETE, OLD_KEY, OP, ORDINAL
from smartstream.schema import TableSchema
from smartstream.transform.keys import Ints, concat_keys, find_keys, key_ids

Mask = npt.NDArray[np.bool_]

GONE = "_gone"
"""Column of the ledger: whether the newest change of a key took its row away."""


@dataclass(frozen=True, slots=True)
class News:
    """What a delivery changes.

    Attributes:
        changelog: (n, ``schema.changelog_schema()``) the changes that are news.
        entries: (n_keys, key columns, ``_commit_lsn``, ``_ordinal``, ``_gone``) the newest
            change of each key that has news.
        late_count: changes left out, because a newer one of their key came before them.
    """

    changelog: pa.Table
    entries: pa.Table
    late_count: int


def touched_keys(changelog: pa.Table, schema: TableSchema) -> pa.Table:
    """The keys that a changelog is about, each once, those included that updates left behind."""
    keys = _both_keys(changelog, _moved(changelog), schema)
    _, first = np.unique(key_ids(keys), return_index=True)
    return keys.take(pa.array(first))


def news(changelog: pa.Table, known: pa.Table, schema: TableSchema) -> News:
    """Leave out what is older than the ledger's entries.

    A change of a key is two: the old key's row goes, the new key's row comes.  Each is
    news or not by itself, since the ledger may know only one of the two keys.

    A change as new as the ledger's entry is that very change, and news: the ledger is
    written first, and a crash may have kept the change from the table.

    Args:
        changelog: (n, ``schema.changelog_schema()``) without truncates, in any order.
        known: (n_known, key columns, ``_commit_lsn``, ``_ordinal``) the ledger's entries of
            ``touched_keys``.
    """
    moved = _moved(changelog)
    lsn, ordinal = changelog[COMMIT_LSN].to_numpy(), changelog[ORDINAL].to_numpy()
    keys = _both_keys(changelog, moved, schema)
    lsns, ordinals = np.concatenate([lsn, lsn[moved]]), np.concatenate([ordinal, ordinal[moved]])
    fresh = _fresh(keys, lsns, ordinals, known, schema)
    arrives, leaves = fresh[: len(changelog)], np.zeros(len(changelog), np.bool_)
    leaves[moved] = fresh[len(changelog) :]
    chosen = _chosen(changelog, arrives, leaves, moved, schema)
    gone = pc.equal(changelog[OP], DELETE).to_numpy()
    gone = np.concatenate([gone, np.ones(len(moved), np.bool_)])
    entries = _newest(keys, lsns, ordinals, gone, fresh, schema)
    return News(chosen, entries, int(np.count_nonzero(~arrives)))


def _moved(changelog: pa.Table) -> Ints:
    """The changes that gave a row another key."""
    moved: Ints = np.flatnonzero(pc.is_valid(changelog[OLD_KEY]).to_numpy())
    return moved


def _both_keys(changelog: pa.Table, moved: Ints, schema: TableSchema) -> pa.Table:
    """The key of each change, then the old keys of those that moved."""
    old = changelog[OLD_KEY].take(pa.array(moved))
    olds = pa.table([pc.struct_field(old, [name]) for name in schema.key], names=list(schema.key))
    return concat_keys([changelog.select(list(schema.key)), olds], schema.key)


def _fresh(keys: pa.Table, lsns: Ints, ordinals: Ints, known: pa.Table, schema: TableSchema) -> Mask:
    """Which of the keys' changes are not older than the ledger's."""
    index = find_keys(known, keys, schema.key)
    fresh: Mask = np.ones(len(keys), np.bool_)
    seen = np.flatnonzero(index >= 0)
    lsn = known[COMMIT_LSN].to_numpy()[index[seen]]
    ordinal = known[ORDINAL].to_numpy()[index[seen]]
    fresh[seen] = (lsns[seen] > lsn) | ((lsns[seen] == lsn) & (ordinals[seen] >= ordinal))
    return fresh


def _chosen(changelog: pa.Table, arrives: Mask, leaves: Mask, moved: Ints, schema: TableSchema) -> pa.Table:
    """The changes that are news; where one half of a key's change is, only that half."""
    whole = np.ones(len(changelog), np.bool_)
    whole[moved] = arrives[moved] & leaves[moved]
    parts = [changelog.filter(pa.array(arrives & whole))]
    only_new = changelog.filter(pa.array(arrives & ~whole))
    if only_new.num_rows:
        place = only_new.schema.get_field_index(OLD_KEY)
        field = only_new.schema.field(place)
        parts.append(only_new.set_column(place, field, pa.nulls(len(only_new), field.type)))
    only_old = changelog.filter(pa.array(leaves & ~arrives))
    if only_old.num_rows:
        parts.append(_deletes(only_old, schema))
    return pa.concat_tables(parts)


def _deletes(changes: pa.Table, schema: TableSchema) -> pa.Table:
    """Deletes of the old keys of changes that moved a row."""
    old = changes[OLD_KEY]
    made = {OP: pa.repeat(DELETE, len(changes))}
    made |= {name: pc.struct_field(old, [name]) for name in schema.key}
    kept = {COMMIT_LSN, ORDINAL, "_commit_ts", "_xid"}
    arrays = []
    for field in changes.schema:
        if field.name in made:
            arrays.append(made[field.name])
        elif field.name in kept:
            arrays.append(changes[field.name])
        else:
            arrays.append(pa.nulls(len(changes), field.type))
    return pa.table(arrays, schema=changes.schema)


def _newest(
    keys: pa.Table, lsns: Ints, ordinals: Ints, gone: Mask, fresh: Mask, schema: TableSchema
) -> pa.Table:
    """The ledger's entries after the news."""
    rows = np.flatnonzero(fresh)
    keys, lsns, ordinals, gone = keys.take(pa.array(rows)), lsns[rows], ordinals[rows], gone[rows]
    ids = key_ids(keys)
    # A key that one change leaves and takes again (a swap within a statement) is there: its row's
    # own change counts before the leaving of the old one, at the same place.
    order = np.lexsort((~gone, ordinals, lsns, ids))
    last = np.append(ids[order][1:] != ids[order][:-1], True) if len(order) else np.zeros(0, np.bool_)
    chosen = order[last]
    return (
        keys.take(pa.array(chosen))
        .append_column(COMMIT_LSN, pa.array(lsns[chosen]))
        .append_column(ORDINAL, pa.array(ordinals[chosen]))
        .append_column(GONE, pa.array(gone[chosen]))
    )
