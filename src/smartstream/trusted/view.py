"""A trusted table as of one commit."""

from __future__ import annotations

from dataclasses import dataclass

from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.types import NestedField

from smartstream.errors import TableCorrupt
from smartstream.schema import TableSchema
from smartstream.trusted.evolve import FIELD_IDS_PROPERTY, SCHEMA_PROPERTY
from smartstream.trusted.fields import FieldIds, field_by_name
from smartstream.trusted.position import Position
from smartstream.trusted.state import TableState, load_state


@dataclass(frozen=True, slots=True)
class View:
    """Everything about a table as of one commit; replaced as a whole, so readers need no lock."""

    state: TableState
    source: TableSchema
    schema: Schema
    ids: FieldIds
    position: Position
    schemas: tuple[Schema, ...]

    def key_fields(self) -> list[NestedField]:
        """The key's columns, in key order."""
        return [field_by_name(self.schema, name) for name in self.source.key]


def load_view(table: Table) -> View:
    """Read the table's state from its metadata, manifests and delete files."""
    if SCHEMA_PROPERTY not in table.properties:
        raise TableCorrupt(f"table {table.name()[-1]} was not made by SmartStream")
    return view_of(table, load_state(table.current_snapshot(), table.io))


def view_of(table: Table, state: TableState) -> View:
    """The view of a state whose metadata ``table`` holds."""
    properties = table.metadata.properties
    return View(
        state=state,
        source=TableSchema.from_json(properties[SCHEMA_PROPERTY]),
        schema=table.metadata.schema(),
        ids=FieldIds.from_json(properties[FIELD_IDS_PROPERTY]),
        position=Position.from_properties(properties),
        schemas=tuple(table.metadata.schemas),
    )
