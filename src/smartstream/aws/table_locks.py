"""Locks of tables as items of a DynamoDB table, for functions that run beside each other."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from smartstream.errors import AwsUnavailable, TableBusy

_LOG = logging.getLogger(__name__)

LEASE_S = 330
"""Longer than a function may run: a lock outlives its holder by little, and never the other way round."""
PATIENCE_S = 60.0
PAUSE_S = 0.5


class DynamoLocks:
    """One item for each table that is being written; a holder that died is outlived by ``expires_at``."""

    def __init__(
        self,
        client: Any,
        table: str,
        clock: Callable[[], float],
        pause: Callable[[float], None],
        *,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self._client, self._table = client, table
        self._clock, self._pause, self._patience_s = clock, pause, patience_s

    @contextmanager
    def hold(self, table_id: str) -> Iterator[None]:
        """Hold the lock of ``schema.name``.

        Raises:
            TableBusy: another writer has had it for longer than ``patience_s``.
            AwsUnavailable: DynamoDB does not answer, or refuses.
        """
        owner = uuid.uuid4().hex
        give_up = self._clock() + self._patience_s
        while not self._take(table_id, owner):
            if self._clock() >= give_up:
                raise TableBusy(f"{table_id}: another function has written it for {self._patience_s:g} s")
            self._pause(PAUSE_S)
        try:
            yield
        finally:
            self._give_back(table_id, owner)

    def _take(self, table_id: str, owner: str) -> bool:
        """Try once; only an item that has expired is replaced, or ours, of a try whose answer was lost."""
        now = int(self._clock())
        return self._call(
            self._client.put_item,
            Item={
                "table_id": {"S": table_id},
                "owner": {"S": owner},
                "expires_at": {"N": str(now + LEASE_S)},
            },
            ConditionExpression="attribute_not_exists(table_id) OR expires_at < :now OR #owner = :owner",
            ExpressionAttributeNames={"#owner": "owner"},
            ExpressionAttributeValues={":now": {"N": str(now)}, ":owner": {"S": owner}},
        )

    def _give_back(self, table_id: str, owner: str) -> None:
        """Remove our item; one that has become another's stays.

        What was done under the lock is done, or has its own error: that this fails is only
        told, for the lock ends by itself.
        """
        try:
            self._call(
                self._client.delete_item,
                Key={"table_id": {"S": table_id}},
                ConditionExpression="#owner = :owner",
                ExpressionAttributeNames={"#owner": "owner"},
                ExpressionAttributeValues={":owner": {"S": owner}},
            )
        except AwsUnavailable as error:
            _LOG.warning("the lock of %s is not given back and ends in %d s: %s", table_id, LEASE_S, error)

    def _call(self, method: Callable[..., Any], **arguments: Any) -> bool:
        """Whether the condition held."""
        try:
            method(TableName=self._table, **arguments)
        except ClientError as error:
            code = error.response.get("Error", {}).get("Code")
            if code == "ConditionalCheckFailedException":
                return False
            raise AwsUnavailable(f"DynamoDB table {self._table}: {code}") from error
        except BotoCoreError as error:
            raise AwsUnavailable(f"DynamoDB table {self._table}: {type(error).__name__}") from error
        return True
