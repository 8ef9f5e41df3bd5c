"""Rows that are too large for PostgreSQL to send: in which table they are.

A changed row is sent as text, and no message of the server can have 1 GB; the digits of a
bytea are twice its size.  The server says only that it can't, not what it can't send.
"""

from __future__ import annotations

import logging
import re
from typing import Any, LiteralString

import psycopg
from psycopg import sql

from smartstream.capture.connect import Source, connect, map_error
from smartstream.errors import SmartStreamError, SourceError, ValueTooLarge
from smartstream.sql_text import quoted

_LOG = logging.getLogger(__name__)

ROW_BYTES = 900 << 20
"""Of a row's text from where on it is suspected; the server's limit is 1 GB, with all that it adds."""
SEARCH_TIMEOUT_S = 60


def stream_error(source: Source, publication: str, error: Exception, doing: str) -> SourceError:
    """Return our error for one of the stream, as ``map_error``; with the table of a row that is too large."""
    mapped = map_error(error, doing)
    if not isinstance(mapped, ValueTooLarge):
        return mapped
    lsn = re.search(r"associated LSN ([0-9A-F]+/[0-9A-F]+)", _context(error))
    where = f", at {lsn[1]}" if lsn else ""
    try:
        tables = _tables(source, publication)
    except (psycopg.Error, SmartStreamError) as failed:
        _LOG.warning("could not look for the row that is too large: %s", type(failed).__name__)
        tables = []
    found = f"now such a row is in {', '.join(tables)}" if tables else "no published table has such a row now"
    return ValueTooLarge(f"{mapped}{where}: a changed row has more than PostgreSQL can send; {found}")


def _context(error: Exception) -> str:
    """Where the server was."""
    context = error.diag.context if isinstance(error, psycopg.Error) else None
    return context or str(error)


def _tables(source: Source, publication: str) -> list[str]:
    """The published tables that have a row of ROW_BYTES: sizes are known without reading the values."""
    with connect(source) as connection:
        connection.execute(sql.SQL("SET statement_timeout = {}").format(SEARCH_TIMEOUT_S * 1000))
        candidates = connection.execute(_CANDIDATES, (publication,)).fetchall()
        return [
            f"{schema}.{name}"
            for schema, name, columns in candidates
            if _has(connection, schema, name, columns)
        ]


def _has(connection: psycopg.Connection[Any], schema: str, name: str, columns: list[list[str]]) -> bool:
    """Whether a table has such a row."""
    sizes = [f"coalesce({_SIZES[kind].format(quoted(column))}, 0)::int8" for column, kind in columns]
    condition = f"{' + '.join(sizes)} > {ROW_BYTES}"
    statement = f"SELECT EXISTS (SELECT FROM {quoted(schema)}.{quoted(name)} WHERE {condition})"
    row = connection.execute(statement.encode()).fetchone()
    return row is not None and bool(row[0])


_SIZES = {"bytea": "2::int8 * octet_length({})", "text": "octet_length({})", "other": "pg_column_size({})"}

_CANDIDATES: LiteralString = """
SELECT p.schemaname, p.tablename,
       array_agg(ARRAY[a.attname::text, CASE a.atttypid WHEN 17 THEN 'bytea' WHEN 25 THEN 'text'
                                        WHEN 1043 THEN 'text' ELSE 'other' END])
FROM pg_catalog.pg_publication_tables p
JOIN pg_catalog.pg_namespace n ON n.nspname = p.schemaname
JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = p.tablename
JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attlen = -1
WHERE p.pubname = %s
GROUP BY p.schemaname, p.tablename
ORDER BY p.schemaname, p.tablename
"""
