"""A contract held against tables as they are, pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from smartstream.quality.config import OnFail, QualityCheck
from smartstream.quality.odcs.document import Contract, Property, SchemaObject
from smartstream.quality.odcs.settings import wanted
from smartstream.quality.odcs.types import logical_type, same_physical
from smartstream.quality.results import Result
from smartstream.schema import Column, TableSchema


@dataclass(frozen=True, slots=True)
class Difference:
    """Where a table is not as the contract says.

    Attributes:
        path: ``table`` or ``table.column``.
        breaks: False for what the contract only does not mention.
    """

    path: str
    expected: str
    found: str
    breaks: bool = True

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def differences(
    contract: Contract, schema_of: Callable[[str], TableSchema | None], *, nulls: bool = False
) -> list[Difference]:
    """Compare the shapes of tables with a contract.

    Args:
        schema_of: ``schema.name`` → the table's schema, None when there is none.
        nulls: whether the schemas know which columns can be null (the source's do).
    """
    return [one for said in contract.objects for one in _of_table(said, schema_of(said.table_id), nulls)]


def checks_of(contract: Contract) -> dict[str, list[QualityCheck]]:
    """What must be measured: the contract's quality of the trusted rows alone, whatever becomes of others."""
    return {
        one.table: [check.model_copy(update={"on_fail": OnFail.WARN}) for check in one.checks]
        for one in wanted(contract)
    }


def failed(results: list[Result]) -> list[Difference]:
    """Failed checks as differences."""
    found = []
    for one in results:
        if not one.passed:
            value = one.reason or f"{one.value:g} {one.unit}"
            path = f"{one.table}.{one.column}" if one.column else one.table
            found.append(Difference(path, f"{one.metric} {one.threshold} {one.unit}", value))
    return found


def _of_table(said: SchemaObject, schema: TableSchema | None, nulls: bool) -> Iterator[Difference]:
    """One table."""
    if schema is None:
        yield Difference(said.table_id, "the table", "no such table")
        return
    if said.key and said.key != schema.key:
        yield Difference(said.table_id, f"primary key {', '.join(said.key)}", f"key {', '.join(schema.key)}")
    columns = {column.name: column for column in schema.columns}
    for promised in said.properties:
        path = f"{said.table_id}.{promised.name}"
        if promised.name not in columns:
            yield Difference(path, "the column", "no such column")
        else:
            yield from _of_column(path, promised, columns[promised.name], schema.key, nulls)
    mentioned = {one.name for one in said.properties}
    for column in schema.columns:
        if column.name not in mentioned:
            yield Difference(f"{said.table_id}.{column.name}", "nothing", column.type.name, breaks=False)


def _of_column(
    path: str, said: Property, column: Column, key: tuple[str, ...], nulls: bool
) -> Iterator[Difference]:
    """One column."""
    logical, _ = logical_type(column.type)
    if said.logical_type is not None and said.logical_type != logical:
        yield Difference(path, f"logicalType {said.logical_type}", f"{logical} ({column.type.name})")
    elif said.physical_type is not None and not same_physical(said.physical_type, column.type.name):
        yield Difference(path, f"physicalType {said.physical_type}", column.type.name)
    if nulls and said.required and column.nullable and column.name not in key:
        yield Difference(path, "required", "can be null")
