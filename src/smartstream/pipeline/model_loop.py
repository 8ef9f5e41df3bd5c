"""Models beside the applier: each runs when its schedule says so, one after the other."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from datetime import datetime

from smartstream.config import Settings
from smartstream.errors import ModelBusy, SmartStreamError
from smartstream.inference.config import ModelSettings
from smartstream.inference.drift_tables import DRIFT_SCHEMA, PROFILE_SCHEMA
from smartstream.inference.outputs import output_names
from smartstream.inference.runs import RUNS_SCHEMA, runs_of
from smartstream.inference.schedule import Schedule, due, parse_schedule
from smartstream.inference.score import run_model
from smartstream.trusted.catalog import ANALYTICS, LakeCatalog
from smartstream.trusted.engine import Engine
from smartstream.trusted.plan import find_table
from smartstream.trusted.table import TrustedTable

_LOG = logging.getLogger(__name__)

TICK_S = 1.0


class ModelLoop:
    """Looks for models that are due.  A run that fails is recorded and never stops the pipeline."""

    def __init__(
        self,
        settings: Settings,
        catalog: LakeCatalog,
        *,
        engine: Engine,
        stop: threading.Event,
        clock: Callable[[], datetime],
        ready: Callable[[], bool],
    ) -> None:
        self._settings, self._catalog, self._engine = settings, catalog, engine
        self._stop, self._clock, self._ready = stop, clock, ready
        self._scheduled: list[tuple[ModelSettings, Schedule]] = [
            (model, parse_schedule(model.schedule, model.zone))
            for model in settings.models
            if model.schedule is not None
        ]
        self._last: dict[str, datetime | None] = {}

    def run(self) -> None:
        """Run what is due until ``stop`` is set; a model waits until every table has been copied."""
        while self._scheduled and not self._stop.wait(TICK_S):
            if self._ready():
                self.look()

    def look(self) -> None:
        """Run the models that are due, once."""
        for model, schedule in self._scheduled:
            moment = due(
                schedule,
                last_run_started=self._last_run(model),
                now=self._clock(),
                catch_up=model.catch_up,
            )
            if moment is not None and not self._stop.is_set():
                self._score(model, moment)

    def tables(self) -> list[TrustedTable]:
        """The tables that models write to, as they are now, for maintenance."""
        names = [table for model in self._settings.models for table in output_names(model)]
        shared = [RUNS_SCHEMA.lake_name, PROFILE_SCHEMA.lake_name, DRIFT_SCHEMA.lake_name] if names else []
        found = (find_table(self._catalog, ANALYTICS, name) for name in [*names, *shared])
        return [TrustedTable(table, self._engine) for table in found if table is not None]

    def _last_run(self, model: ModelSettings) -> datetime | None:
        """When the model last began, in this process or an earlier one."""
        if model.name not in self._last:
            runs = runs_of(self._catalog, model.name)
            self._last[model.name] = runs[0].started_at if runs else None
        return self._last[model.name]

    def _score(self, model: ModelSettings, moment: datetime) -> None:
        """One run."""
        self._last[model.name] = self._clock()
        try:
            report = run_model(
                self._settings,
                model,
                clock=self._clock,
                engine=self._engine,
                catalog=self._catalog,
                scheduled_for=moment,
            )
        except ModelBusy as error:
            _LOG.info("%s", error)
        except SmartStreamError as error:
            _LOG.warning("model %s: trying again when its schedule says so: %s", model.name, error)
        except Exception:
            # A model, a library of its or its data: whatever it is, the source's changes must go on.
            _LOG.exception("model %s: the run failed", model.name)
        else:
            _LOG.info("model %s: %d rows scored (%s)", model.name, report.rows_scored, report.status)
