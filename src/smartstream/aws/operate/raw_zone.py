"""The lake's bucket, looked at without listing all of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import Any

from smartstream.aws.operate.calls import Aws
from smartstream.aws.operate.stack import StackOutputs

TABLES_MAX = 200
"""How many tables' folders are looked into for the newest object."""


@dataclass(frozen=True, slots=True)
class FoundObject:
    """An object and when it was written."""

    key: str
    written: datetime
    size_bytes: int


def newest_object(aws: Aws, stack: StackOutputs) -> FoundObject | None:
    """Return the newest raw object, of the last day of each of the first TABLES_MAX tables."""
    newest: FoundObject | None = None
    schemas = _folders(aws, stack, stack.raw_prefix)
    tables = (table for schema in schemas for table in _folders(aws, stack, schema))
    for table in islice(tables, TABLES_MAX):
        days = list(_folders(aws, stack, table))
        for found in _objects(aws, stack, max(days)) if days else ():
            if newest is None or found.written > newest.written:
                newest = found
    return newest


def objects_since(aws: Aws, stack: StackOutputs, prefix: str, since: datetime) -> Iterator[FoundObject]:
    """Yield the objects below a prefix that were written since a moment."""
    return (found for found in _objects(aws, stack, prefix) if found.written >= since)


def _objects(aws: Aws, stack: StackOutputs, prefix: str) -> Iterator[FoundObject]:
    """Everything below a prefix."""
    for one in _listed(aws, stack, prefix, "Contents"):
        yield FoundObject(one["Key"], one["LastModified"].astimezone(UTC), int(one["Size"]))


def _folders(aws: Aws, stack: StackOutputs, prefix: str) -> Iterator[str]:
    """The prefixes one level below."""
    for one in _listed(aws, stack, prefix, "CommonPrefixes", Delimiter="/"):
        yield one["Prefix"]


def _listed(aws: Aws, stack: StackOutputs, prefix: str, key: str, **more: str) -> Iterator[dict[str, Any]]:
    """A listing."""
    arn = f"arn:aws:s3:::{stack.bucket}"
    return aws.pages("s3", "list_objects_v2", arn, key, Bucket=stack.bucket, Prefix=prefix, **more)
