"""As of: a moment of the past as an LSN, the same for every table."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NoReturn

import pyarrow as pa
import pyarrow.compute as pc

from smartstream.change import COMMIT_LSN, COMMIT_TS
from smartstream.errors import ConfigError, NotDurable, PastUnknown
from smartstream.lsn import format_lsn, parse_lsn
from smartstream.raw.reader import read_batches
from smartstream.raw.store import Store
from smartstream.raw.timeline import Commits, Past

Moment = int | datetime
"""A commit LSN, or a time with its zone."""

NEIGHBOURS = 3
"""Commit times may stand a little out of order; so entries around the right one are looked at too."""


def parse_moment(text: str) -> Moment:
    """Read ``16/B374D848``, the same in decimal (as ``_lsn`` shows it), or an ISO time (UTC without a zone).

    Raises:
        ConfigError: it is none of these.
    """
    if re.fullmatch(r"\d{1,19}", text.strip()):
        return int(text)
    try:
        return parse_lsn(text) if "/" in text else _time(text)
    except ValueError as error:
        raise ConfigError(
            "--as-of takes an LSN or a time",
            hint="For example --as-of 16/B374D848, or --as-of '2026-03-04 12:00:00+01:00'.",
        ) from error


def resolve(past: Past, store: Store, moment: Moment) -> int:
    """Return the LSN of the last transaction that is in the lake as of ``moment``.

    A time means the last commit at or before it; commit times are taken to ascend as
    LSNs do.  Before the first commit, but after a copy, it means the end of the copy.

    Raises:
        NotDurable: the moment lies behind what is durable.
        PastUnknown: it lies before the first copy, or where the stream was lost.
    """
    if isinstance(moment, int):
        if moment >= past.durable_lsn:
            _refuse_later(past, format_lsn(moment), None)
        return moment
    for stretch in range(past.stretch, -1, -1):
        found = _Stretch(past, store, stretch)
        if found.begin is not None and moment >= found.begin:
            return found.resolve(moment)
    begins = [found.begin for n in range(past.stretch + 1) if (found := _Stretch(past, store, n)).begin]
    since = f"; it begins at {begins[0].isoformat(timespec='seconds')}" if begins and begins[0] else ""
    raise PastUnknown(f"the lake's past does not reach back to {moment.isoformat(timespec='seconds')}{since}")


@dataclass(slots=True)
class _Stretch:
    """The commits between two resyncs of everything; a time is looked up in them by bisection."""

    past: Past
    store: Store
    number: int

    @property
    def commits(self) -> list[Commits]:
        """Its entries, in order."""
        return [each for each in self.past.commits if each.stretch == self.number]

    @property
    def copies(self) -> list[tuple[datetime, int]]:
        """When copies were complete, and as of which LSN."""
        return [
            (each.ready_time, each.ready_lsn - 1)
            for generations in self.past.tables.values()
            for each in generations
            if each.ready_lsn is not None and each.ready_time is not None and each.stretch == self.number
        ]

    @property
    def begin(self) -> datetime | None:
        """The earliest moment that is known."""
        times = [time for time, _ in self.copies]
        commits = self.commits
        if commits:
            times.append(min(time for _, time in _stamps(self.store, commits[:1])))
        return min(times, default=None)

    def resolve(self, moment: datetime) -> int:
        """The last commit at or before ``moment``, which is not before ``begin``."""
        commits = self.commits
        stamps = _stamps(self.store, commits[-NEIGHBOURS:])
        if not stamps or moment > max(time for _, time in stamps):
            self._refuse(moment, max((time for _, time in stamps), default=None))
        low, high = 0, len(commits)
        while low < high:
            middle = (low + high) // 2
            if min(time for _, time in _stamps(self.store, commits[middle : middle + 1])) <= moment:
                low = middle + 1
            else:
                high = middle
        near = _stamps(self.store, commits[max(0, low - NEIGHBOURS) : low + NEIGHBOURS])
        commit = max((lsn for lsn, time in near if time <= moment), default=0)
        following = min((lsn for lsn, _ in near if lsn > commit), default=self.past.durable_lsn)
        ready = [lsn for time, lsn in self.copies if time <= moment and lsn < following]
        return max([commit, *ready])

    def _refuse(self, moment: datetime, last: datetime | None) -> NoReturn:
        """The moment lies behind the stretch."""
        shown = moment.isoformat(timespec="seconds")
        if self.number == self.past.stretch:
            _refuse_later(self.past, shown, last)
        raise PastUnknown(f"the stream was lost before {shown}, until tables were copied anew")


def _refuse_later(past: Past, shown: str, last: datetime | None) -> NoReturn:
    """Say how far the lake is."""
    known = f"the lake holds what committed before {format_lsn(past.durable_lsn)}"
    if last is not None:
        known += f", and its last commit is of {last.isoformat()}"
    latest = format_lsn(max(past.durable_lsn - 1, 0))
    raise NotDurable(
        f"{shown} lies behind what the lake holds: {known}",
        hint=f"The latest is --as-of {latest}; without --as-of, tables are as of now.",
    )


def _stamps(store: Store, commits: Sequence[Commits]) -> list[tuple[int, datetime]]:
    """LSN and time of the commits in some entries, ascending."""
    found: set[tuple[int, datetime]] = set()
    for file in (file for each in commits for file in each.files):
        for batch in read_batches(store, file, columns=[COMMIT_LSN, COMMIT_TS]):
            unique = pa.Table.from_batches([batch]).group_by([COMMIT_LSN]).aggregate([(COMMIT_TS, "min")])
            unique = unique.filter(pc.is_valid(unique[f"{COMMIT_TS}_min"]))
            found |= set(
                zip(unique[COMMIT_LSN].to_pylist(), unique[f"{COMMIT_TS}_min"].to_pylist(), strict=True)
            )
    return sorted(found)


def _time(text: str) -> datetime:
    """An ISO time, in UTC."""
    time = datetime.fromisoformat(text.strip())
    return (time if time.tzinfo else time.replace(tzinfo=UTC)).astimezone(UTC)
