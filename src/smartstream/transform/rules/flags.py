"""Values that stand in ``_untyped`` because their Arrow type can't hold them, for the pass over a batch."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Mask = npt.NDArray[np.bool_]


class Flags:
    """The ``_untyped`` of a batch, each different text read once.

    Args:
        untyped: (n,) JSON objects column → text, null where a row has none.
    """

    def __init__(self, untyped: pa.ChunkedArray) -> None:
        self._count = len(untyped)
        self._none = untyped.null_count == len(untyped)
        encoded = pc.dictionary_encode(untyped).combine_chunks()
        if isinstance(encoded, pa.ChunkedArray):
            encoded = pa.concat_arrays(encoded.chunks)
        self._indices = pc.fill_null(encoded.indices, -1).to_numpy(zero_copy_only=False).astype(np.int64)
        self._texts: list[str] = encoded.dictionary.to_pylist()
        self._parsed: list[dict[str, str]] = [json.loads(text) for text in self._texts]

    def mask(self, column: str) -> Mask:
        """In which rows the value of ``column`` stands here."""
        if self._none:
            return np.zeros(self._count, np.bool_)
        # The last element stands for the index -1 of rows without any.
        found: Mask = np.array([*(column in value for value in self._parsed), False])
        mask: Mask = found[self._indices]
        return mask

    def text(self, column: str) -> pa.Array:
        """The texts of ``column``, null where it has none."""
        if self._none:
            return pa.nulls(self._count, pa.string())
        texts = pa.array([*(value.get(column) for value in self._parsed), None], pa.string())
        return texts.take(pa.array(np.where(self._indices < 0, len(self._parsed), self._indices)))

    def without(self, gone: Collection[str], settled: Mapping[str, Mask]) -> pa.Array:
        """Return ``_untyped`` without the columns ``gone``, and without others in some rows.

        Args:
            settled: column → the rows in which its value now stands in the column itself.
        """
        if self._none:
            return pa.nulls(self._count, pa.string())
        names = sorted(settled)
        marks = np.stack([self._indices, *(settled[name] for name in names)], axis=1)
        patterns, which = np.unique(marks, axis=0, return_inverse=True)
        made = [self._made(pattern.tolist(), names, gone) for pattern in patterns]
        return pa.array(made, pa.string()).take(pa.array(which.reshape(-1)))

    def _made(self, pattern: list[int], names: list[str], gone: Collection[str]) -> str | None:
        """The text of rows with one text and one choice of settled columns."""
        index, *chosen = pattern
        if index < 0:
            return None
        settled = {name for name, yes in zip(names, chosen, strict=True) if yes}
        value = self._parsed[index]
        left = {name: text for name, text in value.items() if name not in gone and name not in settled}
        if len(left) == len(value):
            return self._texts[index]
        return json.dumps(left, ensure_ascii=False) if left else None
