"""From the slot to the raw zone: one thread that reads, decodes, writes and acknowledges."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import psycopg
import pyarrow as pa

from smartstream.capture import catalog, slot
from smartstream.capture.alignment import align
from smartstream.capture.catchup import BATCH_BYTES, CatchupReader, flushed_wal_lsn
from smartstream.capture.connect import connect
from smartstream.capture.pgoutput import Messages, Parser, Relation, RowBlock, split_at_last_commit
from smartstream.capture.reader import SlotReader
from smartstream.capture.replication import StreamingReader
from smartstream.capture.values import changelog
from smartstream.config import Settings
from smartstream.errors import NoFreeSlot, Retry, SlotInUse, SlotLost, SmartStreamError
from smartstream.manifest import EntryKind, RawFile
from smartstream.pipeline.journal import Journal, Payload
from smartstream.pipeline.progress import Meter
from smartstream.pipeline.tables import CapturedTables
from smartstream.raw.writer import RawWriter
from smartstream.schema import TableSchema
from smartstream.transform.evolution import compare

_LOG = logging.getLogger(__name__)

READ_WAIT_S = 0.1
BACKLOG_CHECK_S = 2.0
BACKOFF_S = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
SLOT_RELEASE_WAIT_S = 15.0
PROGRESS_BYTES = 16 << 20
RESTART_TRAILING_BYTES_MAX = 256 << 20
"""Each round of a catch-up decodes from the restart LSN: when that trails further, and further than
twice the backlog, streaming is cheaper."""


@dataclass(slots=True)
class Batch:
    """Changes read but not yet durable: whole transactions, but for the last while it is open."""

    rows: dict[tuple[str, TableSchema], list[pa.Table]] = field(default_factory=dict)
    staged: list[RawFile] = field(default_factory=list)  # written, not yet committed by an entry
    schemas: dict[str, dict[str, Any]] = field(default_factory=dict)
    size_bytes: int = 0
    end_lsn: int = 0

    def add(self, schema: TableSchema, rows: pa.Table) -> None:
        """Append rows of one table."""
        self.rows.setdefault((schema.id, schema), []).append(rows)
        self.size_bytes += rows.nbytes

    def drop(self, table: str) -> None:
        """Forget a table whose rows will be copied anew."""
        self.rows = {key: parts for key, parts in self.rows.items() if key[0] != table}
        self.staged = [file for file in self.staged if file.table != table]
        self.schemas.pop(table, None)

    def __bool__(self) -> bool:
        return bool(self.rows or self.staged or self.schemas)


class CaptureLoop:
    """Reads the slot until told to stop; see ``run``."""

    def __init__(
        self,
        settings: Settings,
        *,
        journal: Journal,
        writer: RawWriter,
        tables: CapturedTables,
        start_copy: Callable[[TableSchema], None],
        meter: Meter,
        stop: threading.Event,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings, self._source = settings, settings.source
        self._journal, self._writer, self._tables = journal, writer, tables
        self._start_copy, self._meter, self._stop, self._monotonic = start_copy, meter, stop, monotonic
        self._batch_bytes = min(BATCH_BYTES, settings.defaults.flush.bytes)
        self._drift: dict[str, tuple[TableSchema, int]] = {}
        self._drift_lock = threading.Lock()
        self.progress_lsn = 0
        self._reset()

    def run(self, until: Callable[[], int | None]) -> None:
        """Capture until ``stop`` is set or everything before ``until()`` is durable.

        ``until`` is asked again and again: None means without end.  A broken
        connection is opened again, with backoff; what was read but not durable is
        read again.
        """
        failures = 0
        while not self._stop.is_set() and not self._reached(until()):
            before = self._journal.state.durable_lsn
            try:
                self._session(until)
                failures = 0
            except SmartStreamError as error:
                if error.retry is not Retry.TRANSIENT:
                    raise
                failures = 0 if self._journal.state.durable_lsn > before else failures
                wait_s = BACKOFF_S[min(failures, len(BACKOFF_S) - 1)]
                failures += 1
                _LOG.warning("capture interrupted, trying again in %.1f s: %s", wait_s, error)
                self._stop.wait(wait_s)
        if self._reached(until()) and self.progress_lsn > self._journal.state.durable_lsn:
            self._journal.append(EntryKind.CHANGES, lsn=self.progress_lsn)

    def report_drift(self, schema: TableSchema, lsn: int) -> None:
        """Note that the catalog shows ``schema``; it counts once the stream has passed ``lsn``."""
        with self._drift_lock:
            self._drift[schema.id] = (schema, lsn)

    def _reached(self, target: int | None) -> bool:
        """Whether everything before ``target`` is durable."""
        return target is not None and self.progress_lsn >= target and not self._batch

    def _reset(self) -> None:
        """Forget what is not durable."""
        self._parser = Parser(skip_before_lsn=self._journal.state.durable_lsn)
        self._batch = Batch()
        self._tail: Messages | None = None
        self._resolved: dict[Relation, TableSchema | None] = {}
        self._flushed_at = self._monotonic()
        self._progress_at = self._monotonic()

    def _session(self, until: Callable[[], int | None]) -> None:
        """Read with one reader until it is finished or another one suits better."""
        self._reset()
        with connect(self._source) as self._catalog:
            reader = self._open_reader(until())
            try:
                self._read_on(reader, until)
            finally:
                reader.close()

    def _open_reader(self, target: int | None) -> SlotReader:
        """The reader that suits the backlog; waits for the slot to be released."""
        deadline = self._monotonic() + SLOT_RELEASE_WAIT_S
        while True:
            try:
                if self._catching_up_pays(target):
                    self._meter.mode = "catchup"
                    return CatchupReader(
                        self._source, upto_lsn=flushed_wal_lsn(self._catalog), batch_bytes=self._batch_bytes
                    )
            except NoFreeSlot:
                _LOG.info("no free slot to read ahead with: streaming the backlog")
            except SlotInUse:
                if self._monotonic() > deadline or self._stop.wait(0.1):
                    raise
                continue
            self._meter.mode = "streaming"
            return StreamingReader(self._source, bytes_max=self._batch_bytes)

    def _catching_up_pays(self, target: int | None) -> bool:
        """Whether to read in bulk; also finds out whether the slot is still what it was."""
        info = slot.check(self._catalog, self._source.slot.name, self._journal.state)
        if info is None or info.restart_lsn is None:
            raise SlotLost(f"slot {self._source.slot.name} is gone")
        backlog = flushed_wal_lsn(self._catalog) - info.confirmed_flush_lsn
        wanted = backlog > (0 if target is not None else self._settings.limits.catchup_backlog_bytes)
        return wanted and restart_is_near(info.confirmed_flush_lsn - info.restart_lsn, backlog)

    def _read_on(self, reader: SlotReader, until: Callable[[], int | None]) -> None:
        """Read, decode, flush, acknowledge."""
        streaming = isinstance(reader, StreamingReader)
        check_at = self._monotonic() + BACKLOG_CHECK_S
        while not self._stop.is_set() and not self._reached(until()):
            read = reader.read(min(READ_WAIT_S, self._settings.defaults.flush.every / 2))
            if read.messages is not None:
                self._feed(read.messages)
            if self._due(force=not streaming and read.progress_lsn is not None):
                self._flush()
                reader.acknowledge(self._journal.state.durable_lsn)
            elif self._batch.size_bytes >= self._settings.defaults.flush.bytes:
                self._stage()
            self._record_progress(read.progress_lsn, reader)
            if read.finished:
                return
            if streaming and self._monotonic() >= check_at:
                check_at = self._monotonic() + BACKLOG_CHECK_S
                if self._far_behind():
                    self._flush_if_whole()
                    return

    def _feed(self, messages: Messages) -> None:
        """Decode messages; those after the last commit wait for the next read."""
        whole, tail = split_at_last_commit(messages)
        previous, self._tail = self._tail, None
        for part in (previous, whole):
            if part is not None and len(part.starts):
                self._decode(part)
        self._tail = tail

    def _decode(self, messages: Messages) -> None:
        """Decode one stretch of messages into the batch."""
        decoded = self._parser.feed(messages)
        for block in decoded.blocks:
            schema = self._schema_of(block.relation)
            if schema is not None:
                self._add(block, schema)
        if decoded.end_lsn is not None:
            self._batch.end_lsn = decoded.end_lsn
            self.progress_lsn = max(self.progress_lsn, decoded.end_lsn)

    def _add(self, block: RowBlock, schema: TableSchema) -> None:
        """Type one block's rows and keep them."""
        rows = changelog(block, schema)
        self._batch.add(schema, rows)
        self._meter.captured(rows.num_rows)

    def _schema_of(self, relation: Relation) -> TableSchema | None:
        """The schema of a block's rows, None for a table that is not captured."""
        if relation not in self._resolved:
            self._resolved[relation] = self._resolve(relation)
        return self._resolved[relation]

    def _resolve(self, relation: Relation) -> TableSchema | None:
        """Follow the table to the schema that a Relation message announces."""
        known = self._tables.get(relation.oid)
        if known is None or known.id != f"{relation.schema}.{relation.name}":
            return None
        current = catalog.table_schema(self._catalog, relation.oid)
        schema = align(
            relation, known, current, lambda oid, typmod: catalog.pg_type(self._catalog, oid, typmod)
        )
        if schema is not None:
            return self._evolve(known, schema)
        if current is not None:  # what happened in between can't be told: copy the table anew
            self._copy_anew(current)
        return None

    def _evolve(self, known: TableSchema, schema: TableSchema) -> TableSchema:
        """Follow a table to a new schema; copy it anew where its rows can't be kept."""
        if schema == known:
            return known
        change = compare(known, schema)
        added = [column.attnum for column in change.added]
        defaults = catalog.missing_defaults(self._catalog, schema.oid, added) if added else None
        if change.needs_copy or (defaults is not None and defaults.rewritten):
            self._copy_anew(schema)
            return schema
        if change:
            fills = {str(attnum): text for attnum, text in (defaults.constants if defaults else {}).items()}
            self._batch.schemas[schema.id] = {
                "schema": schema.to_json(),
                "fills": {**self._batch.schemas.get(schema.id, {}).get("fills", {}), **fills},
            }
            _LOG.info("schema of %s changed: %s", schema.id, describe(change))
        self._tables.put(schema)
        return schema

    def _copy_anew(self, schema: TableSchema) -> None:
        """Begin a new generation; what was read of the table is in its snapshot."""
        _LOG.warning("%s changed in a way that needs its rows again: copying it anew", schema.id)
        self._batch.drop(schema.id)
        self._tables.put(schema)
        self._start_copy(schema)

    def _due(self, *, force: bool) -> bool:
        """Whether the batch should be made durable now; only between transactions."""
        if not self._batch or self._parser.in_transaction:
            return False
        elapsed = self._monotonic() - self._flushed_at
        flush = self._settings.defaults.flush
        return force or elapsed >= flush.every or self._batch.size_bytes + _staged(self._batch) >= flush.bytes

    def _flush_if_whole(self) -> None:
        """Flush before a reader is left."""
        if self._due(force=True):
            self._flush()

    def _stage(self) -> None:
        """Write what an open transaction has so far; it becomes visible with the rest."""
        self._batch.staged.extend(file for file, _ in self._write())

    def _write(self) -> list[tuple[RawFile, tuple[TableSchema, pa.Table]]]:
        """Write the batch's rows as raw files."""
        written = []
        for (_, schema), parts in self._batch.rows.items():
            rows = pa.concat_tables(parts)
            written.append((self._writer.write(schema, rows), (schema, rows)))
        self._batch.rows, self._batch.size_bytes = {}, 0
        return written

    def _flush(self) -> None:
        """Make the batch durable: its files, then the entry that makes them exist."""
        batch = self._batch
        written = self._write()
        files = [*batch.staged, *(file for file, _ in written)]
        payload: Payload = {file.path: rows for file, rows in written}
        detail = {"schemas": batch.schemas} if batch.schemas else {}
        lsn = max(batch.end_lsn, self._journal.state.durable_lsn)
        self._journal.append(EntryKind.CHANGES, lsn=lsn, files=files, detail=detail, payload=payload)
        self._batch = Batch(end_lsn=batch.end_lsn)
        self._flushed_at = self._progress_at = self._monotonic()

    def _record_progress(self, lsn: int | None, reader: SlotReader) -> None:
        """Note how far the slot is read, and now and then make that durable too.

        Without it the slot would hold back WAL of which none is for us.

        Args:
            lsn: what this read told; the server tells it once and then may be silent.
        """
        if self._batch or self._parser.in_transaction or self._tail_waits():
            return
        self.progress_lsn = max(self.progress_lsn, lsn or 0)
        self._apply_drift()
        state = self._journal.state
        durable = state.durable_lsn
        if self.progress_lsn <= durable:
            return
        old = self._monotonic() - self._progress_at >= self._source.heartbeat
        awaited = any(
            table.copied and durable < table.ready_lsn <= self.progress_lsn for table in state.tables.values()
        )
        if old or awaited or self.progress_lsn - durable >= PROGRESS_BYTES:
            self._journal.append(EntryKind.CHANGES, lsn=self.progress_lsn)
            self._progress_at = self._monotonic()
            reader.acknowledge(self.progress_lsn)

    def _tail_waits(self) -> bool:
        """Whether messages of an open transaction are held back."""
        return self._tail is not None and len(self._tail.starts) > 0

    def _apply_drift(self) -> None:
        """Follow schema changes that no row change has announced."""
        with self._drift_lock:
            passed = [schema for schema, lsn in self._drift.values() if lsn <= self.progress_lsn]
            for schema in passed:
                del self._drift[schema.id]
        for schema in passed:
            known = self._tables.get(schema.oid)
            if known is not None and known != schema:
                self._evolve(known, schema)
                self._resolved.clear()
        if self._batch:
            self._flush()

    def _far_behind(self) -> bool:
        """Whether catching up would be faster than streaming on."""
        try:
            flushed = flushed_wal_lsn(self._catalog)
            self._meter.source_lsn = flushed
            far = flushed - max(self.progress_lsn, 1) > 4 * self._settings.limits.catchup_backlog_bytes
            # Inside a transaction all that was streamed of it would be read again, and again.
            if not far or self._parser.in_transaction or self._tail_waits():
                return False
            info = slot.inspect(self._catalog, self._source.slot.name)
            if info is None or info.restart_lsn is None:
                return True
            backlog = flushed - info.confirmed_flush_lsn
            return restart_is_near(info.confirmed_flush_lsn - info.restart_lsn, backlog)
        except (psycopg.Error, SmartStreamError):
            return True  # the session ends; the next one reports what is wrong


def restart_is_near(trailing_bytes: int, backlog_bytes: int) -> bool:
    """Whether reading in bulk pays: each of its rounds decodes from the restart LSN again."""
    return trailing_bytes < max(RESTART_TRAILING_BYTES_MAX, 2 * backlog_bytes)


def describe(change: object) -> str:
    """An Evolution in words, names only."""
    parts = []
    for kind in ("added", "dropped", "renamed", "widened", "retyped"):
        columns = getattr(change, kind)
        if columns:
            names = (" → ".join(c.name for c in x) if isinstance(x, tuple) else x.name for x in columns)
            parts.append(f"{kind} {', '.join(names)}")
    return "; ".join(parts) or "key changed"


def _staged(batch: Batch) -> int:
    """Bytes already written for the batch."""
    return sum(file.size_bytes for file in batch.staged)
