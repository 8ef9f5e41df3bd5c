"""Tables whose rows were rewritten at the source without a word in the stream are copied anew.

The log remembers each table's stamp.  When another stamp says that rows are others, the copy begins
once the stream has passed the moment of that look: an earlier change, read after the copy, would
be applied to rows that are newer than it.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import psycopg

from smartstream.capture.catchup import reached_lsn
from smartstream.capture.row_stamp import RowStamp, from_dict, read_stamps, rewritten
from smartstream.manifest import EntryKind
from smartstream.pipeline.journal import Journal
from smartstream.schema import TableSchema

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Rewrite:
    """A table whose rows were others when ``stamp`` was read, before ``lsn``."""

    schema: TableSchema
    stamp: RowStamp
    lsn: int


@dataclass(slots=True)
class Rewrites:
    """Looks for rewrites and has the tables copied; two threads may do so."""

    journal: Journal
    copy_anew: Callable[[TableSchema], None]
    _found: dict[str, Rewrite] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def look(self, connection: psycopg.Connection[Any], tables: Sequence[TableSchema]) -> None:
        """Compare the stamps with those that the log remembers.

        Args:
            tables: all that are captured, as they are now.
        """
        stamps = read_stamps(connection, [schema.oid for schema in tables])
        remembered = self.journal.state.stamps
        quiet: dict[str, RowStamp] = {}
        news: dict[str, tuple[TableSchema, RowStamp]] = {}
        for schema in tables:
            stamp = stamps.get(str(schema.oid))
            if stamp is None or remembered.get(str(schema.oid)) == stamp.to_dict():
                continue
            noted = self._found.get(schema.id)
            if noted is not None and noted.stamp == stamp:
                continue
            reason = self._reason(schema, stamp)
            if reason is None and noted is None:
                quiet[str(schema.oid)] = stamp
            elif schema.id in self.journal.state.tables:
                _LOG.warning("%s is to be copied anew: %s", schema.id, reason or "again")
                news[schema.id] = (schema, stamp)
        if quiet:
            self._remember(quiet)
        if news:
            lsn = reached_lsn(connection)
            with self._lock:
                self._found.update({id_: Rewrite(*found, lsn) for id_, found in news.items()})

    def rewritten(self, connection: psycopg.Connection[Any], schema: TableSchema) -> bool:
        """Whether a table's rows are others now than the log knows; if not, it knows this from here on."""
        oid = str(schema.oid)
        stamp = read_stamps(connection, [schema.oid]).get(oid)
        if stamp is None or self.journal.state.stamps.get(oid) == stamp.to_dict():
            return False
        if schema.id in self._found or self._reason(schema, stamp) is not None:
            return True
        self._remember({oid: stamp})
        return False

    def pending(self) -> bool:
        """Whether a copy waits for the stream."""
        return bool(self._found)

    def close(self, passed_lsn: int) -> bool:
        """Copy the tables whose rewrite the stream has passed; between transactions, all before durable.

        Returns:
            whether there was one.
        """
        if not self._found:
            return False
        with self._lock:
            closed = [found for found in self._found.values() if found.lsn <= passed_lsn]
            for found in closed:
                del self._found[found.schema.id]
        if not closed:
            return False
        # What is before the copies must not be read again after them.
        self.journal.append(EntryKind.CHANGES, lsn=max(passed_lsn, self.journal.state.durable_lsn))
        for found in closed:
            if self._reason(found.schema, found.stamp) is not None:  # else it has been copied since
                self.copy_anew(found.schema)
        self._remember({str(found.schema.oid): found.stamp for found in closed})
        return True

    def _reason(self, schema: TableSchema, stamp: RowStamp) -> str | None:
        """Why a table must be copied, None if what the lake has of it is right."""
        state = self.journal.state
        table, known = state.tables.get(schema.id), state.stamps.get(str(schema.oid))
        if table is None or TableSchema.from_json(table.schema).oid != schema.oid:
            return None  # a copy begins, or has to begin, in any case
        copied = set(json.loads(table.filenode).values())
        current = {node for node in stamp.files.values() if node}
        if known is None:  # since its copy was planned nobody has looked
            return None if copied == current else "its rows were written anew"
        before = from_dict(known)
        if before.types == stamp.types and before.files != stamp.files and copied == current:
            return None  # the latest copy is of these very files
        return rewritten(before, stamp)

    def _remember(self, stamps: dict[str, RowStamp]) -> None:
        """Write it to the log."""
        detail = {"stamps": {oid: stamp.to_dict() for oid, stamp in stamps.items()}}
        self.journal.append(EntryKind.CHANGES, lsn=self.journal.state.durable_lsn, detail=detail)
