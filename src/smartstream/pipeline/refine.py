"""Refine: what the rules of a table make of a net change.

Each row of the change is cleaned and checked.  Good rows go on to the trusted table,
the others are held in the quarantine, so that every key of the source is in exactly
one of the two.  Values that an update did not send are carried forward in their clean
form where a rule sees nothing but that column; else the row is looked up in the raw zone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from smartstream.change import COMMIT_LSN, COMMIT_TS, DELETE, OLD_KEY, OP, ORDINAL, UNTYPED
from smartstream.pipeline.dedupe import Dedupe
from smartstream.pipeline.quarantine import Quarantine
from smartstream.quality.contracted import Rules
from smartstream.schema import TRUSTED_LSN, TableSchema
from smartstream.transform import shape
from smartstream.transform.carry import narrowed
from smartstream.transform.fold import Missing, NetChanges, fill, fold, origins, replace_values, wanted_keys
from smartstream.transform.keys import concat_keys, find_keys, key_ids
from smartstream.transform.rows import trusted_rows
from smartstream.transform.rules import Cleaned, Verdict
from smartstream.transform.rules.types import sql_of
from smartstream.transform.text import row_texts
from smartstream.trusted.table import TrustedTable

Mask = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]
Lookup = Callable[[pa.Table, TableSchema], pa.Table]
"""The changelog rows that the raw zone has for some keys, as of what the trusted table holds."""


@dataclass(frozen=True, slots=True)
class Refined:
    """What becomes of a net change.

    Attributes:
        upserts: (n, the trusted table's columns) for the trusted table.
        held: (n, the quarantine's columns) for the quarantine.
        superseded: keys of rows that the trusted table loses to these.
        promoted: keys of duplicates that are among ``upserts`` now.
        unresolved: keys of rows left out; see ``fill``.
        bad_count: rows that broke a rule and are not in ``upserts`` as they are.
    """

    upserts: pa.Table
    held: pa.Table
    superseded: pa.Table
    promoted: pa.Table
    unresolved: pa.Table
    bad_count: int


@dataclass(frozen=True, slots=True)
class _Carried:
    """Clean values of the trusted table for rows whose update did not send them."""

    column: str
    rows: Ints
    origin_keys: pa.Table
    origin: pa.Table
    source: Ints


class Refinery:
    """The rules of one table at one schema, and the tables they need to look at."""

    def __init__(
        self,
        rules: Rules,
        table: TrustedTable,
        quarantine: Quarantine,
        lookup: Lookup,
    ) -> None:
        self.rules = rules
        self.quarantine = quarantine
        self.shape = shape.ruled_schema(rules.schema, rules.output)
        self._names = self.shape.trusted_schema().names
        self._held_schema = shape.quarantine_schema(rules.schema).trusted_schema()
        self._schema, self._table, self._lookup = rules.schema, table, lookup
        self.dedupe = (
            Dedupe(rules.dedupe, self._order_kind(), rules.schema, table, quarantine)
            if rules.dedupe
            else None
        )

    def refine(self, net: NetChanges, changelog: pa.Table, *, exact: bool) -> Refined:
        """Clean and check the rows of a net change.

        Args:
            changelog: what ``net`` was folded from.
            exact: see ``fill``.
        Raises:
            RuleStop: a rule whose ``on_fail`` is stop was broken.
        """
        net, unresolved, cleaned = self._cleaned(net, exact=exact)
        verdict = cleaned.verdict
        upserts = cleaned.rows.filter(pa.array(verdict == Verdict.GOOD))
        bad = np.flatnonzero(verdict != Verdict.GOOD)
        held = self._held(net, cleaned, bad)
        if len(bad) and self.rules.on_bad_update == "null_value":
            upserts, held = self._with_nulls(cleaned, bad, upserts, held)
        elif len(bad) and self.rules.on_bad_update == "keep_previous_marked":
            wanted = np.flatnonzero(verdict == Verdict.QUARANTINE)
            previous = self._previous(net, wanted, changelog, exact=exact)
            upserts = pa.concat_tables([upserts, previous])
        none = net.keys.slice(0, 0)
        refined = Refined(upserts, held, none, none, unresolved, len(bad))
        return refined if self.dedupe is None or net.truncate else self._deduplicated(refined, net)

    def source_rows(self, keys: pa.Table) -> pa.Table:
        """The changelog rows that the raw zone has of some keys, as of what the trusted table holds."""
        return self._lookup(keys, self._schema)

    def _present(self, keys: pa.Table) -> pa.Table:
        """These rows as the trusted table of a source without rules would have them."""
        return trusted_rows(self.source_rows(keys), self._schema)

    def _deduplicated(self, refined: Refined, net: NetChanges) -> Refined:
        """The same with one row of each business key."""
        assert self.dedupe is not None
        contest = self.dedupe.contest(refined.upserts, net.keys)
        upserts = [refined.upserts.filter(pa.array(contest.stays))]
        if contest.promoted.num_rows:
            upserts.append(self.rules.apply(self._present(contest.promoted)).rows.select(self._names))
        losers = pa.concat_tables([contest.losers, contest.superseded])
        held = pa.concat_tables([refined.held, self.dedupe.held(losers, self.rules.version)])
        return replace(
            refined,
            upserts=pa.concat_tables(upserts),
            held=held,
            superseded=contest.superseded.select(list(self._schema.key)),
            promoted=contest.promoted,
        )

    def _order_kind(self) -> str:
        """SQL name of the type that duplicates are ordered by."""
        assert self.rules.dedupe is not None
        by = self.rules.dedupe.by
        return sql_of(self.shape.arrow_schema().field(by).type) if by else "VARCHAR"

    def _cleaned(self, net: NetChanges, *, exact: bool) -> tuple[NetChanges, pa.Table, Cleaned]:
        """The net change without the rows that can't be completed, their keys, and the clean rows.

        What the net change still misses is carried in the clean rows.
        """
        carried, known, left = self._carried(net, exact=exact)
        unresolved = net.keys.slice(0, 0)
        if left:
            wanted = replace(net, missing=tuple(left))
            rows = self._present(wanted_keys(wanted, self._schema))
            filled = fill(wanted, rows, self._schema, exact=exact)
            unresolved, kept = filled.unresolved, pa.array(filled.kept)
            net = replace(net, upserts=filled.upserts, stamps=net.stamps.filter(kept))
            known = {column: mask[filled.kept] for column, mask in known.items()}
            carried = [_renumbered(one, filled.kept) for one in carried]
        cleaned = self.rules.apply(net.upserts, known)
        rows = cleaned.rows
        for one in carried:
            rows = replace_values(rows, one.column, one.rows, one.origin, one.source)
        left_out = tuple(Missing(one.column, one.rows, one.origin_keys) for one in carried)
        return replace(net, missing=left_out), unresolved, replace(cleaned, rows=rows.select(self._names))

    def _carried(
        self, net: NetChanges, *, exact: bool
    ) -> tuple[list[_Carried], dict[str, Mask], list[Missing]]:
        """Clean values that the trusted table has, where they are, and what must be looked up."""
        able = [missing for missing in net.missing if self.rules.carries(missing.column)]
        left = [missing for missing in net.missing if not self.rules.carries(missing.column)]
        if not able:
            return [], {}, left
        keys = wanted_keys(replace(net, missing=tuple(able)), self._schema)
        names = {column.name for column in self.rules.output}
        columns = [missing.column for missing in able if missing.column in names]
        old = self._table.read(self._table.locate(keys), [*columns, UNTYPED])
        carried, known = [], {}
        for missing in able:
            source = origins(net, missing, old, self._schema, exact=exact)
            found = source >= 0
            known[missing.column] = np.zeros(len(net.upserts), np.bool_)
            known[missing.column][missing.rows[found]] = True
            origin_keys = missing.origin_keys.filter(pa.array(found))
            carried.append(_Carried(missing.column, missing.rows[found], origin_keys, old, source[found]))
            if not found.all():
                rest = missing.origin_keys.filter(pa.array(~found))
                left.append(Missing(missing.column, missing.rows[~found], rest))
        return carried, known, left

    def _held(self, net: NetChanges, cleaned: Cleaned, bad: Ints) -> pa.Table:
        """Rows of the quarantine for the upserts ``bad``."""
        if not len(bad):
            return self._held_schema.empty_table()
        index = pa.array(bad)
        rows, stamps = self._as_in_the_source(narrowed(net, bad)), net.stamps.take(index)
        dropped = pa.array(cleaned.verdict[bad] == Verdict.DROP)
        columns: dict[str, Any] = {name: rows[name] for name in self._schema.key}
        columns |= {
            shape.DISPOSITION: pc.if_else(dropped, shape.DROPPED, shape.QUARANTINED),
            shape.ROW: row_texts(rows.drop_columns([TRUSTED_LSN])),
            shape.VIOLATIONS: cleaned.violations.take(index),
            shape.RULES_VERSION: pa.repeat(self.rules.version, len(bad)),
            shape.CHANGE_OP: stamps[OP],
            shape.CHANGE_TS: stamps[COMMIT_TS],
            TRUSTED_LSN: rows[TRUSTED_LSN],
        }
        nulls = pa.nulls(len(bad), pa.string())
        arrays = [columns.get(field.name, nulls) for field in self._held_schema]
        return pa.table(arrays, schema=self._held_schema)

    def _as_in_the_source(self, net: NetChanges) -> pa.Table:
        """The upserts with what was carried in clean form as the source has it."""
        if not net.missing:
            return net.upserts
        rows = self._present(wanted_keys(net, self._schema))
        filled = fill(net, rows, self._schema, exact=True)
        return filled.upserts if filled.kept.all() else net.upserts

    def _with_nulls(
        self, cleaned: Cleaned, bad: Ints, upserts: pa.Table, held: pa.Table
    ) -> tuple[pa.Table, pa.Table]:
        """Bad rows whose offending values can be null instead: into trusted, marked."""
        lists = cleaned.bad_columns.take(pa.array(bad)).to_pylist()
        able = [
            bool(columns) and cleaned.verdict[row] == Verdict.QUARANTINE
            for row, columns in zip(bad.tolist(), lists, strict=True)
        ]
        if not any(able):
            return upserts, held
        chosen = [columns for columns, yes in zip(lists, able, strict=True) if yes]
        rows = cleaned.rows.take(pa.array(bad[np.array(able)]))
        for name in sorted({name for columns in chosen for name in columns}):
            index = rows.schema.get_field_index(name)
            gone = pa.array([name in columns for columns in chosen])
            nulls = pa.nulls(len(rows), rows.schema.field(index).type)
            rows = rows.set_column(index, rows.schema.field(index), pc.if_else(gone, nulls, rows[name]))
        marks = [{"nulled": columns} for columns in chosen]
        rows = _marked(rows, marks)
        return pa.concat_tables([upserts, rows]), held.filter(pa.array([not yes for yes in able]))

    def _previous(self, net: NetChanges, bad: Ints, changelog: pa.Table, *, exact: bool) -> pa.Table:
        """The last good version of each bad row, marked as stale; rows without one are left out.

        The versions before the bad one in this changelog are tried from the last to the
        first, then the row that the trusted table has: so the result does not depend on
        where the changelog was cut.
        """
        found: list[pa.Table] = []
        keys = net.upserts.select(list(self._schema.key)).take(pa.array(bad))
        stale = net.upserts[TRUSTED_LSN].take(pa.array(bad)).to_pylist()
        rest, untouched, pending = changelog, [], np.arange(len(keys))
        while len(pending):
            wanted = keys.take(pa.array(pending))
            rest = _without_last(rest, wanted, self._schema)
            earlier = fold(rest, self._schema)
            untouched.extend(pending[find_keys(earlier.keys, wanted, self._schema.key) < 0].tolist())
            at = find_keys(earlier.upserts, wanted, self._schema.key)
            pending = pending[at >= 0]
            _, _, cleaned = self._cleaned(narrowed(earlier, at[at >= 0]), exact=exact)
            good = cleaned.rows.filter(pa.array(cleaned.verdict == Verdict.GOOD))
            index = find_keys(good, keys.take(pa.array(pending)), self._schema.key)
            found.append(_stale(good.take(pa.array(index[index >= 0])), stale, pending[index >= 0]))
            pending = pending[index < 0]
        if untouched and not net.truncate:
            numbers = np.array(untouched, np.int64)
            wanted = keys.take(pa.array(numbers))
            old = self._table.read(self._table.locate(wanted), self._names).select(self._names)
            index = find_keys(old, wanted, self._schema.key)
            found.append(_stale(old.take(pa.array(index[index >= 0])), stale, numbers[index >= 0]))
        return pa.concat_tables([self.shape.trusted_schema().empty_table(), *found])


def _renumbered(carried: _Carried, kept: Mask) -> _Carried:
    """The same for the rows that were kept."""
    numbers = np.cumsum(kept) - 1
    here = kept[carried.rows]
    return replace(
        carried,
        rows=numbers[carried.rows[here]],
        origin_keys=carried.origin_keys.filter(pa.array(here)),
        source=carried.source[here],
    )


def _without_last(changelog: pa.Table, keys: pa.Table, schema: TableSchema) -> pa.Table:
    """The changelog without the last change of each of ``keys``.

    Of a change that brought a row here from another key stays that the row left that one.
    """
    names = list(schema.key)
    ids = key_ids(concat_keys([changelog.select(names), keys], schema.key))
    own, wanted = ids[: len(changelog)], ids[len(changelog) :]
    order = np.lexsort((changelog[ORDINAL].to_numpy(), changelog[COMMIT_LSN].to_numpy()))
    last = np.full(int(ids.max(initial=-1)) + 1, -1, np.int64)
    last[own[order]] = order
    keep = np.ones(len(changelog), np.bool_)
    keep[last[wanted][last[wanted] >= 0]] = False
    kept = pa.array(keep)
    moves = changelog.filter(pc.and_(pc.invert(kept), pc.is_valid(changelog[OLD_KEY])))
    return pa.concat_tables([changelog.filter(kept), _as_deletes(moves, schema)])


def _as_deletes(moves: pa.Table, schema: TableSchema) -> pa.Table:
    """Updates of a key as deletes of the old key, which is all that they still say."""
    columns: dict[str, pa.ChunkedArray | pa.Array] = {
        name: pc.struct_field(moves[OLD_KEY], [name]) for name in schema.key
    }
    columns |= {name: moves[name] for name in (COMMIT_LSN, ORDINAL, COMMIT_TS)}
    columns[OP] = pa.repeat(pa.scalar(DELETE, moves.schema.field(OP).type), len(moves))
    arrays = [columns.get(field.name, pa.nulls(len(moves), field.type)) for field in moves.schema]
    return pa.table(arrays, schema=moves.schema)


def _stale(rows: pa.Table, lsns: list[int], numbers: Ints) -> pa.Table:
    """Rows marked with the LSN of the change that they lack."""
    return _marked(rows, [{"stale_since": lsns[number]} for number in numbers.tolist()])


def _marked(rows: pa.Table, marks: list[dict[str, Any]]) -> pa.Table:
    """Rows with marks added to ``_quality``; they are few."""
    index = rows.schema.get_field_index(shape.QUALITY)
    texts = [
        shape.with_mark(text, mark) for text, mark in zip(rows[shape.QUALITY].to_pylist(), marks, strict=True)
    ]
    return rows.set_column(index, rows.schema.field(index), pa.array(texts, pa.string()))
