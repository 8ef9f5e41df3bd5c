"""Whether the publication has sent every change; tables that it left out for a while are copied anew.

The publication belongs to the source, and anybody who owns it can take a table out, set a row
filter, or send inserts only.  What was not sent is not in the stream, and nothing in the stream
says so.  So the log remembers what stood for each table's membership, and another value means a gap.

A gap is closed when the stream has passed the moment at which the table was whole again: an
earlier change, read after the copy, would be applied to rows that are newer than it.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import psycopg

from smartstream.capture import publication
from smartstream.capture.catchup import reached_lsn
from smartstream.manifest import EntryKind
from smartstream.pipeline.journal import Journal
from smartstream.schema import TableSchema

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Gap:
    """A table that was not published all the time, and is again since ``lsn``."""

    schema: TableSchema
    membership: str
    lsn: int


@dataclass(slots=True)
class Coverage:
    """Looks at the publication, and closes the gaps that it finds; two threads may do so."""

    journal: Journal
    name: str
    copy_anew: Callable[[TableSchema], None]
    _gaps: dict[str, Gap] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def look(self, connection: psycopg.Connection[Any], tables: Sequence[TableSchema]) -> None:
        """Make the publication whole again, and note what it may have left out.

        Args:
            tables: all that are captured, as they are now.
        Raises:
            MissingRight, TableWithoutKey, …: as ``publication.ensure``.
        """
        oids = [schema.oid for schema in tables]
        found = publication.membership(connection, self.name, oids)
        state = self.journal.state
        whole = all(state.published.get(str(oid)) == found.get(str(oid), "") for oid in oids)
        if whole and not self._gaps:
            return
        change = publication.ensure(connection, self.name, tables)
        if change.altered or change.added or change.created:
            _LOG.warning("publication %s did not send every change: it does again", self.name)
            found = publication.membership(connection, self.name, oids)
        self._note(connection, tables, found)

    def pending(self) -> bool:
        """Whether a gap waits for the stream."""
        return bool(self._gaps)

    def close(self, passed_lsn: int) -> bool:
        """Copy the tables anew whose gap the stream has passed; between transactions, all before durable.

        Returns:
            whether there was one.
        """
        if not self._gaps:
            return False
        with self._lock:  # until it is in the log: a look in between would find the gap again
            closed = [gap for gap in self._gaps.values() if gap.lsn <= passed_lsn]
            if not closed:
                return False
            # What is before the copies must not be read again after them.
            self.journal.append(EntryKind.CHANGES, lsn=max(passed_lsn, self.journal.state.durable_lsn))
            for gap in closed:
                self.copy_anew(gap.schema)
            self._remember({str(gap.schema.oid): gap.membership for gap in closed})
            for gap in closed:
                del self._gaps[gap.schema.id]
            return True

    def _note(
        self, connection: psycopg.Connection[Any], tables: Sequence[TableSchema], found: dict[str, str]
    ) -> None:
        """Compare with what the log remembers: a table of which it does not yet know is remembered."""
        with self._lock:
            state = self.journal.state
            new: dict[str, str] = {}
            gaps: dict[str, Gap] = {}
            for schema in tables:
                oid = str(schema.oid)
                membership, known = found.get(oid), state.published.get(oid)
                if membership is None or membership == known:
                    continue
                if known is None or schema.id not in state.tables:
                    new[oid] = membership
                elif schema.id not in self._gaps or self._gaps[schema.id].membership != membership:
                    gaps[schema.id] = Gap(schema, membership, 0)
            if new:
                self._remember(new)
            if gaps:
                lsn = reached_lsn(connection)
                _LOG.warning("the publication did not send all changes of %s: copying anew", ", ".join(gaps))
                self._gaps.update({id_: replace(gap, lsn=lsn) for id_, gap in gaps.items()})

    def _remember(self, memberships: dict[str, str]) -> None:
        """Write it to the log."""
        lsn = self.journal.state.durable_lsn
        self.journal.append(EntryKind.CHANGES, lsn=lsn, detail={"published": memberships})
