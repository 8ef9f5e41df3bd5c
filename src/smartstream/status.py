"""Where lake and source stand, told without a running pipeline."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any

import psycopg

from smartstream.capture import slot
from smartstream.capture.catchup import current_wal_lsn
from smartstream.capture.connect import connect, map_error
from smartstream.capture.slot import SlotInfo
from smartstream.capture.transactions import OpenTransaction, oldest_open
from smartstream.config import Settings
from smartstream.errors import SchemaFrozen, SmartStreamError, SourceError
from smartstream.lsn import format_lsn
from smartstream.manifest import EntryKind, LakeState, TableState
from smartstream.quality.contracted import rules_under_contract
from smartstream.raw import receiving
from smartstream.raw.manifest_log import ManifestLog
from smartstream.raw.pause import paused_since
from smartstream.raw.receiving import Receiving
from smartstream.raw.store import open_store
from smartstream.schema import TableSchema
from smartstream.trusted.catalog import TRUSTED, lake_errors, open_catalog
from smartstream.trusted.plan import find_table
from smartstream.trusted.position import Position


@dataclass(frozen=True, slots=True)
class TableStatus:
    """One table.

    Attributes:
        status: copying, catching_up, ready or outdated: its rows went through other rules
            than today's; rebuilding where a pipeline reads the slot; frozen where its
            contract does not allow what the source has made of it.
        rules: version of today's rules, empty without rules; None when they don't fit the table.
        chunks_done, chunks: of the snapshot copy.
        rows: in the trusted table, as of its last commit; None before the first one.
        lsn: what the trusted table holds.
        pending_changes: durable in raw, not yet in the trusted table.
    """

    table: str
    name: str
    status: str
    chunks_done: int
    chunks: int
    generation: int
    rows: int | None
    files: int | None
    size_bytes: int | None
    lsn: int
    pending_changes: int
    columns: tuple[tuple[str, str], ...]
    key: tuple[str, ...]
    rules: str | None = ""

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        columns = [{"name": name, "type": kind} for name, kind in self.columns]
        return {**asdict(self), "lsn": format_lsn(self.lsn), "columns": columns, "key": list(self.key)}


@dataclass(frozen=True, slots=True)
class LakeStatus:
    """The lake.

    Attributes:
        durable_lsn: 0 before the first run.
        receiving: a large transaction comes in.
        paused_since: since when a person lets trusted tables stand still.
    """

    warehouse: str
    durable_lsn: int
    entries: int
    tables: tuple[TableStatus, ...]
    receiving: Receiving | None = None
    paused_since: datetime | None = None

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "warehouse": self.warehouse,
            "durable_lsn": format_lsn(self.durable_lsn),
            "entries": self.entries,
            "tables": [table.to_dict() for table in self.tables],
            "receiving": self.receiving.to_dict() if self.receiving else None,
            "paused_since": self.paused_since.isoformat() if self.paused_since else None,
        }


@dataclass(frozen=True, slots=True)
class SourceStatus:
    """The source, as far as it answers.

    Attributes:
        error: why it does not.
        lag_bytes: WAL written that is not durable in the lake; None without a lake.
        oldest: the oldest open transaction: WAL is kept from its begin on.
    """

    error: str | None = None
    lsn: int | None = None
    lag_bytes: int | None = None
    slot: SlotInfo | None = None
    oldest: OpenTransaction | None = None

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "reachable": self.error is None,
            "error": self.error,
            "lsn": format_lsn(self.lsn) if self.lsn is not None else None,
            "lag_bytes": self.lag_bytes,
            "slot": _slot_dict(self.slot) if self.slot else None,
            "oldest_transaction": self.oldest.to_dict() if self.oldest else None,
        }


def read_lake(settings: Settings, clock: Callable[[], datetime]) -> LakeStatus:
    """Read the manifest and the tables' metadata.  Writes nothing into an empty lake.

    Raises:
        LakeError: the lake cannot be read.
    """
    store = open_store(settings.lake)
    log = ManifestLog(store, clock)
    state = log.load()
    if not state.tables:
        return LakeStatus(settings.lake.warehouse, state.durable_lsn, state.seq, ())
    catalog = open_catalog(settings.lake)
    behind = _pending(log)
    found = []
    with lake_errors("read the trusted tables"):
        for name in sorted(state.tables):
            schema = TableSchema.from_json(state.tables[name].schema)
            table = find_table(catalog, TRUSTED, schema.lake_name)
            properties = table.properties if table else {}
            snapshot = table.current_snapshot() if table else None
            summary = snapshot.summary.additional_properties if snapshot and snapshot.summary else {}
            rules = _rules_of(settings, schema, state.tables[name])
            found.append(_table_status(schema, state, properties, summary, behind.get(name, {}), rules))
    coming = receiving.read(store)
    since = paused_since(store)
    return LakeStatus(settings.lake.warehouse, state.durable_lsn, state.seq, tuple(found), coming, since)


def read_source(settings: Settings, durable_lsn: int) -> SourceStatus:
    """Ask the source for its position and its slot; that it does not answer is an answer too."""
    try:
        with connect(settings.source) as connection:
            lsn = current_wal_lsn(connection)
            info = slot.inspect(connection, settings.source.slot.name)
            oldest = oldest_open(connection)
    except SourceError as error:
        return SourceStatus(error=str(error))
    except psycopg.Error as error:
        return SourceStatus(error=str(map_error(error, "asking the source")))
    return SourceStatus(None, lsn, max(0, lsn - durable_lsn) if durable_lsn else None, info, oldest)


def beside(lake: LakeStatus, source: SourceStatus) -> LakeStatus:
    """The lake's status, given whether a pipeline is there: it rebuilds what is outdated, and receives."""
    if source.slot is None or not source.slot.active:
        return replace(lake, receiving=None)
    tables = tuple(
        replace(table, status="rebuilding") if table.status == "outdated" else table for table in lake.tables
    )
    return replace(lake, tables=tables)


def _pending(log: ManifestLog) -> dict[str, dict[int, int]]:
    """Changes per table and entry that the checkpoint does not say to be applied."""
    found: dict[str, dict[int, int]] = {}
    for entry in log.entries(log.applied_seq):
        if entry.kind is EntryKind.CHANGES:
            for file in entry.files:
                of_table = found.setdefault(file.table, {})
                of_table[entry.seq] = of_table.get(entry.seq, 0) + file.row_count
    return found


def _table_status(
    schema: TableSchema,
    state: LakeState,
    properties: Mapping[str, str],
    summary: Mapping[str, str],
    behind: Mapping[int, int],
    rules: _Rules,
) -> TableStatus:
    """One table's status, from the log and from its Iceberg metadata."""
    logged, position = state.tables[schema.id], Position.from_properties(properties)
    pending = sum(count for seq, count in behind.items() if seq > position.seq)
    rows = None
    if summary:
        rows = int(summary.get("total-records", 0)) - int(summary.get("total-position-deletes", 0))
    return TableStatus(
        table=schema.id,
        name=schema.lake_name,
        status=_status(logged, position, state.durable_lsn, pending, rules),
        chunks_done=len(logged.chunks_done),
        chunks=len(logged.chunks),
        generation=logged.generation,
        rows=rows,
        files=int(summary.get("total-data-files", 0)) if summary else None,
        size_bytes=int(summary.get("total-files-size", 0)) if summary else None,
        lsn=position.lsn,
        pending_changes=pending,
        columns=tuple((column.name, column.type.name) for column in schema.columns),
        key=schema.key,
        rules=rules.version,
    )


@dataclass(frozen=True, slots=True)
class _Rules:
    """Today's rules: their version, None when they don't fit the table; whether a contract stops it."""

    version: str | None
    frozen: bool = False


def _rules_of(settings: Settings, schema: TableSchema, state: TableState) -> _Rules:
    """A table's rules under its contract; that they don't fit it is for ``validate`` to say."""
    try:
        compiled = rules_under_contract(settings, schema, state)
    except SchemaFrozen:
        return _Rules(None, frozen=True)
    except SmartStreamError:
        return _Rules(None)
    return _Rules(compiled.version if compiled else "")


def _status(logged: TableState, position: Position, durable_lsn: int, pending: int, rules: _Rules) -> str:
    """frozen, copying, catching_up, outdated or ready.

    An idle table's position stays where its last change was: it is ready as well once
    the log has passed ``ready_lsn`` and holds nothing for it.
    """
    if rules.frozen:
        return "frozen"
    if not logged.copied or position.generation != logged.generation:
        return "copying"
    if position.lsn >= logged.ready_lsn or (durable_lsn >= logged.ready_lsn and not pending):
        return "ready" if rules.version in (None, position.rules) else "outdated"
    return "catching_up"


def _slot_dict(info: SlotInfo) -> dict[str, Any]:
    """A slot for JSON."""
    return {
        **asdict(info),
        "active": info.active,
        "confirmed_flush_lsn": format_lsn(info.confirmed_flush_lsn),
        "restart_lsn": format_lsn(info.restart_lsn) if info.restart_lsn is not None else None,
    }
