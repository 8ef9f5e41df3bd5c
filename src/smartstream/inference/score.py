"""Score: one run of a model, from trusted tables to analytics.  Read ``run_model`` from top to bottom.

A run reads each trusted table at one snapshot, computes the features of the keys that can
have changed since the snapshots of the last run, predicts those whose features differ, and
commits predictions and snapshots in one swap.  So a run that is cut off leaves nothing,
and a run with the same input changes nothing.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, Protocol

import duckdb
import pyarrow as pa

from smartstream.config import Settings
from smartstream.errors import FeaturesInvalid, LakeError, SmartStreamError
from smartstream.inference import outputs as out
from smartstream.inference import watch
from smartstream.inference.config import ModelSettings
from smartstream.inference.deadline import time_limit
from smartstream.inference.drift_tables import Measured
from smartstream.inference.features.pinned import Pinned, Watermark
from smartstream.inference.features.query import read_query, running
from smartstream.inference.features.tree import AFFECTED
from smartstream.inference.leases import Leases
from smartstream.inference.locks import FileLocks
from smartstream.inference.models import open_model
from smartstream.inference.models.model import Model
from smartstream.inference.models.signature import check_inputs
from smartstream.inference.predict import FEATURES, Counts, Occasion, Predictor
from smartstream.inference.runs import FAILED, OK, UNCHANGED, RunReport, record, record_missing
from smartstream.raw.store import open_store
from smartstream.sql_text import quoted
from smartstream.trusted.catalog import ANALYTICS, LakeCatalog, open_catalog
from smartstream.trusted.engine import Engine
from smartstream.trusted.pins import pin
from smartstream.trusted.plan import find_table
from smartstream.trusted.position import Position

_LOG = logging.getLogger(__name__)

Mode = Literal["incremental", "full"]
LEASE_MORE_S = 60.0
"""How much longer than scoring and measuring drift, each with the model's time-out, a lease lasts."""


class Locks(Protocol):
    """One run of a model at a time."""

    def hold(self, name: str) -> AbstractContextManager[None]: ...


def run_model(
    settings: Settings,
    model: ModelSettings,
    *,
    clock: Callable[[], datetime],
    engine: Engine | None = None,
    mode: Mode | None = None,
    scheduled_for: datetime | None = None,
    catalog: LakeCatalog | None = None,
    locks: Locks | None = None,
) -> RunReport:
    """Score with a model once, and record the run in ``analytics.model_runs``.

    Args:
        mode: instead of the configured one.
        locks: other than the lake's own.
    Raises:
        ModelBusy: it is scoring already; nothing is recorded.
        InferenceError, LakeError: recorded as a failed run; previous predictions stay.
    """
    catalog = catalog or open_catalog(settings.lake)
    work = engine or Engine(memory_bytes=settings.limits.duckdb_memory, threads=settings.limits.threads)
    with (locks or _own_locks(settings, model, clock)).hold(model.name):
        run = _Run(settings, model, catalog, work, clock, mode or model.mode, scheduled_for)
        try:
            report = run.score()
        except Exception as error:  # also what a library or a defect of ours raises: the run has failed
            report = run.failed(error)
            extra = {"event": "model_failed", "model": model.name, "error": type(error).__name__}
            _LOG.error("model %s: the run failed: %s", model.name, report.message, extra=extra)
            record(catalog, report, work)
            raise
        if report.status == OK:
            record(catalog, report, work)
        return report


def _own_locks(settings: Settings, model: ModelSettings, clock: Callable[[], datetime]) -> Locks:
    """A file lock in a folder, which the system takes from a process that dies; in S3 a lease."""
    if settings.lake.warehouse.startswith("s3://"):
        return Leases(open_store(settings.lake), clock=clock, lease_s=2 * model.timeout + LEASE_MORE_S)
    return FileLocks(Path(settings.lake.warehouse) / "control" / "models")


class _Run:
    """One run; holds what its steps share."""

    def __init__(
        self,
        settings: Settings,
        model: ModelSettings,
        catalog: LakeCatalog,
        engine: Engine,
        clock: Callable[[], datetime],
        mode: Mode,
        scheduled_for: datetime | None,
    ) -> None:
        self.settings, self.model, self.catalog, self.engine = settings, model, catalog, engine
        self.clock, self.mode, self.scheduled_for = clock, mode, scheduled_for
        self.started_at = clock()
        self.counts = Counts()
        self.run_id, self.version, self.sha256 = "", model.version or "", model.sha256 or ""
        self.watermark, self.lsn = Watermark({}), 0

    def score(self) -> RunReport:
        """Score what can have changed; see the module."""
        folder = self.settings.path.parent if self.settings.path else None
        query = read_query((folder or Path()) / self.model.features)
        pinned = Pinned(query, self.model.key, self.catalog)
        self.watermark, self.lsn = pinned.watermark, pinned.lsn
        with OpenModels(self.settings, self.model, folder) as models:
            champion = models[0]
            self.version, self.sha256 = champion.identity.version, champion.identity.sha256
            asked = hashlib.sha256(f"{query.sql}\n{self.model.key}".encode()).hexdigest()
            nature = json.dumps([[m.identity.sha256 for m in models], asked, self._form()])
            notes = self._notes()
            record_missing(self.catalog, notes.get("report", ""), self.engine)
            since = Watermark.from_json(notes.get("watermark", ""))
            anew = self.mode == "full" or notes.get("nature") != nature
            self.run_id = self._identify(nature, None if anew else since)
            if notes.get("run") == self.run_id or (not anew and since == self.watermark):
                with pinned.opened(self.settings.limits) as connection:
                    more = self._watch(connection, pinned, champion, notes["run"], whole=False)
                return self._report(UNCHANGED, **more)
            self._keep(pinned, since)
            again = anew or self._was_cut_off(notes)
            deltas = None if again else pinned.deltas(since, self.engine)
            limits = self.settings.limits
            with pinned.opened(limits, since if deltas is not None else None) as connection:
                with time_limit(self.model.timeout, f"model {self.model.name}", connection) as check:
                    keys = self._compute(connection, pinned, deltas)
                    occasion = self._occasion(nature, keys, notes.get("run", ""), check, anew=anew)
                    self._write(connection, models, occasion)
                more = self._watch(connection, pinned, champion, self.run_id, whole=keys is None)
        return self._report(OK, **more)

    def _watch(
        self, connection: duckdb.DuckDBPyConnection, pinned: Pinned, model: Model, run_id: str, *, whole: bool
    ) -> dict[str, str | None]:
        """Measure drift if it is due; the predictions are there by now, so that a failure is only told.

        Args:
            run_id: of the run that wrote the predictions of these snapshots.
            whole: whether the table of features has those of all keys.
        """
        about = Measured(self.model.name, self.version, run_id, "feature", self.started_at, self.lsn)
        tables = watch.Watch(self.model, self.catalog, self.engine, connection, about)
        try:
            if not tables.is_due(whole=whole):
                return {}
            with time_limit(self.model.timeout, f"model {self.model.name}: drift", connection):
                if not whole:
                    self._compute(connection, pinned, None)
                folder = self.settings.path.parent if self.settings.path else None
                return {"drifted": ", ".join(tables.measure(model, folder)) or None}
        except Exception as error:  # whatever it is, the run has done what it is for
            name, text = type(error).__name__, _told(error)
            extra = {"event": "model_not_watched", "model": self.model.name, "error": name}
            _LOG.warning("model %s: drift is not known: %s", self.model.name, text, extra=extra)
            return {"message": f"drift is not known: {name}: {text}"}

    def _keep(self, pinned: Pinned, since: Watermark) -> None:
        """Keep the snapshots that the next run compares with, however many commits come before it."""
        names = [one.name for one in self.settings.models]
        for name, table in pinned.tables.items():
            numbers = {since.tables.get(name, ("", None))[1], table.snapshot_id} - {None}
            try:
                kept = pin(self.catalog, name, self.model.name, [n for n in numbers if n], owners=names)
            except LakeError:
                kept = False  # a role that may only read trusted tables can score all the same
            if not kept:
                # The next run compares all features instead: slower, with the same result.
                extra = {"event": "snapshot_not_kept", "model": self.model.name, "table": name}
                _LOG.info("model %s: the snapshot of %s is not kept", self.model.name, name, extra=extra)

    def failed(self, error: Exception) -> RunReport:
        """What is recorded of a run that failed."""
        return self._report(FAILED, error=type(error).__name__, message=_told(error))

    def _report(self, status: str, **more: Any) -> RunReport:
        """The run as it is now."""
        counts = self.counts
        return RunReport(
            model=self.model.name,
            run_id=self.run_id,
            started_at=self.started_at,
            ended_at=self.clock(),
            scheduled_for=self.scheduled_for,
            status=status,
            mode=self.mode,
            version=self.version,
            sha256=self.sha256,
            rows_read=counts.read,
            rows_scored=counts.scored,
            rows_unchanged=counts.unchanged,
            rows_removed=counts.removed,
            rows_quarantined=counts.quarantined,
            watermark=self.watermark.to_json(),
            lsn=self.lsn,
            **more,
        )

    def _form(self) -> list[Any]:
        """What of the configuration decides how a prediction looks."""
        inputs = [one.model_dump() for one in self.model.inputs]
        return [self.model.keep, self.model.on_delete, self.model.explain, inputs, self.model.version]

    def _identify(self, nature: str, since: Watermark | None) -> str:
        """The run's id: the same for the same model, query and input range."""
        start = since.to_json() if since is not None else "all"
        text = "\n".join([self.model.name, nature, start, self.watermark.to_json()])
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    def _notes(self) -> dict[str, str]:
        """What the last run that ended has left with its predictions."""
        table = find_table(self.catalog, ANALYTICS, self.model.table)
        if table is None:
            return {}
        prefix = "smartstream.note."
        return {n.removeprefix(prefix): t for n, t in table.properties.items() if n.startswith(prefix)}

    def _was_cut_off(self, notes: dict[str, str]) -> bool:
        """Whether a run has written one of the tables since, and not come to the last one.

        Its input may be gone by now: what it left is found by looking at all keys.
        """
        model = self.model
        names = [model.table, *([f"{model.table}{out.CHALLENGER}"] if model.challenger else [])]
        endings = ["", out.HELD, *([out.HISTORY] if model.keep != "latest" else [])]
        for name in (f"{name}{ending}" for name in names for ending in endings):
            table = find_table(self.catalog, ANALYTICS, name)
            if table is not None and Position.from_properties(table.properties).rules != notes.get("run"):
                return True
        return False

    def _compute(self, connection: duckdb.DuckDBPyConnection, pinned: Pinned, deltas: Any) -> pa.Table | None:
        """Make the table of features; returns the keys that it was made for, None for all."""
        keys = pinned.affected_keys(connection, deltas) if deltas is not None else None
        if keys is not None:
            connection.register("affected_keys", keys)
            connection.execute(f"CREATE TABLE {AFFECTED} AS SELECT * FROM affected_keys").fetchall()
        sql = pinned.features(connection, keys)
        with running(pinned.query):
            columns = connection.sql(f"SELECT * FROM ({sql}) LIMIT 0").columns
            connection.execute(
                f"CREATE OR REPLACE TEMP TABLE {FEATURES} AS "
                f"SELECT *, {_hash_sql(columns)} AS {out.FEATURES_HASH} FROM ({sql})"
            ).fetchall()
        self._check_keys(connection, pinned)
        return keys

    def _check_keys(self, connection: duckdb.DuckDBPyConnection, pinned: Pinned) -> None:
        """Each key once, and never null."""
        names = ", ".join(quoted(name) for name in self.model.key)
        nulls = " OR ".join(f"{quoted(name)} IS NULL" for name in self.model.key)
        key = names if len(self.model.key) == 1 else f"({names})"
        ((empty, rows, different),) = connection.sql(
            f"SELECT count(*) FILTER ({nulls}), count(*), count(DISTINCT {key}) FROM {FEATURES}"
        ).fetchall()
        if empty:
            raise FeaturesInvalid(f"{pinned.query.path}: {empty} rows have no key ({names})")
        if rows != different:
            raise FeaturesInvalid(
                f"{pinned.query.path}: {rows} rows have only {different} different keys ({names})",
                hint="Group by the key, or join only tables that have one row for it.",
            )

    def _occasion(
        self,
        nature: str,
        keys: pa.Table | None,
        last: str,
        check: Callable[[], None],
        *,
        anew: bool,
    ) -> Occasion:
        """What all predictions of this run share."""
        return Occasion(
            self.model,
            self.catalog,
            self.engine,
            self.run_id,
            self.started_at,
            self.lsn,
            self.watermark.to_json(),
            lambda counts: self._told_with(nature, counts),
            None if anew else keys,
            anew,
            last,
            check,
        )

    def _told_with(self, nature: str, counts: Counts) -> tuple[tuple[str, str], ...]:
        """What the predictions are committed with: where the next run begins, and this one's own record.

        A process that ends before ``model_runs`` is written leaves it to the next.
        """
        self.counts = counts
        notes = {
            "watermark": self.watermark.to_json(),
            "nature": nature,
            "run": self.run_id,
            "report": self._report(OK).to_json(),
        }
        return tuple(sorted(notes.items()))

    def _write(self, connection: duckdb.DuckDBPyConnection, models: list[Model], occasion: Occasion) -> None:
        """Predict and commit; the champion last, since its notes say that the run has ended."""
        features = connection.sql(f"SELECT * FROM {FEATURES} LIMIT 0").to_arrow_table().schema
        for model in models:
            check_inputs(model.inputs, features)
        names = [self.model.table, f"{self.model.table}{out.CHALLENGER}"]
        for name, model in reversed(list(zip(names, models, strict=False))):
            self.counts = Predictor(occasion, model, name, connection).write()


class OpenModels:
    """A model, and its challenger if there is one: loaded, and closed at the end."""

    def __init__(self, settings: Settings, model: ModelSettings, folder: Path | None) -> None:
        self._settings, self._model, self._folder = settings, model, folder
        self._open: list[Model] = []

    def __enter__(self) -> list[Model]:
        for challenger in (False, True)[: 2 if self._model.challenger else 1]:
            self._open.append(
                open_model(
                    self._model,
                    folder=self._folder,
                    s3=self._settings.lake.s3,
                    challenger=challenger,
                    threads=self._settings.limits.threads,
                )
            )
        return self._open

    def __exit__(self, *_: object) -> None:
        for model in self._open:
            model.close()


def _told(error: Exception) -> str:
    """The text of an error; only our own are known to show no values."""
    return str(error) if isinstance(error, SmartStreamError) else "an error that is not ours"


def _hash_sql(columns: list[str]) -> str:
    """DuckDB's hash of a row, made positive; should a later DuckDB hash otherwise, rows are scored again."""
    return f"(hash({', '.join(quoted(name) for name in columns)}) >> 1)::BIGINT"
