"""Which server a session reads from: the lake's own, or its successor, which the log then remembers."""

from __future__ import annotations

import logging
from dataclasses import asdict
from typing import Any

import psycopg

from smartstream.capture import identity
from smartstream.config import Source
from smartstream.manifest import EntryKind, LakeState, SourceMark
from smartstream.pipeline.journal import Journal
from smartstream.schema import TableSchema

_LOG = logging.getLogger(__name__)


def check_source(source: Source, connection: psycopg.Connection[Any], journal: Journal) -> None:
    """Make sure that it is the same server, or one that has taken over from it.

    Raises:
        SourceReadOnly, SourceReplaced, SourceDiverged: see ``identity.check``.
    """
    mark = identity.check(source, connection, journal.state)
    if mark != journal.state.source:
        follow(source, mark, journal)


def follow(source: Source, mark: SourceMark, journal: Journal) -> None:
    """Write to the log whom it follows from here on."""
    state = journal.state
    journal.append(EntryKind.CHANGES, lsn=state.durable_lsn, detail=takeover(source, mark, state))


def takeover(source: Source, mark: SourceMark, state: LakeState) -> dict[str, Any]:
    """What the log is told of a server that it follows from here on.

    A copy may be ahead of the stream, and then hold what the old server committed last and
    this one never had.  Such a table's membership in the publication is noted as broken:
    that is what has a table copied again, after a crash too.
    """
    detail: dict[str, Any] = {"source": asdict(mark)}
    if state.source is None or (end := identity.left_at(source, mark, state.source)) is None:
        return detail
    _LOG.warning("the source is on timeline %d now", mark.timeline)
    ahead = [table for table in state.tables.values() if max(table.seen_lsn, table.ready_lsn) > end]
    if ahead:
        schemas = [TableSchema.from_json(table.schema) for table in ahead]
        names = ", ".join(schema.id for schema in schemas)
        _LOG.warning("the copies of %s have what this server never had: copying anew", names)
        detail["published"] = {str(schema.oid): "" for schema in schemas}
    return detail
