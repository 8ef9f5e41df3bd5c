"""Maintenance: what keeps a trusted table fast and small while it is being written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from smartstream.trusted.compaction import Compaction, choose, compact
from smartstream.trusted.expiry import expire
from smartstream.trusted.garbage import Collected, collect
from smartstream.trusted.table import TrustedTable

COLLECTIONS_PER_GRACE = 3
"""Listing a folder is the dearest part on an object store: it is done this often per grace period."""


class MaintenanceRules(Protocol):
    """When to act; durations in seconds."""

    @property
    def small_files_max(self) -> int: ...
    @property
    def deleted_ratio_max(self) -> float: ...
    @property
    def target_file_bytes(self) -> int: ...
    @property
    def snapshots_max(self) -> int: ...
    @property
    def grace(self) -> float: ...


class MaintenanceSettings(Protocol):
    """The part of the configuration that maintenance needs."""

    @property
    def maintenance(self) -> MaintenanceRules: ...


@dataclass(frozen=True, slots=True)
class MaintenanceReport:
    """What was done to one table; numbers only."""

    compaction: Compaction
    expired_count: int
    collected: Collected


def maintain(
    table: TrustedTable, settings: MaintenanceSettings, clock: Callable[[], datetime]
) -> MaintenanceReport:
    """Compact, expire snapshots and collect garbage where a rule asks for it.

    Safe beside an applier: in this process through the table's lock, held for the
    swaps only; in another one because the loser of a swap gives way.  One call does
    a bounded amount of work; what is left waits for the next.

    Args:
        clock: UTC now, compared with the files' own times of modification.
    Raises:
        LakeError: as the store and the catalog report; what was done before stays done.
    """
    rules = settings.maintenance
    sources = choose(
        table.live_files,
        small_files_max=rules.small_files_max,
        deleted_ratio_max=rules.deleted_ratio_max,
        target_bytes=rules.target_file_bytes,
    )
    compaction = compact(table, sources) if sources else Compaction()
    expired = expire(table, rules.snapshots_max)
    return MaintenanceReport(compaction, expired, _collect(table, clock, timedelta(seconds=rules.grace)))


def _collect(table: TrustedTable, clock: Callable[[], datetime], grace: timedelta) -> Collected:
    """Collect garbage, unless that was done a short while ago."""
    now = clock()
    last = table.collected_at
    if last is not None and now - last < grace / COLLECTIONS_PER_GRACE:
        return Collected()
    collected = collect(table, table.references, clock, grace)
    table.collected_at = now
    return collected
