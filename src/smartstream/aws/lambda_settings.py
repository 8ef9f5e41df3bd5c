"""The environment variables that Terraform gives the Lambda functions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from smartstream.errors import ConfigInvalid, ConfigMissing

LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
_HINT = "Set it in terraform/lambda_transform.tf and terraform/lambda_ml.tf, then apply."


@dataclass(frozen=True, slots=True)
class LambdaSettings:
    """Where a function finds the lake.

    Attributes:
        bucket: of the data lake.
        raw_prefix: of raw objects in it, without slashes at its ends.
        glue_catalog_prefix: databases are ``<prefix>_trusted``, ``_analytics``, ``_quarantine``.
        lock_table: the DynamoDB table that holds one lock for each trusted table.
        log_level: of our own log lines.
    """

    bucket: str
    raw_prefix: str
    glue_catalog_prefix: str
    lock_table: str
    log_level: str

    @staticmethod
    def read(environment: Mapping[str, str]) -> LambdaSettings:
        """Return the settings in ``environment``.

        Raises:
            ConfigMissing: a variable is not set, or empty.
            ConfigInvalid: WAREHOUSE is not ``s3://bucket``, or LOG_LEVEL no level.
        """
        warehouse = _required(environment, "WAREHOUSE").rstrip("/")
        bucket = warehouse.removeprefix("s3://")
        if bucket == warehouse or "/" in bucket or not bucket:
            raise ConfigInvalid(f"WAREHOUSE is {warehouse}, not s3://bucket", hint=_HINT)
        level = environment.get("LOG_LEVEL") or "INFO"
        if level not in LOG_LEVELS:
            raise ConfigInvalid(f"LOG_LEVEL is {level}, none of {', '.join(LOG_LEVELS)}", hint=_HINT)
        return LambdaSettings(
            bucket,
            _required(environment, "RAW_PREFIX").strip("/"),
            _required(environment, "GLUE_CATALOG_PREFIX"),
            _required(environment, "LOCK_TABLE"),
            level,
        )


def _required(environment: Mapping[str, str], name: str) -> str:
    """A variable that must be set."""
    value = environment.get(name, "")
    if not value:
        raise ConfigMissing(f"the environment variable {name} is not set", hint=_HINT)
    return value
