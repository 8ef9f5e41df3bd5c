"""The PostgreSQL behind a source endpoint: its tables, their rows, and the slot with their changes."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from smartstream.testing.local_dms.mappings import TableMappings
from smartstream.testing.local_dms.values import PostgresType

Connection = psycopg.Connection[tuple[Any, ...]]

PLUGIN = "test_decoding"
ROWS_AT_ONCE = 1_000

# Values are read as text, so they must look alike in a load and in the slot's changes.
_SESSION = {
    "application_name": "smartstream-local-dms",
    "connect_timeout": "5",
    "options": "-c TimeZone=UTC -c DateStyle=ISO -c IntervalStyle=postgres -c bytea_output=hex"
    " -c extra_float_digits=1 -c client_encoding=UTF8 -c lock_timeout=10s",
}

# A domain is what lies below it.
_TABLES = """
SELECT c.oid::bigint, n.nspname, c.relname, c.relreplident = 'f', a.attnum, a.attname, a.attnotnull,
       b.typname, b.typtype, b.typcategory = 'A', b.modifier,
       coalesce(array_position(k.indkey::smallint[], a.attnum) + 1, 0)
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
CROSS JOIN LATERAL (
    WITH RECURSIVE below AS (
        SELECT t.*, a.atttypmod AS modifier FROM pg_type t WHERE t.oid = a.atttypid
        UNION ALL
        SELECT t.*, below.typtypmod FROM below JOIN pg_type t ON t.oid = below.typbasetype
        WHERE below.typtype = 'd'
    )
    SELECT * FROM below WHERE typtype <> 'd'
) b
LEFT JOIN pg_index k ON k.indrelid = c.oid AND k.indisprimary
WHERE c.relkind = 'r' AND c.relpersistence = 'p'
  AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname NOT LIKE 'pg\\_t%'
ORDER BY n.nspname, c.relname, a.attnum
"""


@dataclass(frozen=True)
class Column:
    """A column of a source table.

    Attributes:
        number: ``attnum``, which stays when the column gets another name.
    """

    number: int
    name: str
    nullable: bool
    type: PostgresType


@dataclass(frozen=True)
class SourceTable:
    """A source table as it is now.

    Attributes:
        oid: which stays when the table gets another name.
        key: columns of the primary key, in its order; empty without one.
        has_full_identity: the WAL holds the whole old row.
    """

    oid: int
    schema: str
    name: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    has_full_identity: bool


def local_conninfo(login: Mapping[str, Any], database: str, overrides: str) -> str:
    """Return how to reach the local stand-in of a database server.

    Args:
        login: of the endpoint or its secret: username, password, host, port.
        overrides: libpq's settings of the local server, such as ``host=127.0.0.1 port=5433``;
            they replace the endpoint's, and ``require`` gives way, for a local server has no TLS.
    """
    wanted: dict[str, Any] = {
        "host": str(login["host"]),
        "port": str(login["port"]),
        "user": str(login["username"]),
        "password": str(login["password"]),
        "dbname": database,
        "sslmode": "prefer",
    }
    return make_conninfo("", **{**wanted, **_SESSION, **conninfo_to_dict(overrides)})


def connect(conninfo: str) -> Connection:
    """Connect; each statement is a transaction.

    Raises:
        psycopg.OperationalError: there is no such server, database or login.
    """
    return psycopg.connect(conninfo, autocommit=True)


def selected_tables(connection: Connection, mappings: TableMappings) -> list[SourceTable]:
    """Return the tables that a task replicates, by schema and name.

    A partitioned table is none, but its partitions are: so DMS sees them.
    """
    found: dict[int, tuple[str, str, bool, list[Column], dict[int, str]]] = {}
    for oid, schema, table, is_full, number, name, not_null, *described, key_place in connection.execute(
        _TABLES
    ):
        if not mappings.selects(schema, table):
            continue
        _, _, _, columns, key = found.setdefault(oid, (schema, table, is_full, [], {}))
        columns.append(Column(number, name, not not_null, PostgresType(*described)))
        if key_place:
            key[key_place] = name
    return [
        SourceTable(oid, schema, table, tuple(columns), tuple(key[place] for place in sorted(key)), is_full)
        for oid, (schema, table, is_full, columns, key) in found.items()
    ]


def rows(connection: Connection, table: SourceTable) -> Generator[Sequence[str | None]]:
    """Yield a table's rows in the order of its key, values as PostgreSQL writes them.

    In one snapshot; holds ROWS_AT_ONCE rows.
    """
    # format() calls a type's output function; a cast to text would trim char(n).
    values = sql.SQL(", ").join(
        sql.SQL("CASE WHEN num_nulls({0}) = 0 THEN format('%s', {0}) END").format(sql.Identifier(column.name))
        for column in table.columns
    )
    query = sql.SQL("SELECT {} FROM ONLY {}").format(values, sql.Identifier(table.schema, table.name))
    if table.key:
        query += sql.SQL(" ORDER BY ") + sql.SQL(", ").join(map(sql.Identifier, table.key))
    with connection.transaction(), connection.cursor("local_dms_load") as cursor:
        cursor.itersize = ROWS_AT_ONCE
        cursor.execute(query)
        yield from cursor


def create_slot(connection: Connection, name: str) -> None:
    """Make a slot, which keeps all changes from now on.

    Raises:
        psycopg.Error: there is one of this name, or the login may not.
    """
    connection.execute("SELECT pg_create_logical_replication_slot(%s, %s)", (name, PLUGIN))


def has_slot(connection: Connection, name: str) -> bool:
    """Tell whether there is a slot of this name."""
    found = connection.execute("SELECT 1 FROM pg_replication_slots WHERE slot_name = %s", (name,))
    return found.fetchone() is not None


def drop_slot(connection: Connection, name: str) -> None:
    """Drop a slot; none of this name is well, too."""
    connection.execute(
        "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = %s", (name,)
    )


def changes(connection: Connection, slot: str, rows_max: int) -> Generator[tuple[str, int, str]]:
    """Yield (LSN, transaction, text) of what a slot holds, without taking it out.

    Whole transactions: the last one may exceed ``rows_max``.
    """
    with connection.transaction(), connection.cursor("local_dms_changes") as cursor:
        cursor.itersize = ROWS_AT_ONCE
        cursor.execute(
            "SELECT lsn::text, xid::text::bigint, data FROM pg_logical_slot_peek_changes(%s, NULL, %s,"
            " 'include-timestamp', '1', 'skip-empty-xacts', '1')",
            (slot, rows_max),
        )
        yield from cursor


def advance_slot(connection: Connection, slot: str, lsn: str) -> None:
    """Let go of all changes that were committed up to an LSN."""
    connection.execute("SELECT pg_replication_slot_advance(%s, %s::pg_lsn)", (slot, lsn))


def current_lsn(connection: Connection) -> str:
    """Return the server's position in its log."""
    (lsn,) = connection.execute("SELECT pg_current_wal_lsn()::text").fetchone() or ("0/0",)
    return str(lsn)


def beat(connection: Connection, schema: str, task: str) -> None:
    """Write DMS's heartbeat, so that the slot moves on in an idle database too.

    Raises:
        psycopg.Error: the login may not make or write the table in this schema.
    """
    table = sql.Identifier(schema, "awsdms_heartbeat")
    connection.execute(
        sql.SQL(
            "CREATE TABLE IF NOT EXISTS {} (hb_key bigint PRIMARY KEY, hb_created_at timestamp NOT NULL,"
            " hb_created_by varchar(256), hb_last_heartbeat_at timestamp, hb_last_heartbeat_by varchar(256))"
        ).format(table)
    )
    connection.execute(
        sql.SQL(
            "INSERT INTO {} AS h VALUES (1, now(), %(task)s, now(), %(task)s) ON CONFLICT (hb_key) DO UPDATE"
            " SET hb_last_heartbeat_at = now(), hb_last_heartbeat_by = %(task)s"
        ).format(table),
        {"task": task},
    )
