"""Locks of tables in an emulated DynamoDB: busy, left behind, refused, with lost answers."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.config import Config

from smartstream.aws.table_locks import LEASE_S, DynamoLocks
from smartstream.errors import AwsUnavailable, CommitConflict, TableBusy
from tests.contract.s3_emulator import S3Emulator

TABLE = "public.t"


@pytest.fixture(scope="module")
def emulator() -> Iterator[S3Emulator]:
    found = S3Emulator()
    yield found
    found.stop()


class Time:
    """A clock that only waiting moves."""

    def __init__(self) -> None:
        self.now = 1e9

    def clock(self) -> float:
        return self.now

    def pause(self, seconds: float) -> None:
        self.now += seconds


class Client:
    """A client of the emulator; ``lost`` answers do not arrive, ``refused`` calls are not carried out."""

    def __init__(self, real: Any) -> None:
        self._real = real
        self.lost, self.refused = set[str](), set[str]()

    def __getattr__(self, name: str) -> Any:
        def call(**arguments: Any) -> Any:
            if name in self.refused:
                raise self._error("ProvisionedThroughputExceededException", name)
            answer = getattr(self._real, name)(**arguments)
            if name in self.lost:
                self.lost.remove(name)
                return getattr(self._real, name)(**arguments)  # as botocore does when no answer comes
            return answer

        return call

    def _error(self, code: str, name: str) -> Exception:
        found: Exception = self._real.exceptions.ClientError({"Error": {"Code": code}}, name)
        return found


@pytest.fixture
def client(emulator: S3Emulator, request: pytest.FixtureRequest) -> Client:
    real = boto3.client(
        "dynamodb",
        endpoint_url=emulator.url,
        region_name="us-east-1",
        aws_access_key_id="testing",
        aws_secret_access_key="testing",
        config=Config(retries={"total_max_attempts": 1}),
    )
    name = f"locks-{request.node.name[:60]}"
    real.create_table(
        TableName=name,
        KeySchema=[{"AttributeName": "table_id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "table_id", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    found = Client(real)
    found.table = name  # type: ignore[attr-defined]
    return found


def locks(client: Client, time: Time) -> DynamoLocks:
    return DynamoLocks(client, client.table, time.clock, time.pause)  # type: ignore[attr-defined]


def held(client: Client) -> bool:
    return bool(client.scan(TableName=client.table)["Count"])  # type: ignore[attr-defined]


def test_a_lock_has_one_holder_and_comes_back(client: Client) -> None:
    time = Time()
    with locks(client, time).hold(TABLE):
        with locks(client, time).hold("public.other"):
            pass
        with pytest.raises(TableBusy, match=TABLE), locks(client, time).hold(TABLE):
            raise AssertionError("two at once")
    with locks(client, time).hold(TABLE):
        pass
    assert not held(client)


def test_a_lock_that_its_holder_left_behind_ends(client: Client) -> None:
    time = Time()
    left = locks(client, time).hold(TABLE)
    left.__enter__()  # and it is killed
    with pytest.raises(TableBusy), locks(client, time).hold(TABLE):
        raise AssertionError("too early")
    time.now += LEASE_S
    with locks(client, time).hold(TABLE):
        left.__exit__(None, None, None)  # too late, and not dead after all: the lock is another's now
        assert held(client)
    assert not held(client)


def test_a_lock_whose_answer_was_lost_is_ours(client: Client) -> None:
    time = Time()
    client.lost.add("put_item")
    with locks(client, time).hold(TABLE):
        assert time.now == 1e9, "it did not wait for itself"


def test_a_service_that_refuses_is_named(client: Client) -> None:
    client.refused.add("put_item")
    with pytest.raises(AwsUnavailable, match="ProvisionedThroughput"), locks(client, Time()).hold(TABLE):
        raise AssertionError("without a lock")


def test_a_lock_that_cannot_be_given_back_hides_nothing(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    client.refused.add("delete_item")
    with pytest.raises(CommitConflict, match="the work's own"), locks(client, Time()).hold(TABLE):
        raise CommitConflict("the work's own error")
    with locks(client, time := Time()).hold("public.u"):
        time.now += 1  # what succeeded stays so
    messages = [line.getMessage() for line in caplog.records if line.levelno == logging.WARNING]
    assert len(messages) == 2 and all("is not given back" in message for message in messages)
