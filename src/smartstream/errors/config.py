"""The configuration or the command line."""

from __future__ import annotations

from smartstream.errors.base import ExitCode, SmartStreamError


class ConfigError(SmartStreamError):
    """The configuration or the command line."""

    exit_code = ExitCode.CONFIGURATION
    hint = "Correct smartstream.yaml, then run `smartstream validate`."


class ConfigInvalid(ConfigError):
    """A key or a value in smartstream.yaml is wrong."""


class RuleInvalid(ConfigError):
    """A rule in smartstream.yaml does not fit the table that it is for."""

    hint = "Correct the rule; `smartstream validate --explain` shows what the rules of each table do."


class ConfigMissing(ConfigError):
    """There is no configuration, or a secret it refers to is not set."""

    hint = "Create one with `smartstream init DIR --from postgresql://user@host/database`."
