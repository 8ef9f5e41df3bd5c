"""The journal: the manifest log, and the way from those who append to the applier."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from smartstream.manifest import Entry, EntryKind, LakeState, RawFile
from smartstream.raw.manifest_log import ManifestLog
from smartstream.schema import TableSchema

Payload = Mapping[str, tuple[TableSchema, pa.Table]]
"""Raw file path → its schema and rows, still in memory."""


@dataclass(frozen=True, slots=True)
class Item:
    """A durable entry on its way to the applier, with the rows that are still at hand."""

    entry: Entry
    payload: Payload = field(default_factory=dict)

    @property
    def payload_bytes(self) -> int:
        """Memory that the rows take."""
        return sum(table.nbytes for _, table in self.payload.values())


class Journal:
    """Appends entries and hands them, in the order of the log, to one applier.

    Rows travel along in memory up to ``payload_bytes_max``; past that the applier
    reads them back from the raw zone.  So appending never waits for the applier:
    the slot moves on at the pace of the raw zone.
    """

    def __init__(self, log: ManifestLog, *, payload_bytes_max: int) -> None:
        self._log = log
        self._payload_bytes_max = payload_bytes_max
        self._items: deque[Item] = deque()
        self._payload_bytes = 0
        self._condition = threading.Condition()

    @property
    def state(self) -> LakeState:
        """The state after the last entry."""
        return self._log.state

    def append(
        self,
        kind: EntryKind,
        *,
        lsn: int,
        files: Iterable[RawFile] = (),
        table: str | None = None,
        detail: Mapping[str, Any] | None = None,
        payload: Payload | None = None,
    ) -> Entry:
        """Make an entry durable, then queue it; the order of the queue is the log's."""
        with self._condition:
            entry = self._log.append(kind, lsn=lsn, files=tuple(files), table=table, detail=detail or {})
            item = Item(entry, payload or {})
            if self._payload_bytes + item.payload_bytes > self._payload_bytes_max:
                item = Item(entry)
            self._queue(item)
            return entry

    def append_end(self, lsn: int) -> None:
        """Note that all that committed before ``lsn`` is in the log."""
        self.append(EntryKind.CHANGES, lsn=max(lsn, self.state.durable_lsn))

    def append_copy_start(self, table: str, detail: Mapping[str, Any]) -> Entry:
        """Begin a generation at the durable LSN, which can't move in between."""
        with self._condition:
            lsn = self.state.durable_lsn
            entry = self._log.append(EntryKind.COPY_START, lsn=lsn, files=(), table=table, detail=detail)
            self._queue(Item(entry))
            return entry

    def replay(self, entries: Iterable[Entry]) -> None:
        """Queue entries of an earlier run that were not applied."""
        with self._condition:
            for entry in entries:
                self._queue(Item(entry))

    def take(self, timeout_s: float, *, count_max: int, bytes_max: int) -> list[Item]:
        """Return the next items, in order; empty when none came within ``timeout_s``.

        Args:
            bytes_max: of raw files, by weight; a single item may be larger.
        """
        with self._condition:
            if not self._items:
                self._condition.wait(timeout_s)
            taken: list[Item] = []
            size = 0
            while self._items and len(taken) < count_max:
                size += sum(file.weight_bytes for file in self._items[0].entry.files)
                if taken and size > bytes_max:
                    break
                item = self._items.popleft()
                self._payload_bytes -= item.payload_bytes
                taken.append(item)
            return taken

    def wake(self) -> None:
        """Let a waiting ``take`` return."""
        with self._condition:
            self._condition.notify_all()

    def _queue(self, item: Item) -> None:
        """Hand one item over; the condition is held."""
        self._items.append(item)
        self._payload_bytes += item.payload_bytes
        self._condition.notify_all()
