"""Forecast: what ``run`` will do with the configuration as it is now.  Changes nothing, anywhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from functools import partial
from typing import Any

import psycopg

from smartstream.capture import publication, slot
from smartstream.capture.catchup import current_wal_lsn
from smartstream.capture.connect import connect
from smartstream.capture.publication import PublicationChange
from smartstream.capture.slot import SlotInfo
from smartstream.capture.snapshot import size
from smartstream.config import Settings, matches
from smartstream.errors import SchemaFrozen
from smartstream.manifest import EntryKind, LakeState, TableState
from smartstream.pipeline.admission import admitted, discover, has_begun, undone
from smartstream.quality.contracted import ContractedRules, rules_under_contract
from smartstream.quality.held import HeldRows
from smartstream.quality.schema_contract import Decision, rejudges
from smartstream.raw.manifest_log import ManifestLog
from smartstream.raw.store import open_store
from smartstream.schema import Column, TableSchema
from smartstream.transform.evolution import compare
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
        reason: new, unfinished, created again, a change that can't be followed, or one undone.
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
        reason: what happened to its rules: added, changed or removed; or to its rows.
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
        found = discover(connection, settings, state.tables)
        info = slot.inspect(connection, settings.source.slot.name)
        tables = _Tables(settings, log, connection)
        followed = [schema for schema in found if tables.look_at(schema)]
        change = PublicationChange()
        if settings.source.manage_publication:
            change = publication.preview(connection, settings.source.publication, followed)
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


@dataclass(frozen=True, slots=True)
class _Ruled:
    """A table under its rules and its contract.

    Attributes:
        shape: of the trusted table, once it has followed the source.
        version: that its rows must have, for the schema that the log knows.
        rejudged: the source has done something to rows that stay as they are.
    """

    shape: TableSchema
    version: str
    rejudged: bool = False


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
    _expected: list[_Ruled] = field(default_factory=list)

    def look_at(self, schema: TableSchema) -> bool:
        """One table of the source, in its catalog and in the log; whether it will be followed."""
        known = self.log.state.tables.get(schema.id)
        if known is None and not self._admitted(schema):
            return False
        ruled = self._ruled(known, schema)
        if ruled is None:
            return True
        reason, left = None, None
        before = TableSchema.from_json(known.schema) if known else schema
        if known is None:
            reason = "new"
        elif before.oid != schema.oid:
            reason = "created again"
        elif not known.copied:
            reason, left = "unfinished", len(known.chunks) - len(known.chunks_done)
        elif undone(self.settings, schema, known):
            reason = "what its contract does not allow was undone"
        elif compare(before, schema).needs_copy:
            reason = "a column's type changed"
        if reason is not None:
            about = size(self.connection, schema)
            self.copies.append(CopyAhead(schema.id, reason, about.row_estimate, about.size_bytes, left))
        if reason != "new":
            self._expected.append(ruled)
        return True

    def look_at_lake(self) -> None:
        """The tables that the lake has: their columns, and the rules of their rows."""
        if not self._expected:
            return
        catalog = open_catalog(self.settings.lake)
        copied = {copy.table for copy in self.copies}
        outdated = []
        with lake_errors("look at the trusted tables"):
            for ruled in self._expected:
                shape, rules = ruled.shape, ruled.version
                table = find_table(catalog, TRUSTED, shape.lake_name)
                if table is None or SCHEMA_PROPERTY not in table.properties:
                    continue
                present = TableSchema.from_json(table.properties[SCHEMA_PROPERTY])
                self.columns.extend(_columns(present, shape))
                held = Position.from_properties(table.properties).rules
                if held != rules and shape.id not in copied:
                    reason = "added" if not held else "changed" if rules else "removed"
                    outdated.append(_Outdated(shape, f"rules {reason}"))
                elif ruled.rejudged and shape.id not in copied:
                    outdated.append(_Outdated(shape, "the contract judges its rows otherwise"))
        self._rebuild(outdated)

    def _admitted(self, schema: TableSchema) -> bool:
        """Whether a table that the log does not know will be followed."""
        known = self.log.state.tables
        lsn, begun = current_wal_lsn(self.connection), has_begun(known)
        try:
            if admitted(self.settings, [schema], known, lsn=lsn, begun=begun):
                return True
            self.contract.append(f"{schema.id} is new: the contract leaves it out")
        except SchemaFrozen as error:
            self.contract.append(f"the pipeline will stop: {error}")
        return False

    def _ruled(self, known: TableState | None, schema: TableSchema) -> _Ruled | None:
        """A table under its rules and its contract; None when the contract stops the pipeline."""
        rules = partial(rules_under_contract, self.settings, state=known)
        try:
            after = rules(schema=schema, seen_lsn=current_wal_lsn(self.connection))
        except SchemaFrozen as error:
            self.contract.append(f"the pipeline will stop: {error}")
            return None
        shape = ruled_schema(after.schema, after.output) if after else schema
        if not isinstance(after, ContractedRules):
            return _Ruled(shape, after.version if after else "")
        self.contract.extend(_said(schema, after.decision))
        try:
            before = rules(schema=TableSchema.from_json(known.schema)) if known else after
        except SchemaFrozen:
            before = after  # undone
        assert isinstance(before, ContractedRules)
        return _Ruled(shape, before.version, rejudges(before.decision, after.decision, ()))

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


def _said(schema: TableSchema, decision: Decision) -> Iterator[str]:
    """What a contract does to the columns of a table."""
    for column in decision.ignored:
        held = ", and holds rows that have a value in it" if column in decision.quarantine else ""
        yield f"{schema.id}: the contract leaves column {column.name} out{held}"
    held_for = {column.attnum for column in decision.quarantine}
    for column in decision.nulled:
        does = "holds rows with a value" if column.attnum in held_for else "puts null"
        yield f"{schema.id}: the contract {does} in column {column.name}, whose type changed"


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
