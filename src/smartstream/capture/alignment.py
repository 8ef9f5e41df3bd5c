"""Which column of a table is which column of a Relation message.

A Relation names columns but not their attnums.  The catalog has attnums, but
shows the table as it is now, which may be many DDL statements after the
message.  The schema that the lake has is as old as the message or older.  What
both agree on, and the order of attnums, mostly leaves one reading.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Protocol

from smartstream.errors import SchemaError
from smartstream.schema import Column, PgType, TableSchema


class RelationColumn(Protocol):
    """A column of a Relation message."""

    @property
    def name(self) -> str: ...
    @property
    def type_oid(self) -> int: ...
    @property
    def typmod(self) -> int: ...
    @property
    def is_key(self) -> bool: ...


class Relation(Protocol):
    """A Relation message of pgoutput."""

    @property
    def oid(self) -> int: ...
    @property
    def schema(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def replica_identity(self) -> str: ...
    @property
    def columns(self) -> Sequence[RelationColumn]: ...


Typed = tuple[str, PgType]


def align(
    relation: Relation,
    known: TableSchema | None,
    current: TableSchema | None,
    pg_type: Callable[[int, int], PgType],
) -> TableSchema | None:
    """Return the table as ``relation`` describes it, with attnums; None if in doubt.

    In doubt means that more than one history of DDL could lie behind the three; the
    caller copies the table anew.  A returned attnum is right unless it is of a column
    that has gone by now, and then no column that exists takes its place.

    Args:
        relation: as it came in the stream; not older than ``known``.
        known: the schema before the message; None if the table is new.
        current: what the catalog shows, read after the message came; None if the table is gone.
        pg_type: catalog.pg_type for the source.
    """
    try:
        typed = [(column.name, pg_type(column.type_oid, column.typmod)) for column in relation.columns]
    except SchemaError:
        return None  # the type was dropped since, so the column was too
    known = known if known is None or known.oid == relation.oid else None
    current = current if current is None or current.oid == relation.oid else None
    attnums = _attnums(typed, known, current)
    if attnums is None:
        return None
    not_null = {c.attnum for s in (known, current) if s is not None for c in s.columns if not c.nullable}
    columns = tuple(
        Column(name, attnum, type_, attnum not in not_null)
        for (name, type_), attnum in zip(typed, attnums, strict=True)
    )
    key = _key(relation, columns, known, current)
    return TableSchema(relation.oid, relation.schema, relation.name, columns, key) if key else None


def look_alike(known: TableSchema, current: TableSchema) -> bool:
    """Whether Relations of both read the same for a column that was dropped and added again."""
    before = {(c.name, c.type): c.attnum for c in known.columns}
    return any(before.get((c.name, c.type), c.attnum) != c.attnum for c in current.columns)


def _attnums(
    typed: Sequence[Typed], known: TableSchema | None, current: TableSchema | None
) -> tuple[int, ...] | None:
    """The columns' attnums, if there is one reading."""
    if known is None or current is None:
        only = current or known
        if only is None or typed != [(c.name, c.type) for c in only.columns]:
            return None
        return tuple(c.attnum for c in only.columns)
    before = {c.attnum: c.name for c in known.columns}
    after = {c.attnum: c.name for c in current.columns}
    readings = _readings([name for name, _ in typed], before, after)
    if len({_alive(reading, after) for reading in readings}) != 1:
        return None
    shown = (reading for reading in readings if set(reading) <= before.keys() | after.keys())
    types = [type_ for _, type_ in typed]
    return next((reading for reading in shown if _plausible(reading, types, known, current)), None)


def _readings(
    names: Sequence[str], before: Mapping[int, str], after: Mapping[int, str]
) -> list[tuple[int, ...]]:
    """The ways to give the columns attnums; enough of them to show every difference that matters.

    Attnums ascend, as in the message.  A column that was there before and is there
    now was there in between; one that has come since was there if a later one was.
    A column may also be one that has come and gone: an attnum that neither side shows.
    Types tell nothing here: one that neither side shows may have lain in between.
    """
    survivors, come = before.keys() & after.keys(), after.keys() - before.keys()
    if len(survivors) == len(names):
        return [tuple(sorted(survivors))]  # whatever they were called in between
    paths: list[tuple[int, ...]] = [()]
    for candidates in _candidates(names, before, after):
        by_last: dict[int, dict[tuple[int, ...], tuple[int, ...]]] = {}
        for path in paths:
            last = path[-1] if path else 0
            for attnum in candidates:
                same_last = by_last.setdefault(attnum, {})
                # What can follow depends on the last one alone: two of each are enough.
                if attnum > last and len(same_last) < 2 and not _skips(last, attnum, survivors | come):
                    same_last.setdefault(_alive((*path, attnum), after), (*path, attnum))
        paths = [path for same_last in by_last.values() for path in same_last.values()]
    newest = max([*before, *after])
    return [path for path in paths if not _skips(path[-1] if path else 0, newest + 1, survivors)]


def _candidates(
    names: Sequence[str], before: Mapping[int, str], after: Mapping[int, str]
) -> Iterator[list[int]]:
    """For each column the attnums that it may have, those that a side shows first."""
    newest = max([*before, *after])
    unseen = [n for n in range(max(before) + 1, newest) if n not in after]
    named: dict[str, set[int]] = {}
    for attnum, name in (*before.items(), *after.items()):
        named.setdefault(name, set()).add(attnum)
    for index, name in enumerate(names):
        yield [*sorted(named.get(name, ())), *unseen, newest + 1 + index]


def _skips(last: int, attnum: int, needed: AbstractSet[int]) -> bool:
    """Whether a needed attnum lies between the two."""
    return any(n in needed for n in range(last + 1, attnum))


def _alive(reading: tuple[int, ...], after: Mapping[int, str]) -> tuple[int, ...]:
    """A reading without the columns that have gone: they differ in nothing that lasts."""
    return tuple(n if n in after else 0 for n in reading)


def _plausible(
    attnums: Sequence[int], types: Sequence[PgType], known: TableSchema, current: TableSchema
) -> bool:
    """Whether no rename in between suggests that another column was meant.

    Where a column has gone and another has come, either may have had the name, if it had the
    type too: one that got its type later was written anew with all rows, which is found otherwise.
    """
    before, after = ({c.attnum: c.type for c in schema.columns} for schema in (known, current))
    meant = dict(zip(attnums, types, strict=True))
    gone, come = before.keys() - after.keys(), after.keys() - before.keys()
    sides = (
        (before, gone & meant.keys(), {after[n] for n in come - meant.keys()}),
        (after, come & meant.keys(), {before[n] for n in gone - meant.keys()}),
    )
    return not any(
        _alike(rival, said) or not _alike(own, said)
        for shown, used, rivals in sides
        for own, said in {(shown[n], meant[n]) for n in used}
        for rival in rivals
    )


def _alike(one: PgType, other: PgType) -> bool:
    """Whether a column may go from one type to the other without its table being rewritten."""
    return one.kind is other.kind or one.arrow.id == other.arrow.id


def _key(
    relation: Relation, columns: Sequence[Column], known: TableSchema | None, current: TableSchema | None
) -> tuple[str, ...]:
    """The key's names, in index order; empty if there is none."""
    flagged = {c.name for c in relation.columns if c.is_key}
    names = {c.attnum: c.name for c in columns}
    by_schema = [
        tuple(names.get(c.attnum, "") for c in schema.key_columns())
        for schema in (current, known)
        if schema is not None
    ]
    if relation.replica_identity in ("f", "n"):  # flags all columns, or none
        return next((key for key in by_schema if "" not in key), ())
    ordered = next((key for key in by_schema if set(key) == flagged), None)
    return ordered or tuple(c.name for c in columns if c.name in flagged)
