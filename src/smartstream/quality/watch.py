"""Quality beside a running pipeline: each table is measured now and then, and the results are kept."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from smartstream.errors import CommitConflict
from smartstream.quality.config import Metric, QualityCheck, QualitySettings
from smartstream.quality.evaluate import evaluate, lake_name, stop_of
from smartstream.quality.lake import QualityLake, open_quality_lake
from smartstream.quality.results import Result, ResultsTable, latest, older_than
from smartstream.trusted.engine import Engine
from smartstream.trusted.table import TrustedTable

_LOG = logging.getLogger(__name__)

ChecksOf = Callable[[], Mapping[str, Sequence[QualityCheck]]]
"""The checks of each table, ``schema.name``, that the pipeline follows now."""

_OF_MORE_THAN_ROWS = (Metric.FRESHNESS, Metric.FOREIGN_KEY)


@dataclass(frozen=True, slots=True)
class _Seen:
    """When a table was measured, and at which snapshots of it and its quarantine."""

    at: datetime
    snapshots: tuple[int | None, int | None]


class QualityWatch:
    """Measures tables that are due; for one thread of one process.

    A table is measured every ``quality.every`` at most, and not again while no row of it
    changes, unless a check depends on the time or on another table.
    """

    def __init__(
        self, settings: Any, checks: ChecksOf, *, clock: Callable[[], datetime], engine: Engine | None = None
    ) -> None:
        self._settings, self._checks, self._clock, self._engine = settings, checks, clock, engine
        self._rules: QualitySettings = settings.quality
        self._seen: dict[str, _Seen] = {}
        self._results: ResultsTable | None = None

    def look(self) -> list[Result]:
        """Measure the tables that are due and keep the results.

        Raises:
            QualityStop: a check failed whose ``on_fail`` is stop; its result is kept.
            LakeError: try again with the next turn.
        """
        now = self._clock()
        waited = timedelta(seconds=self._rules.every)
        due = {
            table: checks
            for table, checks in self._checks().items()
            if checks and (table not in self._seen or now - self._seen[table].at >= waited)
        }
        if not due:
            return []
        with open_quality_lake(self._settings) as lake:
            changed = {table: checks for table, checks in due.items() if self._changed(lake, table, checks)}
            results = evaluate(lake, changed, self._clock)
            self._keep(lake, results)
            for table in due:
                self._seen[table] = _Seen(now, _snapshots(lake, table))
        for one in results:
            if not one.passed:
                _LOG.warning("quality check failed: %s of %s, %s", one.check_id, one.table, one.threshold)
        stop = stop_of(results)
        if stop is not None:
            raise stop
        return results

    def tables(self) -> list[TrustedTable]:
        """What maintenance must keep small: the table of results, once there is one."""
        return [self._results.table] if self._results else []

    def _changed(self, lake: QualityLake, table: str, checks: Sequence[QualityCheck]) -> bool:
        """Whether measuring can find anything new."""
        seen = self._seen.get(table)
        return (
            seen is None
            or any(check.metric in _OF_MORE_THAN_ROWS for check in checks)
            or seen.snapshots != _snapshots(lake, table)
        )

    def _keep(self, lake: QualityLake, results: Sequence[Result]) -> None:
        """Append results; what another process has written meanwhile is no reason to lose them."""
        if not results:
            return
        if self._results is None:
            self._results = ResultsTable.open(self._settings, self._engine)
        old = older_than(lake, results[0].checked_at - timedelta(seconds=self._rules.keep))
        try:
            self._results.append(results, old=old)
        except CommitConflict:
            self._results.append(results)


@dataclass(frozen=True, slots=True)
class QualitySummary:
    """The last measurement of every table, for ``status``."""

    check_count: int
    failed: tuple[Result, ...]
    checked_at: datetime | None

    @property
    def degraded(self) -> bool:
        """Whether a check failed that is not just worth knowing."""
        return any(result.severity not in ("info", "warning") for result in self.failed)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "checks": self.check_count,
            "failed": [result.to_dict() for result in self.failed],
            "checked_at": self.checked_at.isoformat() if self.checked_at else None,
        }


def summary(settings: Any) -> QualitySummary:
    """What the results say, without measuring anything.

    Raises:
        LakeError: the lake cannot be read.
    """
    with open_quality_lake(settings) as lake:
        results = latest(lake)
    failed = tuple(result for result in results if not result.passed)
    return QualitySummary(len(results), failed, max((r.checked_at for r in results), default=None))


def _snapshots(lake: QualityLake, table: str) -> tuple[int | None, int | None]:
    """The snapshots of a table and of its quarantine."""
    name = lake_name(lake, table)
    trusted, held = lake.trusted(name), lake.quarantine(name)
    return (trusted.snapshot_id if trusted else None, held.snapshot_id if held else None)
