"""One table's way from changes to its trusted table, and to its quarantine when it has rules."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa

from smartstream.change import COMMIT_TS, OP, UNTYPED
from smartstream.pipeline.dedupe import Dedupe
from smartstream.pipeline.quarantine import Quarantine
from smartstream.pipeline.refine import Refinery
from smartstream.quality.contracted import ContractedRules
from smartstream.quality.schema_contract import rejudges
from smartstream.schema import TableSchema
from smartstream.transform.carry import filled_by_piece
from smartstream.transform.dedupe import Mask
from smartstream.transform.fold import NetChanges, fold, wanted_keys
from smartstream.transform.rows import project, same_key, trusted_rows
from smartstream.trusted.table import Located, Position, TrustedTable

OpenRefinery = Callable[[TableSchema, TrustedTable], Refinery | None]
"""The rules of a table at a schema, None without rules."""
OpenQuarantine = Callable[[TableSchema], Quarantine]


@dataclass(slots=True)
class Staged:
    """What one commit will do, gathered piece by piece; nothing of it is visible yet.

    Attributes:
        add, delete: data files and located rows of the trusted table.
        held, freed: data files and located rows of its quarantine.
        promoted: keys that leave the quarantine once the trusted table has them.
        touched: keys that the changes are about, where the table was ahead of them.
        unresolved: keys of rows left out, because a value that an update did not send is nowhere.
        truncate: every present row goes.
        row_count, bad_count: rows that rules have judged, and those that broke one.
    """

    add: list[Any] = field(default_factory=list)
    delete: list[Located] = field(default_factory=list)
    held: list[Any] = field(default_factory=list)
    freed: list[Located] = field(default_factory=list)
    promoted: list[pa.Table] = field(default_factory=list)
    touched: list[pa.Table] = field(default_factory=list)
    unresolved: list[pa.Table] = field(default_factory=list)
    truncate: bool = False
    row_count: int = 0
    bad_count: int = 0


class TableWriter:
    """Writes one table; with rules, rows are cleaned and checked on the way.

    Trusted and quarantine are two tables and so two commits: the quarantine's comes
    first.  After a crash in between the same changes come again and do the same.
    """

    def __init__(
        self,
        table: TrustedTable,
        schema: TableSchema,
        open_refinery: OpenRefinery,
        open_quarantine: OpenQuarantine,
    ) -> None:
        self.table = table
        self._open_quarantine = open_quarantine
        self._open_refinery = open_refinery
        self._source = schema
        self._refinery = open_refinery(schema, table)

    @property
    def rules_version(self) -> str:
        """Of the rules in force; empty without rules."""
        return self._refinery.rules.version if self._refinery else ""

    @property
    def divisible(self) -> bool:
        """Whether changes may be staged in slices of their keys: rules look across keys only to dedupe."""
        return self._refinery is None or self._refinery.dedupe is None

    def tables(self) -> list[TrustedTable]:
        """The trusted table, and the quarantine if there is one."""
        held = self._refinery.quarantine.table if self._refinery else None
        return [self.table, held] if held else [self.table]

    def holds(self, schema: TableSchema) -> bool:
        """Whether the trusted table has the columns that belong to ``schema``."""
        return self._source == schema and self.table.schema == self._shape()

    def disturbs(self, schema: TableSchema, fills: dict[int, pa.Scalar]) -> bool:
        """Whether under ``schema`` the table's contract judges rows otherwise that don't change.

        Raises:
            SchemaFrozen: the contract does not allow it.
        """
        before = self._contracted
        if schema == self._source or before is None:
            return False
        refinery = self._open_refinery(schema, self.table)
        assert refinery is not None and isinstance(refinery.rules, ContractedRules)
        filled = [attnum for attnum, value in fills.items() if value.is_valid]
        return rejudges(before.decision, refinery.rules.decision, filled)

    def loses_keys(self, schema: TableSchema, fills: dict[int, pa.Scalar]) -> bool:
        """Whether rows that are there have no value in a column of ``schema``'s key.

        A column that was added and has gone again left no default to ask for; and a
        quarantine has no columns but those of the key that it was made with.
        """
        columns, before = schema.key_columns(), self.table.schema
        known = {column.attnum for column in before.columns}
        known |= {attnum for attnum, value in fills.items() if value.is_valid}
        if self.table.row_count and not all(column.attnum in known for column in columns):
            return True
        held = self._refinery.quarantine.table if self._refinery else None
        return bool(held and held.row_count and not same_key(before, schema))

    def follow(self, schema: TableSchema, fills: dict[int, pa.Scalar]) -> None:
        """Follow the source to ``schema``; see TrustedTable.evolve.

        Raises:
            RulesBroken: a rule does not fit the new schema.
            SchemaFrozen: the table's contract does not allow it.
        """
        self._adopt(schema)
        if self._refinery is not None:
            self._refinery.quarantine.follow()
        self.table.evolve(self._shape(), fills=fills)
        position = self.table.position
        if position.rules not in ("", self.rules_version):  # else a restart would rebuild
            self.table.commit(add=[], delete=None, position=replace(position, rules=self.rules_version))

    def begin_anew(self, schema: TableSchema) -> None:
        """Make ready for rows of ``schema`` that will replace all present ones."""
        self._adopt(schema)
        if self._refinery is not None:
            self._refinery.quarantine.begin_anew()
        self.table.evolve(self._shape(), replace_incompatible=True)

    def stage_copy(self, batches: Iterable[pa.Table], staged: Staged) -> None:
        """Add rows of a snapshot copy, which replaces every present row."""
        staged.truncate = True
        staged.add.extend(self.table.write(piece for rows in batches for piece in self._copied(rows, staged)))

    def stage(self, changelog: pa.Table, staged: Staged, *, exact: bool) -> None:
        """Add the net effect of changes.

        Args:
            exact: the trusted table is where the changes begin, not ahead of them.
        """
        changelog = self._named(changelog)
        net = fold(changelog, self._schema)
        staged.truncate = staged.truncate or net.truncate
        if not exact:
            staged.touched.append(net.keys)
        if not staged.truncate:
            staged.delete.append(self.table.locate(net.keys))
        staged.add.extend(self.table.write(self._upserts(net, changelog, staged, exact=exact)))

    def commit(self, staged: Staged, position: Position) -> None:
        """Make everything staged visible: the quarantine's part, then the trusted table's."""
        position = replace(position, rules=self.rules_version)
        everything = staged.truncate
        if everything and self._refinery is not None and self._refinery.dedupe is not None:
            self._deduplicate(staged, self._refinery, self._refinery.dedupe)
        if self._refinery is not None:
            quarantine = self._refinery.quarantine
            quarantine.commit(staged.held, staged.freed, position, replace_all=everything)
        elif self.table.position.rules:  # it had rules until now
            self._open_quarantine(self._source).commit([], [], position, replace_all=True)
        delete = None if everything else staged.delete
        self.table.commit(add=staged.add, delete=delete, position=position, replace_all=everything)
        for keys in staged.promoted:
            assert self._refinery is not None
            quarantine = self._refinery.quarantine
            quarantine.commit([], quarantine.locate(keys), position, replace_all=False)

    def revise_held(self, keys: Sequence[Sequence[str]] | None, *, drop: bool) -> int:
        """Judge held rows again, or let them be; returns how many entries there were.

        The rows come from the raw zone, as they are now in the source: an entry can't
        bring back what has changed or gone since.

        Args:
            keys: as text, in key order; None: every entry that is not dropped.
            drop: leave them out of trusted for good, until the source changes them.
        """
        if self._refinery is None:
            return 0
        quarantine = self._refinery.quarantine
        entries = quarantine.entries(keys)
        if not entries.num_rows:
            return 0
        wanted = entries.select(list(self._schema.key))
        position, staged = self.table.position, Staged()
        if drop:
            staged.held.extend(quarantine.write(quarantine.as_dropped(entries)))
            staged.freed.extend(quarantine.locate(wanted))
        else:
            rows = self._refinery.source_rows(wanted)
            net = NetChanges(trusted_rows(rows, self._schema), wanted, rows.select([OP, COMMIT_TS]), False)
            staged.delete.append(self.table.locate(wanted))
            upserts = self._refined(net, rows, staged, exact=True)
            staged.add.extend(self.table.write(upserts) if upserts.num_rows else [])
        self.commit(staged, position)
        return int(entries.num_rows)

    def _deduplicate(self, staged: Staged, refinery: Refinery, dedupe: Dedupe) -> None:
        """Leave one row of each business key in files that replace the whole table."""
        found, stays = dedupe.among(self.table.written(staged.add, dedupe.columns()))
        if stays.all():
            return
        losers = dedupe.held(found.filter(pa.array(~stays)), self.rules_version)
        staged.held.extend(refinery.quarantine.write(losers))
        names = refinery.shape.trusted_schema().names
        kept = self.table.write(_chosen(self.table.written(staged.add, names), stays))
        self.table.discard(staged.add)
        staged.add = kept

    def _copied(self, rows: pa.Table, staged: Staged) -> Iterator[pa.Table]:
        """What the trusted table has of rows of a snapshot copy."""
        rows = self._named(rows)
        upserts = trusted_rows(rows, self._schema)
        keys = upserts.select(list(self._schema.key))
        net = NetChanges(upserts, keys, rows.select([OP, COMMIT_TS]), truncate=True)
        return self._upserts(net, rows, staged, exact=True)

    def _upserts(
        self, net: NetChanges, changelog: pa.Table, staged: Staged, *, exact: bool
    ) -> Iterator[pa.Table]:
        """The complete rows for the trusted table, in pieces."""
        if self._refinery is not None:
            yield self._refined(net, changelog, staged, exact=exact)
        elif net.missing:
            yield from self._completed(net, staged, exact=exact)
        else:
            yield net.upserts

    def _completed(self, net: NetChanges, staged: Staged, *, exact: bool) -> Iterator[pa.Table]:
        """The upserts with the values that updates left out, from the trusted table."""
        columns = sorted({missing.column for missing in net.missing})
        located = self.table.locate(wanted_keys(net, self._schema))
        old_rows = self.table.read_pieces(located, [*columns, UNTYPED])
        return filled_by_piece(net, old_rows, self._schema, exact=exact, lost=staged.unresolved)

    def _refined(self, net: NetChanges, changelog: pa.Table, staged: Staged, *, exact: bool) -> pa.Table:
        """The upserts that the rules let pass; the others are staged for the quarantine."""
        assert self._refinery is not None
        refined, quarantine = self._refinery.refine(net, changelog, exact=exact), self._refinery.quarantine
        staged.unresolved.append(refined.unresolved)
        staged.held.extend(quarantine.write(refined.held))
        staged.row_count += net.upserts.num_rows
        staged.bad_count += refined.bad_count
        if not staged.truncate:
            staged.freed.extend(quarantine.locate(net.keys))
            if refined.superseded.num_rows:
                staged.delete.append(self.table.locate(refined.superseded))
                staged.freed.extend(quarantine.locate(refined.superseded))
            if refined.promoted.num_rows:
                staged.promoted.append(refined.promoted)
        return refined.upserts

    @property
    def _contracted(self) -> ContractedRules | None:
        """The rules in force, if a contract is among them."""
        rules = self._refinery.rules if self._refinery else None
        return rules if isinstance(rules, ContractedRules) else None

    @property
    def _schema(self) -> TableSchema:
        """The source's columns by the names that the trusted table has for them."""
        return self._refinery.rules.schema if self._refinery else self._source

    def _named(self, changelog: pa.Table) -> pa.Table:
        """The source's changes with columns of these names; most often they are."""
        return project(changelog, self._source, self._schema, {})

    def _adopt(self, schema: TableSchema) -> None:
        """Take ``schema`` for the source's."""
        if schema != self._source:
            self._refinery = self._open_refinery(schema, self.table)
            self._source = schema

    def _shape(self) -> TableSchema:
        """What the trusted table looks like."""
        return self._refinery.shape if self._refinery else self._source


def _chosen(batches: Iterable[pa.Table], stays: Mask) -> Iterator[pa.Table]:
    """Of each batch the rows that stay."""
    first = 0
    for rows in batches:
        yield rows.filter(pa.array(stays[first : first + len(rows)]))
        first += len(rows)
