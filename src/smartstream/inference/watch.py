"""Watch: what features and predictions of a run look like, and whether that has drifted."""

from __future__ import annotations

import logging
from datetime import datetime
from pathlib import Path
from typing import Literal

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from smartstream.errors import ConfigInvalid
from smartstream.inference.config import ModelSettings
from smartstream.inference.drift import drift
from smartstream.inference.drift_tables import (
    DRIFT_SCHEMA,
    PROFILE_SCHEMA,
    Measured,
    drift_rows,
    profile_of,
    profile_rows,
)
from smartstream.inference.models.model import Model
from smartstream.inference.outputs import FEATURES_HASH
from smartstream.inference.predict import FEATURES, Occasion
from smartstream.inference.profile import Profile, Profiler
from smartstream.inference.runs import append_rows
from smartstream.query.duckdb import add_filesystem
from smartstream.query.relation import relation
from smartstream.sql_text import literal, quoted
from smartstream.trusted.catalog import ANALYTICS
from smartstream.trusted.plan import find_table, plan

_LOG = logging.getLogger(__name__)

ROWS_MAX = 100_000
"""Rows that are profiled of a larger run: chosen by their features' hash, so that order does not matter."""
CHUNK_ROWS = 65_536


def watch(
    occasion: Occasion,
    connection: duckdb.DuckDBPyConnection,
    model: Model,
    folder: Path | None,
) -> tuple[str, ...]:
    """Profile the features that a run has read, compare them with the baseline, keep both.

    The baseline is the training file of the configuration, else the first run of this
    version of the model.

    Returns:
        The columns that drifted; each is one log line as well.
    Raises:
        ConfigInvalid: the training file can't be read.
    """
    about = _about(occasion, model, "feature")
    baseline, name = _baseline(occasion, about, connection, folder)
    profiler = Profiler(baseline)
    for batch in connection.sql(_sample(connection, model)).to_arrow_reader(CHUNK_ROWS):
        profiler.add(pa.Table.from_batches([batch]))
    found = profiler.profile()
    rows = profile_rows(found, about, is_baseline=baseline is None)
    append_rows(occasion.catalog, PROFILE_SCHEMA, rows, occasion.engine)
    if baseline is None:
        return ()
    drifts = drift(baseline, found, occasion.model.drift)
    append_rows(occasion.catalog, DRIFT_SCHEMA, drift_rows(drifts, about, baseline=name), occasion.engine)
    failed = [one for one in drifts if not one.passed]
    for one in failed:
        extra = {"event": "model_drift", "model": about.model, "column": one.column}
        _LOG.warning("model %s: %s has drifted: %s", about.model, one.column, one.reason, extra=extra)
    return tuple(one.column for one in failed)


def _about(occasion: Occasion, model: Model, side: Literal["feature", "prediction"]) -> Measured:
    """What all rows of this run share."""
    moment: datetime = occasion.started_at
    name = occasion.model.name
    return Measured(name, model.identity.version, occasion.run_id, side, moment, occasion.lsn)


def _sample(connection: duckdb.DuckDBPyConnection, model: Model) -> str:
    """The inputs of all rows, or of every n-th by hash."""
    ((count,),) = connection.sql(f"SELECT count(*) FROM {FEATURES}").fetchall()
    names = ", ".join(quoted(one.name) for one in model.inputs)
    every = -(-count // ROWS_MAX)
    chosen = f" WHERE {FEATURES_HASH} % {every} = 0" if every > 1 else ""
    return f"SELECT {names} FROM {FEATURES}{chosen}"


def _baseline(
    occasion: Occasion, about: Measured, connection: duckdb.DuckDBPyConnection, folder: Path | None
) -> tuple[Profile | None, str]:
    """The profile to compare with, and what it is of."""
    training = occasion.model.drift.baseline
    if training is not None:
        return _of_file(occasion.model, training, folder), training
    table = find_table(occasion.catalog, ANALYTICS, PROFILE_SCHEMA.lake_name)
    if table is None:
        return None, ""
    add_filesystem(connection, [table])
    rows = connection.sql(
        f"SELECT * FROM ({relation(plan(table))}) WHERE is_baseline AND side = 'feature' "
        f"AND model = {literal(about.model)} AND version = {literal(about.version)}"
    ).to_arrow_table()
    return (profile_of(rows), rows["run_id"][0].as_py()) if rows.num_rows else (None, "")


def _of_file(model: ModelSettings, training: str, folder: Path | None) -> Profile:
    """The profile of the training rows."""
    path = (folder or Path()) / training
    profiler = Profiler()
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(CHUNK_ROWS):
                profiler.add(pa.Table.from_batches([batch]))
    except (OSError, pa.ArrowInvalid) as error:
        raise ConfigInvalid(f"model {model.name}: cannot read drift.baseline {path}") from error
    return profiler.profile()
