"""Deliver: the changes of some raw objects, applied to their tables."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

import pyarrow as pa

from smartstream.config import Settings
from smartstream.delivery.ledger import Ledger
from smartstream.delivery.lock import TableLocks
from smartstream.delivery.order import News, news, touched_keys
from smartstream.errors import CommitConflict
from smartstream.pipeline.table_writer import Staged, TableWriter
from smartstream.pipeline.writers import LookUp, Writers
from smartstream.schema import TableSchema
from smartstream.trusted.catalog import QUARANTINE, LakeCatalog
from smartstream.trusted.engine import Engine
from smartstream.trusted.table import Position, TrustedTable

_LOG = logging.getLogger(__name__)

ATTEMPTS_MAX = 3


@dataclass(frozen=True, slots=True)
class Delivered:
    """What became of the changes of one table.

    Attributes:
        changes: that came.
        late: of these, how many were older than what the table has.
        quarantined: rows that broke a rule.
    """

    table: str
    changes: int
    late: int
    quarantined: int


class Deliverer:
    """Applies changelogs to trusted tables, whatever order they come in.

    Each table is written under its lock, the ledger first: after a crash in between the
    same changes come again and do the same.
    """

    def __init__(
        self,
        settings: Settings,
        catalog: LakeCatalog,
        engine: Engine,
        *,
        locks: TableLocks,
        clock: Callable[[], datetime],
        look_up: LookUp,
    ) -> None:
        self._settings, self._catalog, self._engine = settings, catalog, engine
        self._locks, self._clock = locks, clock
        self._writers = Writers(settings, catalog, engine, look_up, dict)
        # Of this process alone, so that another one's commit is never taken for ours.
        self._generation = secrets.randbits(62)

    def apply(self, schema: TableSchema, changelog: pa.Table) -> Delivered:
        """Apply changes of one table.

        Args:
            changelog: (n, ``schema.changelog_schema()``) without truncates and with every value.
        Raises:
            TableBusy: another writer has the table; nothing has happened.
            RuleInvalid, RulesBroken: the rules do not fit the table.
            CommitConflict: others keep committing to it.
        """
        with self._locks.hold(schema.id):
            for attempt in range(1, ATTEMPTS_MAX + 1):
                try:
                    return self._apply(schema, changelog)
                except CommitConflict:
                    if attempt == ATTEMPTS_MAX:
                        raise
                    _LOG.info("%s has been committed to by another; trying again", schema.id)
        raise AssertionError("unreachable")

    def _apply(self, schema: TableSchema, changelog: pa.Table) -> Delivered:
        """One attempt, from what the tables have now."""
        writer = self._writers.open(schema)
        if not writer.holds(schema):
            writer.follow(schema, fills={})
        ledger = Ledger(schema, self._open_ledger)
        found = news(changelog, ledger.entries(touched_keys(changelog, schema)), schema)
        staged = Staged()
        if found.changelog.num_rows:
            self._commit(writer, ledger, found, staged)
        return Delivered(schema.id, len(changelog), found.late_count, staged.bad_count)

    def _commit(self, writer: TableWriter, ledger: Ledger, found: News, staged: Staged) -> None:
        """Stage the news, enter them, make them visible."""
        writer.stage(found.changelog, staged, exact=True)
        held = writer.table.position
        lsn = max(held.lsn, pa.compute.max(found.changelog["_commit_lsn"]).as_py())
        position = Position(lsn, held.seq + 1, self._generation)
        ledger.enter(found.entries, position, self._clock())
        writer.commit(staged, position)

    def _open_ledger(self, schema: TableSchema) -> TrustedTable:
        """The ledger's table, made when it is missing."""
        return TrustedTable.open(self._catalog, schema, namespace=QUARANTINE, engine=self._engine)
