"""The environment variables that Terraform gives the Lambda functions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from smartstream.errors import ConfigInvalid, ConfigMissing

LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
LOB_BYTES_MAX = 64 << 10
"""As terraform/dms.tf has it."""
BYTES_MAX = 1 << 30
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
        before_image: the field in which DMS's task writes an updated row's key before the update;
            empty where it writes none, or nobody says so.
        lob_bytes_max: where DMS's task cuts large objects off.
    """

    bucket: str
    raw_prefix: str
    glue_catalog_prefix: str
    lock_table: str
    log_level: str
    before_image: str = ""
    lob_bytes_max: int = LOB_BYTES_MAX

    @staticmethod
    def read(environment: Mapping[str, str]) -> LambdaSettings:
        """Return the settings in ``environment``.

        Raises:
            ConfigMissing: a variable is not set, or empty.
            ConfigInvalid: WAREHOUSE is not ``s3://bucket``, LOG_LEVEL no level, or LOB_BYTES_MAX no
                number of bytes.
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
            environment.get("DMS_BEFORE_IMAGE", ""),
            _bytes(environment, "LOB_BYTES_MAX", LOB_BYTES_MAX),
        )


def _bytes(environment: Mapping[str, str], name: str, default: int) -> int:
    """A variable that is a number of bytes."""
    text = environment.get(name) or str(default)
    if not (text.isascii() and text.isdigit() and 0 < int(text) <= BYTES_MAX):
        raise ConfigInvalid(f"{name} is {text}, no number of bytes", hint=_HINT)
    return int(text)


def _required(environment: Mapping[str, str], name: str) -> str:
    """A variable that must be set."""
    value = environment.get(name, "")
    if not value:
        raise ConfigMissing(f"the environment variable {name} is not set", hint=_HINT)
    return value
