"""One run of a model at a time over machines that share a lake: leases as objects in its store."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

from smartstream.errors import ModelBusy
from smartstream.raw.store import AlreadyExists, NotFound, Store

FOLDER = "control/models"
_HELD, _FREE = ".held", ".free"


class Leases:
    """Numbered leases of each model: who writes the next number, which nobody has, holds it.

    A lease ends when it is given back, or when its time is over: so that of a process that
    died is taken over, and no object is ever overwritten or deleted that another one may
    decide by.  A run that outlives its lease meets the other one at the commit.
    """

    def __init__(self, store: Store, *, clock: Callable[[], datetime], lease_s: float) -> None:
        self._store, self._clock, self._lease = store, clock, timedelta(seconds=lease_s)

    @contextmanager
    def hold(self, name: str) -> Iterator[None]:
        """Hold the lease of a model.

        Raises:
            ModelBusy: another process has it.
            StoreUnavailable, LakeNotWritable, DiskFull: as the store reports.
        """
        folder = f"{FOLDER}/{name}/"
        number = self._last(folder, name) + 1
        until = (self._clock() + self._lease).isoformat()
        try:
            self._store.put(
                _key(folder, number, _HELD), json.dumps({"until": until}).encode(), if_absent=True
            )
        except AlreadyExists:
            raise ModelBusy(f"model {name} has just begun to score elsewhere") from None
        try:
            yield
        finally:
            self._store.put(_key(folder, number, _FREE), b"")
            self._forget(folder, before=number)

    def _last(self, folder: str, name: str) -> int:
        """The number of the last lease, which is over; 0: there was none."""
        keys = {found.key.removeprefix(folder) for found in self._store.list(folder)}
        numbers = {int(key.partition(".")[0]) for key in keys}
        last = max(numbers, default=0)
        if last and _key("", last, _FREE) not in keys and self._until(folder, last) > self._clock():
            raise ModelBusy(f"model {name} is scoring elsewhere at this moment")
        return last

    def _until(self, folder: str, number: int) -> datetime:
        """When a lease ends."""
        try:
            held = json.loads(self._store.get(_key(folder, number, _HELD)))
        except NotFound:  # forgotten since it was listed: a later one has ended by now
            return self._clock()
        return datetime.fromisoformat(held["until"])

    def _forget(self, folder: str, *, before: int) -> None:
        """Delete leases that a later one has followed."""
        for found in list(self._store.list(folder)):
            if int(found.key.removeprefix(folder).partition(".")[0]) < before:
                self._store.delete(found.key)


def _key(folder: str, number: int, ending: str) -> str:
    """Where a lease lies."""
    return f"{folder}{number:012d}{ending}"
