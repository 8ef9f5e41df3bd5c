"""Lineage: where a prediction comes from, back to the snapshots and the source's log."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from smartstream.config import Settings
from smartstream.errors import KeyNotFound, QueryError
from smartstream.inference import outputs as out
from smartstream.inference.config import ModelSettings
from smartstream.inference.features.query import read_query
from smartstream.lsn import format_lsn
from smartstream.query.duckdb import open_lake
from smartstream.sql_text import quoted
from smartstream.trusted.catalog import ANALYTICS


@dataclass(frozen=True, slots=True)
class Lineage:
    """One prediction.

    Attributes:
        values: column → what the model said.
        snapshots: trusted table → Iceberg snapshot that was read.
        lsn: the source's position up to which these tables were complete.
        first_table: the table that the feature query begins with: a key of one column is most often its.
    """

    model: str
    key: Mapping[str, str]
    values: Mapping[str, Any]
    version: str
    sha256: str
    run_id: str
    predicted_at: str
    stale: str | None
    closed_at: str | None
    snapshots: Mapping[str, int | None]
    lsn: str
    first_table: str

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def lineage(settings: Settings, name: str, key: str) -> Lineage:
    """Say where the prediction of ``key`` in ``analytics.<name>`` comes from.

    Args:
        key: values in the order of the model's key, with commas between them.
    Raises:
        QueryError: no model writes this table, or it has not run yet.
        KeyNotFound: there is no prediction of the key.
    """
    model = _writer(settings, name)
    given = key.split(",") if len(model.key) > 1 else [key]
    if len(given) != len(model.key):
        raise KeyNotFound(f"the key of analytics.{name} is {', '.join(model.key)}")
    condition = " AND ".join(f"{quoted(column)}::VARCHAR = ?" for column in model.key)
    with open_lake(settings) as lake:
        known = lake.execute(
            "SELECT 1 FROM duckdb_views() WHERE schema_name = ? AND view_name = ?", [ANALYTICS, name]
        ).fetchall()
        if not known:
            raise QueryError(
                f"analytics.{name} has no predictions yet", hint=f"Run model {model.name} first."
            )
        sql = f"SELECT * FROM {ANALYTICS}.{quoted(name)} WHERE {condition}"
        rows = lake.sql(sql, params=given).to_arrow_table().to_pylist()
    if not rows:
        raise KeyNotFound(f"analytics.{name} has no prediction of this key")
    return _of(settings, model, rows[0])


def _writer(settings: Settings, name: str) -> ModelSettings:
    """The model that writes a table."""
    for model in settings.models:
        if name in (model.table, f"{model.table}{out.CHALLENGER}"):
            return model
    tables = ", ".join(f"analytics.{model.table}" for model in settings.models)
    raise QueryError(f"no model writes analytics.{name}", hint=f"Tables of models: {tables or 'none'}.")


def _of(settings: Settings, model: ModelSettings, row: Mapping[str, Any]) -> Lineage:
    """The lineage that a row of predictions tells."""
    own = {*model.key, *out.META, "_lsn", "_untyped"}
    folder = settings.path.parent if settings.path else Path()
    snapshots = json.loads(row[out.SOURCE_SNAPSHOTS])
    closed = row[out.CLOSED_AT]
    return Lineage(
        model=model.name,
        key={name: str(row[name]) for name in model.key},
        values={name: value for name, value in row.items() if name not in own},
        version=row[out.MODEL_VERSION],
        sha256=row[out.MODEL_SHA],
        run_id=row[out.RUN_ID],
        predicted_at=row[out.PREDICTED_AT].isoformat(),
        stale=row[out.STALE],
        closed_at=closed.isoformat() if closed else None,
        snapshots={name: at[1] for name, at in snapshots.items()},
        lsn=format_lsn(row["_lsn"]),
        first_table=read_query(folder / model.features).tables[0],
    )
