"""Catch-up: a backlog read in bulk.

Streaming costs the server a system call for each change.  The SQL function
pg_logical_slot_get_binary_changes lets it decode a whole stretch of WAL and hand the
messages over as one binary COPY, which ADBC turns into Arrow without Python seeing a
row.

That function moves its slot, which must not happen before the changes are durable.
So it runs on a temporary copy of the slot, which reads ahead while we work on what it
gave; the slot itself moves when we acknowledge.  A crash takes the copy with it, and
the changes are read again.

Rounds begin small, so that we have something to do while the server decodes the next,
and grow, because each decodes again from the slot's restart LSN.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, LiteralString
from uuid import uuid4

import numpy as np
import psycopg
import pyarrow as pa
from psycopg import sql

from smartstream.capture.connect import ADBC_ERRORS, adbc_connect, connect, map_error
from smartstream.capture.pgoutput import Messages
from smartstream.capture.reader import SlotRead
from smartstream.capture.tuples import Ints
from smartstream.config import Source
from smartstream.lsn import format_lsn, parse_lsn
from smartstream.sql_text import quoted

# Quoted literals, not parameters: ADBC uses COPY only for statements without parameters.
_COPY_SLOT = sql.SQL(
    "SELECT made.slot_name::text"
    " FROM pg_catalog.pg_copy_logical_replication_slot({slot}, {ahead}, true) AS made"
)
_GET = sql.SQL(
    "SELECT data FROM pg_catalog.pg_logical_slot_get_binary_changes({slot}, {upto}::pg_lsn, {count}::integer,"
    " 'proto_version', '1', 'publication_names', {publication})"
)
ROUND_CHANGES_FIRST, ROUND_CHANGES_MAX = 150_000, 1_000_000
BATCH_BYTES = 16 << 20
_BATCH_OPTION = "adbc.postgresql.batch_size_hint_bytes"
_AHEAD_BATCHES = 4
_ADVANCE_EVERY_S = 5.0


@dataclass(frozen=True, slots=True)
class _RoundEnd:
    """The read-ahead has ended a round: everything before ``lsn`` was handed out."""

    lsn: int
    finished: bool


class CatchupReader:
    """Reads a slot up to ``upto_lsn``, which must be flushed WAL; see SlotReader.

    ``finished`` is set with the read that reaches ``upto_lsn``.  The server keeps what
    it has decoded of a round in a temporary file; the client holds a few batches.
    """

    def __init__(
        self,
        source: Source,
        *,
        upto_lsn: int,
        round_changes: int = ROUND_CHANGES_FIRST,
        batch_bytes: int = BATCH_BYTES,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin to read ahead.

        Raises:
            NoFreeSlot: the copy needs a slot of its own; stream instead.
            SlotInUse, SlotLost, SourceUnreachable, …: as ``connect`` maps them.
        """
        self._slot, self._ahead = source.slot.name, f"{source.slot.name[:40]}_ahead_{uuid4().hex[:8]}"
        self._publication = quoted(source.publication)
        self._upto_lsn, self._round_changes, self._monotonic = upto_lsn, round_changes, monotonic
        self._batch_bytes = batch_bytes
        self._batches: queue.Queue[pa.RecordBatch | _RoundEnd | Exception] = queue.Queue(_AHEAD_BATCHES)
        self._closed = threading.Event()
        self._durable = self._advanced = 0
        self._advance_due = monotonic() + _ADVANCE_EVERY_S
        self._source = source
        self._bulk = adbc_connect(source)
        try:
            list(self._execute(_COPY_SLOT.format(slot=self._slot, ahead=self._ahead)))
        except BaseException:
            self.close()
            raise
        self._thread: threading.Thread | None = threading.Thread(target=self._read_ahead, daemon=True)
        self._thread.start()

    def read(self, wait_s: float) -> SlotRead:
        """See SlotReader."""
        try:
            item = self._batches.get(timeout=wait_s)
        except queue.Empty:
            return SlotRead()
        if isinstance(item, Exception):
            raise item
        if isinstance(item, _RoundEnd):
            return SlotRead(progress_lsn=item.lsn, finished=item.finished)
        return SlotRead(_messages(item))

    def acknowledge(self, lsn: int) -> None:
        """See SlotReader; the slot moves now and then, and on ``close``.

        By pg_replication_slot_advance, which decodes what it passes: only so does the
        restart LSN follow, and with it the WAL that the server keeps.
        """
        self._durable = max(self._durable, lsn)
        if self._monotonic() >= self._advance_due:
            self._advance()

    def keep_alive(self) -> None:
        """Ordinary connections need none."""

    def close(self) -> None:
        """Stop reading ahead, move the slot to what was acknowledged."""
        self._closed.set()
        thread = getattr(self, "_thread", None)
        if thread is not None:
            while thread.is_alive():  # it may wait for room in the queue
                self._drain()
                thread.join(0.05)
            self._thread = None
        self._bulk.close()
        self._advance()

    def _advance(self) -> None:
        """Let the server forget what is durable."""
        self._advance_due = self._monotonic() + _ADVANCE_EVERY_S
        if self._durable <= self._advanced:
            return
        lsn = format_lsn(self._durable)
        with connect(self._source) as connection:
            try:
                connection.execute(
                    "SELECT pg_catalog.pg_replication_slot_advance(%s, %s::pg_lsn)", (self._slot, lsn)
                )
            except psycopg.Error as error:
                raise map_error(error, f"advancing slot {self._slot} to {lsn}") from error
        self._advanced = self._durable

    def _drain(self) -> None:
        """Make room for the reading thread, so that it sees it shall stop."""
        while not self._batches.empty():
            self._batches.get_nowait()

    def _read_ahead(self) -> None:
        """Read round after round into the queue (a thread of its own)."""
        try:
            finished = False
            while not finished and not self._closed.is_set():
                finished = self._round()
        except Exception as error:
            self._batches.put(error)

    def _round(self) -> bool:
        """Read one round; return whether it reached the end."""
        statement = _GET.format(
            slot=self._ahead,
            upto=format_lsn(self._upto_lsn),
            count=self._round_changes,
            publication=self._publication,
        )
        count = handed_out = 0
        for batch in self._execute(statement):
            if self._closed.is_set():
                return True
            count += batch.num_rows
            handed_out = _last_commit(_messages(batch)) or handed_out
            self._batches.put(batch)
        finished = count < self._round_changes
        self._round_changes = min(2 * self._round_changes, ROUND_CHANGES_MAX)
        lsn = max(self._upto_lsn, handed_out) if finished else handed_out
        self._batches.put(_RoundEnd(lsn, finished))
        return finished

    def _execute(self, statement: sql.Composed) -> list[pa.RecordBatch] | Any:
        """Run a statement over ADBC; the batches of its result as they come."""
        cursor = self._bulk.cursor()
        try:
            cursor.adbc_statement.set_options(**{_BATCH_OPTION: str(self._batch_bytes)})
            cursor.execute(statement.as_string(None))
            reader = cursor.fetch_record_batch()
            return _closing(cursor, reader, f"reading slot {self._slot}")
        except ADBC_ERRORS as error:
            cursor.close()
            raise map_error(error, f"reading slot {self._slot}") from error


def _closing(cursor: Any, reader: Any, doing: str) -> Any:
    """The reader's batches; afterwards the cursor is closed."""
    try:
        yield from reader
    except ADBC_ERRORS as error:
        raise map_error(error, doing) from error
    finally:
        cursor.close()


def flushed_wal_lsn(connection: psycopg.Connection[Any]) -> int:
    """Up to where WAL is flushed: logical decoding sees no further.

    Changes committed with synchronous_commit = off may lie beyond it for a moment.
    """
    return _lsn(connection, "SELECT pg_catalog.pg_current_wal_flush_lsn()::text")


def current_wal_lsn(connection: psycopg.Connection[Any]) -> int:
    """The end of WAL: every commit that a client has seen lies before it."""
    return _lsn(connection, "SELECT pg_catalog.pg_current_wal_insert_lsn()::text")


def reached_lsn(connection: psycopg.Connection[Any]) -> int:
    """The end of WAL, made sure to be passed: on an idle server nothing else might follow it.

    Writes and flushes an empty logical message, which no reader of ours is shown.
    """
    lsn = current_wal_lsn(connection)
    try:
        connection.execute("SELECT pg_catalog.pg_logical_emit_message(true, 'smartstream', '')")
    except psycopg.Error as error:
        raise map_error(error, "writing a logical message") from error
    return lsn


def _lsn(connection: psycopg.Connection[Any], statement: LiteralString) -> int:
    """The LSN that a statement returns."""
    try:
        row = connection.execute(statement).fetchone()
    except psycopg.Error as error:
        raise map_error(error, "asking for the WAL position") from error
    assert row is not None
    return parse_lsn(row[0])


def _messages(batch: pa.RecordBatch) -> Messages:
    """The column's buffer and offsets as Messages, without a copy."""
    array = batch.column(0)
    wide = pa.types.is_large_binary(array.type)
    stored = np.frombuffer(array.buffers()[1], np.int64 if wide else np.int32)
    offsets: Ints = stored[array.offset : array.offset + len(array) + 1].astype(np.int64)
    return Messages(array.buffers()[2] or pa.py_buffer(b""), offsets[:-1], offsets[1:])


def _last_commit(messages: Messages) -> int | None:
    """End LSN of the last Commit message (byte 'C', flags, LSN, end LSN, time), None without one."""
    data = np.frombuffer(messages.data, np.uint8)
    commits = np.flatnonzero(data[messages.starts] == ord("C"))
    if not len(commits):
        return None
    start = int(messages.starts[commits[-1]]) + 10
    return int.from_bytes(bytes(data[start : start + 8]), "big")
