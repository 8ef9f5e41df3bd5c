"""Maintenance beside the applier: compaction, snapshot expiry, file collection."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from smartstream.config import Settings
from smartstream.errors import CommitConflict, SmartStreamError
from smartstream.raw.garbage import collect_orphans
from smartstream.raw.manifest_log import ManifestLog
from smartstream.raw.store import Store
from smartstream.trusted.maintenance import maintain
from smartstream.trusted.table import TrustedTable

_LOG = logging.getLogger(__name__)


class MaintenanceLoop:
    """Maintains every open table in turn; what fails is tried again at the next turn."""

    def __init__(
        self,
        settings: Settings,
        tables: Callable[[], Sequence[TrustedTable]],
        *,
        store: Store,
        log: ManifestLog,
        stop: threading.Event,
        clock: Callable[[], datetime],
    ) -> None:
        self._settings, self._tables, self._stop, self._clock = settings, tables, stop, clock
        self._store, self._log = store, log

    def run(self) -> None:
        """Collect what crashes left in the raw zone, then maintain until ``stop`` is set."""
        grace = timedelta(seconds=self._settings.maintenance.grace)
        orphan_count = collect_orphans(self._store, self._log, now=self._clock(), grace=grace)
        if orphan_count:
            _LOG.info("deleted %d raw files that no manifest entry names", orphan_count)
        while not self._stop.wait(self._settings.maintenance.every):
            for table in self._tables():
                if self._stop.is_set():
                    return
                try:
                    report = maintain(table, self._settings, self._clock)
                    _LOG.debug("maintained %s: %s", table.name, report)
                except CommitConflict as error:
                    _LOG.info("maintenance of %s gave way to a commit: %s", table.name, error)
                except SmartStreamError as error:
                    _LOG.warning("maintenance of %s failed, trying again later: %s", table.name, error)
