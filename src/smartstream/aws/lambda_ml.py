"""The ML function: the models of the lake's smartstream.yaml, scored when the schedule calls."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3

from smartstream.aws.lambda_events import scheduled_at
from smartstream.aws.lambda_lake import LambdaConfig, lake_of
from smartstream.aws.lambda_settings import LambdaSettings
from smartstream.aws.table_locks import DynamoLocks
from smartstream.errors import RunsFailed, SmartStreamError
from smartstream.inference.score import run_model
from smartstream.raw.store import open_store

_LOG = logging.getLogger(__name__)


class MlFunction:
    """What stays open between the calls of one function; the configuration is read for each."""

    def __init__(self, found: LambdaSettings, environment: Mapping[str, str], folder: Path) -> None:
        self._found, lake = found, lake_of(found, environment)
        self._config = LambdaConfig(open_store(lake), lake, folder)

    def answer(self, event: Any) -> dict[str, Any]:
        """Score every model; one that fails does not keep the others from running.

        Returns:
            The moment of the call, and how many predictions each model wrote.
        Raises:
            EventMalformed: this is no call by the schedule.
            RunsFailed: of some model, so that the schedule tries again and puts the event aside.
        """
        moment = scheduled_at(event)
        settings, shared = self._config.settings(), self._shared()
        scored: dict[str, int] = {}
        failed = []
        for model in settings.models:
            try:
                report = run_model(settings, model, scheduled_for=moment, **shared)
                scored[model.name] = report.rows_scored
            except SmartStreamError as error:
                failed.append(model.name)
                why = {"event": "model_failed", "model": model.name, "error": type(error).__name__}
                _LOG.error("model %s has no new predictions: %s", model.name, error, extra=why)
        facts = {"scheduled_at": moment.isoformat() if moment else None, "predictions": scored}
        _LOG.info("scored", extra={"event": "scored", **facts})
        if failed:
            raise RunsFailed(f"no new predictions of {', '.join(failed)}")
        return facts

    def _shared(self) -> dict[str, Any]:
        """The clock, and one run of a model at a time whatever calls it."""
        client = boto3.client("dynamodb")
        locks = DynamoLocks(client, self._found.lock_table, clock=time.time, pause=time.sleep, patience_s=0)
        return {"clock": lambda: datetime.now(UTC), "locks": locks}
