"""Where the raw zone lies: one small interface over a folder or an S3 bucket."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import BinaryIO, Protocol

import pyarrow.fs as pafs

from smartstream.config import Lake
from smartstream.errors import ConfigInvalid


class NotFound(Exception):
    """There is no object under the key."""


class AlreadyExists(Exception):
    """put-if-absent found an object under the key; what it found is durable."""


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object as a listing shows it."""

    key: str
    size_bytes: int
    modified: datetime


class Store(Protocol):
    """Objects under keys with forward slashes, below the warehouse.

    A ``put`` or ``create`` that returns is durable; an object appears whole or not at
    all.  One that raises StoreUnavailable may have happened, or happen yet.

    Every method raises DiskFull, LakeNotWritable, StoreUnavailable or, for what is
    none of these, LakeError (errors/).
    """

    def put(self, key: str, data: bytes, *, if_absent: bool = False) -> None:
        """Write an object; AlreadyExists with ``if_absent`` when there is one, whoever wrote it."""

    def create(self, key: str) -> AbstractContextManager[BinaryIO]:
        """Stream an object; it appears when the block is left without an exception."""

    def get(self, key: str) -> bytes:
        """Read an object; NotFound when there is none."""

    def list(self, prefix: str, *, after: str | None = None) -> Iterator[StoredObject]:
        """Objects whose keys begin with ``prefix``, ascending, from behind ``after``."""

    def delete(self, key: str) -> None:
        """Remove an object; nothing happens when there is none."""

    def discard_unfinished(self, prefix: str, *, before: datetime) -> int:
        """Remove what writes that began before this moment and never ended left; their number."""

    def path(self, key: str) -> str:
        """The object's path in ``filesystem``."""

    @property
    def filesystem(self) -> pafs.FileSystem:
        """For reading Parquet."""


def open_store(lake: Lake) -> Store:
    """The store of a lake, by the scheme of its warehouse.

    Raises:
        ConfigInvalid: the warehouse is in S3 and boto3 is not installed.
        ConfigMissing: a secret that the configuration refers to is not set.
    """
    if lake.warehouse.startswith("s3://"):
        try:
            from smartstream.raw.s3_store import S3Store  # boto3 only where it is needed
        except ModuleNotFoundError as error:
            raise ConfigInvalid(
                f"lake.warehouse {lake.warehouse} needs the package {error.name}",
                hint="Install it with: pip install 'smartstream[aws]'",
            ) from error
        return S3Store.open(lake)
    from smartstream.raw.local_store import LocalStore

    return LocalStore(lake.warehouse)
