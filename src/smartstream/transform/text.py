"""Rows as text: what a person reads of a row that was held."""

from __future__ import annotations

import pyarrow as pa

from smartstream.change import UNTYPED
from smartstream.sql_text import literal
from smartstream.transform.rules.engine import ROWS, evaluate


def row_texts(rows: pa.Table) -> pa.Array:
    """Return each row as a JSON object: column → text; values that Arrow can't hold from ``_untyped``.

    Args:
        rows: (n, the source's columns and ``_untyped``).
    """
    names = [name for name in rows.column_names if name != UNTYPED]
    numbered = rows.select([*names, UNTYPED]).rename_columns([*(f"c{n}" for n in range(len(names))), "u"])
    pairs = ", ".join(f"{literal(name)}, c{n}::VARCHAR" for n, name in enumerate(names))
    sql = f"SELECT json_merge_patch(json_object({pairs}), coalesce(u, '{{}}')::JSON)::VARCHAR FROM {ROWS}"
    texts: pa.Array = evaluate(sql, numbered).column(0).combine_chunks()
    return texts
