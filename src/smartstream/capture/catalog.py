"""The source's tables, columns and types, from its system catalog.

A handful of queries, whatever the number of tables.  Names of types and output
functions are qualified, because connect.py sets the search path.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, LiteralString

import psycopg
from psycopg.rows import namedtuple_row

from smartstream.capture.connect import map_error
from smartstream.capture.types import TypeRow, resolve
from smartstream.errors import SchemaError, TableWithoutKey
from smartstream.schema import RESERVED_NAMES, Column, Kind, PgType, TableSchema

Connection = psycopg.Connection[tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class KeylessTable:
    """A table whose updates and deletes cannot be told apart, and why."""

    oid: int
    id: str  # schema.name
    reason: str


@dataclass(frozen=True, slots=True)
class Discovery:
    """The tables of a source that match the configuration, each list by name."""

    tables: tuple[TableSchema, ...]
    keyless: tuple[KeylessTable, ...]


@dataclass(frozen=True, slots=True)
class AddedDefaults:
    """What added columns hold in rows that were there before them.

    Attributes:
        constants: attnum → the value, as PostgreSQL prints it; a column not in here is NULL.
        rewritten: a column was given a value of its own in each row (a volatile
            default, an identity, or one that can't be told from these): the
            rows must be read again.
    """

    constants: Mapping[int, str] = field(default_factory=dict)
    rewritten: bool = False


def discover(connection: Connection, matches: Callable[[str], bool]) -> Discovery:
    """Return the permanent tables whose ``schema.name`` matches.

    Partitioned tables stand for their partitions: one is listed by itself only if
    no table above it matches.  Dropped and generated columns are left out, as
    pgoutput leaves them out.

    Raises:
        SchemaError: a column's name is one that the lake uses itself.
        SourceGone, MissingRight, …: as connect.map_error.
    """
    wanted = [row for row in _query(connection, _TABLES, (None, None)) if matches(f"{row.schema}.{row.name}")]
    oids = {row.oid for row in wanted}
    return _describe(connection, [row for row in wanted if not oids.intersection(row.ancestors)])


def read_tables(connection: Connection, oids: Iterable[int]) -> Discovery:
    """Return the tables with these oids; those that are gone are left out."""
    wanted = list(oids)
    return _describe(connection, _query(connection, _TABLES, (wanted, wanted)))


def table_schema(connection: Connection, oid: int) -> TableSchema | None:
    """Return the table as it is now, None if it is gone.

    Raises:
        TableWithoutKey: it has lost its key.
        SchemaError: as ``discover``.
    """
    found = read_tables(connection, [oid])
    if found.keyless:
        table = found.keyless[0]
        raise TableWithoutKey(f"table {table.id}: {table.reason}")
    return found.tables[0] if found.tables else None


def pg_type(connection: Connection, oid: int, typmod: int) -> PgType:
    """Return the type of a column declared as ``oid`` with ``typmod``.

    Raises:
        SchemaError: there is no such type (any more).
    """
    rows = _type_rows(connection, [oid])
    if oid not in rows:
        raise SchemaError(f"the source has no type with oid {oid}")
    statement = "SELECT pg_catalog.format_type(%s::pg_catalog.oid, %s::pg_catalog.int4) AS name"
    return resolve(rows, oid, typmod, _query(connection, statement, (oid, typmod))[0].name)


def missing_defaults(connection: Connection, oid: int, attnums: Sequence[int]) -> AddedDefaults:
    """Return what the columns ``attnums``, just added, hold in the table's older rows.

    Sees the table as it is now: a later VACUUM FULL makes a constant default look
    like a rewrite, which is safe.  Does not see a default that was dropped again
    before such a rewrite.
    """
    constants: dict[int, str] = {}
    rewritten = False
    for row in _query(connection, _DEFAULTS, (oid, list(attnums))):
        if row.has_missing:
            constants[row.attnum] = row.value
        else:
            rewritten = rewritten or row.filled
    return AddedDefaults(constants, rewritten)


def _describe(connection: Connection, tables: Sequence[Any]) -> Discovery:
    """Add columns and types to rows of _TABLES."""
    oids = [row.oid for row in tables]
    columns: dict[int, list[Any]] = {}
    attnums: dict[int, set[int]] = {}  # generated ones, too
    for row in _query(connection, _COLUMNS, (oids,)):
        attnums.setdefault(row.table_oid, set()).add(row.attnum)
        if not row.generated:
            columns.setdefault(row.table_oid, []).append(row)
    types = _type_rows(connection, {c.type_oid for of_table in columns.values() for c in of_table})
    found: list[TableSchema] = []
    keyless: list[KeylessTable] = []
    for row in tables:
        if row.key is not None and not attnums.get(row.oid, set()).issuperset(row.key):
            again = read_tables(connection, [row.oid])  # altered, or dropped, between the two queries
            found.extend(again.tables)
            keyless.extend(again.keyless)
            continue
        reason = _why_keyless(row, columns.get(row.oid, []))
        if reason is None:
            schema = _table(row, columns[row.oid], types)
            reason = _why_no_key(schema)
        if reason is None:
            found.append(schema)
        else:
            keyless.append(KeylessTable(row.oid, f"{row.schema}.{row.name}", reason))
    return Discovery(tuple(found), tuple(keyless))


def _table(row: Any, columns: Sequence[Any], types: Mapping[int, TypeRow]) -> TableSchema:
    """A TableSchema of catalog rows."""
    _check_names(f"{row.schema}.{row.name}", [c.name for c in columns])
    described = tuple(
        Column(c.name, c.attnum, resolve(types, c.type_oid, c.typmod, c.type_name), not c.not_null)
        for c in columns
    )
    names = {c.attnum: c.name for c in columns}
    key = tuple(names[attnum] for attnum in row.key)
    return TableSchema(row.oid, row.schema, row.name, described, key)


def _why_keyless(row: Any, columns: Sequence[Any]) -> str | None:
    """Why a table has no usable key; None if it has one."""
    if row.identity == "n":
        return "its REPLICA IDENTITY is NOTHING, so updates and deletes carry no key"
    if row.other_identity:
        return f"partition {row.other_identity} has another REPLICA IDENTITY than the table"
    if row.key is None:
        if row.identity == "i":
            return "the index of its REPLICA IDENTITY is gone"
        if row.deferrable:
            return "its primary key is DEFERRABLE, which PostgreSQL can't use as replica identity"
        return "it has no primary key"
    if not set(row.key) <= {c.attnum for c in columns}:
        return "its key has a generated column, which is not replicated"
    return None


def _why_no_key(schema: TableSchema) -> str | None:
    """Why rows can't be told apart in the lake by the key that they have in the source; None if they can."""
    lists = [column.name for column in schema.key_columns() if column.type.kind is Kind.ARRAY]
    return (
        f"its key column {lists[0]} is an array, and lists can't be looked up in the lake" if lists else None
    )


def _check_names(table: str, names: Sequence[str]) -> None:
    """Refuse column names that clash with the lake's own, or with each other there."""
    seen: set[str] = set()
    for name in names:
        folded = name.casefold()  # the query engine does not tell case apart
        if folded in RESERVED_NAMES:
            raise SchemaError(
                f"table {table}: the lake uses the column name {name} itself",
                hint="Rename the column at the source, or exclude the table in smartstream.yaml.",
            )
        if folded in seen:
            raise SchemaError(
                f"table {table}: another column's name differs from {name} only in case",
                hint="Rename the column at the source, or exclude the table in smartstream.yaml.",
            )
        seen.add(folded)


def _type_rows(connection: Connection, oids: Iterable[int]) -> dict[int, TypeRow]:
    """The rows of pg_type for these types and all that they are made of."""
    return {row.oid: TypeRow(*row) for row in _query(connection, _TYPES, (list(oids),))}


def _query(connection: Connection, statement: LiteralString, arguments: Sequence[Any]) -> list[Any]:
    """The rows of a catalog query, as named tuples."""
    try:
        with connection.cursor(row_factory=namedtuple_row) as cursor:
            return cursor.execute(statement, arguments, binary=False).fetchall()
    except psycopg.Error as error:
        raise map_error(error, "reading the system catalog") from error


# From 18 on NOT NULL may be NOT VALID: attnotnull is set, and older rows may be null.
NEVER_NULL: LiteralString = """(a.attnotnull AND NOT EXISTS (
    SELECT FROM pg_catalog.pg_constraint x
    WHERE x.conrelid = a.attrelid AND x.contype = 'n' AND NOT x.convalidated
      AND a.attnum = ANY (x.conkey)))"""
"""SQL: whether the column ``pg_attribute a`` is null in no row."""

# A replica identity index must be unique, immediate, without predicate and valid
# (relcache.c, RelationGetIndexList); a primary key is all that unless deferrable.
# With REPLICA IDENTITY FULL the stream carries every column; the primary key, or else
# a unique index without nulls, still says which row is meant.
_TABLES: LiteralString = """
SELECT c.oid, n.nspname AS schema, c.relname AS name, c.relreplident::text AS identity,
       CASE WHEN c.relispartition
            THEN ARRAY(SELECT a.relid::oid FROM pg_catalog.pg_partition_ancestors(c.oid) a
                       WHERE a.relid <> c.oid)
            ELSE ARRAY[]::oid[] END AS ancestors,
       CASE WHEN c.relkind = 'p'
            THEN (SELECT min(t.relid::regclass::text)
                  FROM pg_catalog.pg_partition_tree(c.oid) t JOIN pg_catalog.pg_class l ON l.oid = t.relid
                  WHERE t.isleaf AND l.relreplident <> c.relreplident) END AS other_identity,
       (SELECT (i.indkey::int2[])[0 : i.indnkeyatts - 1]
        FROM pg_catalog.pg_index i
        WHERE i.indrelid = c.oid AND i.indisvalid AND i.indislive AND i.indimmediate
          AND CASE c.relreplident
              WHEN 'i' THEN i.indisreplident
              WHEN 'f' THEN i.indisunique AND i.indpred IS NULL AND i.indexprs IS NULL
                   AND NOT EXISTS (SELECT FROM pg_catalog.pg_attribute a
                                   WHERE a.attrelid = c.oid AND (NOT {never_null} OR a.attgenerated <> '')
                                     AND a.attnum = ANY ((i.indkey::int2[])[0 : i.indnkeyatts - 1]))
              ELSE i.indisprimary END
        ORDER BY i.indisprimary DESC, i.indnkeyatts, i.indexrelid LIMIT 1) AS key,
       EXISTS (SELECT FROM pg_catalog.pg_index i
               WHERE i.indrelid = c.oid AND i.indisprimary AND NOT i.indimmediate) AS deferrable
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND c.relpersistence = 'p'
  AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_' AND c.oid >= 16384
  AND (%s::oid[] IS NULL OR c.oid = ANY (%s::oid[]))
ORDER BY n.nspname, c.relname
""".replace("{never_null}", NEVER_NULL)

_COLUMNS: LiteralString = """
SELECT a.attrelid AS table_oid, a.attnum, a.attname AS name, a.atttypid AS type_oid, a.atttypmod AS typmod,
       pg_catalog.format_type(a.atttypid, a.atttypmod) AS type_name,
       {never_null} AS not_null,
       a.attgenerated <> '' AS generated
FROM pg_catalog.pg_attribute a
WHERE a.attrelid = ANY (%s::oid[]) AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attrelid, a.attnum
""".replace("{never_null}", NEVER_NULL)

# A true array is one that its element names as its array: int2vector and the like
# print themselves otherwise.  box separates array elements with a semicolon.
_TYPES: LiteralString = """
WITH RECURSIVE needed(oid) AS (
    SELECT DISTINCT u.oid FROM unnest(%s::oid[]) AS u(oid)
    UNION
    SELECT p.oid FROM needed
    JOIN pg_catalog.pg_type t ON t.oid = needed.oid
    CROSS JOIN LATERAL (VALUES (t.typbasetype), (t.typelem)) AS p(oid)
    WHERE p.oid <> 0
)
SELECT t.oid, t.typtype::text AS category, t.typbasetype AS base, t.typtypmod AS base_typmod,
       coalesce(pg_catalog.format_type(nullif(t.typbasetype, 0::oid), t.typtypmod), '') AS base_name,
       coalesce(e.oid, 0::oid) AS element,
       pg_catalog.format('%%I.%%I', n.nspname, f.proname) AS output
FROM needed
JOIN pg_catalog.pg_type t ON t.oid = needed.oid
JOIN pg_catalog.pg_proc f ON f.oid = t.typoutput
JOIN pg_catalog.pg_namespace n ON n.oid = f.pronamespace
LEFT JOIN pg_catalog.pg_type e ON e.oid = t.typelem AND e.typarray = t.oid AND e.typdelim = ','
"""

# A value for older rows is in attmissingval.  Without one they were given theirs by
# a rewrite if the column has a default, an identity, or a domain with a default.
_DEFAULTS: LiteralString = """
SELECT a.attnum, a.atthasmissing AS has_missing,
       pg_catalog.array_to_string(a.attmissingval, '') AS value,
       a.atthasdef OR a.attidentity <> '' OR t.typdefault IS NOT NULL AS filled
FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
WHERE a.attrelid = %s AND a.attnum = ANY (%s::int2[]) AND NOT a.attisdropped AND a.attgenerated = ''
"""
