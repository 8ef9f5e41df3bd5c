"""Predict: the features of one run through one model, into its tables."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from smartstream.errors import ModelFailed
from smartstream.inference import outputs as out
from smartstream.inference.config import ModelSettings
from smartstream.inference.models.model import Model
from smartstream.inference.models.signature import as_inputs, bad_rows
from smartstream.inference.outputs import OutputTable, held_schema, key_fields, output_schema
from smartstream.inference.runs import OK, runs_of
from smartstream.query.duckdb import add_filesystem
from smartstream.query.relation import relation, sql_type
from smartstream.schema import TableSchema
from smartstream.sql_text import quoted
from smartstream.transform.keys import find_keys, unique_keys
from smartstream.trusted.catalog import ANALYTICS, LakeCatalog
from smartstream.trusted.engine import Engine
from smartstream.trusted.locate import Located
from smartstream.trusted.plan import find_table, plan
from smartstream.trusted.position import Position
from smartstream.trusted.table import TrustedTable

FEATURES = "features"
"""Table of the run's DuckDB: the features with their hash."""

_COMPARED = (out.FEATURES_HASH, out.STALE, out.CLOSED_AT)
"""What of a prediction says whether it must be made anew."""


@dataclass(frozen=True, slots=True)
class Occasion:
    """What all predictions of a run have in common.

    Attributes:
        snapshots: that were read, as JSON.
        notes: that the latest predictions are committed with; what they say of the run needs its counts.
        keys: that the features are of; None: all that there are.
        anew: whether every prediction is replaced.
        last_run: id of the last run that ended; empty without one.
        check: raises ModelTimeout when the run has taken too long.
    """

    model: ModelSettings
    catalog: LakeCatalog
    engine: Engine
    run_id: str
    started_at: datetime
    lsn: int
    snapshots: str
    notes: Callable[[Counts], tuple[tuple[str, str], ...]]
    keys: pa.Table | None
    anew: bool
    last_run: str
    check: Callable[[], None]


@dataclass(slots=True)
class Counts:
    """What became of the features of a run; ``held``: those that could not be used."""

    read: int = 0
    scored: int = 0
    unchanged: int = 0
    removed: int = 0
    held: list[pa.Table] = field(default_factory=list)

    @property
    def quarantined(self) -> int:
        """Keys without a new prediction."""
        return sum(rows.num_rows for rows in self.held)


class Predictor:
    """The predictions of one model, written to its tables."""

    def __init__(
        self, occasion: Occasion, model: Model, name: str, connection: duckdb.DuckDBPyConnection
    ) -> None:
        self._run, self._model, self._connection = occasion, model, connection
        features = connection.sql(f"SELECT * FROM {FEATURES} LIMIT 0").to_arrow_table().schema
        self._keys = key_fields(features, occasion.model.key)
        self._names = [key.name for key in self._keys]
        self._list = ", ".join(quoted(name) for name in self._names)
        self._latest = self._open(output_schema(name, self._keys, model.outputs))
        self._history = None
        if occasion.model.keep != "latest":
            lasting = output_schema(f"{name}{out.HISTORY}", self._keys, model.outputs, history=True)
            self._history = self._open(lasting)
        self._held_schema = held_schema(name, self._keys)
        self._counts = Counts(read=_count(connection))
        self._constants = {
            out.MODEL_NAME: model.identity.name,
            out.MODEL_VERSION: model.identity.version,
            out.MODEL_SHA: model.identity.sha256,
            out.SOURCE_SNAPSHOTS: occasion.snapshots,
            out.PREDICTED_AT: occasion.started_at,
            out.RUN_ID: occasion.run_id,
        }

    def write(self) -> Counts:
        """Predict the features that differ from those of the predictions that are there, and commit.

        The quarantine comes first, then the history, the latest predictions with the notes
        last: after a crash in between the run is done again.
        """
        wanted = self._run.keys
        present = self._everything() if wanted is None else self._latest.find(wanted, _COMPARED)
        left = self._latest.whole(self._left(present))
        numbers = [one.name for one in self._model.outputs if pa.types.is_floating(one.type)]
        files = self._latest.table.write(self._predicted(present), plain=[out.FEATURES_HASH, *numbers])
        kept = self._kept(present)
        closed = _with(left, out.CLOSED_AT, pa.repeat(pa.scalar(self._run.started_at), len(left)))
        self._counts.removed = left.num_rows
        self._hold(wanted)
        self._remember(files, closed)
        more = (
            [kept, closed, self._closed_before(present)] if self._run.model.on_delete == "close" else [kept]
        )
        files += self._latest.table.write(pa.concat_tables([self._shaped(one) for one in more]))
        self._commit(files, kept, left)
        return self._counts

    def _open(self, schema: TableSchema) -> OutputTable:
        """One of the model's tables."""
        return OutputTable.open(self._run.catalog, schema, self._run.engine)

    def _everything(self) -> pa.Table:
        """Of every prediction that is there now the key and what is compared; none with another key."""
        wanted = pa.schema([*self._keys, *(pa.field(name, out.META[name]) for name in _COMPARED)])
        table = find_table(self._run.catalog, ANALYTICS, self._latest.schema.lake_name)
        live = plan(table) if table is not None else None
        types = {column.name: sql_type(column.type) for column in live.columns} if live is not None else {}
        if table is None or live is None or any(types.get(one.name) != sql_type(one.type) for one in wanted):
            return wanted.empty_table()
        add_filesystem(self._connection, [table])
        names = ", ".join(quoted(name) for name in wanted.names)
        found: pa.Table = self._connection.sql(f"SELECT {names} FROM ({relation(live)})").to_arrow_table()
        return found.cast(wanted)

    def _left(self, present: pa.Table) -> pa.Table:
        """The keys of predictions that have no features any more, and are not closed yet."""
        if not present.num_rows:
            return self._typed(present)
        features = self._connection.sql(f"SELECT {self._list} FROM {FEATURES}").to_arrow_table()
        at = find_keys(self._typed(features), self._typed(present), self._names)
        gone = pc.and_(pa.array(at < 0), pc.is_null(present[out.CLOSED_AT]))
        return self._typed(present.filter(gone))

    def _closed_before(self, present: pa.Table) -> pa.Table:
        """Where all rows are replaced: those that were closed, and whose key has not come back."""
        if not self._run.anew:
            return self._latest.schema.trusted_schema().empty_table()
        closed = self._typed(present.filter(pc.is_valid(present[out.CLOSED_AT])))
        features = self._connection.sql(f"SELECT {self._list} FROM {FEATURES}").to_arrow_table()
        at = find_keys(self._typed(features), closed, self._names)
        return self._latest.whole(closed.filter(pa.array(at < 0)))

    def _predicted(self, present: pa.Table) -> Iterator[pa.Table]:
        """Chunks of new predictions; what can't be predicted is put aside."""
        sql = f"SELECT * FROM {FEATURES}"
        if not self._run.anew and present.num_rows:
            self._connection.register("present", present)
            same = " AND ".join(f"p.{quoted(n)} = f.{quoted(n)}" for n in [*self._names, out.FEATURES_HASH])
            there = f"p.{out.STALE} IS NULL AND p.{out.CLOSED_AT} IS NULL"
            sql = f"SELECT f.* FROM {FEATURES} f ANTI JOIN present p ON {same} AND {there}"
        for batch in self._connection.sql(sql).to_arrow_reader(self._run.model.chunk_rows):
            good = self._chunk(pa.Table.from_batches([batch]))
            self._run.check()
            self._counts.scored += good.num_rows
            if good.num_rows:
                yield good
        self._counts.unchanged = self._counts.read - self._counts.scored - self._counts.quarantined

    def _chunk(self, chunk: pa.Table) -> pa.Table:
        """Predictions of one chunk."""
        inputs = as_inputs(chunk, self._model.inputs)
        bad, reasons = bad_rows(self._model.inputs, inputs)
        if bad.any():
            self._put_aside(chunk, bad, reasons)
            good = pa.array(~bad)
            chunk, inputs = chunk.filter(good), inputs.filter(good)
        found = self._model.predict(inputs) if chunk.num_rows else self._model.outputs.empty_table()
        if found.schema != self._model.outputs:
            raise ModelFailed(f"model {self._model.identity.name} gave other columns than before")
        odd = _not_finite(found)
        if odd.any():
            self._put_aside(chunk, odd, pa.repeat("the prediction is not finite", len(odd)))
            good = pa.array(~odd)
            chunk, inputs, found = chunk.filter(good), inputs.filter(good), found.filter(good)
        rows = chunk.select([*self._names, out.FEATURES_HASH])
        for name, column in zip(found.column_names, found.columns, strict=True):
            rows = rows.append_column(name, column)
        if self._run.model.explain and chunk.num_rows:
            why = self._model.explain(inputs, self._run.model.explain)
            if why is not None:
                rows = rows.append_column(out.EXPLANATION, _as_json(why))
        return self._latest.complete(rows, self._constants, self._run.lsn)

    def _put_aside(self, chunk: pa.Table, bad: np.ndarray, reasons: pa.Array) -> None:
        """Remember keys that have no prediction, and why."""
        chosen = pa.array(bad)
        rows = chunk.select([*self._names, out.FEATURES_HASH]).filter(chosen)
        self._counts.held.append(rows.append_column(out.REASON, reasons.filter(chosen)))

    def _kept(self, present: pa.Table) -> pa.Table:
        """Previous predictions of keys that were put aside: they stay, marked."""
        if not self._counts.held or not present.num_rows:
            return self._latest.schema.trusted_schema().empty_table()
        held = pa.concat_tables(self._counts.held)
        rows = self._latest.whole(self._typed(held))
        at = find_keys(self._typed(held), self._typed(rows), self._names)
        return _with(rows, out.STALE, held[out.REASON].take(pa.array(at[at >= 0])))

    def _hold(self, wanted: pa.Table | None) -> None:
        """Write what was put aside; what could be predicted now leaves."""
        there = find_table(self._run.catalog, ANALYTICS, self._held_schema.lake_name) is not None
        if not self._counts.held and not there:
            return
        held = self._open(self._held_schema)
        fields = [pa.field(out.FEATURES_HASH, pa.int64()), pa.field(out.REASON, pa.string())]
        empty = pa.schema([*self._keys, *fields])
        rows = pa.concat_tables([empty.empty_table(), *(one.cast(empty) for one in self._counts.held)])
        constants = {out.RUN_ID: self._run.run_id, out.PREDICTED_AT: self._run.started_at}
        shaped = held.complete(rows, constants, self._run.lsn)
        held.replace([shaped], wanted, run_id=self._run.run_id, lsn=self._run.lsn)

    def _remember(self, files: list[Any], closed: pa.Table) -> None:
        """Add this run's predictions, and the keys that have gone, to the history; once."""
        if self._history is None or self._history.table.position.rules == self._run.run_id:
            return
        gone = self._shaped(_with(closed, out.RUN_ID, pa.repeat(self._run.run_id, len(closed))))
        rows = itertools.chain(self._latest.written(files), [gone] if gone.num_rows else [])
        table, names = self._history.table, self._history.names
        files = table.write(one.select(names) for one in rows)
        held = table.position
        position = Position(max(held.lsn, self._run.lsn), held.seq + 1, 1, self._run.run_id)
        table.commit(add=files, delete=self._left_by_a_run_cut_off(table), position=position)

    def _left_by_a_run_cut_off(self, table: TrustedTable) -> Located | None:
        """What a run has added to the history that never came to its end: it is as if it had not been."""
        writer = table.position.rules
        if writer in ("", self._run.last_run):
            return None
        if any(run.run_id == writer and run.status == OK for run in runs_of(self._run.catalog)):
            return None  # history was kept, then not, and is kept again
        return table.locate_by(pa.table({out.RUN_ID: pa.array([writer], pa.string())}))

    def _commit(self, files: list[Any], kept: pa.Table, left: pa.Table) -> None:
        """Make the latest predictions visible, with the run's notes."""
        table, run = self._latest.table, self._run
        located = None
        if not run.anew:
            parts = [self._typed(rows) for rows in (*table.written(files, self._names), kept, left)]
            keys = unique_keys(pa.concat_tables(parts))
            located = table.locate(keys) if keys.num_rows else None
        held = table.position
        position = Position(max(held.lsn, run.lsn), held.seq + 1, 1, run.run_id, run.notes(self._counts))
        table.commit(add=files, delete=located, position=position, replace_all=run.anew)

    def _typed(self, rows: pa.Table) -> pa.Table:
        """Key columns in the output's types."""
        return pa.table([rows[key.name].cast(key.type) for key in self._keys], names=self._names)

    def _shaped(self, rows: pa.Table) -> pa.Table:
        """Rows in the shape of the latest predictions."""
        return rows.select(self._latest.names).cast(self._latest.schema.trusted_schema())


def _as_json(why: pa.Array) -> pa.Array:
    """Contributions as JSON text, one list a row."""
    why = pa.concat_arrays([why]) if isinstance(why, pa.Array) else why.combine_chunks()
    parts = why.flatten()
    names = pc.replace_substring(pc.replace_substring(parts.field("feature"), "\\", "\\\\"), '"', '\\"')
    numbers = parts.field("contribution").cast(pa.string())
    texts = pc.binary_join_element_wise('{"feature": "', names, '", "contribution": ', numbers, "}", "")
    offsets = pc.subtract(why.offsets, why.offsets[0])
    lists = pa.ListArray.from_arrays(offsets, texts)
    return pc.binary_join_element_wise("[", pc.binary_join(lists, ", "), "]", "")


def _not_finite(found: pa.Table) -> np.ndarray:
    """Which predictions hold a number that is none."""
    odd = np.zeros(found.num_rows, np.bool_)
    for column in found.columns:
        if pa.types.is_floating(column.type):
            odd |= ~pc.fill_null(pc.is_finite(column), False).to_numpy()
        elif pa.types.is_list(column.type) and len(column):
            array = column.combine_chunks()
            bad = ~pc.fill_null(pc.is_finite(array.flatten()), False).to_numpy(zero_copy_only=False)
            odd[pc.list_parent_indices(array).to_numpy()[bad]] = True
    return odd


def _with(rows: pa.Table, name: str, values: Any) -> pa.Table:
    """Rows with another column in the place of one."""
    index = rows.schema.get_field_index(name)
    column = rows.schema.field(index)
    return rows.set_column(index, column, values.cast(column.type))


def _count(connection: duckdb.DuckDBPyConnection) -> int:
    """How many features there are."""
    ((count,),) = connection.sql(f"SELECT count(*) FROM {FEATURES}").fetchall()
    return int(count)
