"""One table's part of the log: its copies, its changes, its rebuilds, in order."""

from __future__ import annotations

import logging
import sys
from collections.abc import Generator, Iterator
from dataclasses import replace
from datetime import timedelta

import pyarrow as pa
import pyarrow.compute as pc

from smartstream.change import COMMIT_TS
from smartstream.errors import RuleInvalid, RulesBroken, SchemaError, SchemaFrozen, TableCorrupt
from smartstream.lsn import format_lsn
from smartstream.manifest import Entry, RawFile
from smartstream.pipeline.journal import Item
from smartstream.pipeline.parts import (
    Base,
    Part,
    Settling,
    divisible,
    fills_of,
    grouped,
    key_tuples,
    scalars,
)
from smartstream.pipeline.rebuild import Rebuild
from smartstream.pipeline.requests import Request, RequestKind
from smartstream.pipeline.slices import slice_count, sliced
from smartstream.pipeline.surroundings import Surroundings
from smartstream.pipeline.table_writer import Staged, TableWriter
from smartstream.quality.breaker import Window, breaker
from smartstream.raw.reader import read_batches, read_schema
from smartstream.schema import TableSchema
from smartstream.transform.partition import can_partition
from smartstream.transform.rows import project, same_key
from smartstream.trusted.table import Position

_LOG = logging.getLogger(__name__)

LAG_SAMPLES_PER_COMMIT = 500


class TableApplier:
    """Applies one table's entries; idempotent by sequence number.

    The table stores, in the same metadata swap as its data, the last entry that it
    holds.  While it is copied or rebuilt, its changes wait in the raw zone.
    """

    def __init__(self, table: str, writer: TableWriter, around: Surroundings) -> None:
        self._id, self.writer, self._around = table, writer, around
        self.base: Base | None = None
        self.settling: Settling | None = None
        self._rebuild: tuple[Rebuild, Generator[None, None, bool]] | None = None
        self._rebuilt_for: set[str] = set()  # requests
        self._left_upto = 0  # what later copies replace, because it can't be followed
        self._announced: tuple[Entry, TableSchema, dict[str, str]] | None = None  # while rows wait
        self._redo_from: int | None = None  # what follows must be read again after a restart
        self._judged = Window(timedelta(seconds=around.settings.quality.window))

    @property
    def _oid(self) -> int:
        """Of the source's table, as the log has it."""
        return TableSchema.from_json(self._around.journal.state.tables[self._id].schema).oid

    @property
    def rebuilding(self) -> bool:
        """Whether it is being made again."""
        return self._rebuild is not None

    @property
    def unsettled(self) -> bool:
        """Whether it is visible and not exact: not caught up with its copy, or waiting for another."""
        return self.settling is not None or self._redo_from is not None

    def safe_seq(self, applied_seq: int) -> int:
        """Up to where entries need not be read again after a restart."""
        copies = [copy.copy_seq - 1 for copy in (self.base, self.settling) if copy]
        redo = [] if self._redo_from is None else [self._redo_from]
        return min([applied_seq, *copies, *redo])

    def exact(self, applied_seq: int) -> bool:
        """Whether the table holds all of its copy and what happened meanwhile.

        Until it does, ``safe_seq`` makes a restart begin before its copy.
        """
        state = self._around.journal.state.tables[self._id]
        held = state.copied and self.writer.table.position.generation == state.generation
        return held and not (self.base or self.unsettled) and applied_seq >= state.copy_seq

    def apply(self, parts: list[Part]) -> None:
        """Apply changes, or let them wait."""
        waiting = self.base.deferred if self.base else self._rebuild[0].deferred if self._rebuild else None
        if waiting is None:
            self._apply_parts(parts)
            return
        for part in parts:
            part.loaded = None
        waiting.extend(parts)

    def start_copy(self, entry: Entry) -> None:
        """Begin a generation, unless the table holds it already, and exactly (a replayed entry)."""
        schema = TableSchema.from_json(entry.detail["schema"])
        generation = entry.detail["generation"]
        state, position = self._around.journal.state.tables[self._id], self.writer.table.position
        held = position.generation == generation and state.copied and position.lsn >= state.ready_lsn
        if state.generation > generation or position.generation > generation or held:
            return
        self.settling = self._rebuild = self._redo_from = self._announced = None
        self._left_upto = entry.seq
        if generation == 1:
            self.writer.begin_anew(schema)
        self.base = Base(generation, entry.seq, schema, entry.lsn)

    def add_chunk(self, item: Item) -> None:
        """Turn a chunk into data files; a later generation waits, so readers see no mixture."""
        base = self._base_of(item.entry)
        if base is None:
            return
        if base.generation > 1:
            base.chunks.extend(item.entry.files)
            return
        for file in item.entry.files:
            loaded = item.payload.get(file.path)
            self.writer.stage_copy([loaded[1]] if loaded else self._read(file), base.staged)

    def end_copy(self, entry: Entry) -> None:
        """Make the copy visible in one swap, then apply what happened since it began."""
        base = self._base_of(entry)
        if base is None:
            return
        if base.generation > 1:
            self.writer.begin_anew(base.schema)
            for file in base.chunks:
                self.writer.stage_copy(self._read(file), base.staged)
        base.staged.truncate = True
        self._break_circuit(base.staged)
        self.writer.commit(base.staged, Position(base.copy_lsn, base.copy_seq, base.generation))
        self._applied(0)
        self.base = None
        self.settling = Settling(base.schema, base.copy_seq, entry.lsn)
        self._apply_deferred(base.deferred)

    def settle(self, applied_lsn: int) -> None:
        """Declare the table exact when it has caught up with its copy."""
        settling = self.settling
        if settling is None or applied_lsn < settling.ready_lsn:
            return
        if settling.unresolved:
            self._ask_copy(settling.schema, f"{len(settling.unresolved)} rows can't be settled")
        self.settling = None

    def follow(self, entry: Entry, schema: TableSchema, fills: dict[str, str]) -> None:
        """Follow the source to a schema that no row has announced; while rows wait, after them."""
        if self.base is not None or self.rebuilding:
            self._announced = entry, schema, {**(self._announced[2] if self._announced else {}), **fills}
        elif schema.oid == self._oid and entry.seq >= self.writer.table.position.seq:
            self._followed(entry.seq, schema, scalars(schema, fills), entry.lsn)

    def begin_rebuild(self) -> None:
        """Begin to make an exact table again from the raw zone."""
        state = self._around.journal.state
        found = state.tables[self._id]
        schema = TableSchema.from_json(found.schema)
        upto = Position(state.durable_lsn, state.seq, found.generation)
        rebuild = Rebuild(self.writer, schema, found, upto)
        entries = self._around.entries(found.copy_seq - 1)
        memory = self._around.settings.limits.memory_bytes
        self._rebuild = (rebuild, rebuild.steps(entries, self._around.store, memory))
        _LOG.info("rebuilding %s from the raw zone", self._id)

    def rebuild_on(self) -> None:
        """One step of a rebuild; after the last, what has waited is applied."""
        if self._rebuild is None:
            return
        rebuild, steps = self._rebuild
        try:
            next(steps)
            return
        except StopIteration as end:
            done = end.value
        self._rebuild = None
        if not done:
            self._ask_copy(rebuild.schema, "its key has changed since it was copied")
            return
        self._applied(0)
        _LOG.info("rebuilt %s", self._id)
        self._apply_deferred(rebuild.deferred)

    def carry_out(self, request: Request, applied_seq: int) -> int | None:
        """Do what was asked; the number of rows it was about, None while the table is not exact.

        Raises:
            SchemaError: a key is not one of this table.
        """
        if self.rebuilding or not self.exact(applied_seq):
            if self.rebuilding and request.kind is RequestKind.REBUILD:
                self._rebuilt_for.add(request.id)  # with the same rules and rows: one does for both
            return None
        if request.kind is RequestKind.REBUILD:
            if request.id in self._rebuilt_for:
                return self.writer.table.row_count
            self._rebuilt_for.add(request.id)
            self.begin_rebuild()
            return None
        return self.writer.revise_held(request.keys, drop=request.kind is RequestKind.DROP)

    def _ask_copy(self, schema: TableSchema, reason: str) -> None:
        """Have the table copied anew; it stands still until that begins: all before is in the copy.

        A restart reads on from where it finds again that a copy is needed.
        """
        _LOG.warning("%s is to be copied anew: %s", self._id, reason)
        if self._around.journal.state.tables[self._id].generation == self.writer.table.position.generation:
            self._around.ask_copy(schema)  # or else one has begun since
        self._left_upto = sys.maxsize
        self._redo_from = self.settling.copy_seq - 1 if self.settling else self.writer.table.position.seq

    def _base_of(self, entry: Entry) -> Base | None:
        """The copy that an entry belongs to, if it is under way."""
        base = self.base
        return base if base and base.generation == entry.detail["generation"] else None

    def _apply_deferred(self, deferred: list[Part]) -> None:
        """Apply parts that have waited, in bounded groups, then the schema that has."""
        announced, self._announced = self._announced, None
        for part in deferred:
            part.add_fills(announced[2] if announced else {})
        for parts in grouped(deferred, self._around.group_bytes_max):
            self._apply_parts(parts)
        if announced:
            self.follow(*announced)

    def _apply_parts(self, parts: list[Part]) -> None:
        """Apply changes in one commit, whatever happened to the columns meanwhile.

        Only a new key divides them: rows of before and after can't be told alike.
        """
        run: list[Part] = []
        for part in parts:
            part.schema = part.loaded[0] if part.loaded else read_schema(self._around.store, part.file)
            if part.schema.oid != self._oid:  # another table of this name: a copy follows, or has begun
                continue
            if run and not same_key(run[-1].schema, part.schema):
                self._commit_run(run, complete=run[-1].seq != part.seq)
                run = []
            run.append(part)
        if run:
            self._commit_run(run, complete=True)

    def _commit_run(self, parts: list[Part], *, complete: bool) -> None:
        """Fold, locate, write, commit; ``complete``: no part of the last entry is left."""
        table = self.writer.table
        parts = [part for part in parts if part.seq > table.position.seq]
        if not parts:
            return
        if self._rebuild is not None:  # since a moment ago: a part before these asked for it
            self.apply(parts)
            return
        last, schema = parts[-1], parts[-1].schema
        fills = fills_of(schema, parts)
        if not self._followed(last.seq, schema, fills, last.file.lsn_min):
            if self._rebuild is not None:
                self.apply(parts)
            return
        position = Position(
            lsn=last.lsn if complete else table.position.lsn,
            seq=last.seq if complete else last.seq - 1,
            generation=table.position.generation,
        )
        self._commit(schema, parts, fills, position)
        self._applied(sum(part.file.row_count for part in parts))
        self._sample_lag(parts)

    def _followed(self, seq: int, schema: TableSchema, fills: dict[int, pa.Scalar], lsn: int) -> bool:
        """Follow the source to ``schema``; False when the table's rows are made anew instead.

        Raises:
            RulesBroken: a rule needs a column that is another one now, or gone.
            SchemaFrozen: the table's contract does not allow it.
            SchemaError: the table's rows can't be kept.
        """
        if seq < self._left_upto:
            return False
        if self.writer.holds(schema):
            return True
        state = self._around.journal.state.tables[self._id]
        try:
            disturbed = self.writer.disturbs(schema, fills)
            lost = self.writer.loses_keys(schema, fills)
            if lost or (disturbed and self.settling is not None):
                self._ask_copy(schema, "rows lack its new key" if lost else "rows are judged otherwise")
                self.settling = None
                return False
            if disturbed:
                self.begin_rebuild()
                return False
            self.writer.follow(schema, fills)
        except RuleInvalid as error:
            raise RulesBroken(f"{self._id} has changed, at {format_lsn(lsn)}: {error}") from error
        except (SchemaFrozen, SchemaError):
            if seq > state.copy_seq:
                raise
            # A copy has been begun since: it has these changes, and is judged itself.
            self._left_upto, self._redo_from = state.copy_seq, self.writer.table.position.seq
            return False
        return True

    def _commit(
        self, schema: TableSchema, parts: list[Part], fills: dict[int, pa.Scalar], position: Position
    ) -> None:
        """Apply changes a slice of the keys at a time (mostly one), with one commit at the end."""
        staged, settling = Staged(), self.settling
        pieces = (piece for part in parts for piece in self._rows(part, schema, fills))
        for rows in sliced(pieces, schema, self._slice_count(parts)):
            self.writer.stage(rows, staged, exact=settling is None)
        self._note_unresolved(staged)
        self._break_circuit(staged)
        if settling is not None and settling.unresolved:  # after a crash it must not pass for exact
            position = replace(position, lsn=min(position.lsn, settling.ready_lsn - 1))
        self.writer.commit(staged, position)

    def _slice_count(self, parts: list[Part]) -> int:
        """How many slices keep within memory, if the parts can be cut."""
        size = sum(part.file.weight_bytes for part in parts if part.loaded is None)
        count = slice_count(size, self._around.group_bytes_max)
        if count == 1 or not self.writer.divisible:
            return 1
        return count if all(self._divisible(part) for part in parts) else 1

    def _divisible(self, part: Part) -> bool:
        """Whether a part can be cut by key."""
        if part.loaded:
            return can_partition(part.loaded[1])
        return divisible(self._around.store, part.file)

    def _rows(self, part: Part, schema: TableSchema, fills: dict[int, pa.Scalar]) -> Iterator[pa.Table]:
        """A part's changes under ``schema``."""
        for rows in [part.loaded[1]] if part.loaded else self._read(part.file):
            yield project(rows, part.schema, schema, fills)

    def _read(self, file: RawFile) -> Iterator[pa.Table]:
        """A raw file's rows in bounded pieces."""
        for batch in read_batches(self._around.store, file):
            yield pa.Table.from_batches([batch])

    def _note_unresolved(self, staged: Staged) -> None:
        """Remember rows that were left out; only a table that is catching up may have some.

        There the copy can be ahead of the stream: the row is in it under a later key, or
        deleted already; a later change settles it, or else a new copy.

        Raises:
            TableCorrupt: the table is exact, and yet a row is not in it.
        """
        settling = self.settling
        if settling is not None and settling.unresolved:
            for keys in staged.touched:
                settling.unresolved -= key_tuples(keys)
        lost = [keys for keys in staged.unresolved if keys.num_rows]
        if not lost:
            return
        if settling is None:
            raise TableCorrupt(
                f"{self._id}: {sum(keys.num_rows for keys in lost)} updates leave values unchanged in rows"
                " that the trusted table lacks"
            )
        for keys in lost:
            settling.unresolved |= key_tuples(keys)

    def _break_circuit(self, staged: Staged) -> None:
        """Stop before rows become visible of which too many broke a rule.

        Raises:
            QualityStop: nothing is lost; the changes are in the raw zone.
        """
        if not staged.row_count:
            return
        judged = self._judged.add(self._id, staged.row_count, staged.bad_count, self._around.clock())
        stop = breaker([judged], self._around.settings.quality)
        if stop is not None:
            raise stop

    def _applied(self, change_count: int) -> None:
        """Tell how much was applied and how many rows the table has now."""
        self._around.meter.applied(self._id, change_count, self.writer.table.row_count)

    def _sample_lag(self, parts: list[Part]) -> None:
        """Measure from commit on the source to now, when a reader can see the rows."""
        now = self._around.clock()
        for part in parts:
            if part.loaded is None:
                continue
            stamps = pc.unique(part.loaded[1][COMMIT_TS].drop_null()).cast(pa.int64()).to_numpy()
            if len(stamps):
                stride = max(1, len(stamps) // LAG_SAMPLES_PER_COMMIT)
                self._around.meter.lag((now.timestamp() * 1e6 - stamps[::stride]) / 1e3)
