"""Made from: the predictions that a row of a trusted table has a part in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from smartstream.config import Settings
from smartstream.errors import SmartStreamError
from smartstream.inference import outputs as out
from smartstream.inference.config import ModelSettings
from smartstream.inference.features.pinned import Pinned
from smartstream.inference.features.query import read_query
from smartstream.query.duckdb import add_filesystem
from smartstream.query.life import parse_key
from smartstream.query.relation import relation
from smartstream.schema import TableSchema
from smartstream.sql_text import quoted
from smartstream.trusted.catalog import ANALYTICS, LakeCatalog, open_catalog
from smartstream.trusted.evolve import SCHEMA_PROPERTY
from smartstream.trusted.plan import find_table, plan

SHOWN_MAX = 10
"""Predictions of one model that are shown: a row that many share leads to all of theirs."""


@dataclass(frozen=True, slots=True)
class MadeFrom:
    """The predictions of one model that a row leads to, as its tables are now.

    Attributes:
        predictions: ``key``, ``values``, ``run_id`` and ``predicted_at`` of each, ``SHOWN_MAX`` at most.
        count: of all.
        unknown: why they can't be told; None when they can.
    """

    model: str
    table: str
    predictions: tuple[Mapping[str, Any], ...] = ()
    count: int = 0
    unknown: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def made_from(settings: Settings, table: str, key: str) -> list[MadeFrom]:
    """Say which predictions the row of ``table`` with ``key`` has a part in, model by model.

    It is found as a run finds which keys a changed row leads to.  A model that can't run
    says why in its ``unknown``.

    Args:
        table: ``schema.table``.
        key: see ``parse_key``.
    Raises:
        LakeError: the catalog can't be read.
    """
    if not settings.models:
        return []
    catalog, found = open_catalog(settings.lake), []
    for model in settings.models:
        try:
            one = _of_model(settings, model, catalog, table, key)
        except SmartStreamError as error:
            one = MadeFrom(model.name, f"{ANALYTICS}.{model.table}", unknown=str(error))
        if one is not None:
            found.append(one)
    return found


def _of_model(
    settings: Settings, model: ModelSettings, catalog: LakeCatalog, table: str, key: str
) -> MadeFrom | None:
    """The predictions of one model; None where its features do not read the table."""
    folder = settings.path.parent if settings.path else Path()
    pinned = Pinned(read_query(folder / model.features), model.key, catalog)
    schemas = {
        name: TableSchema.from_json(one.iceberg.properties[SCHEMA_PROPERTY])
        for name, one in pinned.tables.items()
    }
    given = {name: parse_key(key, schema) for name, schema in schemas.items() if schema.id == table}
    predictions = find_table(catalog, ANALYTICS, model.table)
    if not given or predictions is None:
        return None
    place = f"{ANALYTICS}.{model.table}"
    with pinned.opened(settings.limits, pinned.watermark) as connection:
        keys = pinned.affected_keys(connection, given)
        if keys is None:
            return MadeFrom(model.name, place, unknown="any row can have a part in any key")
        add_filesystem(connection, [predictions])
        count, rows = _read(connection, model, relation(plan(predictions)), keys)
    return MadeFrom(model.name, place, tuple(_told(model, row) for row in rows), count)


def _read(
    connection: duckdb.DuckDBPyConnection, model: ModelSettings, predictions: str, keys: pa.Table
) -> tuple[int, list[dict[str, Any]]]:
    """How many predictions of ``keys`` there are, and the first of them."""
    connection.register("asked_keys", keys)
    names = ", ".join(quoted(name) for name in model.key)
    chosen = f"FROM ({predictions}) SEMI JOIN asked_keys USING ({names})"
    ((count,),) = connection.sql(f"SELECT count(*) {chosen}").fetchall()
    sql = f"SELECT * {chosen} ORDER BY {names} LIMIT {SHOWN_MAX}"
    return int(count), connection.sql(sql).to_arrow_table().to_pylist()


def _told(model: ModelSettings, row: Mapping[str, Any]) -> dict[str, Any]:
    """One prediction."""
    own = {*model.key, *out.META, "_lsn", "_untyped"}
    return {
        "key": {name: str(row[name]) for name in model.key},
        "values": {name: value for name, value in row.items() if name not in own},
        "run_id": row[out.RUN_ID],
        "predicted_at": row[out.PREDICTED_AT].isoformat(),
    }
