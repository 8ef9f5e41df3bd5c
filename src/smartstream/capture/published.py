"""The captured tables as the publication sends them: SmartStream's own sends all, yours perhaps not.

With ``source.manage_publication: false`` the publication belongs to the source.  What it sends,
with its row filters and column lists (PostgreSQL 15 or later), is what there is to capture:
the first copy reads no more, and nothing of the rest is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, LiteralString, Protocol

import psycopg

from smartstream.capture import catalog
from smartstream.capture.catalog import Discovery
from smartstream.capture.connect import map_error
from smartstream.errors import PublicationMissing, PublicationUnfit
from smartstream.schema import TableSchema

Connection = psycopg.Connection[tuple[Any, ...]]

FILTERS_SINCE = 150000


class Source(Protocol):
    """What is asked of the configuration."""

    @property
    def publication(self) -> str:
        """Its name."""

    @property
    def manage_publication(self) -> bool:
        """Whether it is SmartStream's to keep."""


@dataclass(frozen=True, slots=True)
class Sent:
    """What a publication sends of a table.

    Attributes:
        columns: names; None: all that can be sent.
        condition: SQL over the table's columns; None: every row.
    """

    columns: frozenset[str] | None = None
    condition: str | None = None


def discover(connection: Connection, source: Source, matches: Callable[[str], bool]) -> Discovery:
    """Return the tables as ``catalog.discover``, those of a publication of yours as it sends them.

    Raises:
        PublicationMissing, PublicationUnfit: see ``sent``.
    """
    found = catalog.discover(connection, matches)
    if source.manage_publication:
        return found
    tables = sent(connection, source.publication)
    keyless = tuple(table for table in found.keyless if table.oid in tables)
    own = tuple(
        _restricted(table, tables[table.oid], source) for table in found.tables if table.oid in tables
    )
    return Discovery(own, keyless)


def table_schema(connection: Connection, source: Source, oid: int) -> TableSchema | None:
    """Return the table as ``catalog.table_schema``; None also if a publication of yours does not send it."""
    schema = catalog.table_schema(connection, oid)
    if schema is None or source.manage_publication:
        return schema
    table = sent(connection, source.publication).get(oid)
    return None if table is None else _restricted(schema, table, source)


def condition(connection: Connection, source: Source, schema: TableSchema) -> str | None:
    """Return the row filter of a table as SQL over its columns; None: all rows are sent."""
    if source.manage_publication:
        return None
    return sent(connection, source.publication).get(schema.oid, Sent()).condition


def sent(connection: Connection, name: str) -> Mapping[int, Sent]:
    """Return what a publication sends, by table oid.

    Raises:
        PublicationMissing: there is none of this name.
        PublicationUnfit: it leaves out some kinds of change, or sends partitions by themselves.
    """
    try:
        options = connection.execute(_OPTIONS, (name,)).fetchone()
        filters = connection.info.server_version >= FILTERS_SINCE
        rows = connection.execute(_SENT if filters else _SENT_WHOLE, (name,)).fetchall()
    except psycopg.Error as error:
        raise map_error(error, f"reading publication {name}") from error
    if options is None:
        raise PublicationMissing(
            f"there is no publication {name}, and source.manage_publication is off",
            hint="Create it, or let SmartStream do it: source.manage_publication: true.",
        )
    lacks = [text for text, there in zip(_NEEDED, options, strict=True) if not there]
    if lacks:
        raise PublicationUnfit(f"publication {name} is not set to {' and '.join(lacks)}")
    return {oid: Sent(frozenset(columns) if columns else None, where) for oid, columns, where in rows}


def _restricted(schema: TableSchema, table: Sent, source: Source) -> TableSchema:
    """The columns of a table that are sent.

    Raises:
        PublicationUnfit: the key is not among them.
    """
    if table.columns is None:
        return schema
    lacking = [name for name in schema.key if name not in table.columns]
    if lacking:
        raise PublicationUnfit(
            f"the column list of {schema.id} in publication {source.publication} lacks {', '.join(lacking)} "
            "of its key: without it nobody can tell which row a change is of"
        )
    columns = tuple(column for column in schema.columns if column.name in table.columns)
    return schema if len(columns) == len(schema.columns) else replace(schema, columns=columns)


_NEEDED = (
    "publish = 'insert, update, delete, truncate'",
    "publish_via_partition_root = true",
    "publish_generated_columns = none",
)

_OPTIONS: LiteralString = """
SELECT pubinsert AND pubupdate AND pubdelete AND pubtruncate, pubviaroot,
       coalesce(to_jsonb(p) ->> 'pubgencols', 'n') = 'n'
FROM pg_catalog.pg_publication p WHERE pubname = %s
"""

_SENT: LiteralString = """
SELECT c.oid::int8, t.attnames::text[], t.rowfilter
FROM pg_catalog.pg_publication_tables t
JOIN pg_catalog.pg_namespace n ON n.nspname = t.schemaname
JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = t.tablename
WHERE t.pubname = %s
"""

_SENT_WHOLE: LiteralString = """
SELECT c.oid::int8, NULL::text[], NULL::text
FROM pg_catalog.pg_publication_tables t
JOIN pg_catalog.pg_namespace n ON n.nspname = t.schemaname
JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = t.tablename
WHERE t.pubname = %s
"""
