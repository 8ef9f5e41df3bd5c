"""A replication task: a full load, then changes, in a thread of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from datetime import datetime
from threading import Event, Lock, Thread
from typing import Any

import psycopg

from smartstream.testing.local_dms import source
from smartstream.testing.local_dms.capture import Capture, Plan, TableStatistics, stamp
from smartstream.testing.local_dms.events import FAILED, STARTED, STOPPED, Notice
from smartstream.testing.local_dms.records import Record, RecordTooLarge, TableRecords
from smartstream.testing.local_dms.target import Stream

Name = tuple[str, str]

ACTIVE = ("starting", "running", "stopping")
STOP_SECONDS_MAX = 30.0


class NoTables(Exception):
    """The mappings select no table, and the task fails then."""


class ReplicationTask:
    """One task and its slot.

    Attributes:
        status: as DMS calls it: ready, starting, running, stopping, stopped or failed.
        failure, stop_reason: of the last run that ended; empty before.
        has_run: the next start is a resumption or a reload.
    """

    def __init__(
        self,
        plan: Plan,
        migration_type: str,
        open_source: Callable[[], source.Connection],
        open_stream: Callable[[Event], Stream],
        clock: Callable[[], datetime],
        announce: Callable[[Notice, datetime], None],
    ) -> None:
        self._plan, self._migration_type = plan, migration_type
        self._clock, self._announce = clock, announce
        self._open_source, self._open_stream = open_source, open_stream
        self.status, self.failure, self.stop_reason, self.has_run = "ready", "", "", False
        self.checkpoint = ""
        self._capture = Capture(plan)
        self._times: dict[str, datetime] = {}
        self._stopping, self._lock = Event(), Lock()
        self._reloads: list[Name] = []
        self._thread: Thread | None = None
        self._last_batch: list[Record] = []

    @property
    def slot(self) -> str:
        """The slot's name: the endpoint's, or one of the task's own, which goes with the task."""
        return self._plan.source.slot_name or f"dms_{self._plan.task_id.lower()}"

    def start(self, kind: str) -> None:
        """Begin: ``start-replication``, ``reload-target`` or ``resume-processing``."""
        assert self.status not in ACTIVE
        self.status, self.failure, self.stop_reason, self.has_run = "starting", "", "", True
        self._stopping.clear()
        self._thread = Thread(target=self._run, args=(kind,), name=f"dms-{self._plan.task_id}", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ask it to stop; it does so between two batches."""
        with self._lock:
            if self.status in ACTIVE:
                self.status = "stopping"
            self._stopping.set()

    def wait(self, seconds: float = STOP_SECONDS_MAX) -> bool:
        """Wait until it has ended; whether it has."""
        if self._thread is not None:
            self._thread.join(seconds)
        return self._thread is None or not self._thread.is_alive()

    def reload(self, tables: Iterable[Name]) -> list[Name]:
        """Load tables again while the task runs; none, and return which, if it doesn't replicate some."""
        wanted = list(tables)
        unknown = [name for name in wanted if name not in self._capture.tables]
        if not unknown:
            with self._lock:
                self._reloads += wanted
        return unknown

    def forget(self) -> None:
        """Drop the slot, unless it is the endpoint's.

        Raises:
            psycopg.Error: the source doesn't answer, or refuses.
        """
        if self.has_run and self._plan.source.slot_name is None:
            with closing(self._open_source()) as connection:
                source.drop_slot(connection, self.slot)

    def table_statistics(self) -> list[dict[str, Any]]:
        """The answer of DescribeTableStatistics, by schema and name."""
        return [found.described() for _, found in sorted(self._capture.statistics.items())]

    def described(self) -> dict[str, Any]:
        """What DescribeReplicationTasks says beyond what the task was made with."""
        answer: dict[str, Any] = {"Status": self.status}
        for name, text in (
            ("LastFailureMessage", self.failure),
            ("StopReason", self.stop_reason),
            ("RecoveryCheckpoint", self.checkpoint),
        ):
            if text:
                answer[name] = text
        if self.has_run:
            answer["ReplicationTaskStats"] = self._stats()
            if "StartDate" in self._times:
                answer["ReplicationTaskStartDate"] = self._times["StartDate"].timestamp()
        return answer

    def _stats(self) -> dict[str, Any]:
        states = [table.state for table in self._capture.statistics.values()]
        loaded, errors = states.count("Table completed"), states.count("Table error")
        waiting = sum(state in ("Before load", "Full load") for state in states)
        share = 100 if not waiting else 100 * (loaded + errors) // len(states)
        elapsed = self._clock() - self._times.get("StartDate", self._clock())
        return {
            "FullLoadProgressPercent": share if states else 0,
            "TablesLoaded": loaded,
            "TablesLoading": states.count("Full load"),
            "TablesQueued": states.count("Before load"),
            "TablesErrored": errors,
            "ElapsedTimeMillis": int(elapsed.total_seconds() * 1000),
            **{name: moment.timestamp() for name, moment in self._times.items()},
        }

    def _run(self, kind: str) -> None:
        """The thread: what ends it becomes the task's status."""
        self._announce(STARTED, self._clock())
        try:
            reason, status = self._replicate(kind), "stopped"
        except Exception as error:
            first_line = next(iter(str(error).splitlines()), "")
            self.failure = f"Last Error {type(error).__name__}: {first_line}"
            reason, status = "FATAL_ERROR Error Level FATAL", "failed"
        with self._lock:
            self.stop_reason = f"Stop Reason {reason}"
            self._times["StopDate"] = self._clock()
            self.status = status
        self._announce(FAILED if status == "failed" else STOPPED, self._clock())

    def _replicate(self, kind: str) -> str:
        """Load and follow; the reason of the stop."""
        self._times["StartDate"] = self._clock()
        stream = self._open_stream(self._stopping)
        stream.check()
        self._load(kind, stream)
        if self._stopping.is_set():
            return "NORMAL"
        if self._migration_type == "full-load":
            return "FULL_LOAD_ONLY_FINISHED"
        for record in self._last_batch:  # What a crash between putting and confirming would repeat.
            stream.add(record)
        attempts = 0
        while not self._stopping.is_set():
            try:
                for _ in self._follow(stream):
                    attempts = 0
            except psycopg.OperationalError:
                attempts += 1
                if -1 < self._plan.task.reconnects_max < attempts:
                    raise
                self._stopping.wait(self._plan.task.reconnect_seconds)
        return "NORMAL"

    def _load(self, kind: str, stream: Stream) -> None:
        """The slot first, so that it holds whatever changes during the load; then the tables."""
        with closing(self._open_source()) as connection:
            if kind != "resume-processing":
                self._begin(connection, stream)
            elif self._migration_type != "full-load" and not source.has_slot(connection, self.slot):
                raise psycopg.ProgrammingError(f'replication slot "{self.slot}" does not exist')
            with self._lock:
                self.status = "stopping" if self._stopping.is_set() else "running"
            for name, records in sorted(self._capture.tables.items()):
                statistics = self._capture.statistics[name]
                if statistics.state not in ("Before load", "Full load") or self._stopping.is_set():
                    continue
                self._load_table(connection, stream, records, statistics)
        if not self._stopping.is_set():
            self._times.setdefault("FullLoadFinishDate", self._clock())

    def _begin(self, connection: source.Connection, stream: Stream) -> None:
        """A fresh start."""
        self._last_batch, self._reloads, self.checkpoint = [], [], ""
        self._times = {"StartDate": self._clock(), "FreshStartDate": self._clock()}
        if self._migration_type != "full-load":
            if self._plan.source.slot_name is None:
                source.drop_slot(connection, self.slot)
            if not source.has_slot(connection, self.slot):
                source.create_slot(connection, self.slot)
        self._capture.find_tables(connection)
        if not self._capture.tables and self._plan.task.fail_on_no_tables:
            raise NoTables(
                "No tables were found at task initialization. Either the selected table(s) no"
                " longer exist or no match was found for the table selection pattern(s)."
            )
        for record in self._capture.own_tables(self._clock()):
            stream.add(record)
        self._put_status("FULL LOAD", connection, stream)
        if self._migration_type == "cdc":
            for name, records in self._capture.tables.items():
                self._capture.statistics[name].state = "Table completed"
                stream.add(self._capture.create_table(records, self._clock()))
        else:
            self._times["FullLoadStartDate"] = self._clock()
        stream.flush()

    def _load_table(
        self,
        connection: source.Connection,
        stream: Stream,
        records: TableRecords,
        statistics: TableStatistics,
    ) -> None:
        """One table's rows; stopping leaves it to be loaded again from its beginning."""
        statistics.state, statistics.load_started = "Full load", self._clock()
        statistics.counts["FullLoadRows"] = 0
        stream.add(self._capture.create_table(records, self._clock()))
        with closing(source.rows(connection, records.table)) as rows:
            for row in rows:
                if self._stopping.is_set():
                    break
                self._load_row(stream, records, row, statistics)
            else:
                statistics.state, statistics.load_ended = "Table completed", self._clock()
        stream.flush()

    def _load_row(
        self,
        stream: Stream,
        records: TableRecords,
        row: Sequence[str | None],
        statistics: TableStatistics,
    ) -> None:
        try:
            stream.add(records.load(row, stamp(self._clock())))
        except RecordTooLarge:
            if self._plan.task.stop_on_data_error:
                raise
            statistics.count("FullLoadErrorRows")
        else:
            statistics.count("FullLoadRows")

    def _follow(self, stream: Stream) -> Iterable[int]:
        """Put changes as they come until the task is to stop; yields after each batch."""
        with closing(self._open_source()) as connection, closing(self._open_source()) as catalog:
            next_beat = self._clock()
            self._put_status("CHANGE PROCESSING", catalog, stream)
            while not self._stopping.is_set():
                if self._plan.source.heartbeat_enable and self._clock() >= next_beat:
                    source.beat(catalog, self._plan.source.heartbeat_schema, self._plan.task_id)
                    next_beat += self._plan.heartbeat_interval
                self._reload_tables(catalog, stream)
                count = self._put_changes(connection, catalog, stream)
                yield count
                if not count:
                    self._stopping.wait(self._plan.quirks.poll_seconds)

    def _put_changes(self, connection: source.Connection, catalog: source.Connection, stream: Stream) -> int:
        """One batch; the slot lets go of it once the stream has all of it. Returns the transactions."""
        batch: list[Record] = []
        count, end = 0, ""
        with closing(self._capture.read(connection, catalog, self.slot, self._clock())) as transactions:
            for records, lsn in transactions:
                for record in records:
                    stream.add(record)
                batch += records if self._plan.quirks.replay_on_resume else ()
                count, end = count + 1, lsn
                if self._stopping.is_set():
                    break
        stream.flush()
        if end:
            source.advance_slot(connection, self.slot, end)
            self._last_batch = batch
            self.checkpoint = f"checkpoint:V1#1#{end}#0#0#*#0#0"
        return count

    def _put_status(self, status: str, connection: source.Connection, stream: Stream) -> None:
        for record in self._capture.own_status(status, source.current_lsn(connection), self._clock()):
            stream.add(record)

    def _reload_tables(self, connection: source.Connection, stream: Stream) -> None:
        with self._lock:
            names, self._reloads = self._reloads, []
        for name in names:
            records = self._capture.tables.get(name)
            if records is not None:
                self._load_table(connection, stream, records, self._capture.statistics[name])
                self._capture.statistics[name].reloaded = True
