"""ML: called by the schedule; scores the models of the lake's smartstream.yaml.

A model that fails does not keep the others from running; the call then fails at the end,
so that the scheduler tries again and puts the event aside.
"""

import logging
import os
import tempfile
from functools import cache
from pathlib import Path

from smartstream.aws.lambda_ml import MlFunction
from smartstream.aws.lambda_settings import LambdaSettings

FOLDER = Path(tempfile.gettempdir()) / "smartstream"


def lambda_handler(event: dict, context: object) -> dict:
    """Answer for which moment it was called, and how many predictions each model wrote."""
    settings = LambdaSettings.read(os.environ)
    logging.getLogger("smartstream").setLevel(settings.log_level)
    return opened(settings).answer(event)


@cache
def opened(settings: LambdaSettings) -> MlFunction:
    """The function's connections, which the next call finds open."""
    return MlFunction(settings, os.environ, FOLDER)
