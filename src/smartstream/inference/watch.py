"""Watch: what a model's features look like, and whether that has drifted."""

from __future__ import annotations

import logging
from pathlib import Path

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
from smartstream.inference.predict import FEATURES
from smartstream.inference.profile import Profile, Profiler
from smartstream.inference.runs import append_rows
from smartstream.query.duckdb import add_filesystem
from smartstream.query.relation import relation
from smartstream.sql_text import literal, quoted
from smartstream.trusted.catalog import ANALYTICS, LakeCatalog
from smartstream.trusted.engine import Engine
from smartstream.trusted.plan import find_table, plan

_LOG = logging.getLogger(__name__)

ROWS_MAX = 100_000
"""Rows that are profiled of a larger run: chosen by their features' hash, so that order does not matter."""
CHUNK_ROWS = 65_536


class Watch:
    """What is measured at the end of one run, beside the tables that keep it.

    Only features of all keys are profiled.  Those that an incremental run has computed are
    of the keys that changed: they say what changes, and nothing of what the model sees.
    """

    def __init__(
        self,
        settings: ModelSettings,
        catalog: LakeCatalog,
        engine: Engine,
        connection: duckdb.DuckDBPyConnection,
        about: Measured,
    ) -> None:
        self._settings, self._catalog, self._engine = settings, catalog, engine
        self._connection, self._about = connection, about

    def is_due(self, *, whole: bool) -> bool:
        """Whether to profile now: never twice for one run; else with all features there, or when time is up.

        Args:
            whole: whether the features of all keys are there for nothing.
        """
        about = self._about
        asked = f"max(measured_at), coalesce(bool_or(run_id = {literal(about.run_id)}), false)"
        rows = self._profiles(asked)
        last, this_run = rows.to_pylist()[0].values() if rows is not None else (None, False)
        if this_run:
            return False
        if whole or last is None:
            return True
        return bool((about.measured_at - last).total_seconds() >= self._settings.drift.every)

    def measure(self, model: Model, folder: Path | None) -> tuple[str, ...]:
        """Profile the table of features, which has all keys, compare it with the baseline, keep both.

        The baseline is the training file of the configuration, else the first profile of this
        version of the model.

        Returns:
            The columns that drifted; each is one log line as well.
        Raises:
            ConfigInvalid: the training file can't be read.
        """
        about = self._about
        baseline, name = self._baseline(folder)
        profiler = Profiler(baseline)
        rows_read = 0
        for batch in self._connection.sql(_sample(self._connection, model)).to_arrow_reader(CHUNK_ROWS):
            profiler.add(pa.Table.from_batches([batch]))
            rows_read += batch.num_rows
        if not rows_read:
            return ()
        found = profiler.profile()
        drifts = drift(baseline, found, self._settings.drift) if baseline is not None else []
        if drifts:  # first: with the profile there, it is not measured again
            made = drift_rows(drifts, about, baseline=name)
            append_rows(self._catalog, DRIFT_SCHEMA, made, self._engine, instead=True)
        made = profile_rows(found, about, is_baseline=baseline is None)
        append_rows(self._catalog, PROFILE_SCHEMA, made, self._engine)
        failed = [one for one in drifts if not one.passed]
        for one in failed:
            extra = {"event": "model_drift", "model": about.model, "column": one.column}
            _LOG.warning("model %s: %s has drifted: %s", about.model, one.column, one.reason, extra=extra)
        return tuple(one.column for one in failed)

    def _baseline(self, folder: Path | None) -> tuple[Profile | None, str]:
        """The profile to compare with, and what it is of."""
        training = self._settings.drift.baseline
        if training is not None:
            return _of_file(self._settings, training, folder), training
        rows = self._profiles("*", "AND is_baseline AND side = 'feature'")
        return (profile_of(rows), rows["run_id"][0].as_py()) if rows is not None and len(rows) else (None, "")

    def _profiles(self, columns: str, more: str = "") -> pa.Table | None:
        """What is kept of this version's profiles; None while there are none of any model."""
        table = find_table(self._catalog, ANALYTICS, PROFILE_SCHEMA.lake_name)
        if table is None:
            return None
        add_filesystem(self._connection, [table])
        return self._connection.sql(
            f"SELECT {columns} FROM ({relation(plan(table))}) "
            f"WHERE model = {literal(self._about.model)} AND version = {literal(self._about.version)} {more}"
        ).to_arrow_table()


def _sample(connection: duckdb.DuckDBPyConnection, model: Model) -> str:
    """The inputs of all rows, or of every n-th by hash."""
    ((count,),) = connection.sql(f"SELECT count(*) FROM {FEATURES}").fetchall()
    names = ", ".join(quoted(one.name) for one in model.inputs)
    every = -(-count // ROWS_MAX)
    chosen = f" WHERE {FEATURES_HASH} % {every} = 0" if every > 1 else ""
    return f"SELECT {names} FROM {FEATURES}{chosen}"


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
