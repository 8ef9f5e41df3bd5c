"""From the slot to the raw zone: one thread that reads, decodes, writes and acknowledges."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial

import psycopg
import pyarrow as pa
import pyarrow.compute as pc

from smartstream.capture import catalog, published, slot
from smartstream.capture.alignment import align, look_alike
from smartstream.capture.catchup import BATCH_BYTES, CatchupReader, flushed_wal_lsn, reached_lsn
from smartstream.capture.connect import connect
from smartstream.capture.pgoutput import Messages, Parser, Relation, RowBlock, split_at_last_commit
from smartstream.capture.reader import SlotReader
from smartstream.capture.replication import StreamingReader
from smartstream.capture.values import changelog, lacks_values
from smartstream.change import COMMIT_LSN
from smartstream.config import Settings
from smartstream.errors import NoFreeSlot, Retry, SlotInUse, SmartStreamError
from smartstream.manifest import EntryKind, RawFile
from smartstream.pipeline import backlog
from smartstream.pipeline.batch import Batch, describe
from smartstream.pipeline.coverage import Coverage
from smartstream.pipeline.drift import Drift, Look, copied_otherwise, is_outdated
from smartstream.pipeline.journal import Journal, Payload
from smartstream.pipeline.progress import Meter
from smartstream.pipeline.rewrites import Rewrites
from smartstream.pipeline.successor import check_source
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
LARGE_BYTES = 1 << 20
"""A transaction of which this much has come will be a while: those read before it are made durable."""


class CaptureLoop:
    """Reads the slot until told to stop; see ``run``."""

    def __init__(
        self,
        settings: Settings,
        *,
        journal: Journal,
        writer: RawWriter,
        tables: CapturedTables,
        start_copy: Callable[..., None],
        meter: Meter,
        stop: threading.Event,
        drift: Drift,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings, self._source = settings, settings.source
        self._journal, self._writer, self._tables = journal, writer, tables
        self._start_copy, self._meter, self._stop, self._monotonic = start_copy, meter, stop, monotonic
        self._batch_bytes = min(BATCH_BYTES, settings.defaults.flush.bytes)
        self._drift, self._leave = drift, threading.Event()
        self.coverage = Coverage(journal, settings.source, self._copy_anew)
        self.rewrites = Rewrites(journal, self._copy_anew)
        self.progress_lsn = 0
        self._stream_until = 0  # a catch-up has given way: before this LSN, another would as well
        self._reset()

    def run(self, until: Callable[[], int | None]) -> None:
        """Capture until ``stop`` is set or everything before ``until()`` is durable.

        ``until`` is asked again and again: None means without end.  A broken connection is
        opened again, with backoff; what was read but not durable is read again.
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
                wait_s, failures = BACKOFF_S[min(failures, len(BACKOFF_S) - 1)], failures + 1
                _LOG.warning("capture interrupted, trying again in %.1f s: %s", wait_s, error)
                self._stop.wait(wait_s)
        if self._reached(until()) and self.progress_lsn > self._journal.state.durable_lsn:
            self._journal.append(EntryKind.CHANGES, lsn=self.progress_lsn)

    def let_go(self) -> None:
        """End the session: the server waits for that.  ``run`` opens another when it can."""
        self._leave.set()

    def _reached(self, target: int | None) -> bool:
        """Whether everything before ``target`` is durable."""
        return target is not None and self.progress_lsn >= target and not self._batch

    def _reset(self) -> None:
        """Forget what is not durable."""
        self._parser = Parser(skip_before_lsn=self._journal.state.durable_lsn)
        self._batch = Batch()
        self._tail: Messages | None = None
        self._resolved: dict[Relation, TableSchema] = {}
        self._flushed_at = self._progress_at = self._monotonic()

    def _session(self, until: Callable[[], int | None]) -> None:
        """Read with one reader until it is finished or another one suits better."""
        self._reset()
        self._forget_open()
        self._leave.clear()
        with connect(self._source, impatient=True) as self._catalog:
            check_source(self._source, self._catalog, self._journal)
            reader = self._open_reader(until())
            try:
                slot.check_opened(self._catalog, self._source.slot.name, self._journal.state)
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
        least = 0 if target is not None else self._settings.limits.catchup_backlog_bytes
        pays = backlog.catching_up_pays(self._catalog, self._source.slot.name, self._journal.state, least)
        return pays and self.progress_lsn >= self._stream_until

    def _read_on(self, reader: SlotReader, until: Callable[[], int | None]) -> None:
        """Read, decode, flush, acknowledge."""
        streaming = isinstance(reader, StreamingReader)
        check_at = self._monotonic() + BACKLOG_CHECK_S
        while not (self._stop.is_set() or self._leave.is_set() or self._reached(until())):
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
                self._stream_until = self.progress_lsn + read.trailing_bytes
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
        if previous is not None and not len(whole.starts) and previous.data.size >= LARGE_BYTES:
            self._flush_if_whole()  # a large transaction begins: nobody before it shall wait for its end
        for part in (previous, whole):
            if part is not None and len(part.starts):
                self._decode(part)
        del previous, part
        if self._parser.in_transaction:  # it has been let in: its next part need not wait
            self._decode(tail)
        else:
            self._tail = tail

    def _decode(self, messages: Messages) -> None:
        """Decode one stretch of messages into the batch."""
        decoded = self._parser.feed(messages)
        for block in decoded.blocks:
            self._add(block)
        if decoded.end_lsn is not None:
            self._batch.end_lsn = decoded.end_lsn
            self.progress_lsn = max(self.progress_lsn, decoded.end_lsn)

    def _add(self, block: RowBlock) -> None:
        """Type one block's rows and keep them, but for those that a copy has, as they were then or later."""
        if block.commit_lsn[-1].as_py() <= self._seen_lsn(block.relation):
            return
        if (schema := self._schema_of(block.relation)) is None:
            return
        rows = changelog(block, schema)
        seen_lsn = self._seen_lsn(block.relation)  # a copy may just have begun
        if block.commit_lsn[0].as_py() <= seen_lsn:
            rows = rows.filter(pc.greater(rows[COMMIT_LSN], seen_lsn))
        if lacks_values(rows):  # an update that a row filter made an insert of
            return self._copy_anew(schema)
        if rows.num_rows:
            self._batch.add(schema, rows)
            self._meter.captured(rows.num_rows)

    def _seen_lsn(self, relation: Relation) -> int:
        """Up to here a table's rows are in its copy."""
        known = self._tables.get(relation.oid)
        return self._journal.state.seen_lsn(known.id) if known else 0

    def _schema_of(self, relation: Relation) -> TableSchema | None:
        """The schema of a block's rows, None for a table that is not captured."""
        if relation not in self._resolved:
            known = self._tables.get(relation.oid)
            if known is None:
                return None  # not yet, perhaps: a copy will begin with it
            if (schema := self._resolve(known, relation)) is None:
                return None  # these rows only: later ones of the same look can be told again
            self._resolved[relation] = schema
        return self._resolved[relation]

    def _resolve(self, known: TableSchema, relation: Relation) -> TableSchema | None:
        """Follow the table to the schema that a Relation message announces, but not to another name.

        Of that drift tells; until then the table may get its old one back.
        """
        current = published.table_schema(self._catalog, self._source, relation.oid)
        # 1,600 columns have a few types: each is asked for once.
        schema = align(relation, known, current, cache(partial(catalog.pg_type, self._catalog)))
        if schema is not None:
            return self._evolve(known, replace(schema, schema=known.schema, name=known.name))
        if current is not None:
            self._copy_anew(known)
        return None

    def _evolve(self, known: TableSchema, schema: TableSchema) -> TableSchema | None:
        """Follow a table to a new schema; None where its rows can't be kept and are copied anew."""
        if schema == known:
            return known
        self._forget(schema)  # the same names and types may be other columns from here on
        change = compare(known, schema)
        if change:
            _LOG.info("schema of %s changed: %s", schema.id, describe(change))
        added = [column.attnum for column in change.added]
        defaults = catalog.missing_defaults(self._catalog, schema.oid, added) if added else None
        unseen = bool(change) and self.rewrites.rewritten(self._catalog, schema)
        if change.needs_copy or unseen or (defaults is not None and defaults.rewritten):
            self._copy_anew(schema)
            return None
        if change:
            fills = {str(attnum): text for attnum, text in (defaults.constants if defaults else {}).items()}
            self._batch.schemas[schema.id] = {
                "schema": schema.to_json(),
                "fills": {**self._batch.schemas.get(schema.id, {}).get("fills", {}), **fills},
            }
        self._tables.put(schema)
        return schema

    def _forget(self, table: TableSchema) -> None:
        """Ask again what messages about a table mean, also about the one that had its name."""
        self._resolved = {r: s for r, s in self._resolved.items() if r.oid != table.oid and s.id != table.id}

    def _copy_anew(self, schema: TableSchema, *, accept: bool = False) -> None:
        """Begin a new generation of a table as it is now; under another name once the stream is there."""
        current = published.table_schema(self._catalog, self._source, schema.oid)
        if current is None:
            return
        if current.id != schema.id:
            return self._drift.report(current, reached_lsn(self._catalog), again=True, accept=accept)
        self._batch.drop(current.id)
        self._forget(current)
        self._start_copy(current, accept=accept)  # what committed before must not come over it
        self._tables.put(current)  # not if the copy could not begin: then it shall be found again

    def _due(self, *, force: bool) -> bool:
        """Whether the batch should be made durable now; only between transactions."""
        if not self._batch or self._parser.in_transaction:
            return False
        flush = self._settings.defaults.flush
        size_bytes = self._batch.size_bytes + self._batch.staged_bytes
        return force or self._monotonic() - self._flushed_at >= flush.every or size_bytes >= flush.bytes

    def _flush_if_whole(self) -> None:
        """Flush before a reader is left."""
        if self._due(force=True):
            self._flush()

    def _stage(self) -> None:
        """Write what an open transaction has so far; it becomes visible with the rest."""
        self._batch.staged.extend(file for file, _ in self._write())
        self._writer.note_open(self._batch.staged_rows, self._batch.staged_bytes)
        self._meter.receiving_count = self._batch.staged_rows

    def _forget_open(self) -> None:
        """No part of an open transaction is written any more."""
        self._writer.note_none_open()
        self._meter.receiving_count = 0

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
        if batch.staged:
            self._forget_open()
        self._flushed_at = self._progress_at = self._monotonic()

    def _record_progress(self, lsn: int | None, reader: SlotReader) -> None:
        """Note how far the slot is read, and now and then make that durable too: WAL that is not for us.

        ``lsn`` is what this read told; the server tells it once and then may be silent.
        """
        if self._batch or self._parser.in_transaction:
            return
        self._apply_findings()  # under load there is hardly a better moment
        if self._mid_transaction():
            return
        self.progress_lsn = max(self.progress_lsn, lsn or 0)
        self._apply_findings()
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

    def _mid_transaction(self) -> bool:
        """Whether a part of a transaction has been read."""
        return self._parser.in_transaction or (self._tail is not None and len(self._tail.starts) > 0)

    def _apply_findings(self) -> None:
        """Follow what no row change has announced, and begin the copies that were asked for."""
        for look in self._drift.reached(self.progress_lsn):
            self._follow(look)
            self._drift.done(look)  # not before: a copy that can't begin now must begin later
        if self._batch:
            self._flush()
        for recopies in (self.coverage.gaps, self.rewrites.recopies):
            recopies.close(self.progress_lsn)

    def _follow(self, look: Look) -> None:
        """Follow a look at a table, now that all before it is durable."""
        schema, known = look.schema, self._tables.get(look.schema.oid)
        again = look.again or (known == schema and copied_otherwise(self._journal.state, schema))
        if not again and (known == schema or is_outdated(self._journal.state, look)):
            return  # the next look tells, if there is more to tell
        if again or known is None or known.id != schema.id:  # or another table has its name from here on
            self._journal.append_end(self.progress_lsn)
            self._copy_anew(schema, accept=look.accept)
        elif look_alike(known, schema):  # which rows since are of which column, the stream did not say
            self._flush()
            self._copy_anew(schema)
        else:
            self._evolve(known, schema)

    def _far_behind(self) -> bool:
        """Whether catching up would be faster than streaming on."""
        try:
            flushed = self._meter.source_lsn = flushed_wal_lsn(self._catalog)
            far = flushed - max(self.progress_lsn, 1) > 4 * self._settings.limits.catchup_backlog_bytes
            # Inside a transaction all that was streamed of it would be read again, and again.
            if not far or self.progress_lsn < self._stream_until or self._mid_transaction():
                return False
            return backlog.is_near(self._catalog, self._source.slot.name, flushed)
        except (psycopg.Error, SmartStreamError):
            return True  # the session ends; the next one reports what is wrong
