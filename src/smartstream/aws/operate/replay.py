"""Raw objects again: announced once more to the transform function, which applies them to the same end."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import Any
from urllib.parse import quote_plus

from smartstream.aws.operate.calls import Aws
from smartstream.aws.operate.stack import StackOutputs
from smartstream.errors import AwsUnavailable, ConfigInvalid

OBJECTS_MAX = 10_000
RAW_SUFFIX = ".json.gz"
_BATCH = 10
"""Messages that SQS takes at once."""


@dataclass(frozen=True, slots=True)
class Replayed:
    """What was announced again.

    Attributes:
        objects: how many.
        is_all: False where there are more than were allowed.
        last_key: of the last one; None without any.
    """

    objects: int
    size_bytes: int
    is_all: bool
    last_key: str | None


def replay(
    aws: Aws,
    stack: StackOutputs,
    *,
    table: str | None,
    since: datetime | None,
    until: datetime | None,
    limit: int = OBJECTS_MAX,
) -> Replayed:
    """Announce raw objects to the transform queue as S3 does, in the order of their keys.

    Which rows win does not depend on it: the function compares positions in the source's log.

    Args:
        table: ``schema.name``; all without one.
        since, until: when the object was written; ``since`` included, ``until`` not.
        limit: of objects.
    """
    found = _objects(aws, stack, table, since, until)
    chosen = list(islice(found, limit))
    is_all = next(found, None) is None
    region, bucket = stack.text("region"), stack.bucket
    messages = [_notification(region, bucket, one) for one in chosen]
    _send(aws, stack.text("transform_queue_url"), messages)
    size = sum(int(one["Size"]) for one in chosen)
    return Replayed(len(chosen), size, is_all, chosen[-1]["Key"] if chosen else None)


def redrive(aws: Aws, stack: StackOutputs, *, limit: int = OBJECTS_MAX) -> int:
    """Move messages from the dead-letter queue back to the transform queue; return how many.

    A message is sent before it is removed: after a crash in between it is there twice,
    which is as good as once.  In a dry run, how many there are.
    """
    dead, queue = stack.text("transform_dlq_url"), stack.text("transform_queue_url")
    if aws.is_dry:
        _send(aws, queue, [""])
        return depth(aws, dead)
    moved = 0
    while moved < limit:
        answer = aws.ask(
            "sqs",
            "receive_message",
            dead,
            QueueUrl=dead,
            MaxNumberOfMessages=min(_BATCH, limit - moved),
            VisibilityTimeout=60,
            WaitTimeSeconds=1,
        )
        batch = answer.get("Messages", [])
        if not batch:
            break
        _send(aws, queue, [one["Body"] for one in batch])
        handles = [{"Id": str(n), "ReceiptHandle": one["ReceiptHandle"]} for n, one in enumerate(batch)]
        aws.change("sqs", "delete_message_batch", dead, QueueUrl=dead, Entries=handles)
        moved += len(batch)
    return moved


def depth(aws: Aws, queue: str) -> int:
    """Return how many messages of a queue can be received."""
    name = "ApproximateNumberOfMessages"
    answer = aws.ask("sqs", "get_queue_attributes", queue, QueueUrl=queue, AttributeNames=[name])
    return int(answer["Attributes"][name])


def _objects(
    aws: Aws, stack: StackOutputs, table: str | None, since: datetime | None, until: datetime | None
) -> Iterator[dict[str, Any]]:
    """The raw objects that are wanted, by key; a table's are below one prefix, a day's below the next."""
    prefix = stack.raw_prefix
    if table is not None:
        schema, dot, name = table.partition(".")
        if not dot or not schema or not name:
            raise ConfigInvalid(f"{table} is not schema.table", hint=f"Did you mean public.{table}?")
        prefix += f"schema={schema}/table={name}/"
    bucket = stack.bucket
    listed = aws.pages(
        "s3", "list_objects_v2", f"arn:aws:s3:::{bucket}/{prefix}*", "Contents", Bucket=bucket, Prefix=prefix
    )
    for one in listed:
        written = one["LastModified"].astimezone(UTC)
        if (
            one["Key"].endswith(RAW_SUFFIX)
            and (not since or written >= since)
            and (not until or written < until)
        ):
            yield one


def _notification(region: str, bucket: str, item: dict[str, Any]) -> str:
    """What S3 says of a created object, as the function reads it."""
    record = {
        "eventVersion": "2.1",
        "eventSource": "aws:s3",
        "awsRegion": region,
        "eventTime": item["LastModified"].astimezone(UTC).isoformat().replace("+00:00", "Z"),
        "eventName": "ObjectCreated:Put",
        "s3": {
            "s3SchemaVersion": "1.0",
            "configurationId": "smartstream-replay",
            "bucket": {"name": bucket, "arn": f"arn:aws:s3:::{bucket}"},
            # As in a query string, but that slashes stay.
            "object": {
                "key": quote_plus(item["Key"], safe="/"),
                "size": int(item["Size"]),
                "eTag": str(item.get("ETag", "")).strip('"'),
                "sequencer": "",
            },
        },
    }
    return json.dumps({"Records": [record]})


def _send(aws: Aws, queue: str, bodies: Sequence[str]) -> None:
    """Send messages in batches.

    Raises:
        AwsUnavailable: SQS did not take one of them; those before it are sent.
    """
    for start in range(0, len(bodies), _BATCH):
        entries = [
            {"Id": str(n), "MessageBody": body} for n, body in enumerate(bodies[start : start + _BATCH])
        ]
        answer = aws.change("sqs", "send_message_batch", queue, QueueUrl=queue, Entries=entries)
        if refused := answer.get("Failed"):
            code = refused[0].get("Code", "unknown")
            raise AwsUnavailable(
                f"SQS did not take {len(refused)} messages: {code}",
                hint="Run the same again: what was sent already does no harm.",
            )
