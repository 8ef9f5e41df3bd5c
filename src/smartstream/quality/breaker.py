"""The circuit breaker: a pipeline that rejects too much of what it reads stops, pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol

from smartstream.errors import QualityStop

SLOTS = 60
"""The window is counted in this many parts, so that its memory does not grow with the traffic."""


class BreakerLimits(Protocol):
    """When to stop; see QualitySettings."""

    @property
    def quarantine_ratio_max(self) -> float: ...
    @property
    def quarantine_rows_min(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Judged:
    """How many rows of a table were judged within the window, and how many of them were held back."""

    table: str
    row_count: int
    held_count: int


def breaker(counts: Iterable[Judged], limits: BreakerLimits) -> QualityStop | None:
    """Return the error to raise when too many rows of a table were held back; None when all is well.

    Fewer than ``quarantine_rows_min`` rows say nothing.  A ratio of exactly the limit is allowed.
    """
    for judged in counts:
        enough = judged.row_count >= max(1, limits.quarantine_rows_min)
        if enough and judged.held_count > limits.quarantine_ratio_max * judged.row_count:
            ratio = judged.held_count / judged.row_count
            return QualityStop(
                f"{judged.table}: {judged.held_count} of {judged.row_count} rows broke a rule ({ratio:.1%}), "
                f"more than quality.quarantine_ratio_max ({limits.quarantine_ratio_max:.1%})"
            )
    return None


@dataclass(slots=True)
class Window:
    """Counts of the last while, table by table; not shared between threads."""

    span: timedelta
    _slots: dict[str, deque[tuple[int, int, int]]] = field(default_factory=dict)

    def add(self, table: str, row_count: int, held_count: int, now: datetime) -> Judged:
        """Count rows, forget what is older than the window, and return the table's sums."""
        width = self.span.total_seconds() / SLOTS
        slot = int(now.timestamp() // width)
        slots = self._slots.setdefault(table, deque(maxlen=SLOTS + 1))
        if slots and slots[-1][0] == slot:
            _, rows, held = slots.pop()
            row_count, held_count = row_count + rows, held_count + held
        slots.append((slot, row_count, held_count))
        while slots[0][0] < slot - SLOTS:
            slots.popleft()
        return Judged(table, sum(rows for _, rows, _ in slots), sum(held for _, _, held in slots))
