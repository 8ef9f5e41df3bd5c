"""Transform: new raw objects, announced by S3 through SQS.

So far it counts the lines of each; it does NOT write trusted tables yet.  What it can't
read, the queue delivers again and at last moves to the dead-letter queue.
"""

import logging
import os
from functools import cache, partial

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from smartstream.aws.lambda_events import QueueMessage, answer_batch, created_objects
from smartstream.aws.lambda_settings import LambdaSettings
from smartstream.aws.raw_objects import count_lines
from smartstream.errors import SmartStreamError

log, s3 = logging.getLogger("smartstream.transform"), cache(partial(boto3.client, "s3"))


def lambda_handler(event: dict, context: object) -> dict:
    """Answer which messages of the batch failed, so that SQS delivers only these again."""
    settings = LambdaSettings.read(os.environ)
    log.setLevel(settings.log_level)
    return answer_batch(event, partial(handle, settings))


def handle(settings: LambdaSettings, message: QueueMessage) -> bool:
    """Whether the message is done; every outcome is one log line of facts, without row values."""
    facts = {"message_id": message.message_id, "receive_count": message.receive_count}
    try:
        for found in created_objects(message.body, bucket=settings.bucket, prefix=settings.raw_prefix):
            lines = count_lines(s3().get_object(Bucket=found.bucket, Key=found.key)["Body"], found.key)
            log.info("raw object read", extra={"event": "read", "key": found.key, "lines": lines, **facts})
    except (SmartStreamError, BotoCoreError, ClientError, OSError) as error:
        why = {"event": "rejected", "count": 1, "error": type(error).__name__, "reason": str(error)}
        log.error("message not processed", extra=facts | why)
        return False
    return True
