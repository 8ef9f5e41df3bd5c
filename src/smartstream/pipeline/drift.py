"""What the stream has not told the thread that reads it: tables that look otherwise, or must be copied.

What the catalog shows counts once the stream is there: rows that were written before are of the
table as it was, or of another one of that name.  A copy begins between two transactions that are
read: so the log has, after its beginning, no row that committed before it.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from smartstream.manifest import LakeState
from smartstream.schema import TableSchema
from smartstream.transform.evolution import compare


@dataclass(frozen=True, slots=True)
class Look:
    """A table as it was seen.

    Attributes:
        lsn: it counts from here on.
        taken_at: a position of the WAL before the catalog was asked.
        again: it must be copied anew, as it then is.
        accept: see ``CopyLoop.start``.
    """

    schema: TableSchema
    lsn: int
    taken_at: int = 0
    again: bool = False
    accept: bool = False


@dataclass(slots=True)
class Drift:
    """The latest look at each table that was found otherwise; thread-safe."""

    _looks: dict[str, Look] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def report(
        self, schema: TableSchema, lsn: int, *, taken_at: int = 0, again: bool = False, accept: bool = False
    ) -> None:
        """Note a look, in place of an earlier one; what that asked for is still asked for."""
        with self._lock:
            before = self._looks.get(schema.id) or Look(schema, lsn)
            self._looks[schema.id] = Look(
                schema, max(lsn, before.lsn), taken_at, again or before.again, accept or before.accept
            )

    def ask_copy(self, schema: TableSchema, *, accept: bool = False) -> None:
        """Have a table copied as soon as a copy can begin."""
        self.report(schema, 0, again=True, accept=accept)

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


def is_outdated(state: LakeState, look: Look) -> bool:
    """Whether the log may know the table as it was later, from the stream or from a copy.

    Followed, such a look would take a column away for a moment, and the values that it has with it.
    """
    logged = state.tables.get(look.schema.id)
    return logged is not None and look.taken_at < max(logged.schema_lsn, logged.seen_lsn)


def copied_otherwise(state: LakeState, schema: TableSchema) -> bool:
    """Whether the log has other columns: a copy was begun with an older look at the table."""
    logged = state.tables.get(schema.id)
    return logged is not None and bool(compare(TableSchema.from_json(logged.schema), schema))
