"""Whether the publication has sent every change; tables that it left out for a while are copied anew.

The publication belongs to the source, and anybody who owns it can take a table out, set a row
filter, or send inserts only.  What was not sent is not in the stream, and nothing in the stream
says so.  So the log remembers what stood for each table's membership, and another value means a gap.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import psycopg

from smartstream.capture import publication
from smartstream.config import Source
from smartstream.pipeline.journal import Journal
from smartstream.pipeline.recopies import Recopies
from smartstream.schema import TableSchema

_LOG = logging.getLogger(__name__)


class Coverage:
    """Looks at the publication, and finds the tables that it left out; two threads may do so."""

    def __init__(self, journal: Journal, source: Source, copy_anew: Callable[[TableSchema], None]) -> None:
        self.gaps = Recopies(journal, "published", copy_anew)
        self._journal, self._name, self._managed = journal, source.publication, source.manage_publication

    def look(self, connection: psycopg.Connection[Any], tables: Sequence[TableSchema]) -> None:
        """Make the publication whole again if it is ours, and note what it may have left out.

        Args:
            tables: all that are captured, as they are now.
        Raises:
            MissingRight, TableWithoutKey, …: as ``publication.ensure``.
        """
        oids = [schema.oid for schema in tables]
        found = publication.membership(connection, self._name, oids)
        state = self._journal.state
        whole = all(state.published.get(str(oid)) == found.get(str(oid), "") for oid in oids)
        if whole and not self.gaps.found:
            return
        if not self._managed:
            self._note(connection, tables, found)
            return
        change = publication.ensure(connection, self._name, tables)
        if change.altered or change.added or change.created:
            _LOG.warning("publication %s did not send every change: it does again", self._name)
            found = publication.membership(connection, self._name, oids)
        self._note(connection, tables, found)

    def _note(
        self, connection: psycopg.Connection[Any], tables: Sequence[TableSchema], found: dict[str, str]
    ) -> None:
        """Compare with what the log remembers: a table of which it does not yet know is remembered."""
        with self.gaps.lock:
            state = self._journal.state
            new: dict[str, str] = {}
            gaps: dict[TableSchema, str] = {}
            for schema in tables:
                oid = str(schema.oid)
                membership, known = found.get(oid), state.published.get(oid)
                if membership is None or membership == known:
                    continue
                if known is None or schema.id not in state.tables:
                    new[oid] = membership
                elif schema.id not in self.gaps.found or self.gaps.found[schema.id].mark != membership:
                    gaps[schema] = membership
            if new:
                self.gaps.remember(new)
            if gaps:
                names = ", ".join(schema.id for schema in gaps)
                _LOG.warning("the publication did not send all changes of %s: copying anew", names)
                self.gaps.add(connection, gaps)
