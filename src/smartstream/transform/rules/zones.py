"""Local times of a zone to UTC, with a rule for the times that its clocks skip or show twice.

DuckDB would decide these cases silently; Arrow's kernels tell them apart.
"""

from __future__ import annotations

import difflib
import zoneinfo
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from smartstream.transform.rules.types import TIMESTAMP

Gap = Literal["reject", "shift"]
Fold = Literal["reject", "earlier", "later"]
Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

HOUR_US = 3_600_000_000


@dataclass(frozen=True, slots=True)
class Placed:
    """Instants of n local times.

    Attributes:
        utc: (n,) microseconds since 1970; of rejected times unspecified.
        skipped, doubled: which times are rejected because the clock skips or repeats them.
    """

    utc: Ints
    skipped: Mask
    doubled: Mask


def unknown_zone(zone: str) -> str | None:
    """Say what is wrong with the name of a zone, None if nothing is."""
    try:
        pc.assume_timezone(pa.array([0], TIMESTAMP), zone)
    except (pa.ArrowInvalid, OSError):
        close = difflib.get_close_matches(zone, zoneinfo.available_timezones(), n=1, cutoff=0.6)
        return f"there is no time zone {zone}" + (f"; did you mean {close[0]}?" if close else "")
    return None


def to_utc(local: Ints, zone: str, *, gap: Gap, fold: Fold) -> Placed:
    """Return the instants at which the clocks of ``zone`` show ``local``.

    A skipped time that is shifted moves on by as much as the clock does: 2:30 becomes
    3:30, as in PostgreSQL.

    Args:
        local: (n,) microseconds since 1970 by the clock.
    """
    none = np.zeros(len(local), np.bool_)
    if zone == "UTC":
        return Placed(local, none, none)
    utc, odd = _by_hours(local, zone)
    skipped, doubled = none.copy(), none.copy()
    found = _one_by_one(local[odd], zone, gap=gap, fold=fold)
    utc[odd], skipped[odd], doubled[odd] = found.utc, found.skipped, found.doubled
    return Placed(utc, skipped, doubled)


def _by_hours(local: Ints, zone: str) -> tuple[Ints, Ints]:
    """Instants of the times in hours that the clock shows once and in full, and which times are in others.

    Looking at each different hour costs less than at each time.  A transition makes the
    offset at the end of its hour another than at the beginning, or either of them a
    skipped or doubled time.
    """
    encoded = pc.dictionary_encode(pa.array(local // HOUR_US))
    if len(encoded.dictionary) * 4 > len(local):
        return local.copy(), np.arange(len(local))
    begin = encoded.dictionary.to_numpy() * HOUR_US
    edges = np.concatenate([begin, begin + HOUR_US - 1])
    times = pa.array(edges).cast(TIMESTAMP)
    early, late = _instants(times, zone, "earliest"), _instants(times, zone, "latest")
    first, last = np.split(edges - early, 2)
    plain = (first == last) & np.logical_and(*np.split(early == late, 2))
    hours = encoded.indices.to_numpy()
    return local - first[hours], np.flatnonzero(~plain[hours])


def _one_by_one(local: Ints, zone: str, *, gap: Gap, fold: Fold) -> Placed:
    """See ``to_utc``."""
    none = np.zeros(len(local), np.bool_)
    times = pa.array(local).cast(TIMESTAMP)
    try:
        return Placed(_instants(times, zone, "raise"), none, none)
    except pa.ArrowInvalid:  # some time is skipped or doubled
        early, late = _instants(times, zone, "earliest"), _instants(times, zone, "latest")
    special = np.flatnonzero(early != late)
    skipped, doubled = none.copy(), none.copy()
    # The clock never shows a skipped time, at whatever instant one looks.
    skipped[special] = _shown(early[special], zone) != local[special]
    doubled[special] = ~skipped[special]
    utc = np.where(doubled & (fold == "later"), late, early)
    # Of a gap Arrow's earliest is the last instant before it; the offset then in force counts.
    moved = np.flatnonzero(skipped)
    before = early[moved]
    utc[moved] = local[moved] - (_shown(before, zone) - before)
    return Placed(utc, skipped & (gap == "reject"), doubled & (fold == "reject"))


def _instants(times: pa.Array, zone: str, policy: str) -> Ints:
    """What Arrow makes of local times."""
    found = pc.assume_timezone(times, zone, ambiguous=policy, nonexistent=policy)
    instants: Ints = found.cast(pa.int64()).to_numpy()
    return instants


def _shown(utc: Ints, zone: str) -> Ints:
    """What the clocks of a zone show at some instants."""
    local = pc.local_timestamp(pa.array(utc).cast(pa.timestamp("us", tz=zone)))
    shown: Ints = local.cast(pa.int64()).to_numpy()
    return shown
