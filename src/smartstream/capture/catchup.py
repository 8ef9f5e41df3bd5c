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
and grow, because each decodes again from the slot's restart LSN.  That stays where the
oldest open transaction began; when more was decoded again than was new, the reader gives
way to streaming, which decodes once.
"""

from __future__ import annotations

import logging
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
from smartstream.capture.oversized import stream_error
from smartstream.capture.pgoutput import Messages
from smartstream.capture.reader import SlotRead
from smartstream.capture.tuples import Ints
from smartstream.config import Source
from smartstream.errors import SourceError
from smartstream.lsn import format_lsn, parse_lsn
from smartstream.sql_text import quoted

_LOG = logging.getLogger(__name__)

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
_LARGE_WAIT_S = 0.01
_ADVANCE_EVERY_S, _ADVANCE_SHARE_MAX = 5.0, 0.1
AGAIN_BYTES_MAX = 256 << 20
"""A catch-up may decode that much of the WAL again, or twice what it has handed out."""
RESTART_TRAILING_BYTES_MAX = 256 << 20
"""Each round decodes from the restart LSN: when that trails further, and further than twice the
backlog, streaming is cheaper."""
_TRAILING = sql.SQL(
    "SELECT (confirmed_flush_lsn OPERATOR(pg_catalog.-) restart_lsn)::bigint AS trailing"
    " FROM pg_catalog.pg_replication_slots WHERE slot_name = {slot}"
)


@dataclass(frozen=True, slots=True)
class _RoundEnd:
    """The read-ahead has ended a round: everything before ``lsn`` was handed out."""

    lsn: int
    finished: bool
    trailing_bytes: int = 0


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
        self._closed, self._working = threading.Event(), False
        self._durable = self._advanced = self._begun_lsn = self._again_bytes = 0
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
        self._working = False
        try:
            item = self._batches.get(timeout=wait_s)
        except queue.Empty:
            return SlotRead()
        self._working = True
        if isinstance(item, Exception):
            raise item
        if isinstance(item, _RoundEnd):
            return SlotRead(progress_lsn=item.lsn, finished=item.finished, trailing_bytes=item.trailing_bytes)
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
            if thread.is_alive():
                self._cancel()
            while thread.is_alive():  # it may wait for room in the queue
                self._drain()
                thread.join(0.05)
            self._thread = None
        self._bulk.close()
        self._advance()

    def _advance(self) -> None:
        """Let the server forget what is durable."""
        begun = self._monotonic()
        self._advance_due = begun + _ADVANCE_EVERY_S
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
        took = self._monotonic() - begun  # as much as there is between restart LSN and here
        self._advance_due = max(self._advance_due, begun + took / _ADVANCE_SHARE_MAX)

    def _cancel(self) -> None:
        """Interrupt the server, which may decode for minutes before it has a first row for us."""
        try:
            self._bulk.adbc_cancel()
        except ADBC_ERRORS as error:
            _LOG.debug("the round could not be cancelled: %s", type(error).__name__)

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
            large = batch.nbytes > 2 * self._batch_bytes
            self._batches.put(batch)
            del batch
            while large and self._in_work() and not self._closed.wait(_LARGE_WAIT_S):
                pass  # a very large value: not a second one in memory
        finished = count < self._round_changes
        self._round_changes = min(2 * self._round_changes, ROUND_CHANGES_MAX)
        lsn = max(self._upto_lsn, handed_out) if finished else handed_out
        trailing = 0 if finished else self._gives_way(handed_out)
        self._batches.put(_RoundEnd(lsn, finished or trailing > 0, trailing))
        return finished or trailing > 0

    def _in_work(self) -> bool:
        """Whether something that was read waits, or is being worked on."""
        return self._working or not self._batches.empty()

    def _gives_way(self, handed_out: int) -> int:
        """The bytes that the next round would decode again, if all in all that is too much; else 0."""
        (batch,) = self._execute(_TRAILING.format(slot=self._ahead))
        trailing = int(batch.column(0)[0].as_py())
        self._begun_lsn = self._begun_lsn or handed_out
        self._again_bytes += trailing
        if self._again_bytes <= max(AGAIN_BYTES_MAX, 2 * (handed_out - self._begun_lsn)):
            return 0
        _LOG.info("an open transaction holds back slot %s: streaming the backlog", self._slot)
        return trailing

    def _execute(self, statement: sql.Composed) -> list[pa.RecordBatch] | Any:
        """Run a statement over ADBC; the batches of its result as they come."""
        cursor = self._bulk.cursor()
        try:
            cursor.adbc_statement.set_options(**{_BATCH_OPTION: str(self._batch_bytes)})
            cursor.execute(statement.as_string(None))
            reader = cursor.fetch_record_batch()
            return self._closing(cursor, reader)
        except ADBC_ERRORS as error:
            cursor.close()
            raise self._mapped(error) from error

    def _closing(self, cursor: Any, reader: Any) -> Any:
        """The reader's batches; afterwards the cursor is closed."""
        try:
            yield from reader
        except ADBC_ERRORS as error:
            raise self._mapped(error) from error
        finally:
            cursor.close()

    def _mapped(self, error: Exception) -> SourceError:
        """Our error for one of ADBC."""
        return stream_error(self._source, self._source.publication, error, f"reading slot {self._slot}")


def restart_is_near(trailing_bytes: int, backlog_bytes: int) -> bool:
    """Whether reading in bulk pays: each of its rounds decodes from the restart LSN again."""
    return trailing_bytes < max(RESTART_TRAILING_BYTES_MAX, 2 * backlog_bytes)


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
