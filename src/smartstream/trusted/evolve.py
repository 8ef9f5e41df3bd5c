"""Evolution: the Iceberg schema that follows a table through ADD, DROP, RENAME and wider types, pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import count

import pyarrow as pa
from pyiceberg.schema import Schema
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.types import (
    DecimalType,
    DoubleType,
    FloatType,
    IcebergType,
    IntegerType,
    ListType,
    LongType,
    NestedField,
)

from smartstream.schema import TableSchema
from smartstream.trusted.fields import FieldIds, iceberg_type, identities
from smartstream.trusted.updates import Updates, set_properties, set_schema

SCHEMA_PROPERTY = "smartstream.schema"
FIELD_IDS_PROPERTY = "smartstream.field_ids"


@dataclass(frozen=True, slots=True)
class Evolution:
    """A table's next schema, planned and not yet committed.

    Attributes:
        added: attnum → field id of columns that existing rows lack.
        incompatible: names of columns whose values cannot be kept; they have a
            new field id, under which existing rows are null.
    """

    source: TableSchema
    schema: Schema
    ids: FieldIds
    added: Mapping[int, int]
    incompatible: tuple[str, ...]

    def updates(self) -> Updates:
        """The metadata updates that make the schema current and describe it."""
        return set_schema(self.schema) + set_properties(schema_properties(self.source, self.ids))


def schema_properties(schema: TableSchema, ids: FieldIds) -> dict[str, str]:
    """How a table remembers which source columns its fields are."""
    return {SCHEMA_PROPERTY: schema.to_json(), FIELD_IDS_PROPERTY: ids.to_json()}


def plan_evolution(metadata: TableMetadata, old: TableSchema, ids: FieldIds, new: TableSchema) -> Evolution:
    """Plan what leads from ``old`` to ``new``: columns are the same when their attnum is.

    Names play no part, so swapped names and a dropped column whose name is taken by
    a new one need no care.  A table dropped and created again (another oid) keeps
    no column.  The same arguments always give the same plan.
    """
    fresh = count(metadata.last_column_id + 1)
    before = {field.field_id: field for field in metadata.schema().fields}
    fields: list[NestedField] = []
    by_identity: dict[str, int] = {}
    added: dict[int, int] = {}
    incompatible: list[str] = []
    for identity, column in identities(new):
        known = ids.of(identity) if old.oid == new.oid or isinstance(identity, str) else None
        kind = widened(before[known].field_type, column.type) if known in before else None
        if kind is None:
            known, same = next(fresh), known
            kind = iceberg_type(column.type, lambda: next(fresh))
            assert isinstance(identity, int)
            added[identity] = known
            if same is not None or old.oid != new.oid:
                incompatible.append(column.name)
        assert known is not None
        by_identity[str(identity)] = known
        fields.append(NestedField(field_id=known, name=column.name, field_type=kind, required=False))
    schema_id = max(schema.schema_id for schema in metadata.schemas) + 1
    return Evolution(
        new, Schema(*fields, schema_id=schema_id), FieldIds(by_identity), added, tuple(incompatible)
    )


def widened(old: IcebergType, new: pa.DataType) -> IcebergType | None:
    """Return the type that holds ``old`` values and ``new`` ones, if files need no rewrite; else None."""
    if isinstance(old, ListType):
        if not pa.types.is_list(new):
            return None
        element = widened(old.element_type, new.value_type)
        if element is None:
            return None
        return ListType(element_id=old.element_id, element_type=element, element_required=False)
    if pa.types.is_list(new):
        return None
    wanted = iceberg_type(new, count().__next__)
    if old == wanted:
        return old
    decimals = isinstance(old, DecimalType) and isinstance(wanted, DecimalType)
    if decimals and old.scale == wanted.scale and old.precision <= wanted.precision:  # type: ignore[attr-defined]
        return wanted
    pairs = ((IntegerType, LongType), (FloatType, DoubleType))
    return wanted if any(isinstance(old, a) and isinstance(wanted, b) for a, b in pairs) else None
