"""Quality beside the applier: tables are measured now and then, the results kept."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

from smartstream.config import Settings, rules_of
from smartstream.errors import Retry, SmartStreamError
from smartstream.pipeline.tables import CapturedTables
from smartstream.quality.config import QualityCheck
from smartstream.quality.watch import QualityWatch
from smartstream.trusted.engine import Engine
from smartstream.trusted.table import TrustedTable

_LOG = logging.getLogger(__name__)

TICK_S = 1.0


class QualityLoop:
    """Looks at the tables that are due; a check whose ``on_fail`` is stop stops the pipeline."""

    def __init__(
        self,
        settings: Settings,
        tables: CapturedTables,
        *,
        engine: Engine,
        stop: threading.Event,
        clock: Callable[[], datetime],
    ) -> None:
        self._settings, self._captured, self._stop = settings, tables, stop
        self._watch = QualityWatch(settings, self._checks, clock=clock, engine=engine)

    def run(self) -> None:
        """Measure until ``stop`` is set."""
        while not self._stop.wait(TICK_S):
            self.look()

    def look(self) -> None:
        """Measure what is due, once; a lake that can't be read now is read at the next turn.

        Raises:
            QualityStop: a check failed that stops the pipeline.
        """
        try:
            self._watch.look()
        except SmartStreamError as error:
            if error.retry not in (Retry.TRANSIENT, Retry.VERIFY):
                raise
            _LOG.warning("could not measure quality, trying again later: %s", error)

    def tables(self) -> list[TrustedTable]:
        """The table of results, for maintenance."""
        return self._watch.tables()

    def _checks(self) -> Mapping[str, Sequence[QualityCheck]]:
        """The checks of every captured table that has some."""
        found = {schema.id: rules_of(self._settings, schema.id).metrics for schema in self._captured.all()}
        return {table: checks for table, checks in found.items() if checks}
