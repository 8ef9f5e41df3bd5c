"""The ``_untyped`` column: texts of values that their Arrow types can't hold."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping

import numpy as np
import pyarrow as pa

from smartstream.errors import SchemaError
from smartstream.schema import TableSchema


def untyped_json(count: int, flagged: Mapping[str, tuple[pa.Array, pa.Array]]) -> pa.Array:
    """Return (count,) JSON objects column → text; null where a row has none.

    Args:
        flagged: column → (mask of its untyped values, their texts), both (count,).
    """
    if not flagged:
        return pa.nulls(count, pa.string())
    rows: dict[int, dict[str, str]] = {}
    for name, (mask, text) in flagged.items():
        index = np.flatnonzero(mask.to_numpy(zero_copy_only=False))
        for row, value in zip(index.tolist(), text.take(pa.array(index)).to_pylist(), strict=True):
            rows.setdefault(row, {})[name] = value.decode() if isinstance(value, bytes) else value
    texts = np.full(count, None, object)
    for row, value in rows.items():
        texts[row] = json.dumps(value, ensure_ascii=False)
    return pa.array(texts, pa.string())


def refuse_untyped_keys(schema: TableSchema, untyped: Collection[str], where: str) -> None:
    """Raise SchemaError when a key column is among ``untyped``.

    A key that is null in the lake would find no row again, and its text would not be
    compared: rows would double and deletes be lost.
    """
    for name in schema.key:
        if name in untyped:
            raise SchemaError(
                f"{where}: the key column {name} holds a value that its type in the lake can't hold",
                hint=f"Exclude {schema.id} in smartstream.yaml, or use a key without infinity and NaN.",
            )
