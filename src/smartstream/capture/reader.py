"""What the two ways of reading a slot have in common.

*Streaming* (replication.py) has the lowest latency; *catch-up* (catchup.py) reads a
backlog several times faster, because the server hands over changes in bulk.  The
pipeline drives either through ``SlotReader``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from smartstream.capture.pgoutput import Messages


@dataclass(frozen=True, slots=True)
class SlotRead:
    """What one read gave.

    Attributes:
        messages: the next pgoutput messages in order, or None when there were none.
        progress_lsn: every transaction that committed before this LSN has been handed
            out (with this read or earlier ones); None when this read doesn't tell.
        finished: a catch-up has ended; go on by streaming.
        trailing_bytes: it ended early, because its next round would have decoded this much again:
            stream that far at least.
    """

    messages: Messages | None = None
    progress_lsn: int | None = None
    finished: bool = False
    trailing_bytes: int = 0


class SlotReader(Protocol):
    """Reads a slot forward from its confirmed position."""

    def read(self, wait_s: float) -> SlotRead:
        """Return what there is, waiting up to ``wait_s`` seconds for the first message."""

    def acknowledge(self, lsn: int) -> None:
        """Tell the server that everything before ``lsn`` is durable and needed no more."""

    def keep_alive(self) -> None:
        """Keep the connection from timing out while nothing is read."""

    def close(self) -> None:
        """Release the slot; safe to call twice."""
