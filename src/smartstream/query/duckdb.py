"""The lake as a DuckDB database: one view per table, read-only, with limits."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol

import duckdb
from pyiceberg.catalog import Catalog
from pyiceberg.table import Table

from smartstream.query.as_of import Moment
from smartstream.query.cleaning import rules_for_past
from smartstream.query.history import HistoryTables, mentions_history, names_table
from smartstream.query.relation import local_path, pattern, relation, unread
from smartstream.query.remote import register_s3
from smartstream.raw.store import open_store
from smartstream.scratch import scratch_folder
from smartstream.sql_text import literal, quoted
from smartstream.trusted.catalog import NAMESPACES, TRUSTED, lake_errors, open_catalog
from smartstream.trusted.plan import live_columns, plan, s3_filesystem


class Limits(Protocol):
    """What a query may use."""

    @property
    def duckdb_memory(self) -> int: ...
    @property
    def threads(self) -> int: ...


class LakeQuerySettings(Protocol):
    """The part of the configuration that queries need."""

    @property
    def lake(self) -> Any: ...
    @property
    def limits(self) -> Limits: ...


def open_lake(
    settings: LakeQuerySettings,
    statement: str = "",
    *,
    as_of: Moment | None = None,
    namespaces: Sequence[str] = NAMESPACES,
) -> duckdb.DuckDBPyConnection:
    """Return a DuckDB connection with every table of the lake as a view.

    ``trusted.<name>`` and plain ``<name>`` show trusted tables; those of other
    namespaces stand under their own schema.  A view shows its table as of this
    call: open again to see later commits.  Nothing outside the warehouse can be
    read, no setting changed and no extension loaded.  Does not stop a statement
    that writes into the warehouse: ``run_sql`` does.

    Args:
        statement: that will be run: only tables that it names can be read, ``history.<table>``
            too; of the others it sees the columns.  All tables of the present if it is empty.
        as_of: show trusted tables, and nothing else, as they were; ``statement`` must name them.
        namespaces: whose present tables are wanted.
    Raises:
        CatalogUnavailable, TableCorrupt, LakeNotWritable: as the lake reports.
        PastUnknown, NotDurable: what ``statement`` asks of the past is not known.
        SchemaFrozen: the contract of a table does not allow the columns that its past now has.
    """
    catalog = open_catalog(settings.lake)
    connection = engine(settings.limits)
    if as_of is None:
        _add_present(connection, catalog, statement, namespaces)
    if as_of is not None or mentions_history(statement):
        past = HistoryTables(connection, open_store(settings.lake), rules_for_past(settings))
        if as_of is None:
            past.add_history(statement)
        else:
            past.add_as_of(statement, as_of, TRUSTED)
    _lock(connection, str(catalog.properties["warehouse"]))
    return connection


def _add_present(
    connection: duckdb.DuckDBPyConnection, catalog: Catalog, statement: str, namespaces: Sequence[str]
) -> None:
    """Views of the tables as they are now; planning those that nobody asks for would take longest."""
    with lake_errors("plan the tables of the lake"):
        for namespace in namespaces:
            connection.execute(f"CREATE SCHEMA IF NOT EXISTS {quoted(namespace)}")
            for table in _tables(catalog, namespace):
                if not statement or names_table(statement, str(table.name()[-1])):
                    add_filesystem(connection, [table])
                    _create_views(connection, table, namespace, relation(plan(table)))
                else:
                    view = f"{namespace}.{quoted(table.name()[-1])}"
                    _create_views(connection, table, namespace, unread(live_columns(table), view))


def engine(limits: Limits) -> duckdb.DuckDBPyConnection:
    """Return an empty in-memory DuckDB with the configured limits, in UTC; it never downloads anything."""
    # DuckDB makes this folder when it first spills, and removes it when it closes.
    spill = scratch_folder() / f"query-{uuid.uuid4().hex}"
    connection = duckdb.connect(
        config={
            "memory_limit": f"{limits.duckdb_memory}B",
            "threads": limits.threads,
            "temp_directory": str(spill),
            "preserve_insertion_order": False,
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
            "python_enable_replacements": False,  # a table name never means a Python variable
        }
    )
    connection.execute("SET GLOBAL TimeZone = 'UTC'")
    return connection


def add_filesystem(connection: duckdb.DuckDBPyConnection, tables: Iterable[Table]) -> None:
    """Let DuckDB read the files of tables in ``s3://``; local ones it reads itself."""
    for table in tables:
        if table.location().startswith("s3://") and not connection.filesystem_is_registered("s3"):
            register_s3(connection, s3_filesystem(table))


def _tables(catalog: Catalog, namespace: str) -> Iterator[Table]:
    """The tables of a namespace by name."""
    for identifier in sorted(catalog.list_tables(namespace)):
        yield catalog.load_table(identifier)


def _create_views(
    connection: duckdb.DuckDBPyConnection, table: Table, namespace: str, statement: str
) -> None:
    """One view in the namespace's schema; trusted tables also without a schema."""
    name = quoted(table.name()[-1])
    connection.execute(f"CREATE VIEW {quoted(namespace)}.{name} AS {statement}")
    if namespace == TRUSTED:
        connection.execute(f"CREATE VIEW {name} AS FROM {quoted(namespace)}.{name}")


def _lock(connection: duckdb.DuckDBPyConnection, warehouse: str) -> None:
    """Shut the way out: from here on only the warehouse's files, and no SET."""
    folder = local_path(warehouse).rstrip("/") + "/"
    # DuckDB checks the file names in a statement before it resolves wildcards, and the files after.
    connection.execute(f"SET allowed_directories = [{literal(folder)}, {literal(pattern(folder))}]")
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")
