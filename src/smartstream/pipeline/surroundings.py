"""What the appliers of a process share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime

from smartstream.config import Settings
from smartstream.manifest import Entry
from smartstream.pipeline.journal import Journal
from smartstream.pipeline.parts import MEMORY_PER_RAW_BYTE
from smartstream.pipeline.progress import Meter
from smartstream.raw.store import Store
from smartstream.schema import TableSchema


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the appliers of a process share."""

    settings: Settings
    journal: Journal
    store: Store
    entries: Callable[[int], Iterator[Entry]]
    ask_copy: Callable[[TableSchema], None]
    meter: Meter
    clock: Callable[[], datetime]

    @property
    def group_bytes_max(self) -> int:
        """Raw bytes that may be folded in one piece."""
        return self.settings.limits.memory_bytes // MEMORY_PER_RAW_BYTE
