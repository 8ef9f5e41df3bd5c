"""Rules while the pipeline runs, and what a table has promised to its readers."""

from __future__ import annotations

from smartstream.errors.base import ExitCode, SmartStreamError


class RuleError(SmartStreamError):
    """Rules while the pipeline runs."""


class RulesBroken(RuleError):
    """The source renamed, dropped or changed a column that a rule needs."""

    hint = "Correct the table's rules in smartstream.yaml, then start again; nothing is lost meanwhile."


class RuleStop(RuleError):
    """A row breaks a rule whose `on_fail` is stop."""

    exit_code = ExitCode.DEGRADED
    hint = (
        "Correct the row in the source, or the rule in smartstream.yaml, then start again; nothing is lost."
    )


class HookFailed(RuleError):
    """A Python hook raises too often, or gives a table of another shape than it says."""

    hint = "Correct the function that `hook` names, then start again; nothing is lost meanwhile."


class RequestFailed(RuleError):
    """A pipeline could not do what a command asked of it."""

    hint = "Do what the message says, then ask again; `smartstream status` shows where the table stands."


class QualityError(SmartStreamError):
    """What a table has promised to its readers."""

    exit_code = ExitCode.DEGRADED
    hint = "Look at the quality checks and the contract of the table in smartstream.yaml."


class QualityStop(QualityError):
    """A quality check failed that stops the pipeline, or too many rows were held back."""

    hint = "Look at the rows in the quarantine and at the source; correct rule or data, then start again."


class SchemaFrozen(QualityError):
    """The source changed a table in a way that its contract does not allow."""

    hint = (
        "Undo the change in the source, allow it with `contract:` in smartstream.yaml, or accept the table "
        "as it is now with `smartstream resync TABLE`; nothing is lost."
    )


class ContractInvalid(QualityError):
    """A data contract (ODCS) is not one, or says something that cannot be."""

    exit_code = ExitCode.CONFIGURATION
    hint = "Correct the file as the Open Data Contract Standard v3.1 says, then try again."
