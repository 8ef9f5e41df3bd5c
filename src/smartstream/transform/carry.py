"""Values that updates left out, filled in from old rows that come a piece at a time.

Such values are large: the rows of one update can be far more than fits in memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from smartstream.schema import TableSchema
from smartstream.transform.fold import Missing, NetChanges, fill, origins

Ints = npt.NDArray[np.int64]

PIECE_BYTES = 32 << 20


def narrowed(net: NetChanges, rows: Ints) -> NetChanges:
    """Return the same for some of its upserts, in their order."""
    kept = np.zeros(len(net.upserts), np.bool_)
    kept[rows] = True
    numbers, mask = np.cumsum(kept) - 1, pa.array(kept)
    missing = tuple(
        Missing(one.column, numbers[one.rows[here]], one.origin_keys.filter(pa.array(here)))
        for one in net.missing
        if (here := kept[one.rows]).any()
    )
    return replace(net, upserts=net.upserts.filter(mask), stamps=net.stamps.filter(mask), missing=missing)


def filled_by_piece(
    net: NetChanges,
    old_rows: Iterable[pa.Table],
    schema: TableSchema,
    *,
    exact: bool,
    lost: list[pa.Table],
    piece_bytes: int = PIECE_BYTES,
) -> Iterator[pa.Table]:
    """Yield ``net.upserts`` complete, in another order: see ``fill``.

    Holds one piece of old rows, and what becomes of it.

    Args:
        old_rows: the trusted rows of the origin keys, in pieces of one row or more.
        lost: gets the keys of rows that are left out, at the end.
        piece_bytes: smaller pieces go together: each is looked through for all keys.
    """
    waits = np.zeros(len(net.upserts), np.bool_)
    for missing in net.missing:
        waits[missing.rows] = True
    yield net.upserts.filter(pa.array(~waits))
    for old in _gathered(old_rows, piece_bytes):
        found = np.flatnonzero(waits & _found(net, old, schema, exact=exact))
        if len(found):
            yield fill(narrowed(net, found), old, schema, exact=exact).upserts
            waits[found] = False
    lost.append(net.upserts.select(list(schema.key)).filter(pa.array(waits)))


def _found(net: NetChanges, old: pa.Table, schema: TableSchema, *, exact: bool) -> npt.NDArray[np.bool_]:
    """Which of the upserts have in ``old`` all that they miss: it is of one old row."""
    found = np.ones(len(net.upserts), np.bool_)
    for missing in net.missing:
        found[missing.rows] &= origins(net, missing, old, schema, exact=exact) >= 0
    return found


def _gathered(pieces: Iterable[pa.Table], size_max: int) -> Iterator[pa.Table]:
    """Pieces of up to ``size_max`` bytes, or one that is larger."""
    held: list[pa.Table] = []
    size = 0
    for piece in pieces:
        if held and size + piece.nbytes > size_max:
            yield pa.concat_tables(held)
            held, size = [], 0
        held.append(piece)
        size += piece.nbytes
    if held:
        yield pa.concat_tables(held)
