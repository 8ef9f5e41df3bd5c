"""Catch-up: a backlog read in bulk with pg_logical_slot_peek_binary_changes.

Streaming costs the server a system call for each change.  Peeking lets it decode a
whole stretch of WAL and hand over the messages as one binary COPY, which ADBC turns
into Arrow without Python seeing a row.  The slot moves only by
pg_replication_slot_advance, when the changes are durable: a crash in between means
that they are read again.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, LiteralString

import numpy as np
import psycopg
import pyarrow as pa

from smartstream.capture.connect import adbc_connect, connect, map_error
from smartstream.capture.pgoutput import Messages
from smartstream.capture.reader import SlotRead
from smartstream.config import Source
from smartstream.lsn import format_lsn, parse_lsn

_PEEK = (
    "SELECT data FROM pg_catalog.pg_logical_slot_peek_binary_changes("
    "$1, $2::pg_lsn, $3, 'proto_version', '1', 'publication_names', $4)"
)


class CatchupReader:
    """Reads a slot up to ``upto_lsn`` in rounds of about ``round_changes``; see SlotReader.

    ``finished`` is set with the read that reaches ``upto_lsn``.  A round holds whole
    transactions; the server keeps what it has decoded of a round in a temporary
    file, the client a batch of it.
    """

    def __init__(self, source: Source, *, upto_lsn: int, round_changes: int = 500_000) -> None:
        self._slot = source.slot.name
        self._publication = '"' + source.publication.replace('"', '""') + '"'
        self._upto_lsn, self._round_changes = upto_lsn, round_changes
        self._connection = connect(source)
        self._bulk = adbc_connect(source)
        self._round: Iterator[pa.RecordBatch] | None = None
        self._round_messages = 0
        self._handed_out = 0  # end LSN of the last commit handed out
        self._confirmed = 0
        self._finished = False

    def read(self, wait_s: float) -> SlotRead:
        """See SlotReader; never waits for changes that are not yet there.

        The caller acknowledges each ``progress_lsn`` before reading on: the next
        round begins at the confirmed position.
        """
        if self._finished:
            return SlotRead(progress_lsn=self._upto_lsn, finished=True)
        if self._round is None:
            self._round, self._round_messages = self._peek(), 0
        batch = next(self._round, None)
        if batch is not None:
            messages = _messages(batch)
            self._round_messages += batch.num_rows
            self._handed_out = _last_commit(messages) or self._handed_out
            return SlotRead(messages)
        self._round = None
        if self._round_messages < self._round_changes:
            self._finished = True
            return SlotRead(progress_lsn=max(self._upto_lsn, self._handed_out), finished=True)
        return SlotRead(progress_lsn=self._handed_out)

    def acknowledge(self, lsn: int) -> None:
        """See SlotReader; does nothing in the middle of a round, which holds the slot."""
        if self._round is not None or lsn <= self._confirmed:
            return
        try:
            self._connection.execute(
                "SELECT pg_catalog.pg_replication_slot_advance(%s, %s::pg_lsn)", (self._slot, format_lsn(lsn))
            )
        except psycopg.Error as error:
            raise map_error(error, f"advancing slot {self._slot} to {format_lsn(lsn)}") from error
        self._confirmed = lsn

    def keep_alive(self) -> None:
        """Ordinary connections need none."""

    def close(self) -> None:
        """Close both connections."""
        self._round = None
        self._bulk.close()
        self._connection.close()

    def _peek(self) -> Iterator[pa.RecordBatch]:
        """One round's messages as record batches of one binary column."""
        arguments = (self._slot, format_lsn(self._upto_lsn), self._round_changes, self._publication)
        with self._bulk.cursor() as cursor:
            try:
                cursor.execute(_PEEK, arguments)
                yield from cursor.fetch_record_batch()
            except self._bulk.Error as error:
                raise map_error(error, f"reading slot {self._slot}") from error


def flushed_wal_lsn(connection: psycopg.Connection[Any]) -> int:
    """Up to where WAL is flushed: logical decoding sees no further.

    Changes committed with synchronous_commit = off may lie beyond it for a moment.
    """
    return _lsn(connection, "SELECT pg_catalog.pg_current_wal_flush_lsn()::text")


def current_wal_lsn(connection: psycopg.Connection[Any]) -> int:
    """The end of WAL: every commit that a client has seen lies before it."""
    return _lsn(connection, "SELECT pg_catalog.pg_current_wal_insert_lsn()::text")


def _lsn(connection: psycopg.Connection[Any], statement: LiteralString) -> int:
    """The LSN that a statement returns."""
    row = connection.execute(statement).fetchone()
    assert row is not None
    return parse_lsn(row[0])


def _messages(batch: pa.RecordBatch) -> Messages:
    """The column's buffer and offsets as Messages, without a copy."""
    array = batch.column(0)
    wide = pa.types.is_large_binary(array.type)
    offsets = np.frombuffer(array.buffers()[1], np.int64 if wide else np.int32)
    offsets = offsets[array.offset : array.offset + len(array) + 1].astype(np.int64)
    return Messages(array.buffers()[2], offsets[:-1], offsets[1:])


def _last_commit(messages: Messages) -> int | None:
    """End LSN of the last Commit message (byte 'C', flags, LSN, end LSN, time), None without one."""
    data = np.frombuffer(messages.data, np.uint8)
    commits = np.flatnonzero(data[messages.starts] == ord("C"))
    if not len(commits):
        return None
    start = int(messages.starts[commits[-1]]) + 10
    return int.from_bytes(bytes(data[start : start + 8]), "big")
