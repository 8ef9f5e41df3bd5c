"""Forecast: what ``run`` will do with the configuration as it is now.  Changes nothing, anywhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

import psycopg

from smartstream.capture import publication, slot
from smartstream.capture.catchup import current_wal_lsn
from smartstream.capture.connect import connect
from smartstream.capture.publication import PublicationChange
from smartstream.capture.slot import SlotInfo
from smartstream.capture.snapshot import size
from smartstream.config import Settings, matches, rules_of
from smartstream.errors import SchemaFrozen
from smartstream.manifest import EntryKind, LakeState
from smartstream.pipeline.pipeline import discover
from smartstream.quality.held import HeldRows
from smartstream.quality.schema_contract import admit, decide
from smartstream.raw.manifest_log import ManifestLog
from smartstream.raw.store import open_store
from smartstream.schema import Column, TableSchema
from smartstream.transform.evolution import compare
from smartstream.transform.rules import compile_rules
from smartstream.transform.shape import ruled_schema
from smartstream.trusted.catalog import TRUSTED, lake_errors, open_catalog
from smartstream.trusted.evolve import SCHEMA_PROPERTY
from smartstream.trusted.plan import find_table
from smartstream.trusted.position import Position

Connection = psycopg.Connection[tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class CopyAhead:
    """A table that will be copied.

    Attributes:
        reason: new, unfinished, created again, or a change that can't be followed.
        row_estimate, size_bytes: as the source's catalog has them.
        chunks_left: of an unfinished copy; None for one that begins.
    """

    table: str
    reason: str
    row_estimate: int
    size_bytes: int
    chunks_left: int | None = None


@dataclass(frozen=True, slots=True)
class RebuildAhead:
    """A table that will be made again from the raw zone.

    Attributes:
        reason: what happened to its rules: added, changed or removed.
        trusted_rows, held_rows: what it has now; all are judged again.
        raw_bytes: to read.
    """

    table: str
    reason: str
    trusted_rows: int
    held_rows: int
    raw_bytes: int


@dataclass(frozen=True, slots=True)
class ColumnAhead:
    """What will happen to a column of a trusted table.

    Attributes:
        change: appears, vanishes, renamed or type.
        before, after: its types, or for renamed its names.
    """

    table: str
    column: str
    change: str
    before: str | None
    after: str | None


@dataclass(frozen=True, slots=True)
class KeptTable:
    """A table of the lake that is not followed any longer, and why; it stays as it is."""

    table: str
    reason: str


@dataclass(frozen=True, slots=True)
class Forecast:
    """Everything that ``run`` will do at its start.

    Attributes:
        running: a pipeline reads the slot: all this happens when it is started again.
        slot: what becomes of it, in words; None when it is there.
        contract: what the schema contracts say to changes of the source, in words.
    """

    running: bool
    slot: str | None
    publication: PublicationChange
    copies: tuple[CopyAhead, ...] = ()
    rebuilds: tuple[RebuildAhead, ...] = ()
    columns: tuple[ColumnAhead, ...] = ()
    kept: tuple[KeptTable, ...] = ()
    contract: tuple[str, ...] = ()

    @property
    def quiet(self) -> bool:
        """Whether ``run`` just goes on."""
        change = self.publication
        publishes = change.created or change.added or change.dropped or change.altered
        return not (self.slot or publishes or self.copies or self.rebuilds or self.columns or self.contract)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "quiet": self.quiet}


def forecast(settings: Settings, *, clock: Callable[[], datetime]) -> Forecast:
    """Compare source, lake and configuration.

    Raises:
        TableWithoutKey, NoTables, RuleInvalid: ``run`` would refuse to start, in the same words.
        SourceError, LakeError: as either side answers.
    """
    log = ManifestLog(open_store(settings.lake), clock)
    state = log.load()
    with connect(settings.source) as connection:
        found = discover(connection, settings)
        info = slot.inspect(connection, settings.source.slot.name)
        change = publication.preview(connection, settings.source.publication, found)
        tables = _Tables(settings, log, connection)
        for schema in found:
            tables.look_at(schema)
    tables.look_at_lake()
    return Forecast(
        running=info is not None and info.active,
        slot=_slot(info, settings.source.slot.name, state),
        publication=change,
        copies=tuple(tables.copies),
        rebuilds=tuple(tables.rebuilds),
        columns=tuple(tables.columns),
        kept=tuple(_kept(settings, state, found)),
        contract=tuple(tables.contract),
    )


@dataclass(frozen=True, slots=True)
class _Outdated:
    """A table whose rules are others than those of its rows."""

    schema: TableSchema
    reason: str


@dataclass(slots=True)
class _Tables:
    """What will happen to each table of the source."""

    settings: Settings
    log: ManifestLog
    connection: Connection
    copies: list[CopyAhead] = field(default_factory=list)
    rebuilds: list[RebuildAhead] = field(default_factory=list)
    columns: list[ColumnAhead] = field(default_factory=list)
    contract: list[str] = field(default_factory=list)
    _expected: list[tuple[TableSchema, str]] = field(default_factory=list)

    def look_at(self, schema: TableSchema) -> None:
        """One table of the source, in its catalog and in the log."""
        known = self.log.state.tables.get(schema.id)
        before = TableSchema.from_json(known.schema) if known else None
        admitted = self._admitted(before, schema)
        if admitted is None:
            return
        shape, rules = self._shape(schema, admitted)
        reason, left = None, None
        if known is None or before is None:
            reason = "new"
        elif before.oid != schema.oid:
            reason = "created again"
        elif not known.copied:
            reason, left = "unfinished", len(known.chunks) - len(known.chunks_done)
        elif compare(before, schema).needs_copy:
            reason = "a column's type changed"
        if reason is not None:
            about = size(self.connection, schema)
            self.copies.append(CopyAhead(schema.id, reason, about.row_estimate, about.size_bytes, left))
        if reason != "new":
            self._expected.append((shape, rules))

    def look_at_lake(self) -> None:
        """The tables that the lake has: their columns, and the rules of their rows."""
        if not self._expected:
            return
        catalog = open_catalog(self.settings.lake)
        copied = {copy.table for copy in self.copies}
        outdated = []
        with lake_errors("look at the trusted tables"):
            for shape, rules in self._expected:
                table = find_table(catalog, TRUSTED, shape.lake_name)
                if table is None or SCHEMA_PROPERTY not in table.properties:
                    continue
                present = TableSchema.from_json(table.properties[SCHEMA_PROPERTY])
                self.columns.extend(_columns(present, shape))
                held = Position.from_properties(table.properties).rules
                if held != rules and shape.id not in copied:
                    reason = "added" if not held else "changed" if rules else "removed"
                    outdated.append(_Outdated(shape, f"rules {reason}"))
        self._rebuild(outdated)

    def _admitted(self, before: TableSchema | None, schema: TableSchema) -> TableSchema | None:
        """What the table's contract leaves of its schema; None when that is nothing."""
        contract = rules_of(self.settings, schema.id).contract
        lsn = current_wal_lsn(self.connection)
        try:
            if before is None:
                if admit(contract, schema, lsn=lsn):
                    return schema
                self.contract.append(f"{schema.id} is new: the contract leaves it out")
                return None
            if before == schema:
                return schema
            decision = decide(contract, before, schema, lsn=lsn)
        except SchemaFrozen as error:
            self.contract.append(f"the pipeline will stop: {error}")
            return before
        for column in decision.ignored:
            held = ", and holds rows that have a value in it" if column in decision.quarantine else ""
            self.contract.append(f"{schema.id}: the contract leaves column {column.name} out{held}")
        for column in decision.nulled:
            self.contract.append(
                f"{schema.id}: the contract puts null in column {column.name}, whose type changed"
            )
        return decision.schema

    def _shape(self, source: TableSchema, schema: TableSchema) -> tuple[TableSchema, str]:
        """What the trusted table will look like, and the version of its rules."""
        rules = compile_rules(schema, rules_of(self.settings, source.id))
        return (ruled_schema(schema, rules.output), rules.version) if rules else (schema, "")

    def _rebuild(self, outdated: Sequence[_Outdated]) -> None:
        """Say how much work it is to make tables again."""
        if not outdated:
            return
        state = self.log.state
        first = min(state.tables[one.schema.id].copy_seq for one in outdated)
        raw_bytes = {one.schema.id: 0 for one in outdated}
        for entry in self.log.entries(first - 1):
            for file in entry.files:
                if file.table in raw_bytes and entry.seq >= state.tables[file.table].copy_seq:
                    of_copy = entry.kind is not EntryKind.CHANGES
                    if not of_copy or entry.detail["generation"] == state.tables[file.table].generation:
                        raw_bytes[file.table] += file.size_bytes
        with HeldRows(self.settings) as held:
            for one in outdated:
                found = held.table(one.schema)
                made = (one.reason, found.trusted_rows, found.total, raw_bytes[one.schema.id])
                self.rebuilds.append(RebuildAhead(one.schema.id, *made))


def _columns(present: TableSchema, expected: TableSchema) -> Iterator[ColumnAhead]:
    """How the columns of a trusted table will change."""
    table, change = expected.id, compare(present, expected)
    for column in change.added:
        yield ColumnAhead(table, column.name, "appears", None, _kind(column))
    for column in change.dropped:
        yield ColumnAhead(table, column.name, "vanishes", _kind(column), None)
    for before, after in change.renamed:
        yield ColumnAhead(table, after.name, "renamed", before.name, after.name)
    for before, after in (*change.widened, *change.retyped):
        yield ColumnAhead(table, after.name, "type", _kind(before), _kind(after))


def _kind(column: Column) -> str:
    """A column's type for people."""
    return column.type.name


def _kept(settings: Settings, state: LakeState, found: Sequence[TableSchema]) -> Iterator[KeptTable]:
    """Tables of the lake that will not be followed."""
    wanted = {schema.id for schema in found}
    for name in sorted(set(state.tables) - wanted):
        why = "the source does not have it" if matches(settings, name) else "the configuration leaves it out"
        yield KeptTable(name, why)


def _slot(info: SlotInfo | None, name: str, state: LakeState) -> str | None:
    """What will become of the slot."""
    if info is None:
        if not state.durable_lsn:
            return f"slot {name} will be created"
        return f"slot {name} is gone: the pipeline will refuse to start; see `smartstream resync`"
    if info.lost:
        return f"slot {name} is lost: the pipeline will refuse to start; see `smartstream resync`"
    return None
