"""A task's tables: how their changes become records, and what DDL does to them."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from smartstream.testing.local_dms.control_tables import STATUS, TABLES, status_row
from smartstream.testing.local_dms.decoding import Begin, Commit, RowChange, parse
from smartstream.testing.local_dms.mappings import TableMappings
from smartstream.testing.local_dms.records import (
    Position,
    Record,
    RecordTooLarge,
    TableRecords,
    control,
    own_row,
)
from smartstream.testing.local_dms.settings import KinesisOptions, Quirks, SourceOptions, TaskOptions
from smartstream.testing.local_dms.source import Column, Connection, SourceTable, changes, selected_tables

DDL_AUDIT = "awsdms_ddl_audit"


@dataclass(frozen=True)
class Plan:
    """What a task was told.

    Attributes:
        task_id: the last part of its ARN.
    """

    task_id: str
    mappings: TableMappings
    source: SourceOptions
    target: KinesisOptions
    task: TaskOptions
    quirks: Quirks

    @property
    def heartbeat_interval(self) -> timedelta:
        """Between two heartbeats."""
        minutes = self.source.heartbeat_frequency_minutes
        return timedelta(seconds=self.quirks.heartbeat_seconds or 60 * minutes)


@dataclass
class TableStatistics:
    """What happened to a table; names and states are DMS's."""

    schema: str
    table: str
    state: str
    counts: dict[str, int] = field(default_factory=dict)
    load_started: datetime | None = None
    load_ended: datetime | None = None
    reloaded: bool = False

    def count(self, name: str, by: int = 1) -> None:
        """Add to one of the counters."""
        self.counts[name] = self.counts.get(name, 0) + by

    def described(self) -> dict[str, Any]:
        """The answer of DescribeTableStatistics about it."""
        names = (
            *("Inserts", "Updates", "Deletes", "Ddls"),
            *("AppliedInserts", "AppliedUpdates", "AppliedDeletes", "AppliedDdls"),
            *("FullLoadRows", "FullLoadErrorRows", "FullLoadCondtnlChkFailedRows"),
        )
        times = {"FullLoadStartTime": self.load_started, "FullLoadEndTime": self.load_ended}
        return {
            "SchemaName": self.schema,
            "TableName": self.table,
            "TableState": self.state,
            "FullLoadReloaded": self.reloaded,
            "ValidationState": "Not enabled",
            **{name: self.counts.get(name, 0) for name in names},
            **{name: moment.timestamp() for name, moment in times.items() if moment},
        }


class Capture:
    """Knows a task's tables and writes their records; lives as long as the task."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self.tables: dict[tuple[str, str], TableRecords] = {}
        self.statistics: dict[tuple[str, str], TableStatistics] = {}
        self._known: dict[int, SourceTable] = {}
        self._previous: tuple[int, int] | None = None

    def find_tables(self, connection: Connection) -> None:
        """Look for the task's tables, as a fresh start does."""
        self.tables, self.statistics, self._previous = {}, {}, None
        self._known = {table.oid: table for table in selected_tables(connection, self._plan.mappings)}
        for table in self._known.values():
            self._learn(table, state="Before load")

    def own_tables(self, now: datetime) -> Iterator[Record]:
        """Yield the definitions of DMS's own tables, which have no schema."""
        for name in self._plan.task.own_tables:
            yield self._control("create-table", "", name, {"columns": TABLES[name]}, now)

    def own_status(self, status: str, lsn: str, now: datetime) -> Iterator[Record]:
        """Yield a row of DMS's table of its status, if the task has one."""
        if STATUS in self._plan.task.own_tables:
            row = status_row(self._plan.task_id, status, stamp(now), lsn)
            yield own_row(STATUS, row, target=self._plan.target, now=stamp(now))

    def create_table(self, table: TableRecords, now: datetime) -> Record:
        """The control record that comes before a table's rows."""
        return self._control("create-table", table.table.schema, table.table.name, table.definition(), now)

    def read(
        self, connection: Connection, catalog: Connection, slot: str, now: datetime
    ) -> Generator[tuple[list[Record], str]]:
        """Yield, for each transaction that a slot holds, its records and the LSN of its end.

        Holds the records of one transaction, because the moment of its commit, which each of
        them tells, comes last.

        Args:
            catalog: another connection, to look at tables that DDL has changed.
        """
        pending: list[tuple[str, RowChange]] = []
        with closing(changes(connection, slot, self._plan.quirks.batch_rows)) as texts:
            for lsn, transaction, text in texts:
                message = parse(text)
                if isinstance(message, Begin):
                    pending = []
                elif isinstance(message, RowChange):
                    pending.append((lsn, message))
                elif isinstance(message, Commit):
                    found = self._transaction(pending, transaction, message, catalog, now)
                    yield list(found), lsn

    def _transaction(
        self,
        pending: list[tuple[str, RowChange]],
        transaction: int,
        commit: Commit,
        catalog: Connection,
        now: datetime,
    ) -> Iterator[Record]:
        committed = datetime.fromisoformat(commit.moment).astimezone(UTC).isoformat(timespec="microseconds")
        number = 0
        for message, (lsn, change) in enumerate(pending, start=2):
            if self._is_ddl(change):
                yield from self._follow_ddl(catalog, now)
                continue
            table = self.tables.get((change.schema, change.table))
            if table is None or change.operation == "truncate":
                continue
            position = Position(
                transaction,
                number + 1,
                message,
                self._previous,
                lsn,
                pending[0][0],
                committed.replace("+00:00", "Z"),
            )
            record = self._record(table, change, position, now)
            if record is not None:
                number += 1
                self._previous = (transaction, number)
                yield record

    def _record(
        self, table: TableRecords, change: RowChange, position: Position, now: datetime
    ) -> Record | None:
        statistics = self.statistics[change.schema, change.table]
        try:
            record = table.change(change, stamp(now), position)
        except RecordTooLarge:
            if self._plan.task.stop_on_data_error:
                raise
            statistics.count("FullLoadCondtnlChkFailedRows")
            return None
        if record is not None:
            statistics.count(f"{change.operation.capitalize()}s")
            statistics.count(f"Applied{change.operation.capitalize()}s")
        return record

    def _is_ddl(self, change: RowChange) -> bool:
        """Whether the event trigger says that somebody changed a table."""
        return (
            self._plan.source.capture_ddls
            and change.operation == "insert"
            and (change.schema, change.table) == (self._plan.source.ddl_artifacts_schema, DDL_AUDIT)
        )

    def _follow_ddl(self, catalog: Connection, now: datetime) -> Iterator[Record]:
        """Compare the tables with what they are now, which may be later than in the log."""
        known = self._known
        current = {table.oid: table for table in selected_tables(catalog, self._plan.mappings)}
        for oid, before in known.items():
            if current.get(oid) != before:
                self.tables.pop((before.schema, before.name), None)
            if oid not in current:
                self.statistics[before.schema, before.name].state = "Table does not exist"
        for oid, table in current.items():
            if known.get(oid) != table:
                self._learn(table, state="Table completed")
        self._known = current
        for operation, table in differences(known, current):
            if (table.schema, table.name) in self.statistics:
                self.statistics[table.schema, table.name].count("Ddls")
            records = self.tables.get((table.schema, table.name))
            definition = None if operation == "drop-table" or records is None else records.definition()
            if self._plan.target.include_table_alter_operations or operation == "create-table":
                yield self._control(operation, table.schema, table.name, definition, now)

    def _learn(self, table: SourceTable, state: str) -> None:
        """Replicate a table as it is now, unless DMS can't; ``state`` is of one that is new."""
        name = (table.schema, table.name)
        statistics = self.statistics.setdefault(name, TableStatistics(*name, state))
        has_array = any(column.type.is_array for column in table.columns)
        if not table.key and (self._plan.quirks.tables_without_key == "error" or has_array):
            statistics.state = "Table error"
            self.tables.pop(name, None)
            return
        options = (self._plan.source, self._plan.target, self._plan.task)
        key_type = self._plan.mappings.partition_key_type(*name)
        self.tables[name] = TableRecords(table, key_type, options, self._plan.quirks)

    def _control(
        self, operation: str, schema: str, table: str, definition: dict[str, Any] | None, now: datetime
    ) -> Record:
        return control(
            operation,
            schema,
            table,
            definition,
            task_id=self._plan.task_id,
            target=self._plan.target,
            now=stamp(now),
        )


def stamp(now: datetime) -> str:
    """A moment as records write it."""
    return now.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def differences(
    before: dict[int, SourceTable], after: dict[int, SourceTable]
) -> Iterator[tuple[str, SourceTable]]:
    """Yield DMS's name of each change between two looks at the tables, and the table.

    A column that was made nullable, or got a default, is no change to DMS.
    """
    for oid, table in before.items():
        if oid not in after:
            yield "drop-table", table
    for oid, table in after.items():
        old = before.get(oid)
        if old is None:
            yield "create-table", table
            continue
        if (old.schema, old.name) != (table.schema, table.name):
            yield "rename-table", table
        for operation in _column_differences(old, table):
            yield operation, table


def _column_differences(before: SourceTable, after: SourceTable) -> Iterator[str]:
    old: dict[int, Column] = {column.number: column for column in before.columns}
    new: dict[int, Column] = {column.number: column for column in after.columns}
    yield from ("drop-column" for number in old if number not in new)
    yield from ("add-column" for number in new if number not in old)
    for number in old.keys() & new.keys():
        if old[number].name != new[number].name:
            yield "rename-column"
        if old[number].type != new[number].type:
            yield "column-type-change"
