"""Slices of a changelog by key, for changelogs that don't fit in memory."""

from __future__ import annotations

from functools import cache

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from smartstream.change import DELETE, OLD_KEY, OP, TRUNCATE, UNCHANGED
from smartstream.schema import TableSchema
from smartstream.sql_text import quoted


def split(changelog: pa.Table, schema: TableSchema, count: int) -> dict[int, pa.Table]:
    """Return the slices that are not empty, by number: a key's changes share a slice.

    An update that moves a row to another key is cut in two, a delete of the old key
    and the rest, which may fall into different slices.  Truncates are in every slice.

    Args:
        changelog: (n, ``schema.changelog_schema()``).
    Raises:
        ValueError: an update moves a row and leaves out a value: it can't be cut.
    """
    changelog = _cut_moves(changelog, schema)
    owner = _slices(changelog.select(list(schema.key)), count)
    everywhere = pc.equal(changelog[OP], TRUNCATE).to_numpy()
    numbers = range(count) if everywhere.any() else np.unique(owner).tolist()
    return {n: changelog.filter(pa.array((owner == n) | everywhere)) for n in numbers}


def can_partition(changelog: pa.Table) -> bool:
    """Whether no update both moves a row and leaves out a value."""
    both = pc.and_(pc.is_valid(changelog[OLD_KEY]), pc.is_valid(changelog[UNCHANGED]))
    return not pc.any(both).as_py()


def _slices(keys: pa.Table, count: int) -> np.ndarray:
    """The slice of each key, by DuckDB's hash."""
    columns = ", ".join(quoted(name) for name in keys.column_names)
    with _engine().cursor() as cursor:
        result = cursor.from_arrow(keys).project(f"(hash({columns}) % {int(count)})::BIGINT AS slice")
        slices: np.ndarray = result.to_arrow_table()["slice"].to_numpy()
        return slices


@cache
def _engine() -> duckdb.DuckDBPyConnection:
    """One DuckDB for its hash function; it holds no data."""
    return duckdb.connect(config={"threads": 1, "memory_limit": "64MB"})


def _cut_moves(changelog: pa.Table, schema: TableSchema) -> pa.Table:
    """The changelog with each key change as a delete and an update."""
    moved = pc.is_valid(changelog[OLD_KEY])
    if not pc.any(moved).as_py():
        return changelog
    if not can_partition(changelog):
        raise ValueError(f"{schema.id}: an update that moves a row leaves out a value")
    old = changelog.filter(moved)
    deletes = old.set_column(0, changelog.schema.field(OP), pa.array([DELETE] * len(old), pa.string()))
    for name in schema.key:
        index = deletes.schema.get_field_index(name)
        deletes = deletes.set_column(
            index, deletes.schema.field(index), pc.struct_field(old[OLD_KEY], [name])
        )
    index = changelog.schema.get_field_index(OLD_KEY)
    field = changelog.schema.field(index)
    parts = [part.set_column(index, field, pa.nulls(len(part), field.type)) for part in (deletes, changelog)]
    return pa.concat_tables(parts)
