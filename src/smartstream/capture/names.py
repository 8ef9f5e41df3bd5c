"""Which tables of the source would be one table in the lake, pure.

A table is called ``schema.name`` in the log and ``name`` or ``schema__name`` in the
lake, where engines don't tell case apart.  PostgreSQL does, and allows dots and
underscores everywhere: ``T`` and ``t``, ``a.b__c`` and ``a__b.c`` are two tables there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from smartstream.manifest import TableState
from smartstream.schema import TableSchema


@dataclass(frozen=True, slots=True)
class Clash:
    """A table whose name another one has already."""

    table: TableSchema
    other: TableSchema

    @property
    def reason(self) -> str:
        """Both tables and the name, for a message."""
        table, other = self.table, self.other
        if table.id == other.id:
            return (
                f"table {table.name} of schema {table.schema} and table {other.name} of schema {other.schema}"
                f" are both called {table.id}"
            )
        return f"{table.id} would be {table.lake_name} in the lake, where {other.id} is {other.lake_name}"


def clashes(tables: Sequence[TableSchema], settled: Iterable[TableSchema] = ()) -> list[Clash]:
    """Return the tables whose name is taken; of two new ones the older has it.

    Args:
        settled: tables that are in the lake, also those that are gone from the source.
    """
    taken: dict[str, TableSchema] = {}
    for schema in settled:
        taken |= dict.fromkeys(_names(schema), schema)
    found = []
    for table in sorted(tables, key=lambda schema: schema.oid):
        held = (taken[name] for name in _names(table) if name in taken)
        other = next((other for other in held if _differ(other, table)), None)
        if other is not None:
            found.append(Clash(table, other))
        else:
            taken |= dict.fromkeys(_names(table), table)
    return found


def in_log(states: Iterable[TableState]) -> Iterator[TableSchema]:
    """The schemas of tables that the log knows, also of those that are gone from the source."""
    return (TableSchema.from_json(state.schema) for state in states)


def _names(table: TableSchema) -> tuple[str, str]:
    """What the log calls a table, and its name in the lake as engines compare it."""
    return f"log {table.id}", f"lake {table.lake_name.casefold()}"


def _differ(one: TableSchema, other: TableSchema) -> bool:
    """Whether two tables have other names in the source."""
    return (one.schema, one.name) != (other.schema, other.name)
