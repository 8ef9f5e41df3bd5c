"""The whole walk on one machine: slot → raw → trusted.  Read it top to bottom.

Three kinds of threads share one journal: capture (one), copy (a few), apply (one);
the calling thread keeps house.  The first error stops them all and is raised.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any

import psycopg
import pyarrow as pa

from smartstream.capture import identity, publication, slot
from smartstream.capture.catchup import current_wal_lsn, flushed_wal_lsn, reached_lsn
from smartstream.capture.connect import connect
from smartstream.config import Settings
from smartstream.errors import (
    Retry,
    SlotAhead,
    SmartStreamError,
    SourceStopping,
)
from smartstream.manifest import EntryKind
from smartstream.pipeline.admission import admitted, discover, has_begun, undone
from smartstream.pipeline.apply_loop import ApplyLoop
from smartstream.pipeline.capture_loop import CaptureLoop
from smartstream.pipeline.copy_loop import CopyLoop
from smartstream.pipeline.drift import Drift, copied_otherwise
from smartstream.pipeline.journal import Journal
from smartstream.pipeline.mailbox import Mailbox
from smartstream.pipeline.maintenance_loop import MaintenanceLoop
from smartstream.pipeline.model_loop import ModelLoop
from smartstream.pipeline.progress import Meter, Progress, TableProgress
from smartstream.pipeline.quality_loop import QualityLoop
from smartstream.pipeline.successor import takeover
from smartstream.pipeline.surroundings import Surroundings
from smartstream.pipeline.tables import CapturedTables
from smartstream.pipeline.writers import Writers
from smartstream.raw.lookup import last_rows
from smartstream.raw.manifest_log import ManifestLog
from smartstream.raw.store import Store, open_store
from smartstream.raw.writer import RawWriter
from smartstream.schema import TableSchema
from smartstream.trusted.catalog import open_catalog
from smartstream.trusted.engine import Engine

_LOG = logging.getLogger(__name__)

TICK_S = 0.2
ONCE_TICK_S = 0.02
"""Of a run that ends by itself: somebody waits for that."""
CHECKPOINT_EVERY_S = 30.0
REQUESTS_EVERY_S = 2.0


def _now() -> datetime:
    """The wall clock, in UTC."""
    return datetime.now(UTC)


class Pipeline:
    """Keeps a lake in step with one PostgreSQL database; see ``run``."""

    def __init__(
        self,
        settings: Settings,
        *,
        clock: Callable[[], datetime] = _now,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings, self._clock, self._monotonic = settings, clock, monotonic
        self._meter = Meter()
        self._stop = threading.Event()
        self._errors: list[BaseException] = []
        self._ready_lsn: dict[str, int] = {}
        self._journal: Journal | None = None
        self._apply: ApplyLoop | None = None
        self._tables, self._drift = CapturedTables(), Drift()

    def run(self, *, stop: threading.Event | None = None, once: bool = False) -> None:
        """Run until ``stop`` is set, or with ``once`` until the lake has all there is now.

        With ``once``: tables not yet copied are copied, changes up to the WAL position
        at the start (or, if later, at the end of a copy) are applied and committed.

        Raises:
            SmartStreamError: what stopped it; nothing durable is lost by that.
        """
        stop = stop or threading.Event()
        store = open_store(self._settings.lake)
        log = ManifestLog(store, self._clock)
        log.load()
        self._journal = Journal(log, payload_bytes_max=self._settings.limits.queue_bytes)
        writer = RawWriter(store, self._clock)
        taken_at, target, schemas = self._prepare_source(log)
        self._journal.replay(log.entries(log.applied_seq))
        common: dict[str, Any] = {"journal": self._journal, "meter": self._meter}
        common |= {"stop": self._stop, "drift": self._drift}
        copies = CopyLoop(self._settings, writer=writer, **common)
        capture = CaptureLoop(
            self._settings, writer=writer, tables=self._tables, start_copy=copies.start, **common
        )
        self._coverage, self._rewrites = capture.coverage, capture.rewrites
        iceberg, limits = open_catalog(self._settings.lake), self._settings.limits
        engine = Engine(memory_bytes=limits.duckdb_memory, threads=limits.threads)
        look_up = partial(_rows_as_of, log, store)
        writers = Writers(self._settings, iceberg, engine, look_up, lambda: log.state.tables)
        around = Surroundings(
            self._settings, self._journal, store, log.entries, self._drift.ask_copy, self._meter, self._clock
        )
        self._apply = ApplyLoop(around, open_writer=writers.open, stop=self._stop)
        self._apply.applied_seq = log.applied_seq
        applied = self._apply.tables
        times: dict[str, Any] = {"stop": self._stop, "clock": self._clock}
        quality = QualityLoop(self._settings, self._tables, engine=engine, **times)
        models = ModelLoop(self._settings, iceberg, engine=engine, ready=self.ready, **times)
        maintenance = MaintenanceLoop(
            self._settings,
            lambda: [*applied(), *quality.tables(), *models.tables()],
            store=store,
            log=log,
            **times,
        )
        self._begin_copies(copies, schemas, taken_at, target)
        self._apply.rebuild_outdated(schemas)
        mailbox = Mailbox(self._settings, store, self._apply, self._drift, once=once)
        mailbox.look()
        mailbox.forget_answers(self._clock())
        until = partial(self._target, target) if once else _never
        threads = [
            self._spawn("capture", partial(capture.run, until)),
            self._spawn("apply", self._apply.run),
            self._spawn("maintenance", maintenance.run),
            self._spawn("quality", quality.run),
            self._spawn("models", models.run),
            *(self._spawn(f"copy-{n}", copies.run_worker) for n in range(limits.copy_workers)),
        ]
        try:
            self._keep_house(stop, log, mailbox, capture, captured=threads[0] if once else None)
        finally:
            self._end(threads, copies, log)
            engine.close()
            mailbox.answer_resyncs()
        if self._errors:
            raise self._errors[0]
        if once:
            quality.look()

    def _end(self, threads: Sequence[threading.Thread], copies: CopyLoop, log: ManifestLog) -> None:
        """Let every thread end, and note how far it came."""
        assert self._journal is not None and self._apply is not None
        self._stop.set()
        self._journal.wake()
        copies.wake()
        for thread in threads:
            thread.join()
        log.save_checkpoint(log.state, self._apply.safe_seq())

    @property
    def paused(self) -> bool:
        """Whether trusted tables stand still, because a person wants it."""
        return self._apply is not None and self._apply.paused

    def ready(self) -> bool:
        """Whether every table is copied and exact."""
        return bool(self._tables.all()) and all(self._status(s.id) == "ready" for s in self._tables.all())

    def copied(self) -> bool:
        """Whether every table's existing rows are durable in the raw zone."""
        if self._journal is None or not self._tables.all():
            return False
        tables = self._journal.state.tables
        return all(s.id in tables and tables[s.id].copied for s in self._tables.all())

    def forget_lag(self) -> None:
        """Start measuring the lag anew (after the first copy, say)."""
        self._meter.forget_lag()

    def progress(self) -> Progress:
        """How far it is, at this moment."""
        meter = self._meter
        p50, p99 = meter.lag_percentiles()
        return Progress(
            mode=meter.mode,
            durable_lsn=self._journal.state.durable_lsn if self._journal else 0,
            applied_lsn=meter.applied_lsn,
            source_lsn=meter.source_lsn,
            captured_count=meter.captured_count,
            applied_count=sum(meter.changes_applied.values()),
            lag_ms_p50=p50,
            lag_ms_p99=p99,
            receiving_count=meter.receiving_count,
            tables={schema.id: self._table_progress(schema.id) for schema in self._tables.all()},
        )

    def _prepare_source(self, log: ManifestLog) -> tuple[int, int, list[TableSchema]]:
        """Check the source, create what is missing there; the WAL before and after a look, and the tables."""
        source = self._settings.source
        with connect(source) as connection:
            mark = identity.check(source, connection, log.state)
            known, taken_at = log.state.tables, flushed_wal_lsn(connection)
            found = admitted(
                self._settings,
                discover(connection, self._settings, known),
                known,
                lsn=current_wal_lsn(connection),
                begun=has_begun(known),
            )
            if source.manage_publication:
                publication.ensure(connection, source.publication, found)
            try:
                info = slot.ensure(connection, source, log.state)
            except SlotAhead:  # perhaps by another run of ours, which has just ended
                info = slot.ensure(connection, source, log.load())
            target = reached_lsn(connection)
        if not log.state.seq or mark != log.state.source:
            lsn = log.state.durable_lsn if log.state.seq else info.confirmed_flush_lsn
            log.append(EntryKind.CHANGES, lsn=lsn, detail=takeover(source, mark, log.state))
        return taken_at, target, found

    def _begin_copies(
        self, copies: CopyLoop, schemas: Sequence[TableSchema], taken_at: int, lsn: int
    ) -> None:
        """Take up known tables where the log left them, and copy the new ones; see ``Look``."""
        assert self._journal is not None
        state = self._journal.state
        known = [s for s in schemas if s.id in state.tables]
        for schema in known:
            logged = TableSchema.from_json(state.tables[schema.id].schema)
            self._tables.put(logged)
            if logged != schema:
                self._drift.report(schema, lsn, taken_at=taken_at)
        copies.resume(state, known)
        # Before the copies: what changes from here on is found.
        with connect(self._settings.source) as connection:
            self._coverage.look(connection, schemas)
            self._rewrites.look(connection, schemas)
        for schema in schemas:
            if schema.id not in state.tables or undone(self._settings, schema, state.tables[schema.id]):
                self._tables.put(schema)
                copies.start(schema)

    def _spawn(self, name: str, work: Callable[[], None]) -> threading.Thread:
        """Start a thread whose error stops the pipeline."""

        def guarded() -> None:
            try:
                work()
            except BaseException as error:
                self._errors.append(error)
                self._stop.set()

        thread = threading.Thread(target=guarded, name=f"smartstream-{name}", daemon=True)
        thread.start()
        return thread

    def _keep_house(
        self,
        stop: threading.Event,
        log: ManifestLog,
        mailbox: Mailbox,
        capture: CaptureLoop,
        captured: threading.Thread | None,
    ) -> None:
        """Watch for the end, for new tables and schemas; save checkpoints."""
        assert self._journal is not None and self._apply is not None
        discover_at = checkpoint_at = requests_at = self._monotonic()  # the wall clock may be set back
        while not (stop.is_set() or self._stop.is_set()):
            now = self._monotonic()
            if captured is not None and not captured.is_alive() and self._drained():
                return
            if now >= requests_at:
                requests_at = now + REQUESTS_EVERY_S
                mailbox.look()
            if now >= discover_at:
                discover_at = now + self._settings.source.discover_every
                self._discover(capture)
            if now >= checkpoint_at + CHECKPOINT_EVERY_S:
                checkpoint_at = now
                log.save_checkpoint(log.state, self._apply.safe_seq())
                mailbox.forget_answers(self._clock())
            stop.wait(TICK_S if captured is None else ONCE_TICK_S)

    def _drained(self) -> bool:
        """Whether the applier has applied everything in the log."""
        assert self._journal is not None and self._apply is not None
        return self._apply.applied_seq >= self._journal.state.seq

    def _target(self, target: int) -> int | None:
        """For ``once``: how far to read, None while a copy is under way or may yet be made anew."""
        assert self._journal is not None and self._apply is not None
        state = self._journal.state
        tables = [state.tables.get(schema.id) for schema in self._tables.all()]
        if not all(table is not None and table.copied for table in tables):
            return None
        upto = max([target, *(table.ready_lsn for table in tables if table is not None)])
        if not self._drained() and self._meter.applied_lsn < upto:
            return None  # asked before what follows: applying may find that a copy is needed
        busy = self._apply.copying() or self._apply.settling() or self._apply.rebuilding()
        expected = self._drift or self._coverage.gaps.found or self._rewrites.recopies.found
        if busy or expected or self._apply.asked():
            return None
        return upto

    def _discover(self, capture: CaptureLoop) -> None:
        """Look at the source's catalog for new tables and schemas, and at its position."""
        assert self._journal is not None
        try:
            with connect(self._settings.source, impatient=True) as connection:
                taken_at = flushed_wal_lsn(connection)
                found = discover(connection, self._settings, self._journal.state.tables, strict=False)
                lsn = current_wal_lsn(connection)
                found = admitted(self._settings, found, self._journal.state.tables, lsn=lsn, begun=True)
                self._meter.source_lsn = lsn
                if any(self._tables.get(s.oid) != s for s in found):
                    reached_lsn(connection)  # so that the stream soon passes what was seen
                if found:
                    self._coverage.look(connection, found)
                    self._rewrites.look(connection, found)
        except (SmartStreamError, psycopg.Error) as error:
            if isinstance(error, SmartStreamError) and error.retry is not Retry.TRANSIENT:
                raise
            if isinstance(error, SourceStopping):
                capture.let_go()
            _LOG.warning("could not look at the source's catalog: %s", error)
            return
        for schema in found:
            known = self._tables.get(schema.oid)
            if known is None and schema.id not in self._journal.state.tables:
                self._drift.ask_copy(schema)
            elif known != schema or copied_otherwise(self._journal.state, schema):
                self._drift.report(schema, lsn, taken_at=taken_at)

    def _status(self, table: str) -> str:
        """copying, catching_up or ready."""
        assert self._journal is not None and self._apply is not None
        state = self._journal.state.tables.get(table)
        if state is None or not state.copied:
            return "copying"
        if self._apply.applied_seq < state.copy_seq or table in self._apply.copying():
            return "copying"  # whole in the log, but not in the trusted table
        return "catching_up" if table in self._apply.settling() else "ready"

    def _table_progress(self, table: str) -> TableProgress:
        """One table's progress."""
        meter, status = self._meter, self._status(table)
        if status == "ready" and self._apply is not None and table in self._apply.rebuilding():
            status = "rebuilding"
        return TableProgress(
            status=status,
            rows_copied=meter.rows_copied[table],
            rows_estimate=meter.rows_estimate.get(table, 0),
            changes_applied=meter.changes_applied[table],
            lake_rows=meter.lake_rows.get(table, 0),
        )


def _rows_as_of(
    log: ManifestLog, store: Store, keys: pa.Table, schema: TableSchema, upto_seq: int
) -> pa.Table:
    """What the raw zone has of some keys; see ``last_rows``."""
    return last_rows(log, store, schema, keys, upto_seq=upto_seq)


def _never() -> int | None:
    """The target of a pipeline that runs until it is stopped."""
    return None
