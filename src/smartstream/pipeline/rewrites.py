"""Tables whose rows were rewritten at the source without a word in the stream are copied anew.

The log remembers each table's stamp; another one may say that rows are others.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from typing import Any

import psycopg

from smartstream.capture.row_stamp import RowStamp, from_dict, read_stamps, rewritten
from smartstream.pipeline.journal import Journal
from smartstream.pipeline.recopies import Finding, Recopies
from smartstream.schema import TableSchema

_LOG = logging.getLogger(__name__)


class Rewrites:
    """Looks for rewrites; two threads may do so."""

    def __init__(self, journal: Journal, copy_anew: Callable[[TableSchema], None]) -> None:
        self.recopies = Recopies(journal, "stamps", copy_anew, self._still_needed)
        self._journal = journal

    def look(self, connection: psycopg.Connection[Any], tables: Sequence[TableSchema]) -> None:
        """Compare the stamps with those that the log remembers.

        Args:
            tables: all that are captured, as they are now.
        """
        stamps = read_stamps(connection, [schema.oid for schema in tables])
        remembered = self._journal.state.stamps
        quiet: dict[str, Any] = {}
        news: dict[TableSchema, Any] = {}
        for schema in tables:
            stamp = stamps.get(str(schema.oid))
            if stamp is None or remembered.get(str(schema.oid)) == (mark := stamp.to_dict()):
                continue
            noted = self.recopies.found.get(schema.id)
            if noted is not None and noted.mark == mark:
                continue
            reason = self._reason(schema, stamp)
            if reason is None and noted is None:
                quiet[str(schema.oid)] = mark
            elif schema.id in self._journal.state.tables:
                _LOG.warning("%s is to be copied anew: %s", schema.id, reason or "again")
                news[schema] = mark
        if quiet:
            self.recopies.remember(quiet)
        if news:
            with self.recopies.lock:
                self.recopies.add(connection, news)

    def rewritten(self, connection: psycopg.Connection[Any], schema: TableSchema) -> bool:
        """Whether a table's rows are others now than the log knows; if not, it knows this from here on."""
        oid = str(schema.oid)
        stamp = read_stamps(connection, [schema.oid]).get(oid)
        if stamp is None or self._journal.state.stamps.get(oid) == stamp.to_dict():
            return False
        if schema.id in self.recopies.found or self._reason(schema, stamp) is not None:
            return True
        self.recopies.remember({oid: stamp.to_dict()})
        return False

    def _still_needed(self, finding: Finding) -> bool:
        """Whether the table has not been copied since."""
        return self._reason(finding.schema, from_dict(finding.mark)) is not None

    def _reason(self, schema: TableSchema, stamp: RowStamp) -> str | None:
        """Why a table must be copied, None if what the lake has of it is right."""
        state = self._journal.state
        table, known = state.tables.get(schema.id), state.stamps.get(str(schema.oid))
        if table is None or TableSchema.from_json(table.schema).oid != schema.oid:
            return None  # a copy begins, or has to begin, in any case
        copied = set(json.loads(table.filenode).values())
        current = {node for node in stamp.files.values() if node}
        if known is None:  # since its copy was planned nobody has looked
            return None if copied == current else "its rows were written anew"
        before = from_dict(known)
        same = before.types == stamp.types and before.links == stamp.links
        if same and before.files != stamp.files and copied == current:
            # The latest copy is of these very files, so it is younger than ``before``; but it may have begun
            # with an older look at the columns.
            has = {str(column.attnum) for column in TableSchema.from_json(table.schema).columns}
            if has >= stamp.columns.keys() - before.columns.keys():
                return None
        return rewritten(before, stamp)
