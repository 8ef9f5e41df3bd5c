"""The quarantine of one table: rows of the source that the trusted table does not have, and why."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa

from smartstream.capture.values import cast
from smartstream.errors import SchemaError
from smartstream.schema import TableSchema
from smartstream.transform.rows import same_key
from smartstream.transform.shape import (
    DISPOSITION,
    DROPPED,
    DUPLICATE,
    QUARANTINED,
    quarantine_schema,
)
from smartstream.trusted.table import Located, Position, TrustedTable

OpenTable = Callable[[TableSchema, bool], TrustedTable | None]
"""Opens a table of the quarantine namespace: its schema, and whether to create it."""


class Quarantine:
    """A table keyed like the source's; it comes into being with the first row that is held."""

    def __init__(self, schema: TableSchema, open_table: OpenTable) -> None:
        self._schema, self._key = quarantine_schema(schema), list(schema.key)
        self._open = open_table
        self.table = open_table(self._schema, False)
        self._begun_anew = False
        held = self.table.schema if self.table is not None else schema
        if held.oid == schema.oid and same_key(held, schema):
            self.follow()

    def follow(self) -> None:
        """Take the columns of today; entries that are there must have values in the key's."""
        if self.table is not None:
            self.table.evolve(self._schema)

    def begin_anew(self) -> None:
        """Make ready for entries that will replace all present ones, of another table perhaps."""
        if self.table is not None:
            self.table.evolve(self._schema, replace_incompatible=True)
            self._begun_anew = True

    def write(self, rows: pa.Table) -> list[Any]:
        """Write held rows to data files; nothing is visible yet."""
        if not rows.num_rows:
            return []
        if self.table is None:
            self.table = self._open(self._schema, True)
        assert self.table is not None
        return self.table.write(rows)

    def locate(self, keys: pa.Table) -> list[Located]:
        """Find the entries of ``keys``; most tables have none."""
        if self.table is None or not self.table.row_count:
            return []
        found = self.table.locate(keys)
        return [found] if found.row_count else []

    def entries(self, keys: Sequence[Sequence[str]] | None) -> pa.Table:
        """The entries of ``keys``, or without them all that are not dropped.

        Args:
            keys: as text, in key order.
        Raises:
            SchemaError: a key is not one of this table.
        """
        names = self._schema.trusted_schema().names
        if self.table is None:
            return self._schema.trusted_schema().empty_table()
        found = (
            self.table.locate(self._typed(keys)) if keys is not None else self.table.locate(self._open_keys())
        )
        return self.table.read(found, names).select(names)

    def as_dropped(self, entries: pa.Table) -> pa.Table:
        """The same entries, let be; they compete for no place any more."""
        index = entries.schema.get_field_index(DISPOSITION)
        return entries.set_column(index, entries.schema.field(index), pa.repeat(DROPPED, len(entries)))

    def _open_keys(self) -> pa.Table:
        """The keys of entries that are not dropped."""
        assert self.table is not None
        kinds = pa.table({DISPOSITION: [QUARANTINED, DUPLICATE]})
        return self.table.locate_by(kinds).keys

    def _typed(self, keys: Sequence[Sequence[str]]) -> pa.Table:
        """Keys given as text."""
        columns = self._schema.key_columns()
        if any(len(key) != len(columns) for key in keys):
            raise SchemaError(f"{self._schema.id}: its key has the columns {', '.join(self._key)}")
        arrays = []
        for number, column in enumerate(columns):
            done = cast(pa.array([key[number] for key in keys], pa.string()), column.type)
            if done.values.null_count:
                raise SchemaError(f"{self._schema.id}: not a {column.type.name} for key column {column.name}")
            arrays.append(done.values)
        return pa.table(arrays, names=self._key)

    def commit(
        self, add: Sequence[Any], delete: Sequence[Located], position: Position, *, replace_all: bool
    ) -> None:
        """Make entries visible and take others away, in one swap; nothing to do is no commit."""
        if self.table is None:
            return
        if add or delete or (replace_all and (self._begun_anew or self.table.row_count)):
            self.table.commit(add=add, delete=delete, position=position, replace_all=replace_all)
            self._begun_anew = False
