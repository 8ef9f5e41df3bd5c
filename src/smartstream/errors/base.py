"""What every error has: a message, a hint, a policy for trying again, an exit code."""

from __future__ import annotations

from enum import Enum


class Retry(Enum):
    """What can make the failed step succeed."""

    TRANSIENT = "transient"  # time: try again with backoff
    OPERATOR = "operator"  # a person: stop and say what to do
    NEVER = "never"  # nothing: a defect or lost data; stop
    VERIFY = "verify"  # unknown outcome: reload, look whether it happened, then go on


class ExitCode:
    """Exit codes of the command line."""

    OK = 0
    FAILED = 1
    CONFIGURATION = 2
    DEGRADED = 3


class SmartStreamError(Exception):
    """Base of the tree; never raised itself."""

    retry: Retry = Retry.OPERATOR
    hint: str = ""
    exit_code: int = ExitCode.FAILED

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        if hint is not None:
            self.hint = hint
