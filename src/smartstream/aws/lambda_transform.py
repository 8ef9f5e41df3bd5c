"""The transform function: a batch of S3's announcements, answered with the messages that failed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import boto3

from smartstream.aws.definition_guard import GuardedLocks
from smartstream.aws.lambda_events import QueueMessage, created_objects, failures, queue_messages
from smartstream.aws.lambda_lake import LambdaConfig, lake_of
from smartstream.aws.lambda_settings import LambdaSettings
from smartstream.aws.table_locks import DynamoLocks
from smartstream.config import Settings
from smartstream.delivery.definitions import Definitions
from smartstream.delivery.handle import Announced, Transform
from smartstream.delivery.lock import TableLocks
from smartstream.delivery.records import Options
from smartstream.errors import DefinitionChanged, RawCorrupt, SmartStreamError
from smartstream.raw.store import NotFound, open_store
from smartstream.trusted.catalog import LakeCatalog, open_catalog

_LOG = logging.getLogger(__name__)

READINGS_MAX = 3
"""How often a call reads objects of a table that others define anew, before the queue brings them again."""


@dataclass(frozen=True, slots=True)
class Clocks:
    """What the function knows of time.

    Attributes:
        now: the moment, in UTC.
        seconds: since 1970.
        pause: waits for so many seconds.
    """

    now: Callable[[], datetime]
    seconds: Callable[[], float]
    pause: Callable[[float], None]


class TransformFunction:
    """What stays open between the calls of one function; the configuration is read for each."""

    def __init__(
        self, found: LambdaSettings, environment: Mapping[str, str], folder: Path, clocks: Clocks
    ) -> None:
        self._clocks = clocks
        self._found, self._lake = found, lake_of(found, environment)
        self._store = open_store(self._lake)
        self._config = LambdaConfig(self._store, self._lake, folder)

    def answer(self, event: Any) -> dict[str, list[dict[str, str]]]:
        """Apply what the messages announce; answer in the shape of ReportBatchItemFailures.

        Raises:
            EventMalformed: this is no SQS event, so that no message can be named as failed.
            ConfigInvalid: the lake's smartstream.yaml is wrong.
        """
        messages, announced = queue_messages(event), []
        failed: dict[str, SmartStreamError] = {}
        for message in messages:
            try:
                announced += self._announced(message)
            except SmartStreamError as error:
                failed[message.message_id] = error
        failed |= self._applied(announced)
        for message in messages:
            if why := failed.get(message.message_id):
                _log_rejected(message, why)
        return failures(message for message in messages if message.message_id in failed)

    def _announced(self, message: QueueMessage) -> list[Announced]:
        """The objects that a message tells of."""
        found = created_objects(message.body, bucket=self._found.bucket, prefix=self._found.raw_prefix)
        return [Announced(message.message_id, one.key) for one in found]

    def _applied(self, announced: Sequence[Announced]) -> dict[str, SmartStreamError]:
        """Apply objects, those of a table that was defined anew meanwhile once more; what failed."""
        failed: dict[str, SmartStreamError] = {}
        for _ in range(READINGS_MAX):
            if not announced:
                break
            found = self._transform().apply(announced, self._fetch)
            read = {one.message for one in announced}
            failed = {one: error for one, error in failed.items() if one not in read} | found
            again = {one for one, error in found.items() if isinstance(error, DefinitionChanged)}
            announced = [one for one in announced if one.message in again]
        return failed

    def _transform(self) -> Transform:
        """With the configuration and the definitions that the lake has now."""
        catalog, locks = self._catalog_and_locks
        definitions, settings = Definitions(self._store), self._config.settings()
        return Transform(
            settings,
            catalog,
            definitions,
            locks=GuardedLocks(locks, self._store, definitions),
            clock=self._clocks.now,
            options=options_of(settings, self._found),
        )

    @cached_property
    def _catalog_and_locks(self) -> tuple[LakeCatalog, TableLocks]:
        """Opened when the first object comes."""
        client = boto3.client("dynamodb")
        locks = DynamoLocks(
            client, self._found.lock_table, clock=self._clocks.seconds, pause=self._clocks.pause
        )
        return open_catalog(self._lake), locks

    def _fetch(self, key: str) -> bytes:
        """The bytes of an object."""
        try:
            return self._store.get(key)
        except NotFound as error:
            raise RawCorrupt(f"there is no object {key}") from error


def options_of(settings: Settings, found: LambdaSettings) -> Options:
    """How to read records: as Terraform told DMS's task to write them, unless smartstream.yaml knows better.

    With before-images on, DMS writes the old key of every update that has one in the log, and
    PostgreSQL logs it whenever the key changes: an update without one has kept its key.
    """
    wanted = settings.dms.before_image
    return Options(
        lob_bytes_max=found.lob_bytes_max,
        before_image=found.before_image or Options().before_image,
        before_image_required=wanted == "required" or (wanted == "auto" and not found.before_image),
    )


def _log_rejected(message: QueueMessage, error: SmartStreamError) -> None:
    """One line of facts, without row values; an alarm counts them."""
    facts = {"message_id": message.message_id, "receive_count": message.receive_count}
    why = {"event": "rejected", "count": 1, "error": type(error).__name__, "reason": str(error)}
    _LOG.error("message not processed", extra=facts | why)
