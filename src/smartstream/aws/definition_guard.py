"""A lock that only those get who know what the table looks like now.

Functions run beside each other, and each has read a table's definition before it waits for
the table's lock.  When a control record adds a column meanwhile, the one with the older
definition would take the column away again from a table that has it, and all of its values.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from smartstream.delivery.definitions import Definitions
from smartstream.delivery.lock import TableLocks
from smartstream.errors import DefinitionChanged
from smartstream.raw.store import Store


class GuardedLocks:
    """Locks of tables for one reading of raw objects.

    Definitions are only trusted as they are under the lock: whoever writes a table next
    looks there as well, so that a table never goes back to an older one.
    """

    def __init__(self, locks: TableLocks, store: Store, known: Definitions) -> None:
        self._locks, self._store, self._known = locks, store, known

    @contextmanager
    def hold(self, table_id: str) -> Iterator[None]:
        """Hold the lock of ``schema.name``.

        Raises:
            TableBusy: another writer has had it for too long.
            DefinitionChanged: the records were read with a definition that is no longer the newest.
            RawCorrupt: the newest is no definition.
        """
        with self._locks.hold(table_id):
            if Definitions(self._store).get(table_id) != self._known.get(table_id):
                raise DefinitionChanged(f"{table_id} was defined anew while its records were read")
            yield
