"""What the catalog shows of a table and no row has announced: it counts once the stream is there.

Rows that were written before are of the table as it was, or of another one of that name.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from smartstream.manifest import LakeState
from smartstream.schema import TableSchema
from smartstream.transform.evolution import compare


@dataclass(frozen=True, slots=True)
class Look:
    """A table as the catalog showed it at ``lsn``; ``again``: it must be copied anew."""

    schema: TableSchema
    lsn: int
    again: bool


@dataclass(slots=True)
class Drift:
    """The latest look at each table that was found otherwise; thread-safe."""

    _looks: dict[str, Look] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def report(self, schema: TableSchema, lsn: int, *, again: bool = False) -> None:
        """Note a look, in place of an earlier one."""
        with self._lock:
            before = self._looks.get(schema.id)
            self._looks[schema.id] = Look(schema, lsn, again or (before is not None and before.again))

    def reached(self, passed_lsn: int) -> list[Look]:
        """The looks that the stream has come to."""
        with self._lock:
            return [look for look in self._looks.values() if look.lsn <= passed_lsn]

    def done(self, look: Look) -> None:
        """Forget a look that was followed, unless there is a later one."""
        with self._lock:
            if self._looks.get(look.schema.id) is look:
                del self._looks[look.schema.id]

    def __bool__(self) -> bool:
        return bool(self._looks)


def copied_otherwise(state: LakeState, schema: TableSchema) -> bool:
    """Whether the log has other columns: a copy was begun with an older look at the table."""
    logged = state.tables.get(schema.id)
    return logged is not None and bool(compare(TableSchema.from_json(logged.schema), schema))
