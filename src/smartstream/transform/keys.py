"""Dense numbers for keys, so that everything about keys is NumPy from there on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Ints = npt.NDArray[np.int64]


def key_ids(keys: pa.Table) -> Ints:
    """Number the rows of ``keys`` so that equal keys, and only they, share a number.

    Args:
        keys: (n, len(key)) columns of any hashable Arrow type; nulls equal nulls.
    Returns:
        (n,) int64, dense from 0 in order of no meaning.
    """
    ids: Ints | None = None
    for column in keys.columns:
        codes, size = _codes(column)
        # Renumbering after each column keeps the product below 2**63.
        ids = codes if ids is None else _dense(ids * size + codes)
    assert ids is not None, "a key has at least one column"
    return ids


def _codes(column: pa.ChunkedArray) -> tuple[Ints, int]:
    """Dictionary codes of one column (null has a code too) and their number."""
    if column.num_chunks == 1:
        array = column.chunk(0)
    else:
        array = pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
    if pa.types.is_decimal(array.type):  # dictionary encoding lacks some decimal widths
        array = pc.cast(array, pa.string())
    encoded = pc.dictionary_encode(array, null_encoding="encode")
    codes = encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    return codes, max(1, len(encoded.dictionary))


def _dense(ids: Ints) -> Ints:
    """Renumber from 0 without gaps."""
    encoded = pc.dictionary_encode(pa.array(ids))
    codes: Ints = encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    return codes


def concat_keys(parts: Sequence[pa.Table], names: Sequence[str]) -> pa.Table:
    """Stack key columns of several tables under ``names`` (by position)."""
    return pa.concat_tables([part.rename_columns(list(names)) for part in parts])


def unique_keys(keys: pa.Table) -> pa.Table:
    """Return each key once."""
    _, first = np.unique(key_ids(keys), return_index=True)
    return keys.take(pa.array(first))


def find_keys(rows: pa.Table, keys: pa.Table, names: Sequence[str]) -> Ints:
    """For each of ``keys`` return the last of ``rows`` that has it, -1 where none has."""
    ids = key_ids(concat_keys([rows.select(list(names)), keys], names))
    last = np.full(int(ids.max(initial=-1)) + 1, -1, np.int64)
    last[ids[: len(rows)]] = np.arange(len(rows))  # NumPy keeps the last of repeated indices
    found: Ints = last[ids[len(rows) :]]
    return found
