"""What the pipeline has done so far, for displays and tests."""

from __future__ import annotations

import threading
from collections import Counter, deque
from dataclasses import dataclass, field

import numpy as np

LAG_SAMPLES_MAX = 100_000


@dataclass(frozen=True, slots=True)
class TableProgress:
    """One table: ``status`` is copying, catching_up, rebuilding or ready."""

    status: str
    rows_copied: int
    rows_estimate: int
    changes_applied: int
    lake_rows: int


@dataclass(frozen=True, slots=True)
class Progress:
    """The pipeline at one moment; lag is from commit on the source to queryable in trusted.

    ``receiving_count``: changes received of a large transaction whose end was not read yet.
    """

    mode: str
    durable_lsn: int
    applied_lsn: int
    source_lsn: int | None
    captured_count: int
    applied_count: int
    lag_ms_p50: float | None
    lag_ms_p99: float | None
    receiving_count: int = 0
    tables: dict[str, TableProgress] = field(default_factory=dict)


class Meter:
    """Counters that the pipeline's threads share."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lag_ms: deque[float] = deque(maxlen=LAG_SAMPLES_MAX)
        self.mode = "starting"
        self.captured_count = 0
        self.receiving_count = 0  # changes written of a large transaction that is still open
        self.source_lsn: int | None = None
        self.applied_lsn = 0
        self.rows_copied: Counter[str] = Counter()
        self.rows_estimate: dict[str, int] = {}
        self.changes_applied: Counter[str] = Counter()
        self.lake_rows: dict[str, int] = {}

    def captured(self, count: int) -> None:
        """Count row changes read from the slot."""
        with self._lock:
            self.captured_count += count

    def copied(self, table: str, rows: int) -> None:
        """Count rows of the snapshot copy that are durable."""
        with self._lock:
            self.rows_copied[table] += rows

    def applied(self, table: str, changes: int, lake_rows: int) -> None:
        """Count changes that are committed to a trusted table, which now has ``lake_rows``."""
        with self._lock:
            self.changes_applied[table] += changes
            self.lake_rows[table] = lake_rows

    def lag(self, samples_ms: np.ndarray) -> None:
        """Add samples of the lag, one per transaction."""
        with self._lock:
            self._lag_ms.extend(samples_ms.tolist())

    def forget_lag(self) -> None:
        """Start a new measurement."""
        with self._lock:
            self._lag_ms.clear()

    def lag_percentiles(self) -> tuple[float | None, float | None]:
        """The 50th and 99th percentile in milliseconds, None without a sample."""
        with self._lock:
            if not self._lag_ms:
                return None, None
            p50, p99 = np.percentile(np.fromiter(self._lag_ms, np.float64), (50, 99))
            return float(p50), float(p99)
