"""A small lake for the tests of trusted tables, and every way to read it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import polars
import pyarrow as pa
from pyiceberg.catalog import Catalog

from smartstream.schema import Column, Kind, PgType, TableSchema
from smartstream.trusted.catalog import open_catalog
from smartstream.trusted.engine import Engine
from smartstream.trusted.position import Position
from smartstream.trusted.table import TrustedTable


@dataclass(frozen=True)
class CatalogOptions:
    type: str = "sqlite"
    uri: str | None = None
    properties: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class LakeOptions:
    warehouse: str
    catalog: CatalogOptions = CatalogOptions()
    s3: Any = None


@dataclass(frozen=True)
class Rules:
    small_files_max: int = 16
    deleted_ratio_max: float = 0.25
    target_file_bytes: int = 128 << 20
    snapshots_max: int = 50
    grace: float = 900.0


@dataclass(frozen=True)
class MaintenanceOptions:
    maintenance: Rules = Rules()


INT4 = PgType("integer", Kind.INT4)
INT8 = PgType("bigint", Kind.INT8)
TEXT = PgType("text", Kind.TEXT)
FLOAT4 = PgType("real", Kind.FLOAT4)
FLOAT8 = PgType("double precision", Kind.FLOAT8)
DATE = PgType("date", Kind.DATE)
BOOL = PgType("boolean", Kind.BOOL)
BYTEA = PgType("bytea", Kind.BYTEA)
UUID = PgType("uuid", Kind.UUID)
INT4S = PgType("integer[]", Kind.ARRAY, element=INT4)


def numeric(precision: int, scale: int) -> PgType:
    return PgType(f"numeric({precision},{scale})", Kind.NUMERIC, precision=precision, scale=scale)


def table_schema(
    columns: Sequence[tuple[str, int, PgType]], key: Sequence[str], *, name: str = "orders", oid: int = 1
) -> TableSchema:
    return TableSchema(oid, "public", name, tuple(Column(n, a, t) for n, a, t in columns), tuple(key))


def local_catalog(folder: Path) -> Catalog:
    return open_catalog(LakeOptions(str(folder)))


def rows(schema: TableSchema, records: Sequence[Mapping[str, Any]], *, lsn: int = 1) -> pa.Table:
    """Trusted rows of dictionaries; what they leave out is null."""
    full = [{"_lsn": lsn, "_untyped": None, **record} for record in records]
    return pa.Table.from_pylist(full, schema=schema.trusted_schema())


def keys(schema: TableSchema, values: Sequence[Any]) -> pa.Table:
    """Keys of tuples (or of single values) in key order."""
    tuples = [value if isinstance(value, tuple) else (value,) for value in values]
    kind = pa.schema([schema.arrow_schema().field(name) for name in schema.key])
    return pa.Table.from_pylist([dict(zip(schema.key, t, strict=True)) for t in tuples], schema=kind)


def apply(
    table: TrustedTable, upserts: Sequence[Mapping[str, Any]], deletes: Sequence[Any] = (), *, seq: int
) -> None:
    """One batch as the applier does it: locate, write, commit."""
    schema = table.schema
    upserted = [tuple(record[name] for name in schema.key) for record in upserts]
    touched = [*upserted, *(d if isinstance(d, tuple) else (d,) for d in deletes)]
    located = table.locate(keys(schema, touched))
    files = table.write(rows(schema, upserts, lsn=seq)) if upserts else []
    table.commit(add=files, delete=located, position=Position(seq * 10, seq, 1))


def reopened(catalog: Catalog, table: TrustedTable, engine: Engine | None = None) -> TrustedTable:
    """The table as another process would open it."""
    return TrustedTable.open(catalog, table.schema, create=False, engine=engine or table.engine)


def read_pyiceberg(table: TrustedTable) -> pa.Table:
    return table.iceberg.catalog.load_table(table.iceberg.name()).scan().to_arrow()


def read_polars(table: TrustedTable) -> pa.Table:
    return polars.scan_iceberg(table.iceberg.metadata_location).collect().to_arrow()


def read_duckdb(table: TrustedTable) -> pa.Table:
    """Plan by manifest, `read_parquet` by field id, anti join with the delete files."""
    from smartstream.query.relation import relation
    from smartstream.trusted.plan import plan

    fresh = table.iceberg.catalog.load_table(table.iceberg.name())
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        return connection.sql(relation(plan(fresh))).to_arrow_table()


READERS = {"pyiceberg": read_pyiceberg, "polars": read_polars, "duckdb": read_duckdb}


def contents(rows: pa.Table, key: Sequence[str]) -> dict[tuple[Any, ...], dict[str, Any]]:
    """Rows by key, without the system columns; fails on a doubled key."""
    found = {}
    for record in rows.to_pylist():
        plain = {name: value for name, value in record.items() if not name.startswith("_")}
        found[tuple(record[name] for name in key)] = plain
    assert len(found) == rows.num_rows, "a key is there twice"
    return found
