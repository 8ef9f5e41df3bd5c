"""Trusted tables and their settings as what a contract describes, and contracts held against them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import psycopg

from smartstream.capture import catalog
from smartstream.capture.connect import connect, map_error
from smartstream.config import Settings, rules_of
from smartstream.errors import ConfigError
from smartstream.quality.evaluate import evaluate, lake_name
from smartstream.quality.lake import open_quality_lake
from smartstream.quality.odcs.check import Difference, checks_of, differences, failed
from smartstream.quality.odcs.document import Contract
from smartstream.quality.odcs.export import Described, export
from smartstream.raw.manifest_log import ManifestLog
from smartstream.raw.store import open_store
from smartstream.schema import TableSchema


def export_tables(
    settings: Settings,
    table_ids: Sequence[str] | None,
    clock: Callable[[], datetime],
    *,
    version: str,
    status: str,
) -> dict[str, Any]:
    """Return a contract of trusted tables as they are and as the settings promise them.

    Args:
        table_ids: ``schema.name``; all tables of the lake when None.
    Raises:
        ConfigError: a table is not in the lake.
        LakeError: the lake cannot be read.
    """
    sources = _sources(settings, clock)
    described = []
    with open_quality_lake(settings) as lake:
        for table_id in sorted(sources) if table_ids is None else table_ids:
            table = lake.trusted(lake_name(lake, table_id))
            if table is None:
                raise ConfigError(
                    f"there is no table {table_id} in the lake", hint="`smartstream tables` lists them."
                )
            rules = rules_of(settings, table_id)
            shape = without_system_columns(table.schema)
            described.append(Described(shape, sources.get(table_id), rules.metrics, rules.contract))
    warehouse = settings.lake.warehouse
    return export(settings.name, described, warehouse=warehouse, version=version, status=status)


def check_lake(settings: Settings, contract: Contract, clock: Callable[[], datetime]) -> list[Difference]:
    """Compare the trusted tables with a contract: their columns, then every number it promises.

    Raises:
        LakeError: the lake cannot be read.
    """
    with open_quality_lake(settings) as lake:

        def schema_of(table_id: str) -> TableSchema | None:
            table = lake.trusted(lake_name(lake, table_id))
            return without_system_columns(table.schema) if table else None

        found = differences(contract, schema_of)
        return found + failed(evaluate(lake, checks_of(contract), clock))


def check_source(settings: Settings, contract: Contract) -> list[Difference]:
    """Compare the source's tables, as they are now, with a contract: their columns and what can be null.

    Raises:
        SourceError: the source does not answer.
    """
    wanted = {one.table_id for one in contract.objects}
    try:
        with connect(settings.source) as connection:
            found = catalog.discover(connection, wanted.__contains__)
    except psycopg.Error as error:
        raise map_error(error, "asking the source") from error
    tables = {schema.id: schema for schema in found.tables}
    return differences(contract, tables.get, nulls=True)


def without_system_columns(schema: TableSchema) -> TableSchema:
    """A table's schema without ``_quality``, which is for the lake's own use."""
    columns = tuple(column for column in schema.columns if column.name != "_quality")
    return replace(schema, columns=columns)


def _sources(settings: Settings, clock: Callable[[], datetime]) -> Mapping[str, TableSchema]:
    """The source's tables as the log knows them."""
    state = ManifestLog(open_store(settings.lake), clock).load()
    return {name: TableSchema.from_json(table.schema) for name, table in state.tables.items()}
