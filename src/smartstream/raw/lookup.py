"""Lookup: the newest state of some keys, as the raw zone has it.

The newest files are read first, and of each only the row groups that can hold a wanted
key.  What was found is folded; what the fold still misses (a key that nobody changed,
a value that an update left out) is looked for in the files before.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from smartstream.capture.values import cast
from smartstream.change import COMMIT_LSN, DELETE, OLD_KEY, OP, ORDINAL, TRUNCATE, UNCHANGED
from smartstream.manifest import Entry, LakeState
from smartstream.raw.reader import read_chosen, read_schema
from smartstream.raw.store import Store
from smartstream.raw.timeline import Generation, LoggedFile, Past
from smartstream.schema import TRUSTED_LSN, TableSchema
from smartstream.transform.fold import NetChanges, fold, wanted_keys
from smartstream.transform.keys import concat_keys, key_ids
from smartstream.transform.rows import project, same_key

Mask = npt.NDArray[np.bool_]


class Log(Protocol):
    """The part of the manifest log that a lookup needs."""

    @property
    def state(self) -> LakeState: ...
    def entry(self, seq: int) -> Entry: ...


def last_rows(
    log: Log, store: Store, schema: TableSchema, keys: pa.Table, *, upto_seq: int | None = None
) -> pa.Table:
    """Return the newest state of ``keys`` as changelog rows with every value in them.

    Deleted keys are absent, and so is a row with a value that the raw zone does not hold
    (while a copy is being caught up with).  Only the table's newest generation counts.
    Memory follows the number of keys and of their changes, not the size of the table.
    Does not see that a key's columns were exchanged for others: it stops there, and what
    lies before counts as absent.

    Args:
        schema: of the rows to return; not older than the newest entry that counts.
        keys: (n, ``schema.key``), unique.
        upto_seq: changes of later entries don't count; None: all that is in the log.
    Returns:
        (m ≤ n, ``schema.changelog_schema()``), in no order; ``_unchanged`` is null.
    Raises:
        RawCorrupt, StoreUnavailable, LakeNotWritable: as ``read_batches``.
    """
    last_seq = log.state.seq if upto_seq is None else upto_seq
    with _INDEX_LOCK:
        index = _INDEXES.setdefault(log, _Index())
    generation = index.generation(log, schema.id, last_seq)
    search = _Search(schema, keys.select(list(schema.key)))
    if generation is not None:
        fills = fills_of(schema, generation)
        for logged in _newest_first(generation, last_seq):
            if search.done or not search.take(store, logged, fills):
                break
    return search.rows()


class _Index:
    """The files of each table, kept in step with a log."""

    def __init__(self) -> None:
        self._past, self._lock = Past(), threading.Lock()

    def generation(self, log: Log, table: str, last_seq: int) -> Generation | None:
        """The newest generation that had begun by ``last_seq``."""
        with self._lock:
            while self._past.seq < log.state.seq:
                self._past.add(log.entry(self._past.seq + 1))
                self._past.commits.clear()  # of no use here
            begun = [each for each in self._past.tables.get(table, ()) if each.copy_seq <= last_seq]
        return begun[-1] if begun else None


_INDEXES: WeakKeyDictionary[Any, _Index] = WeakKeyDictionary()
_INDEX_LOCK = threading.Lock()


@dataclass(slots=True)
class _Search:
    """Keys on the way to be known.

    Attributes:
        wanted: the keys that were asked for.
        open: keys of which older changes must be seen.
        found: the changes seen so far, oldest file first: of copied rows of one key the last counts.
    """

    schema: TableSchema
    wanted: pa.Table
    found: list[pa.Table] = field(default_factory=list)
    open: pa.Table = field(init=False)

    def __post_init__(self) -> None:
        self.open = self.wanted

    @property
    def done(self) -> bool:
        """Whether everything is known."""
        return len(self.open) == 0

    def take(self, store: Store, logged: LoggedFile, fills: dict[int, pa.Scalar]) -> bool:
        """Look into one file; False when its rows are known by another key."""
        opened = self.open
        while True:
            known, rows = chosen_changes(store, logged, self.schema, opened)
            if not same_key(known, self.schema):
                return False
            if not rows.num_rows:
                return True
            rows = project(rows, known, self.schema, fills)
            self.open = self._left(fold(pa.concat_tables([rows, *self.found]), self.schema))
            # A row that came here from another key: its life goes on under that, in this file too.
            more = self.open.filter(pa.array(~_among(self.open, opened)))
            if not more.num_rows:
                self.found.insert(0, rows)
                return True
            opened = pa.concat_tables([opened, more])

    def rows(self) -> pa.Table:
        """The rows of the wanted keys that are whole."""
        target = self.schema.changelog_schema()
        if not self.found:
            return target.empty_table()
        changes = pa.concat_tables(self.found)
        net = fold(changes, self.schema)
        whole = _among(net.upserts.select(list(self.schema.key)), self.wanted)
        for missing in net.missing:
            whole[missing.rows] = False
        upserts = net.upserts.filter(pa.array(whole))
        deciding = changes.take(pa.array(_deciding(changes, upserts, self.schema)))
        arrays = {name: deciding[name] for name in target.names} | {UNCHANGED: pa.nulls(len(upserts))}
        arrays |= {name: upserts[name] for name in upserts.column_names if name != TRUSTED_LSN}
        return pa.table({name: arrays[name].cast(target.field(name).type) for name in target.names}, target)

    def _left(self, net: NetChanges) -> pa.Table:
        """The keys of which older changes must be seen."""
        none = self.wanted.slice(0, 0)
        if net.truncate:
            return none
        untouched = self.wanted.filter(pa.array(~_among(self.wanted, net.keys)))
        wanted = _among(net.upserts.select(list(self.schema.key)), self.wanted)
        origins = [m.origin_keys.filter(pa.array(wanted[m.rows])) for m in net.missing]
        if not any(len(keys) for keys in origins):
            return untouched
        keys = wanted_keys(net, self.schema)
        keys = keys.filter(pa.array(_among(keys, concat_keys(origins, self.schema.key))))
        return pa.concat_tables([untouched, keys.filter(pa.array(~_among(keys, untouched)))])


def _newest_first(generation: Generation, last_seq: int) -> Iterator[LoggedFile]:
    """The files of a generation; its copy is older than all of its changes."""
    yield from (logged for logged in reversed(generation.changes) if logged.seq <= last_seq)
    yield from reversed(generation.copies)


def fills_of(schema: TableSchema, generation: Generation) -> dict[int, pa.Scalar]:
    """Return what rows that are older than a column hold in it, by attnum."""
    texts = {column: generation.fills.get(str(column.attnum)) for column in schema.columns}
    return {
        c.attnum: cast(pa.array([text]), c.type).values[0] for c, text in texts.items() if text is not None
    }


def chosen_changes(
    store: Store, logged: LoggedFile, schema: TableSchema, keys: pa.Table
) -> tuple[TableSchema, pa.Table]:
    """Return the schema of a file, and its changes that are about ``keys``, and every truncate.

    Old keys count too.  No rows when the file knows rows by other columns than ``schema``.
    """
    known = logged.schema or read_schema(store, logged.file)
    if not same_key(known, schema):
        return known, known.changelog_schema().empty_table()
    columns = [OP, OLD_KEY, *known.key]
    bounds = None if TRUNCATE in logged.file.ops else _bounds(keys)
    skip = partial(_holds_none, bounds=bounds, names=known.key)
    return read_chosen(store, logged.file, columns, partial(_about, keys=keys, names=known.key), skip=skip)


def _about(changes: pa.Table, keys: pa.Table, names: tuple[str, ...]) -> pa.BooleanArray:
    """Which changes are about ``keys``, whose columns are called ``names`` in them."""
    present = [changes[name] for name in names]
    chosen = _among(_typed(present, keys), keys) | pc.equal(changes[OP], TRUNCATE).to_numpy()
    moved = np.flatnonzero(pc.is_valid(changes[OLD_KEY]).to_numpy())
    if len(moved):
        old = changes[OLD_KEY].take(pa.array(moved))
        chosen[moved] |= _among(_typed([pc.struct_field(old, [name]) for name in names], keys), keys)
    return pa.array(chosen)


def _typed(columns: list[pa.ChunkedArray], keys: pa.Table) -> pa.Table:
    """Key columns under the names and types of ``keys``: they may have been narrower once."""
    arrays = [column.cast(field.type) for column, field in zip(columns, keys.schema, strict=True)]
    return pa.table(arrays, schema=keys.schema)


def _among(rows: pa.Table, keys: pa.Table) -> Mask:
    """Which of ``rows`` are one of ``keys``."""
    ids = key_ids(concat_keys([rows, keys], keys.column_names))
    among: Mask = np.isin(ids[: len(rows)], ids[len(rows) :])
    return among


def _deciding(changes: pa.Table, upserts: pa.Table, schema: TableSchema) -> npt.NDArray[np.int64]:
    """For each of ``upserts`` the change that made it: the last one of its key."""
    names = list(schema.key)
    ids = key_ids(concat_keys([changes.select(names), upserts.select(names)], names))
    last = np.full(int(ids.max(initial=-1)) + 1, -1, np.int64)
    order = np.lexsort((changes[ORDINAL].to_numpy(), changes[COMMIT_LSN].to_numpy()))
    alive = ~pc.equal(changes[OP], DELETE).to_numpy()[order]
    last[ids[: len(changes)][order[alive]]] = order[alive]
    return last[ids[len(changes) :]]


def _bounds(keys: pa.Table) -> list[tuple[Any, Any] | None]:
    """Least and greatest value of each key column; None where Parquet's order is not ours."""
    return [
        tuple(pc.min_max(column).as_py().values())
        if pa.types.is_integer(column.type) or pa.types.is_string(column.type)
        else None
        for column in keys.columns
    ]


def _holds_none(
    group: pq.RowGroupMetaData, *, bounds: list[tuple[Any, Any] | None] | None, names: tuple[str, ...]
) -> bool:
    """Whether the bounds in a row group tell that none of the keys is in it, old keys included."""
    if bounds is None:
        return False
    columns = {group.column(n).path_in_schema: group.column(n) for n in range(group.num_columns)}
    for path in ("{}", OLD_KEY + ".{}"):
        if not any(
            bound and _apart(columns[path.format(name)].statistics, bound, group.num_rows)
            for name, bound in zip(names, bounds, strict=True)
        ):
            return False
    return True


def _apart(statistics: Any, bound: tuple[Any, Any], row_count: int) -> bool:
    """Whether a column chunk lies outside the bound, or is all null."""
    if statistics is None:
        return False
    if statistics.has_null_count and statistics.null_count == row_count:
        return True
    return bool(statistics.has_min_max and (statistics.max < bound[0] or statistics.min > bound[1]))
