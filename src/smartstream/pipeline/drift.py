"""What the catalog shows of a table and no row has announced: it counts once the stream is there.

Rows that were written before are of the table as it was, or of another one of that name.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from smartstream.manifest import LakeState
from smartstream.schema import TableSchema
from smartstream.transform.evolution import compare


@dataclass(slots=True)
class Drift:
    """The latest look at each table that was found otherwise; thread-safe."""

    _seen: dict[str, tuple[TableSchema, int, bool]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def report(self, schema: TableSchema, lsn: int, *, again: bool = False) -> None:
        """Note that the catalog shows ``schema`` at ``lsn``; ``again``: that it must be copied anew."""
        with self._lock:
            _, _, before = self._seen.get(schema.id, (schema, lsn, False))
            self._seen[schema.id] = (schema, lsn, again or before)

    def take(self, passed_lsn: int) -> list[tuple[TableSchema, bool]]:
        """What the stream has reached, once, and whether it must be copied anew."""
        with self._lock:
            reached = [(schema, again) for schema, lsn, again in self._seen.values() if lsn <= passed_lsn]
            for schema, _ in reached:
                del self._seen[schema.id]
        return reached

    def __bool__(self) -> bool:
        return bool(self._seen)


def copied_otherwise(state: LakeState, schema: TableSchema) -> bool:
    """Whether the log has other columns: a copy was begun with an older look at the table."""
    logged = state.tables.get(schema.id)
    return logged is not None and bool(compare(TableSchema.from_json(logged.schema), schema))
