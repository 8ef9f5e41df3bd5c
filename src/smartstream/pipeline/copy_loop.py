"""The snapshot copy: every table's existing rows into the raw zone, chunk by chunk."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass, field

import pyarrow as pa

from smartstream.capture import published, snapshot
from smartstream.capture.catchup import flushed_wal_lsn, reached_lsn
from smartstream.capture.connect import connect
from smartstream.capture.copy_sessions import CopySessions
from smartstream.capture.transactions import Barrier, barrier, wait_until_copyable
from smartstream.config import Settings
from smartstream.errors import CopyFailed, Retry, SmartStreamError, TableRewritten
from smartstream.lsn import format_lsn
from smartstream.manifest import EntryKind, LakeState, RawFile, TableState
from smartstream.pipeline.drift import Drift
from smartstream.pipeline.journal import Journal
from smartstream.pipeline.progress import Meter
from smartstream.raw.writer import RawWriter
from smartstream.schema import TableSchema

_LOG = logging.getLogger(__name__)

BACKOFF_S = 2.0
RESTART_WAIT_S = 1.0
RESTARTS_MAX = 5
"""In a row, for the same reason, of a table that is as it was."""
OLDER_TRANSACTIONS_WAIT_S = 10.0
"""Then another table has its turn, and the log says who is in the way."""


@dataclass(slots=True)
class Copy:
    """One generation of one table on its way."""

    schema: TableSchema
    generation: int
    copy_lsn: int
    chunks: tuple[tuple[str, int, int], ...]
    filenode: str
    xmin: str
    done: set[int] = field(default_factory=set)
    left: list[int] = field(default_factory=list)  # to be queued when it is settled
    lock: threading.Lock = field(default_factory=threading.Lock)
    barrier: Barrier | None = None
    condition: str | None = None  # of the rows that the publication sends
    settled: bool = False  # what is older than the copy is in it or in the stream
    superseded: bool = False  # a newer generation has begun


class CopyLoop:
    """Copies tables with a few workers; each chunk that is durable is never read again."""

    def __init__(
        self,
        settings: Settings,
        *,
        journal: Journal,
        writer: RawWriter,
        meter: Meter,
        stop: threading.Event,
        drift: Drift,
    ) -> None:
        self._settings, self._source = settings, settings.source
        self._journal, self._writer, self._meter, self._stop = journal, writer, meter, stop
        self._tasks: queue.Queue[tuple[Copy, int] | None] = queue.Queue()
        self._lock, self._drift = threading.Lock(), drift
        self._current: dict[str, Copy] = {}
        self._failures: dict[str, tuple[object, int]] = {}  # by table: what failed, how often in a row

    def start(self, schema: TableSchema, *, accept: bool = False) -> None:
        """Begin a new generation of a table: plan it, record it, queue its chunks.

        While the stream is read, only the thread that reads it may do so, and between
        transactions: what was read before is then in the log before the copy.

        Args:
            accept: the table's contract holds it to this shape from here on, instead of
                the one that it was held to before.
        """
        with connect(self._source) as connection:
            plan = snapshot.plan(connection, schema, self._settings.limits.copy_chunk_bytes)
            seen_lsn = flushed_wal_lsn(connection)  # the planned files are no younger, the chunks no older
        known = self._journal.state.tables.get(schema.id)
        generation = known.generation + 1 if known else 1
        detail = {
            "generation": generation,
            "schema": schema.to_json(),
            "chunks": [list(chunk) for chunk in plan.chunks],
            "filenode": plan.filenode,
            "xmin": plan.xmin,
            "seen": format_lsn(seen_lsn),
        }
        if known and not accept and known.reference != detail["schema"]:
            detail["reference"] = known.reference
        _LOG.info("%s: copy %d begins", schema.id, generation)
        entry = self._journal.append_copy_start(schema.id, detail)
        self._meter.rows_copied[schema.id] = 0
        self._meter.rows_estimate[schema.id] = plan.row_estimate
        self._enqueue(Copy(schema, generation, entry.lsn, plan.chunks, plan.filenode, plan.xmin))

    def resume(self, state: LakeState, tables: Iterable[TableSchema]) -> None:
        """Go on with the copies that an earlier run left unfinished."""
        for schema in tables:
            table = state.tables[schema.id]
            if not table.copied:
                self._enqueue(_unfinished(table))

    def run_worker(self) -> None:
        """Copy chunks until ``stop`` is set; several threads may run this."""
        with closing(CopySessions(self._source)) as sessions:
            while not self._stop.is_set():
                try:
                    task = self._tasks.get_nowait()
                except queue.Empty:
                    sessions.close()
                    task = self._tasks.get()
                if task is None:
                    self._tasks.put(None)  # for the next worker
                    return
                copy, chunk = task
                if not copy.superseded:
                    self._attempt(copy, chunk, sessions)

    def wake(self) -> None:
        """Let workers without work see that ``stop`` is set."""
        self._tasks.put(None)

    def _enqueue(self, copy: Copy) -> None:
        """Queue what is left of a copy; its last chunk ends it."""
        with self._lock:
            previous = self._current.get(copy.schema.id)
            if previous is not None:
                previous.superseded = True
            self._current[copy.schema.id] = copy
        copy.left = [chunk for chunk in range(len(copy.chunks)) if chunk not in copy.done]
        # One, until the table may be copied; -1: only its end is missing.
        self._tasks.put((copy, copy.left.pop(0) if copy.left else -1))

    def _attempt(self, copy: Copy, chunk: int, sessions: CopySessions) -> None:
        """Copy one chunk; when the source is away for a while, try again later."""
        try:
            if not copy.settled:
                self._settle(copy, sessions)
            if chunk >= 0:
                self._copy_chunk(copy, chunk, sessions)
            if len(copy.done) >= len(copy.chunks):
                self._finish(copy, sessions)
        except TableRewritten as error:
            sessions.close()
            _LOG.warning("copy of %s starts over: %s", copy.schema.id, error)
            self._restart(copy, error)
        except SmartStreamError as error:
            if error.retry is not Retry.TRANSIENT:
                raise
            sessions.close()
            _LOG.warning("copy of %s interrupted, trying again: %s", copy.schema.id, error)
            self._tasks.put((copy, chunk))
            self._stop.wait(BACKOFF_S)

    def _settle(self, copy: Copy, sessions: CopySessions) -> None:
        """Wait for transactions that neither the copy nor the stream would show."""
        with copy.lock:
            if copy.settled:
                return
            connection = sessions.plain()
            copy.condition = published.condition(connection, self._source, copy.schema)
            if copy.barrier is None:
                copy.barrier = barrier(connection)
            wait_until_copyable(
                connection, copy.schema.oid, copy.barrier, OLDER_TRANSACTIONS_WAIT_S, stop=self._stop
            )
            copy.settled = True
            for chunk in copy.left:
                self._tasks.put((copy, chunk))

    def _copy_chunk(self, copy: Copy, chunk: int, sessions: CopySessions) -> None:
        """Read one chunk, write it, record it."""
        parts = snapshot.read_chunk(
            sessions.bulk(),
            copy.schema,
            copy.chunks[chunk],
            copy_lsn=copy.copy_lsn,
            filenode=copy.filenode,
            condition=copy.condition,
        )
        with closing(parts):
            self._record(copy, chunk, parts)

    def _record(self, copy: Copy, chunk: int, parts: Iterable[pa.Table]) -> None:
        """Make a chunk's rows durable, then the entry that says so."""
        files: list[RawFile] = []
        payload: dict[str, tuple[TableSchema, pa.Table]] = {}
        size = 0
        for rows in parts:
            if self._stop.is_set() or copy.superseded:
                return
            file = self._writer.write(copy.schema, rows)
            files.append(file)
            size += rows.nbytes
            if size <= self._settings.limits.queue_bytes:
                payload[file.path] = (copy.schema, rows)
            else:  # the journal would not keep it: chunks are cut without knowing what is TOASTed
                payload.clear()
        with copy.lock:
            if copy.superseded:
                return
            self._journal.append(
                EntryKind.COPY_CHUNK,
                lsn=copy.copy_lsn,
                table=copy.schema.id,
                files=files,
                detail={"generation": copy.generation, "chunk": chunk},
                payload=payload,
            )
            copy.done.add(chunk)
        self._meter.copied(copy.schema.id, sum(file.row_count for file in files))

    def _finish(self, copy: Copy, sessions: CopySessions) -> None:
        """Sweep up rows that moved between chunks, then end the copy (once)."""
        with self._lock:
            if copy.superseded or self._current.get(copy.schema.id) is not copy:
                return
            del self._current[copy.schema.id]
        connection = sessions.plain()
        if snapshot.needs_sweep(connection, copy.schema) and len(copy.done) == len(copy.chunks):
            parts = snapshot.read_sweep(
                sessions.bulk(),
                copy.schema,
                xmin=copy.xmin,
                copy_lsn=copy.copy_lsn,
                filenode=copy.filenode,
                condition=copy.condition,
            )
            with closing(parts):
                self._record(copy, len(copy.chunks), parts)
        if self._stop.is_set() or copy.superseded:
            return
        lsn = reached_lsn(connection)
        detail = {"generation": copy.generation}
        self._journal.append(EntryKind.COPY_END, lsn=lsn, table=copy.schema.id, detail=detail)

    def _restart(self, copy: Copy, error: TableRewritten) -> None:
        """Have the table copied again, once the stream has passed this moment.

        Raises:
            CopyFailed: that is how it was; it fails for good.
        """
        with copy.lock:
            if copy.superseded:
                return
            copy.superseded = True
        with connect(self._source) as connection:
            schema = published.table_schema(connection, self._source, copy.schema.oid)
            if schema is None:  # gone; a table of that name will be found, if there is one
                return
            self._count_failure(copy, schema, error)
            # Rows as they were before a rewrite, read after the copy, would be laid over newer ones.
            self._drift.report(schema, reached_lsn(connection), again=True)

    def _count_failure(self, copy: Copy, schema: TableSchema, error: TableRewritten) -> None:
        """Wait a moment before the same is tried again, and give up at last.

        Raises:
            CopyFailed: it fails for good.
        """
        failed = (schema, copy.filenode, str(error))
        same, count = self._failures.get(schema.id, (None, 0))
        count = count + 1 if same == failed else 1
        self._failures[schema.id] = (failed, count)
        if count >= RESTARTS_MAX:
            raise CopyFailed(
                f"table {schema.id}: its copy from {format_lsn(copy.copy_lsn)} on failed {count} times,"
                f" and the table did not change meanwhile: {error}"
            ) from error
        if count > 1:
            self._stop.wait(RESTART_WAIT_S)


def _unfinished(table: TableState) -> Copy:
    """The copy that the manifest says is under way, with the columns that it began with."""
    return Copy(
        schema=TableSchema.from_json(table.copy_schema),
        generation=table.generation,
        copy_lsn=table.copy_lsn,
        chunks=table.chunks,
        filenode=table.filenode,
        xmin=table.xmin,
        done=set(table.chunks_done),
    )
