"""The life of a row: every change that the raw zone has of it, and what became of each.

A row is followed back through changes of its key; where it leaves the key for another
one, its life under that key is another question.
"""

from __future__ import annotations

import csv
import difflib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from smartstream.capture.values import cast
from smartstream.change import (
    COMMIT_LSN,
    COMMIT_TS,
    DELETE,
    OLD_KEY,
    OP,
    ORDINAL,
    READ,
    TRUNCATE,
    UNCHANGED,
    XID,
)
from smartstream.errors import KeyNotFound, ProtocolError, QueryError
from smartstream.raw.lookup import chosen_changes, fills_of
from smartstream.raw.store import Store
from smartstream.raw.timeline import Generation, LoggedFile, Past
from smartstream.schema import TableSchema
from smartstream.transform.fold import replace_values
from smartstream.transform.rows import project, same_key, trusted_rows
from smartstream.transform.text import row_texts

Ints = npt.NDArray[np.int64]
Key = tuple[Any, ...]
"""Values of the key's columns, in key order."""


@dataclass(frozen=True, slots=True)
class LifeChange:
    """One change of the row.

    Attributes:
        time, xid: None for a row of a copy, which tells neither.
        key: column → text, after the change.
        moved_from: the key before it, if it changed the key.
        changed: column → (text before, text after) of columns that differ.
        shown: False when a later change of the same transaction hid it from every reader.
    """

    op: str
    lsn: int
    ordinal: int
    time: datetime | None
    xid: int | None
    seq: int
    generation: int
    file: str
    key: Mapping[str, str | None]
    moved_from: Mapping[str, str | None] | None
    changed: Mapping[str, tuple[str | None, str | None]]
    shown: bool


@dataclass(slots=True)
class Life:
    """The changes of a row, oldest first, and its rows.

    Attributes:
        rows: (n, trusted schema), the whole row after each change; meaningless where it was deleted.
    """

    schema: TableSchema
    changes: list[LifeChange]
    rows: pa.Table


def find_table(past: Past, name: str) -> str:
    """Return the source table that is called ``name``, there or in the lake.

    Raises:
        QueryError: there is none, or none any longer.
    """
    known = {table: generations[-1].schema.lake_name for table, generations in past.tables.items()}
    if name in known:
        return name
    found = [table for table, lake_name in known.items() if lake_name == name]
    if found:
        return found[0]
    close = difflib.get_close_matches(name, [*known, *known.values()], n=1, cutoff=0.5)
    guess = f"Did you mean {close[0]}? " if close else ""
    raise QueryError(
        f"there is no table {name}", hint=f"{guess}Tables: {', '.join(sorted(known)) or 'none yet'}."
    )


def parse_key(text: str, schema: TableSchema) -> pa.Table:
    """Read a key: ``7``, ``7,x`` in key order, or ``id=7,code=x``; quotes as in CSV.

    Returns:
        (1, ``schema.key``).
    Raises:
        QueryError: it has not the key's columns, or a value is not of its column's type.
    """
    arrays = []
    for column, part in zip(schema.key_columns(), key_texts(text, schema), strict=True):
        try:
            value = cast(pa.array([part]), column.type).values
        except (ProtocolError, pa.ArrowException, ValueError) as error:
            raise _not_of_type(schema, column.name) from error
        if value.null_count:
            raise _not_of_type(schema, column.name)
        arrays.append(value)
    return pa.table(arrays, names=list(schema.key))


def key_texts(text: str, schema: TableSchema) -> tuple[str, ...]:
    """Return the text of each key column in key order; see ``parse_key``.

    Raises:
        QueryError: they are not the key's columns.
    """
    parts = next(csv.reader([text], skipinitialspace=True, strict=False), [])
    names = [part.partition("=")[0].strip() for part in parts]
    if len(parts) != len(schema.key):
        raise QueryError(
            f"{schema.id} has the key {', '.join(schema.key)}: {len(schema.key)} values, not {len(parts)}",
            hint=KeyNotFound.hint,
        )
    if set(names) == set(schema.key):
        given = {part.partition("=")[0].strip(): part.partition("=")[2] for part in parts}
        return tuple(given[name] for name in schema.key)
    return tuple(parts)


def life_of(past: Past, store: Store, table: str, key: pa.Table) -> Life:
    """Return every change of the row that has, or had, a key.

    Args:
        key: (1, the key of the table's newest schema).
    Raises:
        KeyNotFound: no change is about it.
    """
    schema = past.tables[table][-1].schema
    found = [_Found(schema, generation) for generation in past.tables[table]]
    parts = [part for each in found for part in each.read(store, key)]
    if not parts:
        raise KeyNotFound(f"no change of {table} that the lake holds is about a row with this key")
    return _Told(schema, parts).life()


@dataclass(frozen=True, slots=True)
class _Part:
    """Changes of the row in one file, in order."""

    generation: int
    logged: LoggedFile
    rows: pa.Table


@dataclass(slots=True)
class _Found:
    """The row's changes in one generation, looked for from the newest file back."""

    schema: TableSchema
    generation: Generation
    active: dict[Key, tuple[float, float]] = field(default_factory=dict)

    def read(self, store: Store, key: pa.Table) -> list[_Part]:
        """The parts, oldest first."""
        self.active = {_keys(key, self.schema.key)[0]: (float("inf"), 0)}
        fills = fills_of(self.schema, self.generation)
        parts: list[_Part] = []
        for logged in [*reversed(self.generation.changes), *reversed(self.generation.copies)]:
            count = 0
            while count != len(self.active):  # a key that the row came from may be in this file too
                count = len(self.active)
                known, rows = chosen_changes(store, logged, self.schema, self._wanted(key.schema))
                if not same_key(known, self.schema):
                    return parts
                rows = project(rows, known, self.schema, fills)
                kept = self._kept(rows)
            if len(kept):
                parts.insert(0, _Part(self.generation.number, logged, rows.take(pa.array(kept))))
        return parts

    def _wanted(self, target: pa.Schema) -> pa.Table:
        """The keys to look for."""
        columns = list(zip(*self.active, strict=True))
        return pa.table([pa.array(c, f.type) for c, f in zip(columns, target, strict=True)], schema=target)

    def _kept(self, rows: pa.Table) -> list[int]:
        """Which rows of a file belong to the row's life, in order; key changes lead back to other keys."""
        lsn, ordinal = rows[COMMIT_LSN].to_pylist(), rows[ORDINAL].to_pylist()
        ops, keys = rows[OP].to_pylist(), _keys(rows, self.schema.key)
        old = [tuple(o[n] for n in self.schema.key) if o else None for o in rows[OLD_KEY].to_pylist()]
        kept = []
        for n in sorted(range(len(rows)), key=lambda n: (lsn[n], ordinal[n], n), reverse=True):
            place, left = (lsn[n], ordinal[n]), old[n]
            here = self.active.get(keys[n])
            if here is not None and place < here and left is not None:
                self.active[left] = max(place, self.active.get(left, place))
            gone = self.active.get(left) if left is not None else None
            if (
                ops[n] == TRUNCATE
                or (here is not None and place < here)
                or (gone is not None and place < gone)
            ):
                kept.append(n)
        return kept[::-1]


@dataclass
class _Told:
    """The parts of a life, put together."""

    schema: TableSchema
    parts: Sequence[_Part]

    def life(self) -> Life:
        """Walk along the changes."""
        ops, keys = self._rows[OP].to_pylist(), _keys(self._rows, self.schema.key)
        rows, texts = self._whole
        changes: list[LifeChange] = []
        present: dict[Key, int] = {}
        kept: list[int] = []
        for n, op in enumerate(ops):
            old = self._old[n]
            if op == TRUNCATE and not present:
                continue
            before = present.pop(old if old is not None else keys[n], None)
            if op == TRUNCATE:
                present.clear()
            elif op != DELETE:
                present[keys[n]] = n
            after = texts[n] if op not in (DELETE, TRUNCATE) else {}
            changes.append(self._change(n, texts[before] if before is not None else {}, after))
            kept.append(n)
        return Life(self.schema, changes, rows.take(pa.array(kept, pa.int64())))

    @cached_property
    def _rows(self) -> pa.Table:
        """Every change."""
        return pa.concat_tables([part.rows for part in self.parts]).combine_chunks()

    @cached_property
    def _origin(self) -> list[_Part]:
        """The part of each change."""
        return [part for part in self.parts for _ in range(len(part.rows))]

    @cached_property
    def _old(self) -> list[Key | None]:
        """The key that each change found the row under, if another one."""
        return [tuple(o[n] for n in self.schema.key) if o else None for o in self._rows[OLD_KEY].to_pylist()]

    @cached_property
    def _whole(self) -> tuple[pa.Table, list[dict[str, str | None]]]:
        """The row after each change, with the values that an update left out, and its texts."""
        changes, keys = self._rows, _keys(self._rows, self.schema.key)
        rows = trusted_rows(changes, self.schema)
        unchanged = [set(names or ()) for names in changes[UNCHANGED].to_pylist()]
        last: dict[Key, int] = {}
        source = {name: np.arange(len(changes)) for names in unchanged for name in names}
        for n, left_out in enumerate(unchanged):
            before = last.get(self._old[n] or keys[n])
            for name in left_out if before is not None else ():
                source[name][n] = source[name][before]
            last[keys[n]] = n
        for name, places in source.items():
            carried = np.flatnonzero(places != np.arange(len(places)))
            rows = replace_values(rows, name, carried, trusted_rows(changes, self.schema), places[carried])
        shown = rows.select([column.name for column in self.schema.columns] + ["_untyped"])
        return rows, [json.loads(text) for text in row_texts(shown).to_pylist()]

    def _change(
        self, n: int, before: Mapping[str, str | None], after: Mapping[str, str | None]
    ) -> LifeChange:
        """One change in words."""
        row = {name: self._rows[name][n].as_py() for name in (OP, COMMIT_LSN, ORDINAL, COMMIT_TS, XID)}
        part, old = self._origin[n], self._rows[OLD_KEY][n].as_py()
        texts = self._whole[1][n]
        names = [column.name for column in self.schema.columns]
        changed = {
            name: (before.get(name), after.get(name)) for name in names if before.get(name) != after.get(name)
        }
        copied = row[OP] == READ
        return LifeChange(
            op=row[OP],
            lsn=row[COMMIT_LSN],
            ordinal=row[ORDINAL],
            time=row[COMMIT_TS],
            xid=None if copied else row[XID],
            seq=part.logged.seq,
            generation=part.generation,
            file=part.logged.file.path,
            key={name: texts[name] for name in self.schema.key} if row[OP] != TRUNCATE else {},
            moved_from={name: None if v is None else str(v) for name, v in old.items()} if old else None,
            changed=changed,
            shown=n not in self._hidden,
        )

    @cached_property
    def _hidden(self) -> set[int]:
        """Changes that a later one of the same transaction is about too."""
        lsns, ops = self._rows[COMMIT_LSN].to_pylist(), self._rows[OP].to_pylist()
        keys = _keys(self._rows, self.schema.key)
        hidden: set[int] = set()
        for n, op in enumerate(ops):
            for later in range(n + 1, len(ops)):
                if op == READ or lsns[later] != lsns[n]:
                    break
                if ops[later] == TRUNCATE or keys[n] in (keys[later], self._old[later]):
                    hidden.add(n)
                    break
        return hidden


def _keys(rows: pa.Table, names: Sequence[str]) -> list[Key]:
    """The key of each row."""
    return list(zip(*(rows[name].to_pylist() for name in names), strict=True))


def _not_of_type(schema: TableSchema, name: str) -> QueryError:
    """A value that can't be in a key column; the value itself is not repeated."""
    kind = schema.column(name).type.name
    return QueryError(f"the value for {name} is not of its type, {kind}", hint=KeyNotFound.hint)
