"""Iceberg schemas of trusted tables, and the field id of each column.

A column's field id is bound to its ``attnum``: it survives renames and is never
used again.  The binding is kept in a table property.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import pyarrow as pa
from pyiceberg.schema import Schema
from pyiceberg.types import (
    BinaryType,
    BooleanType,
    DateType,
    DecimalType,
    DoubleType,
    FloatType,
    IcebergType,
    IntegerType,
    ListType,
    LongType,
    NestedField,
    PrimitiveType,
    StringType,
    TimestampType,
    TimestamptzType,
    TimeType,
)

from smartstream.change import UNTYPED
from smartstream.schema import TRUSTED_LSN, TableSchema

PARQUET_FIELD_ID = b"PARQUET:field_id"

_PRIMITIVES: dict[pa.DataType, PrimitiveType] = {
    pa.int32(): IntegerType(),
    pa.int64(): LongType(),
    pa.float32(): FloatType(),
    pa.float64(): DoubleType(),
    pa.bool_(): BooleanType(),
    pa.string(): StringType(),
    pa.binary(): BinaryType(),
    pa.date32(): DateType(),
    pa.time64("us"): TimeType(),
    pa.timestamp("us"): TimestampType(),
    pa.timestamp("us", tz="UTC"): TimestamptzType(),
}


@dataclass(frozen=True, slots=True)
class FieldIds:
    """Field ids by identity: a column's attnum, or the name of a system column."""

    by_identity: Mapping[str, int]

    def of(self, identity: int | str) -> int | None:
        """The field id of an attnum (or of ``_lsn``, ``_untyped``), if it has one."""
        return self.by_identity.get(str(identity))

    def to_json(self) -> str:
        """For the table property; ``from_json`` is its inverse."""
        return json.dumps(dict(self.by_identity), separators=(",", ":"))

    @staticmethod
    def from_json(text: str) -> FieldIds:
        """Inverse of ``to_json``."""
        return FieldIds({str(key): int(value) for key, value in json.loads(text).items()})


def identities(schema: TableSchema) -> list[tuple[int | str, pa.Field]]:
    """Each column of the trusted table with its identity, in trusted_schema order."""
    names: list[int | str] = [column.attnum for column in schema.columns]
    return list(zip([*names, TRUSTED_LSN, UNTYPED], schema.trusted_schema(), strict=True))


def first_schema(schema: TableSchema) -> tuple[Schema, FieldIds]:
    """Return the Iceberg schema of a new table: ids from 1, top level before elements."""
    columns = identities(schema)
    ids = {str(identity): number for number, (identity, _) in enumerate(columns, start=1)}
    last = len(columns)

    def next_id() -> int:
        nonlocal last
        last += 1
        return last

    fields = [
        _field(ids[str(identity)], field, iceberg_type(field.type, next_id)) for identity, field in columns
    ]
    return Schema(*fields, schema_id=0), FieldIds(ids)


def _field(field_id: int, field: pa.Field, kind: IcebergType) -> NestedField:
    """A top-level column: always optional, because PostgreSQL may drop NOT NULL at any time."""
    return NestedField(field_id=field_id, name=field.name, field_type=kind, required=False)


def iceberg_type(kind: pa.DataType, next_id: Callable[[], int]) -> IcebergType:
    """Return the Iceberg type of an Arrow type; list elements take ``next_id()``."""
    if pa.types.is_decimal128(kind):
        return DecimalType(kind.precision, kind.scale)
    if pa.types.is_list(kind):
        element_id = next_id()
        element = iceberg_type(kind.value_type, next_id)
        return ListType(element_id=element_id, element_type=element, element_required=False)
    return _PRIMITIVES[kind]


def arrow_type(kind: IcebergType) -> pa.DataType:
    """Return the Arrow type of an Iceberg type, its list elements marked with field ids."""
    if isinstance(kind, DecimalType):
        return pa.decimal128(kind.precision, kind.scale)
    if isinstance(kind, ListType):
        return pa.list_(_marked("element", arrow_type(kind.element_type), kind.element_id))
    for arrow, iceberg in _PRIMITIVES.items():
        if iceberg == kind:
            return arrow
    raise AssertionError(f"not a type of a trusted table: {kind}")


def arrow_schema(fields: Iterable[NestedField]) -> pa.Schema:
    """Return the Arrow schema of a data file: Parquet field ids on every level."""
    return pa.schema([_marked(field.name, arrow_type(field.field_type), field.field_id) for field in fields])


def _marked(name: str, kind: pa.DataType, field_id: int) -> pa.Field:
    """An Arrow field that Parquet stores with a field id."""
    return pa.field(name, kind, nullable=True, metadata={PARQUET_FIELD_ID: str(field_id).encode()})


def field_by_name(schema: Schema, name: str) -> NestedField:
    """Return the top-level column called ``name`` (names may contain dots); KeyError if none."""
    for field in schema.fields:
        if field.name == name:
            return field
    raise KeyError(name)
