"""From the raw zone to trusted: one thread that takes the log's entries to their tables, in order."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Iterable, Mapping
from itertools import groupby

from smartstream.errors import NoTables, SmartStreamError
from smartstream.manifest import EntryKind, TableState
from smartstream.pipeline.journal import Item
from smartstream.pipeline.parts import Part, parts_of
from smartstream.pipeline.requests import Answer, Request, answer
from smartstream.pipeline.surroundings import Surroundings
from smartstream.pipeline.table_applier import TableApplier
from smartstream.pipeline.table_writer import TableWriter
from smartstream.schema import TableSchema
from smartstream.trusted.table import TrustedTable

_LOG = logging.getLogger(__name__)

GROUP_ENTRIES_MAX = 50
PAUSE_S = 0.2


class ApplyLoop:
    """Applies the journal to the trusted tables; see TableApplier for one of them."""

    def __init__(
        self,
        around: Surroundings,
        *,
        open_writer: Callable[[TableSchema], TableWriter],
        stop: threading.Event,
    ) -> None:
        self._around, self._open_writer, self._stop = around, open_writer, stop
        self._journal = around.journal
        self._tables: dict[str, TableApplier] = {}
        self._asked: queue.Queue[Request] = queue.Queue()
        self._seen: set[str] = set()
        self._open_count = 0
        self.applied_seq = 0
        self.paused = False

    def run(self) -> None:
        """Apply entries until ``stop`` is set; while ``paused`` is, they wait."""
        while not self._stop.is_set():
            wait_s = 0.0 if self.rebuilding() else 0.2
            bytes_max = self._around.group_bytes_max
            items = self._journal.take(wait_s, count_max=GROUP_ENTRIES_MAX, bytes_max=bytes_max)
            while self.paused:  # also what was taken just before
                if self._stop.wait(PAUSE_S):
                    return
            self._apply(items)
            for table in list(self._tables.values()):
                table.rebuild_on()
            self._carry_out_requests()

    def ask(self, request: Request) -> None:
        """Have a request carried out between two batches; asking twice is asking once."""
        if request.id not in self._seen:
            self._seen.add(request.id)
            self._open_count += 1
            self._asked.put(request)

    def asked(self) -> bool:
        """Whether requests wait."""
        return self._open_count > 0

    def rebuild_outdated(self, schemas: Iterable[TableSchema]) -> None:
        """Begin to rebuild the exact tables whose rows went through other rules than today's.

        Tables that are not exact are built from their copy anyway.
        """
        for schema in schemas:
            state = self._journal.state.tables.get(schema.id)
            if state is None or not state.copied:
                continue
            table = self._table(TableSchema.from_json(state.schema))
            outdated = table.writer.table.position.rules != table.writer.rules_version
            if outdated and table.exact(self.applied_seq):
                table.begin_rebuild()

    def known(self) -> Mapping[str, TableState]:
        """The tables that the log knows."""
        return self._journal.state.tables

    def tables(self) -> list[TrustedTable]:
        """The tables opened so far, with their quarantines."""
        return [each for table in list(self._tables.values()) for each in table.writer.tables()]

    def safe_seq(self) -> int:
        """Entries up to this one need not be read again after a restart."""
        applied = self.applied_seq
        return min([applied, *(table.safe_seq(applied) for table in list(self._tables.values()))])

    def copying(self) -> set[str]:
        """Tables whose base is not committed."""
        return {name for name, table in list(self._tables.items()) if table.base}

    def settling(self) -> set[str]:
        """Tables whose copy is visible, but not caught up with."""
        return {name for name, table in list(self._tables.items()) if table.unsettled}

    def rebuilding(self) -> set[str]:
        """Tables that are being made again."""
        return {name for name, table in list(self._tables.items()) if table.rebuilding}

    def _carry_out_requests(self) -> None:
        """Carry out what is asked of tables that are exact; the others' requests wait."""
        for _ in range(self._asked.qsize()):
            request = self._asked.get()
            try:
                if request.table not in self._journal.state.tables:
                    raise NoTables(f"{request.table} is not a captured table")
                count = self._known(request.table).carry_out(request, self.applied_seq)
                if count is None:
                    self._asked.put(request)
                    continue
                given = Answer(count)
            except SmartStreamError as error:
                _LOG.warning("request %s of %s failed: %s", request.kind, request.table, error)
                given = Answer(error=str(error))
            answer(self._around.store, request, given)
            self._open_count -= 1

    def _apply(self, items: list[Item]) -> None:
        """Apply entries in order; consecutive CHANGES go through together."""
        for changes, group in groupby(items, lambda item: item.entry.kind is EntryKind.CHANGES):
            if changes:
                self._apply_changes(list(group))
                continue
            for item in group:
                self._apply_copy(item)
                self.applied_seq = item.entry.seq

    def _apply_changes(self, items: list[Item]) -> None:
        """Apply whole transactions, table by table."""
        by_table: dict[str, list[Part]] = {}
        fills: dict[str, dict[str, str]] = {}  # said by these entries, perhaps before there were rows
        for item in items:
            for table, change in item.entry.detail.get("schemas", {}).items():
                fills[table] = {**fills.get(table, {}), **change["fills"]}
            for part in parts_of(item):
                part.add_fills(fills.get(part.file.table, {}))
                by_table.setdefault(part.file.table, []).append(part)
        for name, parts in by_table.items():
            self._known(name).apply(parts)
        self._follow_schemas(items, fills)
        last = items[-1].entry
        self.applied_seq = last.seq
        self._around.meter.applied_lsn = max(self._around.meter.applied_lsn, last.lsn)
        for table in list(self._tables.values()):
            table.settle(last.lsn)

    def _apply_copy(self, item: Item) -> None:
        """Apply an entry about a table's copy."""
        entry = item.entry
        assert entry.table is not None
        if entry.kind is EntryKind.COPY_START:
            if entry.detail["generation"] < self._journal.state.tables[entry.table].generation:
                return  # superseded
            self._table(TableSchema.from_json(entry.detail["schema"])).start_copy(entry)
        elif entry.kind is EntryKind.COPY_CHUNK:
            self._known(entry.table).add_chunk(item)
        else:
            table = self._known(entry.table)
            table.end_copy(entry)
            # On a quiet source all that it waits for may have come before this entry, and nothing after.
            table.settle(self._around.meter.applied_lsn)

    def _follow_schemas(self, items: list[Item], fills: Mapping[str, dict[str, str]]) -> None:
        """Follow tables to their latest schemas, also those that no row has announced."""
        latest = {
            table: (item.entry, change)
            for item in items
            for table, change in item.entry.detail.get("schemas", {}).items()
        }
        for table, (entry, change) in latest.items():
            schema = TableSchema.from_json(change["schema"])
            known = table in self._journal.state.tables
            followed = self._known(table) if known else self._table(schema)
            followed.follow(entry, schema, fills[table])

    def _known(self, name: str) -> TableApplier:
        """The applier of a table that the log knows."""
        found = self._tables.get(name)
        return found or self._table(TableSchema.from_json(self._journal.state.tables[name].schema))

    def _table(self, schema: TableSchema) -> TableApplier:
        """The applier of a source table, opened once."""
        if schema.id not in self._tables:
            self._tables[schema.id] = TableApplier(schema.id, self._open_writer(schema), self._around)
        return self._tables[schema.id]
