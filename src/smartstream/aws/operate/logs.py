"""The functions' logs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from smartstream.aws.operate.calls import Aws
from smartstream.aws.operate.stack import StackOutputs
from smartstream.aws.operate.waiting import Patience

FUNCTIONS = {"transform": "transform_function_name", "ml": "ml_function_name"}
_LATE_MS = 10_000
"""CloudWatch shows lines some seconds late, and not in their order."""


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line of a function's log."""

    function: str
    time: datetime
    message: str


def read(
    aws: Aws, stack: StackOutputs, function: str, *, since: datetime, pattern: str | None = None
) -> Iterator[LogLine]:
    """Yield the lines of a function's log from a moment on, in CloudWatch's order.

    Args:
        function: ``transform`` or ``ml``.
        pattern: CloudWatch's filter pattern.
    """
    for _, line in _events(aws, stack, function, _ms(since), pattern):
        yield line


def follow(
    aws: Aws,
    stack: StackOutputs,
    function: str,
    *,
    since: datetime,
    patience: Patience,
    pattern: str | None = None,
) -> Iterator[LogLine]:
    """As ``read``, then new lines as they come, until ``patience.timeout_s`` have passed."""
    start, seen = _ms(since), set[str]()
    give_up = patience.monotonic() + patience.timeout_s
    while True:
        newest = start
        for identifier, line in _events(aws, stack, function, start, pattern):
            newest = max(newest, _ms(line.time))
            if identifier not in seen:
                seen.add(identifier)
                yield line
        start = max(start, newest - _LATE_MS)
        if patience.monotonic() + patience.every_s > give_up:
            return
        patience.pause(patience.every_s)


def _events(
    aws: Aws, stack: StackOutputs, function: str, start_ms: int, pattern: str | None
) -> Iterator[tuple[str, LogLine]]:
    """Lines from a time on, each with CloudWatch's id of it."""
    group = f"/aws/lambda/{stack.text(FUNCTIONS[function])}"
    wanted = {"filterPattern": pattern} if pattern else {}
    events = aws.pages(
        "logs",
        "filter_log_events",
        f"log group {group}",
        "events",
        logGroupName=group,
        startTime=start_ms,
        **wanted,
    )
    for event in events:
        time = datetime.fromtimestamp(event["timestamp"] / 1000, UTC)
        # Emulators may leave the id out.
        identifier = event.get("eventId") or (
            event.get("logStreamName"),
            event["timestamp"],
            event["message"],
        )
        yield str(identifier), LogLine(function, time, str(event["message"]).rstrip())


def _ms(time: datetime) -> int:
    """Milliseconds since 1970."""
    return round(time.timestamp() * 1000)
