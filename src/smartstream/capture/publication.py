"""The publication: which tables' changes the source sends."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, LiteralString

import psycopg
from psycopg import sql

from smartstream.capture import catalog
from smartstream.capture.connect import map_error
from smartstream.errors import MissingRight, NoTables, PublicationMissing, SourceBusy, TableWithoutKey
from smartstream.schema import TableSchema

Connection = psycopg.Connection[tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class PublicationChange:
    """What ``ensure`` did; tables by ``schema.name``."""

    created: bool = False
    added: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    altered: bool = False  # its options


Named = tuple[str, str]  # schema, name
LOOKS = 5
_MOVED = (
    psycopg.errors.DuplicateObject,
    psycopg.errors.UndefinedObject,
    psycopg.errors.UndefinedTable,
    psycopg.errors.InvalidSchemaName,
)
"""A name stands for another table than a moment ago, or for none."""


@dataclass(frozen=True, slots=True)
class _Existing:
    """A publication as the catalog has it; its tables by oid."""

    all_tables: bool
    options: Mapping[str, bool]  # statement suffix → whether it is already so
    whole: Mapping[int, Named]  # listed one by one, with all rows and columns
    partial: Mapping[int, Named]  # listed with a row filter or a column list
    by_schema: frozenset[int]  # in it through their schema

    @property
    def complete(self) -> bool:
        """Whether it sends every kind of change, of partitions as of their root."""
        return all(self.options.values())


def ensure(connection: Connection, name: str, tables: Sequence[TableSchema]) -> PublicationChange:
    """Create the publication, or alter it, so that it sends exactly these tables.

    A publication FOR ALL TABLES or FOR TABLES IN SCHEMA keeps what it covers.  Does
    nothing, and needs no right, when all is as it should be.

    Raises:
        NoTables: ``tables`` is empty: a publication is never emptied.
        TableWithoutKey: a table has lost its key: publishing it would make its updates fail at the source.
        PublicationMissing: there is none, and the role may not create it.
        MissingRight: the role does not own the publication or a table.
        SourceBusy: tables are renamed, dropped and created again, each time that we look.
    """
    for _ in range(LOOKS - 1):
        try:
            return _ensure(connection, name, tables)
        except SourceBusy as error:
            if not isinstance(error.__cause__, _MOVED):
                raise
    return _ensure(connection, name, tables)


def _ensure(connection: Connection, name: str, tables: Sequence[TableSchema]) -> PublicationChange:
    """Look, and alter what is not as it should be; it goes by names, and in between they may change."""
    if not tables:
        raise NoTables(f"publication {name} would have no table")
    wanted = _checked(connection, tables)
    existing = _existing(connection, name)
    if existing is None:
        _create(connection, name, wanted)
        return PublicationChange(created=True, added=tuple(table.id for table in wanted))
    if not existing.complete:
        _set_options(connection, name, existing.options)
    if existing.all_tables:
        return PublicationChange(altered=not existing.complete)
    return _alter(connection, name, wanted, existing)


def preview(connection: Connection, name: str, tables: Sequence[TableSchema]) -> PublicationChange:
    """Return what ``ensure`` would do; changes nothing.

    Raises:
        NoTables, TableWithoutKey: as ``ensure``.
    """
    if not tables:
        raise NoTables(f"publication {name} would have no table")
    wanted = _checked(connection, tables)
    existing = _existing(connection, name)
    if existing is None:
        return PublicationChange(created=True, added=tuple(table.id for table in wanted))
    if existing.all_tables:
        return PublicationChange(altered=not existing.complete)
    return _difference(wanted, existing).change


def membership(connection: Connection, name: str, oids: Sequence[int]) -> dict[str, str]:
    """Return for each table that is published what stands for its being so without a break.

    It is another value after the table was taken out and put back, after a row filter or a
    column list was set, and after the publication's options changed or it was created anew.

    Returns:
        oid → value; without the tables that the publication does not send.
    """
    with _mapped(name):
        by_schema = connection.info.server_version >= 150000
        statement = _MEMBERSHIP_BY_SCHEMA if by_schema else _MEMBERSHIP
        rows = connection.execute(statement, {"name": name, "oids": list(oids)}).fetchall()
    return {str(oid): value for oid, value in rows}


def exists(connection: Connection, name: str) -> bool:
    """Whether there is a publication called ``name``."""
    return _existing(connection, name) is not None


def create_statement(name: str, tables: Sequence[TableSchema]) -> str:
    """The SQL that creates the publication, for a person to run."""
    return _create_sql(name, tables).as_string(None)


def _checked(connection: Connection, tables: Sequence[TableSchema]) -> tuple[TableSchema, ...]:
    """The tables as they are now, without those that are gone."""
    found = catalog.read_tables(connection, [table.oid for table in tables])
    if found.keyless:
        reasons = "; ".join(f"{table.id}: {table.reason}" for table in found.keyless)
        raise TableWithoutKey(f"not publishing {reasons}")
    if not found.tables:
        raise NoTables("every table to publish is gone")
    return found.tables


@dataclass(frozen=True, slots=True)
class _Difference:
    """What must be done to a publication's list of tables."""

    add: Sequence[TableSchema]
    leave: Sequence[Named]
    change: PublicationChange


def _difference(wanted: Sequence[TableSchema], existing: _Existing) -> _Difference:
    """Compare what is wanted with what there is."""
    keep = {table.oid for table in wanted}
    in_place = existing.whole.keys() | (existing.by_schema - existing.partial.keys())
    added = [table for table in wanted if table.oid not in in_place]
    leaving = {oid: table for oid, table in existing.whole.items() if oid not in keep}
    leaving.update(existing.partial)  # those that are wanted come back whole
    change = PublicationChange(
        added=tuple(table.id for table in added),
        dropped=tuple(sorted(".".join(table) for oid, table in leaving.items() if oid not in keep)),
        altered=not existing.complete,
    )
    return _Difference(added, tuple(leaving.values()), change)


def _alter(
    connection: Connection, name: str, wanted: Sequence[TableSchema], existing: _Existing
) -> PublicationChange:
    """Bring an existing publication's list of tables up to date."""
    found = _difference(wanted, existing)
    with _mapped(name), connection.transaction():
        if found.leave:
            connection.execute(_statement("ALTER PUBLICATION {} DROP TABLE {}", name, found.leave))
        if found.add:
            connection.execute(_statement("ALTER PUBLICATION {} ADD TABLE {}", name, map(_named, found.add)))
    return found.change


def _create(connection: Connection, name: str, tables: Sequence[TableSchema]) -> None:
    """CREATE PUBLICATION."""
    try:
        with _mapped(name):
            connection.execute(_create_sql(name, tables))
    except MissingRight as error:
        raise PublicationMissing(f"there is none yet; {error}") from error


def _set_options(connection: Connection, name: str, options: Mapping[str, bool]) -> None:
    """Set what is not as it should be."""
    for option, is_set in options.items():
        if not is_set:
            statement = sql.SQL("ALTER PUBLICATION {} SET ({})")
            with _mapped(name):
                connection.execute(statement.format(sql.Identifier(name), sql.SQL(_OPTIONS[option])))


def _existing(connection: Connection, name: str) -> _Existing | None:
    """The publication as it is; None if there is none."""
    with _mapped(name):
        row = connection.execute(_PUBLICATION, (name,)).fetchone()
        if row is None:
            return None
        tables = connection.execute(_TABLES, (name,)).fetchall()
        has_schemas = connection.info.server_version >= 150000
        through_schema = connection.execute(_BY_SCHEMA, (name,)).fetchall() if has_schemas else []
    whole = {oid: (schema, table) for oid, schema, table, partial in tables if not partial}
    some = {oid: (schema, table) for oid, schema, table, partial in tables if partial}
    options = dict(zip(_OPTIONS, row[1:], strict=True))
    return _Existing(row[0], options, whole, some, frozenset(oid for (oid,) in through_schema))


def _create_sql(name: str, tables: Iterable[TableSchema]) -> sql.Composed:
    """CREATE PUBLICATION; the other options are right by default."""
    head = _statement("CREATE PUBLICATION {} FOR TABLE {}", name, map(_named, tables))
    return head + sql.SQL(" WITH (publish_via_partition_root = true)")


def _statement(template: LiteralString, name: str, tables: Iterable[Named]) -> sql.Composed:
    """A statement about a publication and tables; ONLY leaves inheriting tables alone."""
    listed = sql.SQL(", ").join(sql.SQL("ONLY {}").format(sql.Identifier(*table)) for table in tables)
    return sql.SQL(template).format(sql.Identifier(name), listed)


def _named(table: TableSchema) -> Named:
    """A table's schema and name."""
    return table.schema, table.name


@contextmanager
def _mapped(name: str) -> Iterator[None]:
    """Raise psycopg's errors as ours."""
    try:
        yield
    except _MOVED as error:
        message = error.diag.message_primary
        raise SourceBusy(f"keeping publication {name} while tables are renamed: {message}") from error
    except psycopg.Error as error:
        raise map_error(error, f"keeping publication {name}") from error


_OPTIONS: Mapping[str, LiteralString] = {
    "via_root": "publish_via_partition_root = true",
    "all_kinds": "publish = 'insert, update, delete, truncate'",
    "no_generated": "publish_generated_columns = none",
}

# pubgencols came with PostgreSQL 18; prqual and prattrs with 15.
_PUBLICATION: LiteralString = """
SELECT puballtables, pubviaroot, pubinsert AND pubupdate AND pubdelete AND pubtruncate,
       coalesce(to_jsonb(p) ->> 'pubgencols', 'n') = 'n'
FROM pg_catalog.pg_publication p WHERE pubname = %s
"""

_TABLES: LiteralString = """
SELECT c.oid, n.nspname, c.relname,
       to_jsonb(r) ->> 'prqual' IS NOT NULL OR to_jsonb(r) ->> 'prattrs' IS NOT NULL
FROM pg_catalog.pg_publication p JOIN pg_catalog.pg_publication_rel r ON r.prpubid = p.oid
JOIN pg_catalog.pg_class c ON c.oid = r.prrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE p.pubname = %s
"""

# A row's xmin is the transaction that wrote it: ALTER PUBLICATION … SET writes a new one.
_MEMBERSHIP: LiteralString = """
SELECT c.oid::int8, pg_catalog.format('%%s.%%s/%%s.%%s', p.oid, p.xmin, r.oid, r.xmin)
FROM pg_catalog.pg_publication p CROSS JOIN pg_catalog.pg_class c
LEFT JOIN pg_catalog.pg_publication_rel r ON r.prpubid = p.oid AND r.prrelid = c.oid
WHERE p.pubname = %(name)s AND c.oid = ANY (%(oids)s::oid[]) AND (p.puballtables OR r.oid IS NOT NULL)
"""

_MEMBERSHIP_BY_SCHEMA: LiteralString = """
SELECT c.oid::int8, pg_catalog.format('%%s.%%s/%%s.%%s/%%s.%%s', p.oid, p.xmin, r.oid, r.xmin, s.oid, s.xmin)
FROM pg_catalog.pg_publication p CROSS JOIN pg_catalog.pg_class c
LEFT JOIN pg_catalog.pg_publication_rel r ON r.prpubid = p.oid AND r.prrelid = c.oid
LEFT JOIN pg_catalog.pg_publication_namespace s ON s.pnpubid = p.oid AND s.pnnspid = c.relnamespace
WHERE p.pubname = %(name)s AND c.oid = ANY (%(oids)s::oid[])
  AND (p.puballtables OR r.oid IS NOT NULL OR s.oid IS NOT NULL)
"""

_BY_SCHEMA: LiteralString = """
SELECT c.oid
FROM pg_catalog.pg_publication p JOIN pg_catalog.pg_publication_namespace s ON s.pnpubid = p.oid
JOIN pg_catalog.pg_class c ON c.relnamespace = s.pnnspid AND c.relkind IN ('r', 'p')
WHERE p.pubname = %s
"""
