"""Where the raw zone lies: one small interface over a folder or an S3 bucket."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import BinaryIO, ContextManager, Protocol

import pyarrow.fs as pafs

from smartstream.config import Lake


class NotFound(Exception):
    """There is no object under the key."""


class AlreadyExists(Exception):
    """put-if-absent found an object under the key."""


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object as a listing shows it."""

    key: str
    size_bytes: int
    modified: datetime


class Store(Protocol):
    """Objects under keys with forward slashes, below the warehouse.

    A ``put`` or ``create`` that returns is durable; an object appears whole or not at
    all.  Errors: DiskFull, LakeNotWritable, StoreUnavailable (errors.py).
    """

    def put(self, key: str, data: bytes, *, if_absent: bool = False) -> None:
        """Write an object; AlreadyExists with ``if_absent`` when there is one, whoever wrote it."""

    def create(self, key: str) -> ContextManager[BinaryIO]:
        """Stream an object; it appears when the block is left without an exception."""

    def get(self, key: str) -> bytes:
        """Read an object; NotFound when there is none."""

    def list(self, prefix: str, *, after: str | None = None) -> Iterator[StoredObject]:
        """Objects whose keys begin with ``prefix``, ascending, from behind ``after``."""

    def delete(self, key: str) -> None:
        """Remove an object; nothing happens when there is none."""

    def path(self, key: str) -> str:
        """The object's path in ``filesystem``."""

    @property
    def filesystem(self) -> pafs.FileSystem:
        """For reading Parquet."""


def open_store(lake: Lake) -> Store:
    """The store of a lake, by the scheme of its warehouse."""
    if lake.warehouse.startswith("s3://"):
        from smartstream.raw.s3_store import S3Store  # boto3 only where it is needed

        return S3Store.open(lake)
    from smartstream.raw.local_store import LocalStore

    return LocalStore(lake.warehouse)
