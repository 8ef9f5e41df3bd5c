"""What the capture loop has read and not yet made durable."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from smartstream.manifest import RawFile
from smartstream.schema import TableSchema


@dataclass(slots=True)
class Batch:
    """Changes read but not yet durable: whole transactions, but for the last while it is open."""

    rows: dict[tuple[str, TableSchema], list[pa.Table]] = field(default_factory=dict)
    staged: list[RawFile] = field(default_factory=list)  # written, not yet committed by an entry
    schemas: dict[str, dict[str, Any]] = field(default_factory=dict)
    size_bytes: int = 0
    end_lsn: int = 0

    def add(self, schema: TableSchema, rows: pa.Table) -> None:
        """Append rows of one table."""
        self.rows.setdefault((schema.id, schema), []).append(rows)
        self.size_bytes += rows.nbytes

    def drop(self, table: str) -> None:
        """Forget a table whose rows will be copied anew."""
        self.rows = {key: parts for key, parts in self.rows.items() if key[0] != table}
        self.staged = [file for file in self.staged if file.table != table]
        self.schemas.pop(table, None)

    @property
    def staged_rows(self) -> int:
        """Rows already written."""
        return sum(file.row_count for file in self.staged)

    @property
    def staged_bytes(self) -> int:
        """Bytes already written."""
        return sum(file.size_bytes for file in self.staged)

    def __bool__(self) -> bool:
        return bool(self.rows or self.staged or self.schemas)


def describe(change: object) -> str:
    """An Evolution in words, names only."""
    parts = []
    for kind in ("added", "dropped", "renamed", "widened", "retyped"):
        columns = getattr(change, kind)
        if columns:
            names = (" → ".join(c.name for c in x) if isinstance(x, tuple) else x.name for x in columns)
            parts.append(f"{kind} {', '.join(names)}")
    return "; ".join(parts) or "key changed"
