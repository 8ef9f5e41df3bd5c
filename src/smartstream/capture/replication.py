"""Streaming: START_REPLICATION over psycopg's libpq layer (psycopg has no API for it).

Source: PostgreSQL manual, "Streaming Replication Protocol".
"""

from __future__ import annotations

import logging
import select
import struct
import time
from collections.abc import Callable

import numpy as np
import psycopg
import pyarrow as pa
from psycopg import pq, sql

from smartstream.capture.connect import connect, map_error
from smartstream.capture.oversized import stream_error
from smartstream.capture.pgoutput import Messages
from smartstream.capture.reader import SlotRead
from smartstream.config import Source
from smartstream.errors import SourceGone
from smartstream.lsn import format_lsn
from smartstream.sql_text import quoted

_LOG = logging.getLogger(__name__)

_XLOG_DATA, _KEEPALIVE = ord("w"), ord("k")
_XLOG_HEADER_BYTES = 25  # 'w', start LSN, end LSN, send time
_KEEPALIVE_FORMAT = struct.Struct("!cQQB")  # 'k', end LSN, send time, reply requested
_STATUS_FORMAT = struct.Struct("!cQQQQB")  # 'r', written, flushed, applied, time, reply
_CLOSE_WAIT_S = 2.0
_STATUS_EVERY_S = 10.0  # wal_sender_timeout is 60 s by default
_POSTGRES_EPOCH_S = 946_684_800


class StreamingReader:
    """Tails a slot; see SlotReader.

    Not thread-safe: libpq allows one thread at a time on a connection.
    """

    def __init__(
        self,
        source: Source,
        *,
        messages_max: int = 50_000,
        bytes_max: int = 16 << 20,
        monotonic: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """Start streaming from the slot's confirmed position.

        Args:
            messages_max, bytes_max: a read returns at the first message past either.
        Raises:
            SlotInUse, SlotLost, SourceUnreachable, …: as ``connect`` maps them.
        """
        self._messages_max, self._bytes_max = messages_max, bytes_max
        self._monotonic, self._wall = monotonic, wall
        self._acknowledged = 0
        self._status_due = 0.0
        self._silence_max_s = source.silence_max
        self._heard_at = monotonic()
        self._asked_at: float | None = None
        self._large: memoryview | None = None  # a message that is more than a read
        self._source = source
        self._connection = connect(source, replication=True)
        self._pg: pq.abc.PGconn = self._connection.pgconn
        try:
            self._start(source)
        except BaseException:
            self.close()
            raise

    def _start(self, source: Source) -> None:
        """Issue START_REPLICATION; pgoutput protocol 1 exists in every supported version."""
        publication = quoted(source.publication)
        statement = sql.SQL(
            "START_REPLICATION SLOT {} LOGICAL 0/0 (proto_version '1', publication_names {})"
        ).format(sql.Identifier(source.slot.name), sql.Literal(publication))
        result = self._pg.exec_(statement.as_bytes(None))
        if result.status != pq.ExecStatus.COPY_BOTH:
            raise map_error(
                psycopg.errors.error_from_result(result), f"streaming from slot {source.slot.name}"
            )
        self._pg.nonblocking = 1

    def read(self, wait_s: float) -> SlotRead:
        """See SlotReader; returns as soon as the server has no more at hand."""
        parts: list[memoryview] = [] if self._large is None else [self._large]
        size, progress, self._large = sum(map(len, parts)), None, None
        deadline = self._monotonic() + wait_s
        get, waited = self._pg.get_copy_data, False
        while len(parts) < self._messages_max and size < self._bytes_max:
            length, data = self._get(get)
            if length > 0:
                self._heard_at, self._asked_at = self._monotonic(), None
                if data[0] == _XLOG_DATA:
                    if parts and length > self._bytes_max:  # by itself it need not be copied
                        self._large = data
                        break
                    parts.append(data)
                    size += length
                elif data[0] == _KEEPALIVE:
                    progress = self._keepalive(bytes(data))
                continue
            if waited:  # what had come is read by now
                self._check_silence()
            remaining = deadline - self._monotonic()
            if parts or progress is not None or remaining <= 0:
                break
            self._wait(min(remaining, _STATUS_EVERY_S))
            waited = True
        self.keep_alive()
        return SlotRead(_messages(parts), progress)

    def acknowledge(self, lsn: int) -> None:
        """See SlotReader; the server is told at once."""
        self._acknowledged = max(self._acknowledged, lsn)
        self._send_status()

    def keep_alive(self) -> None:
        """Send a status if one is due; asks for an answer when the server has been silent for a while.

        TCP alone does not tell: something in between may hold the connection open.
        """
        now = self._monotonic()
        if now >= self._status_due:
            ask = now - self._heard_at >= self._silence_max_s / 3
            self._send_status(ask=ask)
            if ask and self._asked_at is None:
                self._asked_at = now

    def _check_silence(self) -> None:
        """Give up a server that does not answer.

        Raises:
            SourceGone: it was asked, and has said nothing for ``silence_max``.
        """
        now = self._monotonic()
        if self._asked_at is not None and now - self._asked_at > self._silence_max_s * 2 / 3:
            silent_s = now - self._heard_at
            raise SourceGone(f"The server has been silent for {silent_s:.0f} s, though asked (silence_max).")

    def close(self) -> None:
        """End the stream, so that the server has taken the last status, and close the connection."""
        if self._connection.closed:
            return
        try:
            self._pg.nonblocking = 0
            self._pg.put_copy_end()
            deadline = self._monotonic() + _CLOSE_WAIT_S
            while (length := self._pg.get_copy_data(1)[0]) >= 0 and self._monotonic() < deadline:
                if length == 0:
                    select.select([self._pg.socket], [], [], 0.1)
                    self._pg.consume_input()
        except psycopg.Error as error:
            _LOG.debug("the stream ended before it was closed: %s", type(error).__name__)
        finally:
            self._connection.close()

    def _get(self, get: Callable[[int], tuple[int, memoryview]]) -> tuple[int, memoryview]:
        """One COPY message, or length 0 when none is at hand."""
        length, data = get(1)
        if length >= 0:
            return length, data
        raise self._ended()

    def _ended(self) -> Exception:
        """Why the stream ended."""
        result = self._pg.get_result()
        if result is not None and result.status == pq.ExecStatus.FATAL_ERROR:
            error = psycopg.errors.error_from_result(result)
            return stream_error(self._source, self._source.publication, error, "the replication stream")
        return SourceGone("The server ended the replication stream.")

    def _wait(self, seconds: float) -> None:
        """Wait until the socket has something or the time is over."""
        select.select([self._pg.socket], [], [], seconds)
        self.keep_alive()
        try:
            self._pg.consume_input()
        except psycopg.OperationalError as error:
            raise SourceGone(f"The connection to the source broke: {error}") from error

    def _keepalive(self, data: bytes) -> int:
        """Answer a keepalive if it asks for it; return the LSN that it reports."""
        _, end_lsn, _, reply = _KEEPALIVE_FORMAT.unpack(data)
        if reply:
            self._send_status()
        return int(end_lsn)

    def _send_status(self, *, ask: bool = False) -> None:
        """Report what is durable; with ``ask`` the server answers at once."""
        lsn = self._acknowledged
        now_us = int((self._wall() - _POSTGRES_EPOCH_S) * 1e6)
        try:
            self._pg.put_copy_data(_STATUS_FORMAT.pack(b"r", lsn, lsn, lsn, now_us, ask))
            self._pg.flush()
        except psycopg.OperationalError as error:
            raise SourceGone(f"The connection to the source broke at {format_lsn(lsn)}: {error}") from error
        self._status_due = self._monotonic() + min(_STATUS_EVERY_S, self._silence_max_s / 3)


def _messages(parts: list[memoryview]) -> Messages | None:
    """The pgoutput messages inside XLogData messages, laid into one buffer."""
    if not parts:
        return None
    ends = np.cumsum(np.fromiter(map(len, parts), np.int64, len(parts)))
    starts = np.concatenate([[0], ends[:-1]]) + _XLOG_HEADER_BYTES
    data = parts[0] if len(parts) == 1 else b"".join(parts)
    return Messages(pa.py_buffer(data), starts, ends)
