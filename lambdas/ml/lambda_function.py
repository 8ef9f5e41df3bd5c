"""ML: called by the schedule.

So far it answers and logs that it was called; it reads no table, loads no model and
writes NO predictions yet.
"""

import logging
import os

from smartstream.aws.lambda_events import scheduled_at
from smartstream.aws.lambda_settings import LambdaSettings

log = logging.getLogger("smartstream.ml")


def lambda_handler(event: dict, context: object) -> dict:
    """Answer for which moment it was called, and how many predictions it wrote: none."""
    settings = LambdaSettings.read(os.environ)
    log.setLevel(settings.log_level)
    moment = scheduled_at(event)
    facts = {"scheduled_at": moment.isoformat() if moment else None, "predictions": 0}
    log.info("nothing to infer yet", extra={"event": "idle", **facts})
    return facts
