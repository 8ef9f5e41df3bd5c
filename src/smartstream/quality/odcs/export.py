"""A contract of trusted tables, pure."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from smartstream.quality.config import Metric, Named, OnFail, QualityCheck, SchemaContract, named
from smartstream.quality.odcs.document import API_VERSION
from smartstream.quality.odcs.entries import to_odcs
from smartstream.quality.odcs.types import logical_type
from smartstream.schema import Column, PgType, TableSchema

_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "https://bitol.io/smartstream")


@dataclass(frozen=True, slots=True)
class Described:
    """A trusted table and what is promised of it.

    Attributes:
        schema: the trusted table's columns, those of the system left out.
        source: the source table's schema, which knows what can't be null.
    """

    schema: TableSchema
    source: TableSchema | None = None
    checks: Sequence[QualityCheck] = ()
    contract: SchemaContract = field(default_factory=SchemaContract)


def export(
    name: str, tables: Sequence[Described], *, warehouse: str, version: str = "1.0.0", status: str = "active"
) -> dict[str, Any]:
    """Return a contract as plain values, ready to be written as YAML.

    The same tables always give the same contract, its id included.

    Source: Open Data Contract Standard v3.1.0.
    """
    ids = sorted(table.schema.id for table in tables)
    return {
        "apiVersion": API_VERSION,
        "kind": "DataContract",
        "id": str(uuid.uuid5(_NAMESPACE, "\n".join([name, *ids]))),
        "name": name,
        "version": version,
        "status": status,
        "servers": [_server(warehouse)],
        "schema": [_object(table) for table in sorted(tables, key=lambda table: table.schema.id)],
    }


def _server(warehouse: str) -> dict[str, Any]:
    """Where the trusted tables lie."""
    folder = f"{warehouse.rstrip('/')}/trusted"
    if warehouse.startswith("s3://"):
        return {"server": "lake", "type": "s3", "location": folder, "format": "iceberg"}
    return {"server": "lake", "type": "local", "path": folder, "format": "iceberg"}


def _object(table: Described) -> dict[str, Any]:
    """One table."""
    checks = named(table.checks)
    of_table = [to_odcs(one) for one in checks if one.check.column is None]
    made: dict[str, Any] = {
        "name": table.schema.lake_name,
        "physicalName": f"trusted.{table.schema.lake_name}",
        "logicalType": "object",
        "physicalType": "table",
        "customProperties": [
            {"property": "sourceTable", "value": table.schema.id},
            {"property": "schemaContract", "value": table.contract.model_dump()},
        ],
        "properties": [_property(column, table, checks) for column in table.schema.columns],
    }
    return made | ({"quality": of_table} if of_table else {})


def _property(column: Column, table: Described, checks: Sequence[Named]) -> dict[str, Any]:
    """One column."""
    own = [one for one in checks if one.check.column == column.name]
    key = table.schema.key
    made: dict[str, Any] = {"name": column.name, **_typed(column.type)}
    if column.name in key:
        made |= {"primaryKey": True, "primaryKeyPosition": key.index(column.name) + 1}
    made["required"] = column.name in key or _never_null(column, table, own)
    made["unique"] = key == (column.name,) or any(_is_unique(one.check) for one in own)
    return made | ({"quality": [to_odcs(one) for one in own]} if own else {})


def _typed(kind: PgType) -> dict[str, Any]:
    """A type in both forms; arrays with their elements."""
    logical, options = logical_type(kind)
    made: dict[str, Any] = {"logicalType": logical, "physicalType": kind.name}
    made |= {"logicalTypeOptions": options} if options else {}
    return made | ({"items": _typed(kind.element)} if kind.element is not None else {})


def _never_null(column: Column, table: Described, own: Sequence[Named]) -> bool:
    """Whether the source forbids nulls, or a check keeps them out."""
    kept_out = any(
        one.check.of_rows
        and one.check.metric in (Metric.NULL_VALUES, Metric.MISSING_VALUES)
        and one.check.on_fail in (OnFail.QUARANTINE, OnFail.DROP, OnFail.STOP)
        and (one.check.metric is Metric.NULL_VALUES or _null_is_missing(one.check))
        for one in own
    )
    origin = (
        next((c for c in table.source.columns if c.attnum == column.attnum), None) if table.source else None
    )
    same = origin is not None and origin.name == column.name and origin.type == column.type
    return kept_out or (same and origin is not None and not origin.nullable)


def _null_is_missing(check: QualityCheck) -> bool:
    """Whether a missingValues check counts nulls."""
    listed = check.arguments.missing_values
    return listed is None or None in listed


def _is_unique(check: QualityCheck) -> bool:
    """Whether a check says that no value is there twice."""
    return check.metric is Metric.DUPLICATE_VALUES and check.operator == "mustBe" and check.bounds == (0,)
