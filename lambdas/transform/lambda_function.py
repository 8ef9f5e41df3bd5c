"""Transform: new raw objects, announced by S3 through SQS, become trusted tables.

What can't be read or written, the queue delivers again and at last moves to the
dead-letter queue; what DMS damaged goes to quarantine.dms_records.
"""

import logging
import os
import tempfile
import time
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

from smartstream.aws.lambda_settings import LambdaSettings
from smartstream.aws.lambda_transform import Clocks, TransformFunction

FOLDER = Path(tempfile.gettempdir()) / "smartstream"
CLOCKS = Clocks(now=lambda: datetime.now(UTC), seconds=time.time, pause=time.sleep)


def lambda_handler(event: dict, context: object) -> dict:
    """Answer which messages of the batch failed, so that SQS delivers only these again."""
    settings = LambdaSettings.read(os.environ)
    logging.getLogger("smartstream").setLevel(settings.log_level)
    return opened(settings).answer(event)


@cache
def opened(settings: LambdaSettings) -> TransformFunction:
    """The function's connections, which the next call finds open."""
    return TransformFunction(settings, os.environ, FOLDER, CLOCKS)
