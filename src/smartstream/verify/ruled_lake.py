"""The lake's side of a table with rules: trusted table and quarantine as of an exact LSN.

Changes that are durable but not in the two yet go through the same rules first, and
take the place of what is there of their keys: as the pipeline will do it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot

from smartstream.errors import VerifyError
from smartstream.raw.lookup import last_rows
from smartstream.schema import TRUSTED_LSN
from smartstream.transform.dedupe import candidates, winners
from smartstream.transform.fold import NetChanges, fill, fold, wanted_keys
from smartstream.transform.rows import project, trusted_rows
from smartstream.transform.shape import BUSINESS_KEY, ORDER_BY
from smartstream.trusted.catalog import QUARANTINE
from smartstream.trusted.plan import find_table, positioned
from smartstream.trusted.position import Position
from smartstream.verify.judge import Judge, Judged, quality_column
from smartstream.verify.lake import LakeReader, names_of
from smartstream.verify.overlay import column_name
from smartstream.verify.ruled_rows import RuledRows
from smartstream.verify.ruled_source import as_duplicates, order_kind

BATCH_ROWS = 50_000
LSN_FIELD = pa.field(TRUSTED_LSN, pa.int64())


@dataclass(frozen=True, slots=True)
class RuledTable:
    """A trusted table and its quarantine, as SQL of hashed rows.

    Attributes:
        snapshots: ids of the Iceberg snapshots that were read.
    """

    good: str
    held: str
    pending_changes: int
    snapshots: tuple[int | None, ...]


@dataclass(frozen=True, slots=True)
class _Effect:
    """What changes do: keys that leave the trusted table and the quarantine, rows that come."""

    leaving: pa.Table
    released: pa.Table
    judged: Judged


class RuledLake:
    """Reads one table with rules; see ``LakeReader``."""

    def __init__(self, lake: LakeReader, judge: Judge, lsn: int) -> None:
        self._lake, self._judge, self._lsn = lake, judge, lsn
        self._schema = judge.rules.schema
        self.rows = RuledRows(lake.connection, judge)

    def table(self) -> RuledTable:
        """Return the table as of the LSN, or of all the lake has if that is less.

        Raises:
            VerifyError: the lake does not have the table, or not with these rules.
        """
        placed = self._lake.place(self._schema, self._lsn)
        if placed.position.rules != self._judge.rules.version:
            raise VerifyError("its rows went through other rules than those of today")
        view = self._lake.view(placed.table, placed.snapshot, self._judge.shape)
        quarantine, snapshot = self._quarantine(placed.position)
        held = self._held_view(quarantine, snapshot)
        names, flagged = names_of(placed.table, self._judge.shape), self._lake.flagged(view)
        view = self._without_stale(view, held)
        changes = self._lake.changes(self._judge.source, self._lsn, placed.position)
        ids = tuple(one.snapshot_id if one else None for one in (placed.snapshot, snapshot))
        if changes is None:
            good, in_held = self.rows.good(view, names, flagged), self._hashed_held(held)
            return RuledTable(good, in_held, 0, ids)
        net = fold(project(changes, self._judge.source, self._schema, {}), self._schema)
        if net.truncate:
            view, held = f"FROM ({view}) LIMIT 0", f"FROM ({held}) LIMIT 0"
        effect = self._effect(net, view, held, placed.position)
        view = f"FROM ({view}) ANTI JOIN {self.rows.keys(effect.leaving)} {self.rows.using}"
        held = f"FROM ({held}) ANTI JOIN {self.rows.keys(effect.released)} {self.rows.using}"
        more_good, more_held = self.rows.judged(effect.judged)
        good = f"{self.rows.good(view, names, flagged)} UNION ALL {more_good}"
        return RuledTable(good, f"{self._hashed_held(held)} UNION ALL {more_held}", changes.num_rows, ids)

    def _hashed_held(self, view: str) -> str:
        """The hashed rows of a quarantine."""
        return self.rows.held(self._judge.held_view(view))

    def _quarantine(self, position: Position) -> tuple[Table | None, Snapshot | None]:
        """The quarantine as it was when the trusted table was at a position."""
        found = find_table(self._lake.catalog, QUARANTINE, self._schema.lake_name)
        if found is None:
            return None, None
        at = positioned(found, position.lsn)
        if at is not None:
            return found, at[0]
        first = found.current_snapshot()
        while first is not None and first.parent_snapshot_id is not None:
            parent = found.snapshot_by_id(first.parent_snapshot_id)
            if parent is None:
                raise VerifyError("its quarantine has moved on since; verify again")
            first = parent
        return None, None  # its first row came later

    def _held_view(self, table: Table | None, snapshot: Snapshot | None) -> str:
        """SQL for the quarantine: c<attnum> for each column."""
        if table is not None:
            return self._lake.view(table, snapshot, self._judge.held_schema)
        empty = self._judge.held_schema.arrow_schema().empty_table()
        names = [column_name(column) for column in self._judge.held_schema.columns]
        return f"FROM {self.rows.register(empty.rename_columns(names))}"

    def _without_stale(self, view: str, held: str) -> str:
        """The trusted table without rows that are there only because their newest version is held."""
        if self._judge.rules.on_bad_update != "keep_previous_marked":
            return view
        mark = f"json_extract_string({column_name(quality_column())}, '$.stale_since')"
        stale = f"SELECT * FROM ({view}) WHERE {mark} IS NOT NULL"
        return (
            f"SELECT * FROM ({view}) WHERE {mark} IS NULL"
            f" UNION ALL SELECT * FROM ({stale}) ANTI JOIN ({held}) AS held {self.rows.using}"
        )

    def _effect(self, net: NetChanges, view: str, held: str, position: Position) -> _Effect:
        """What changes do to the two tables."""
        judged = self._judge.judge(self._complete(net, position))
        keys = net.keys.select(list(self._schema.key))
        if self._judge.rules.dedupe is None:
            return _Effect(keys, keys, judged)
        key = keys.column_names
        own = self._candidates(judged.good)
        present, waiting = self._rivals(own, keys, view, held)
        rule = self._judge.rules.dedupe
        stays = winners(pa.concat_tables([own, present, waiting]), rule, order_kind(self._judge), key)
        wins, kept, rises = np.split(stays, [len(own), len(own) + len(present)])
        superseded = present.filter(pa.array(~kept)).select(key)
        promoted = waiting.filter(pa.array(rises)).select(key)
        risen = self._judge.judge(self._rows_of(promoted, position)).good
        losers = pa.concat_tables([own.filter(pa.array(~wins)).select(key), superseded])
        return _Effect(
            leaving=pa.concat_tables([keys, superseded]),
            released=pa.concat_tables([keys, promoted]),
            judged=Judged(
                pa.concat_tables([judged.good.filter(pa.array(wins)), risen]),
                pa.concat_tables([judged.held, as_duplicates(losers)]),
            ),
        )

    def _rivals(self, own: pa.Table, keys: pa.Table, view: str, held: str) -> tuple[pa.Table, pa.Table]:
        """Candidates of the two tables for the business keys that changed rows have, or had."""
        touched = f"{self.rows.keys(keys)} {self.rows.using}"
        left = self._clean_rows(f"FROM ({view}) SEMI JOIN {touched}")
        before = [self._candidates(rows)["business_key"] for rows in left]
        chunks = [chunk for column in (own["business_key"], *before) for chunk in column.chunks]
        asked = pc.unique(pa.chunked_array(chunks, pa.string())).drop_null()
        present = [own.slice(0, 0)]
        for rows in self._clean_rows(f"FROM ({view}) ANTI JOIN {touched}"):
            found = self._candidates(rows)
            present.append(found.filter(pc.is_in(found["business_key"], asked)))
        columns = [self._judge.held_schema.column(name) for name in (BUSINESS_KEY, ORDER_BY)]
        names = [column_name(column) for column in (*columns, *self._schema.key_columns())]
        given = self.rows.register(pa.table({names[0]: asked}))
        query = f"SELECT {', '.join(names[:2])}, NULL::BIGINT AS lsn, {', '.join(names[2:])} FROM ({held})"
        waiting = self._lake.connection.sql(
            f"FROM ({query}) SEMI JOIN {given} USING ({names[0]}) ANTI JOIN {touched}"
        ).to_arrow_table()
        return pa.concat_tables(present), waiting.rename_columns(own.column_names).cast(own.schema)

    def _candidates(self, rows: pa.Table) -> pa.Table:
        """What decides of each row."""
        rule = self._judge.rules.dedupe
        assert rule is not None
        return candidates(rows, rule, list(self._schema.key))

    def _clean_rows(self, view: str) -> Iterator[pa.Table]:
        """Rows of the trusted table, as far as dedupe looks at them."""
        rule = self._judge.rules.dedupe
        assert rule is not None
        shape = self._judge.shape
        wanted = dict.fromkeys([*shape.key, *rule.key, *([rule.by] if rule.by else [])])
        columns = [shape.column(name) for name in wanted]
        fields = [*(pa.field(column.name, column.type.arrow) for column in columns), LSN_FIELD]
        listed = ", ".join(column_name(column) for column in columns)
        found = self._lake.connection.sql(f"SELECT {listed}, NULL::BIGINT FROM ({view})")
        for batch in found.to_arrow_reader(BATCH_ROWS):
            rows = pa.Table.from_batches([batch]).rename_columns([field.name for field in fields])
            yield rows.cast(pa.schema(fields))

    def _complete(self, net: NetChanges, position: Position) -> pa.Table:
        """The rows that changes leave, with values that updates did not send."""
        if not net.missing:
            return net.upserts
        old = self._rows_of(wanted_keys(net, self._schema), position)
        return fill(net, old, self._schema, exact=True).upserts

    def _rows_of(self, keys: pa.Table, position: Position) -> pa.Table:
        """The source's rows of some keys, as the trusted table at a position knows them."""
        log = self._lake.fresh_log()
        changes = last_rows(log, self._lake.store, self._schema, keys, upto_seq=position.seq)
        return trusted_rows(changes, self._schema)
