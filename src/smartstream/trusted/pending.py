"""Files that are written and not yet committed: garbage collection must leave them alone."""

from __future__ import annotations

import threading
from collections.abc import Iterable


class PendingFiles:
    """Thread-safe set of locations.  A crash empties it: such files are garbage then."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._locations: set[str] = set()

    def add(self, location: str) -> None:
        """Protect a file."""
        with self._lock:
            self._locations.add(location)

    def remove(self, locations: Iterable[str]) -> None:
        """Stop protecting files: they are committed, or given up."""
        with self._lock:
            self._locations.difference_update(locations)

    def now(self) -> frozenset[str]:
        """The files protected at this moment."""
        with self._lock:
            return frozenset(self._locations)
