"""One writer for each table: what a lock must do, and one for a single process."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class TableLocks(Protocol):
    """Locks by table."""

    def hold(self, table_id: str) -> AbstractContextManager[None]:
        """Hold the lock of ``schema.name``.

        Raises:
            TableBusy: another writer has had it for too long.
        """


class ProcessLocks:
    """Locks between the threads of one process."""

    def __init__(self) -> None:
        self._locks: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)

    @contextmanager
    def hold(self, table_id: str) -> Iterator[None]:
        """See TableLocks."""
        with self._locks[table_id]:
            yield
