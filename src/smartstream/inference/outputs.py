"""The tables that predictions are written to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import pyarrow as pa

from smartstream.errors import FeaturesInvalid
from smartstream.inference.config import ModelSettings
from smartstream.schema import TRUSTED_LSN, Column, TableSchema
from smartstream.transform.shape import made_column, pg_type
from smartstream.trusted.catalog import ANALYTICS, LakeCatalog
from smartstream.trusted.engine import Engine
from smartstream.trusted.position import Position
from smartstream.trusted.table import TrustedTable

MODEL_NAME, MODEL_VERSION, MODEL_SHA = "_model_name", "_model_version", "_model_sha256"
FEATURES_HASH, SOURCE_SNAPSHOTS = "_features_hash", "_source_snapshots"
PREDICTED_AT, RUN_ID = "_predicted_at", "_run_id"
EXPLANATION, STALE, CLOSED_AT = "_explanation", "_stale", "_closed_at"

_TIME = pa.timestamp("us", tz="UTC")
META: dict[str, pa.DataType] = {
    MODEL_NAME: pa.string(),
    MODEL_VERSION: pa.string(),
    MODEL_SHA: pa.string(),
    FEATURES_HASH: pa.int64(),
    SOURCE_SNAPSHOTS: pa.string(),
    PREDICTED_AT: _TIME,
    RUN_ID: pa.string(),
    EXPLANATION: pa.string(),
    STALE: pa.string(),
    CLOSED_AT: _TIME,
}
REASON = "_reason"

CHALLENGER, HISTORY, HELD = "_challenger", "_history", "_quarantine"
"""Endings of a model's further tables."""


def output_schema(
    name: str, keys: Sequence[pa.Field], predictions: pa.Schema, *, history: bool = False
) -> TableSchema:
    """A table of predictions: key, predictions, and where they come from; ``_lsn`` is the source's.

    Args:
        history: one row for each key and run.
    """
    columns = [Column(field.name, number, pg_type(field.type)) for number, field in enumerate(keys, 1)]
    columns += [made_column(field.name, field.type) for field in predictions]
    columns += [made_column(field, kind) for field, kind in META.items()]
    key = tuple(field.name for field in keys)
    return TableSchema(0, "public", name, tuple(columns), (*key, RUN_ID) if history else key)


def held_schema(name: str, keys: Sequence[pa.Field]) -> TableSchema:
    """The table of keys whose features or predictions could not be used, and why."""
    columns = [Column(field.name, number, pg_type(field.type)) for number, field in enumerate(keys, 1)]
    columns += [made_column(REASON, pa.string()), made_column(RUN_ID, pa.string())]
    columns += [made_column(PREDICTED_AT, _TIME), made_column(FEATURES_HASH, pa.int64())]
    return TableSchema(0, "public", f"{name}{HELD}", tuple(columns), tuple(f.name for f in keys))


def output_names(model: ModelSettings) -> list[str]:
    """The tables below ``analytics`` that a model can write to."""
    names = [model.table, f"{model.table}{CHALLENGER}"]
    return [f"{name}{ending}" for name in names for ending in ("", HISTORY, HELD)]


def key_fields(schema: pa.Schema, key: Sequence[str]) -> list[pa.Field]:
    """The key's columns in types that a lake's key may have.

    Raises:
        FeaturesInvalid: a column's type can't identify rows.
    """
    small = {pa.int8(): pa.int32(), pa.int16(): pa.int32(), pa.large_string(): pa.string()}
    found = []
    for name in key:
        kind = small.get(schema.field(name).type, schema.field(name).type)
        simple = pa.types.is_integer(kind) or pa.types.is_string(kind) or pa.types.is_date32(kind)
        if not (simple or pa.types.is_decimal128(kind) or kind in (_TIME, pa.timestamp("us"), pa.bool_())):
            raise FeaturesInvalid(f"the key column {name} is {kind}, which can't identify a row")
        found.append(pa.field(name, kind))
    return found


class OutputTable:
    """One table of predictions, open for the run that has the model's lock."""

    def __init__(self, table: TrustedTable, schema: TableSchema) -> None:
        self.table, self.schema = table, schema
        self.names = schema.trusted_schema().names
        self._repeated: dict[str, tuple[Any, pa.Array]] = {}

    @staticmethod
    def open(catalog: LakeCatalog, schema: TableSchema, engine: Engine) -> OutputTable:
        """Open the table, making it when it is missing; other columns than before replace all rows."""
        table = TrustedTable.open(catalog, schema, namespace=ANALYTICS, engine=engine)
        table.evolve(schema, replace_incompatible=True)
        return OutputTable(table, schema)

    def find(self, keys: pa.Table, names: Sequence[str]) -> pa.Table:
        """Of the rows of ``keys`` the key and the columns ``names``."""
        return self.table.read(self.table.locate(self._typed(keys)), list(names))

    def whole(self, keys: pa.Table) -> pa.Table:
        """The rows of ``keys``."""
        if not keys.num_rows:
            return self.schema.trusted_schema().empty_table()
        return self.find(keys, self.names).select(self.names)

    def replace(
        self,
        rows: Iterable[pa.Table],
        gone: pa.Table | None,
        *,
        run_id: str,
        lsn: int,
    ) -> None:
        """Take the rows of the keys ``gone`` away (None: all rows) and add ``rows``, in one commit."""
        files = self.table.write(rows)
        held = self.table.position
        position = Position(max(held.lsn, lsn), held.seq + 1, 1, run_id)
        located = None if gone is None else self.table.locate(self._typed(gone))
        self.table.commit(add=files, delete=located, position=position, replace_all=gone is None)

    def complete(self, rows: pa.Table, constants: dict[str, Any], lsn: int) -> pa.Table:
        """Rows in the shape of the table; missing columns are constant, or null."""
        count, arrays = rows.num_rows, []
        for field in self.schema.trusted_schema():
            if field.name in rows.column_names:
                arrays.append(rows[field.name].cast(field.type))
            else:
                value = lsn if field.name == TRUSTED_LSN else constants.get(field.name)
                arrays.append(self._repeat(field, value, count))
        return pa.table(arrays, schema=self.schema.trusted_schema())

    def _repeat(self, field: pa.Field, value: Any, count: int) -> pa.Array:
        """A value ``count`` times; most chunks are of one size."""
        known, array = self._repeated.get(field.name, (None, pa.nulls(0)))
        if known != value or len(array) < count:
            array = pa.repeat(pa.scalar(value, field.type), count)
            self._repeated[field.name] = value, array
        return array.slice(0, count)

    def written(self, files: list[Any]) -> Iterator[pa.Table]:
        """Read files back that have just been written."""
        return self.table.written(files, self.names)

    def _typed(self, keys: pa.Table) -> pa.Table:
        """Keys in the types of the table."""
        fields = [self.schema.arrow_schema().field(name) for name in self.schema.key]
        return pa.table([keys[f.name].cast(f.type) for f in fields], names=[f.name for f in fields])
