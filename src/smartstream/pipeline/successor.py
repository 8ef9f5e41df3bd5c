"""Which server a session reads from: the lake's own, or its successor, which the log then remembers."""

from __future__ import annotations

import logging
from dataclasses import asdict
from typing import Any

import psycopg

from smartstream.capture import identity
from smartstream.config import Source
from smartstream.manifest import EntryKind
from smartstream.pipeline.journal import Journal

_LOG = logging.getLogger(__name__)


def check_source(source: Source, connection: psycopg.Connection[Any], journal: Journal) -> None:
    """Make sure that it is the same server, or one that has taken over from it.

    Raises:
        SourceReadOnly, SourceReplaced, SourceDiverged: see ``identity.check``.
    """
    state = journal.state
    mark = identity.check(source, connection, state)
    if mark != state.source:
        _LOG.warning("the source is on timeline %d now", mark.timeline)
        journal.append(EntryKind.CHANGES, lsn=state.durable_lsn, detail={"source": asdict(mark)})
