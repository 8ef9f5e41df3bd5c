"""Maintenance beside the applier: compaction, snapshot expiry, file collection."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from datetime import datetime

from smartstream.config import Settings
from smartstream.errors import CommitConflict, SmartStreamError
from smartstream.pipeline.apply_loop import ApplyLoop
from smartstream.trusted.maintenance import maintain

_LOG = logging.getLogger(__name__)


class MaintenanceLoop:
    """Maintains every open table in turn; what fails is tried again at the next turn."""

    def __init__(
        self, settings: Settings, apply: ApplyLoop, *, stop: threading.Event, clock: Callable[[], datetime]
    ) -> None:
        self._settings, self._apply, self._stop, self._clock = settings, apply, stop, clock

    def run(self) -> None:
        """Maintain until ``stop`` is set."""
        while not self._stop.wait(self._settings.maintenance.every):
            for table in self._apply.tables():
                if self._stop.is_set():
                    return
                try:
                    report = maintain(table, self._settings, self._clock)
                    _LOG.debug("maintained %s: %s", table.name, report)
                except CommitConflict as error:
                    _LOG.info("maintenance of %s gave way to a commit: %s", table.name, error)
                except SmartStreamError as error:
                    _LOG.warning("maintenance of %s failed, trying again later: %s", table.name, error)
