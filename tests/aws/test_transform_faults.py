"""The transform function while S3, Glue and DynamoDB fail, and it is killed: trusted is what the source has.

``SMARTSTREAM_TEST_DELIVERY_SECONDS`` sets how long (make soak); the seed is printed and repeats the choices.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from smartstream.aws.lambda_settings import LambdaSettings
from smartstream.aws.lambda_transform import Clocks, TransformFunction
from smartstream.delivery.definitions import Definitions
from smartstream.raw.store import open_store
from tests.aws.test_transform_lambda import Stack, stack
from tests.changelog_source import SCHEMA, Source
from tests.contract.s3_emulator import S3Emulator
from tests.dms_records import record

__all__ = ["stack"]  # a fixture

SECONDS = float(os.environ.get("SMARTSTREAM_TEST_DELIVERY_SECONDS", "8"))
SPEED = 20.0
"""Seconds that pass for the functions in one of ours."""
TIMEOUT_S = 300 / SPEED
OPS = {"i": "insert", "u": "update", "d": "delete"}
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload([__name__])


class FaultyEmulator(S3Emulator):
    """Some requests to any service are refused; of some the answer is lost, though they were carried out."""

    def __init__(self) -> None:
        self.rate, self.chosen, self.faults = 0.0, random.Random(), 0
        super().__init__()

    def _answer(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        draw = self.chosen.random()
        if draw < self.rate / 2:
            return self._refuse(environ, start_response)
        if draw < self.rate:
            super()._answer(environ, lambda *_: None)
            return self._refuse(environ, start_response)
        return super()._answer(environ, start_response)

    def _refuse(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        self.faults += 1
        status = self.chosen.choice(["500 Internal Server Error", "503 Slow Down"])
        is_json = "HTTP_X_AMZ_TARGET" in environ
        body = (
            b'{"__type": "InternalServerError", "message": "on purpose"}'
            if is_json
            else b"<Error><Code>InternalError</Code><Message>on purpose</Message></Error>"
        )
        kind = "application/x-amz-json-1.0" if is_json else "application/xml"
        start_response(status, [("Content-Type", kind), ("Content-Length", str(len(body)))])
        return [body]


@pytest.fixture(scope="module")
def emulator() -> Iterator[FaultyEmulator]:
    found = FaultyEmulator()
    yield found
    found.rate = 0.0
    found.stop()


def invoke(environment: dict[str, str], folder: str, event: Any, began: float, answered: Connection) -> None:
    """One call of a function that has just been started, in a process of its own."""
    os.environ.update(environment)
    clocks = Clocks(
        now=lambda: datetime.now(UTC),
        seconds=lambda: 1e9 + SPEED * (time.time() - began),
        pause=lambda seconds: time.sleep(seconds / SPEED),
    )
    function = TransformFunction(LambdaSettings.read(environment), environment, Path(folder), clocks)
    answered.send(function.answer(event)["batchItemFailures"])


def records_of(log: list[dict[str, object]]) -> list[str]:
    """The source's log as DMS sends it."""
    found = []
    for number, change in enumerate(log):
        op, key = OPS[str(change["_op"])], {"a": change["a"], "b": change["b"]}
        data = key if op == "delete" else key | {"big": change["big"], "n": change["n"]}
        before = change["_old_key"] or {} if op == "update" else None
        lsn = int(str(change["_commit_lsn"]))
        found.append(record(op, data, lsn=lsn, number=number, before=before, table=("public", "t")))
    return found


class Queue:
    """Objects whose messages have not been deleted, as SQS would bring them: in any order, some twice."""

    def __init__(self, stack: Stack, log: list[dict[str, object]], name: str, chosen: random.Random) -> None:
        self.chosen, self.open = chosen, list[str]()
        rest = records_of(log)
        while rest:
            size = chosen.randint(1, 9)
            self.open.append(stack.put(f"raw/{name}-{len(self.open)}.gz", *rest[:size]))
            rest = rest[size:]

    def take(self) -> list[str]:
        return self.chosen.sample(self.open, min(len(self.open), self.chosen.randint(1, 4)))

    def done(self, keys: list[str], failed: set[int]) -> None:
        """Messages that did not fail are deleted, but for some that come again."""
        for number, key in enumerate(keys):
            if number not in failed and key in self.open and self.chosen.random() < 0.9:
                self.open.remove(key)


class Calls:
    """Functions at work beside each other, some of which are killed."""

    def __init__(self, stack: Stack, folder: Path, chosen: random.Random) -> None:
        self.stack, self.folder, self.chosen = stack, folder, chosen
        self.began, self.answered, self.failed, self.killed = time.time(), 0, 0, 0

    def run(self, queue: Queue, *, beside: int, kills: bool) -> None:
        """So many calls at once; each with some of the queue's messages."""
        calls = [self._start(queue.take()) for _ in range(beside)]
        for keys, process, answer in calls:
            process.join(self.chosen.uniform(0.3, 4.0) if kills else TIMEOUT_S)
            if process.is_alive():
                process.kill()
                process.join()
                self.killed += 1
            with suppress(EOFError):  # killed before it answered: SQS takes all for failed
                failed = {int(one["itemIdentifier"]) for one in answer.recv()}
                self.answered, self.failed = self.answered + 1, self.failed + bool(failed)
                queue.done(keys, failed)

    def _start(self, keys: list[str]) -> tuple[list[str], Any, Connection]:
        told = [{"messageId": str(n), "body": self.stack.notification(key)} for n, key in enumerate(keys)]
        ours, theirs = PROCESSES.Pipe(duplex=False)
        event = {"Records": told}
        arguments = (self.stack.environment, str(self.folder), event, self.began, theirs)
        process = PROCESSES.Process(target=invoke, args=arguments)
        process.start()
        theirs.close()
        return keys, process, ours


def test_faults_and_kills_lose_nothing_and_double_nothing(
    emulator: FaultyEmulator, stack: Stack, seed: str, tmp_path: Path
) -> None:
    chosen, ends, rounds = random.Random(seed), time.monotonic() + SECONDS, 0
    source = Source(chosen.randrange(1 << 30), whole=True)
    Definitions(open_store(stack.lake)).put(SCHEMA)
    calls = Calls(stack, tmp_path / "config", chosen)
    emulator.chosen = random.Random(f"{seed} emulator")
    while time.monotonic() < ends or not rounds:
        first = len(source.log)
        for _ in range(12):
            source.step()
        queue = Queue(stack, source.log[first:], f"{rounds}", chosen)
        while queue.open:
            hostile = time.monotonic() < ends
            emulator.rate = chosen.choice([0.0, 0.01, 0.05]) if hostile else 0.0
            kills = hostile and chosen.random() < 0.3
            calls.run(queue, beside=chosen.choice([1, 1, 2]) if hostile else 1, kills=kills)
        rounds += 1
        emulator.rate = 0.0
        trusted = {(row["a"], row["b"]): (row["big"], row["n"]) for row in stack.rows("trusted", "t")}
        assert trusted == source.rows, f"seed {seed}, round {rounds}"
    print(
        f"seed {seed}: {rounds} rounds, {len(source.log)} changes, {calls.answered} calls answered,"
        f" {calls.failed} of them with failed messages, {calls.killed} killed, {emulator.faults} faults"
    )
