"""Events that start the Lambda functions, checked and turned into facts.

S3 announces new objects through a queue; the scheduler calls with its own event.
Nothing here calls AWS: events in, values or typed errors out.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import unquote_plus

from smartstream.errors import EventMalformed

MESSAGES_MAX = 10_000
"""The most messages that SQS hands to a function at once."""


@dataclass(frozen=True, slots=True)
class CreatedObject:
    """An object that has been put into a bucket.

    Attributes:
        key: decoded, as S3's API takes it.
        size_bytes: as S3 announced it.
        sequencer: orders events of one key: compare as hexadecimal after padding on the right.
    """

    bucket: str
    key: str
    size_bytes: int
    sequencer: str


@dataclass(frozen=True, slots=True)
class QueueMessage:
    """One message of an SQS batch."""

    message_id: str
    body: str
    receive_count: int


def queue_messages(event: Any) -> tuple[QueueMessage, ...]:
    """Return the messages of an SQS batch, in its order.

    Raises:
        EventMalformed: this is no SQS event, so that no message can be named as failed.
    """
    records = event.get("Records") if isinstance(event, Mapping) else None
    if not isinstance(records, list) or len(records) > MESSAGES_MAX:
        raise EventMalformed("the function was not called with a batch of SQS messages")
    return tuple(_message(number, record) for number, record in enumerate(records))


def created_objects(body: str, *, bucket: str, prefix: str) -> tuple[CreatedObject, ...]:
    """Return the objects that an S3 notification announces.

    The event that S3 sends once when a notification is set up (``s3:TestEvent``)
    announces none.  A notification for another bucket, for objects outside
    ``prefix`` or for anything but a created object is refused rather than skipped:
    it means that the bucket's notification is not the one of this stack.

    Raises:
        EventMalformed: the body is not such a notification.
    """
    content = _json_object(body)
    if content.get("Event") == "s3:TestEvent":
        return ()
    records = content.get("Records")
    if not isinstance(records, list) or not records:
        raise EventMalformed("a queue message is JSON, but no S3 notification")
    found = tuple(_created(record) for record in records)
    for one in found:
        if one.bucket != bucket:
            raise EventMalformed(f"S3 announces an object of the bucket {one.bucket}, not of {bucket}")
        if not one.key.startswith(f"{prefix}/"):
            raise EventMalformed(f"S3 announces {one.key}, which is not below {prefix}/")
    return found


def failures(messages: Iterable[QueueMessage]) -> dict[str, list[dict[str, str]]]:
    """Return the answer after which SQS delivers these messages again, and no others.

    Its shape is that of ReportBatchItemFailures.
    """
    return {"batchItemFailures": [{"itemIdentifier": message.message_id} for message in messages]}


def scheduled_at(event: Any) -> datetime | None:
    """Return the moment for which the scheduler called; None for a call by hand without one.

    Raises:
        EventMalformed: the event is no JSON object, or its ``time`` is no moment with a time zone.
    """
    if not isinstance(event, Mapping):
        raise EventMalformed("a scheduled call carries a JSON object")
    time = event.get("time")
    if time is None:
        return None
    try:
        moment = datetime.fromisoformat(time)
    except (TypeError, ValueError) as error:
        raise EventMalformed("the time of a scheduled call is not ISO 8601") from error
    if moment.tzinfo is None:
        raise EventMalformed("the time of a scheduled call has no time zone")
    return moment


def _message(number: int, record: Any) -> QueueMessage:
    """One record of an SQS event."""
    try:
        count = int(record.get("attributes", {}).get("ApproximateReceiveCount", 1))
        message_id, body = record["messageId"], record["body"]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise EventMalformed(f"record {number} of the batch is no SQS message") from error
    if not isinstance(message_id, str) or not isinstance(body, str):
        raise EventMalformed(f"record {number} of the batch is no SQS message")
    return QueueMessage(message_id, body, count)


def _json_object(body: str) -> dict[str, Any]:
    """The JSON object in a message."""
    try:
        content = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise EventMalformed("a queue message is not JSON") from error
    if not isinstance(content, dict):
        raise EventMalformed("a queue message is JSON, but no S3 notification")
    return content


def _created(record: Any) -> CreatedObject:
    """One record of an S3 notification."""
    try:
        name, described = record["eventName"], record["s3"]
        bucket, item = described["bucket"]["name"], described["object"]
        # S3 writes keys as in a query string: spaces as +, everything unusual as %XX.
        key = unquote_plus(item["key"], errors="strict")
        size, sequencer = int(item.get("size", 0)), str(item.get("sequencer", ""))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise EventMalformed("a record of an S3 notification lacks its name, bucket or key") from error
    if not isinstance(name, str) or not isinstance(bucket, str) or not key:
        raise EventMalformed("a record of an S3 notification lacks its name, bucket or key")
    if not name.removeprefix("s3:").startswith("ObjectCreated:"):
        raise EventMalformed(f"S3 announces {name}; only created objects are expected")
    return CreatedObject(bucket, key, size, sequencer)
