"""Where models lie: a folder, S3, or the artifacts of an MLflow server."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Protocol
from urllib.parse import quote, urlencode

from smartstream.config import Lake, S3Options
from smartstream.errors import LakeError, ModelMissing, ModelUnavailable, StoreUnavailable
from smartstream.inference.models.peer import Peer

if TYPE_CHECKING:
    from smartstream.raw.s3_store import S3Store

FILE_BYTES_MAX = 2 << 30
FILES_MAX = 10_000


class Place(Protocol):
    """A file, or a folder of files; ``read`` and ``names`` raise ModelMissing or ModelUnavailable."""

    def names(self) -> list[str] | None:
        """The files below, sorted, with forward slashes; None: it is a file itself."""

    def read(self, name: str = "") -> bytes:
        """A file below, or with no name the file itself; at most FILE_BYTES_MAX."""


@dataclass(frozen=True, slots=True)
class DiskPlace:
    """A path.

    Attributes:
        what: whose it is, for messages.
    """

    path: Path
    what: str

    def names(self) -> list[str] | None:
        """See Place."""
        if not self.path.is_dir():
            return None
        found = (path for path in self.path.rglob("*") if path.is_file())
        return bounded([path.relative_to(self.path).as_posix() for path in found], self.what)

    def read(self, name: str = "") -> bytes:
        """See Place."""
        path = self.path / name if name else self.path
        try:
            with path.open("rb") as file:
                data = file.read(FILE_BYTES_MAX + 1)
        except OSError as error:
            raise ModelMissing(f"{self.what}: cannot read {path}: {error.strerror}") from error
        return _small(data, self.what, str(path))


class S3Place:
    """``s3://bucket/key``, or the objects below a key."""

    def __init__(self, uri: str, what: str, s3: S3Options | None) -> None:
        bucket, _, key = uri.removeprefix("s3://").partition("/")
        self._uri, self._what, self._key = uri, what, key.rstrip("/")
        try:
            from smartstream.raw.s3_store import S3Store
        except ModuleNotFoundError as error:
            hint = "pip install 'smartstream[aws]'"
            raise ModelMissing(f"{what}: {uri} needs the package {error.name}", hint=hint) from error
        self._store: S3Store = S3Store.open(Lake(warehouse=f"s3://{bucket}", s3=s3 or S3Options()))

    def names(self) -> list[str] | None:
        """See Place."""
        below = f"{self._key}/"
        try:
            found = []
            for one in self._store.list(below):
                found.append(one.key.removeprefix(below))
                if len(found) > FILES_MAX:
                    break
        except LakeError as error:
            raise self._unreadable(error) from error
        return bounded([name for name in found if name], self._what) if found else None

    def read(self, name: str = "") -> bytes:
        """See Place."""
        from smartstream.raw.store import NotFound

        key = f"{self._key}/{name}" if name else self._key
        try:
            size = next((one.size_bytes for one in self._store.list(key) if one.key == key), 0)
            if size > FILE_BYTES_MAX:
                raise too_large(self._what, self._uri)
            return self._store.get(key)
        except NotFound as error:
            raise ModelMissing(f"{self._what}: there is no {self._uri}") from error
        except LakeError as error:
            raise self._unreadable(error) from error

    def _unreadable(self, error: LakeError) -> ModelMissing | ModelUnavailable:
        """The error of the store, as one of a model."""
        message = f"{self._what}: cannot read {self._uri}: {error}"
        return ModelUnavailable(message) if isinstance(error, StoreUnavailable) else ModelMissing(message)


@dataclass(frozen=True, slots=True)
class MlflowPlace:
    """Artifacts that an MLflow server hands out itself (``mlflow-artifacts:/path``)."""

    peer: Peer
    server: str
    path: str

    def names(self) -> list[str] | None:
        """See Place."""
        found: list[str] = []
        folders = [self.path]
        while folders:
            folder = folders.pop()
            answer = self.peer.json(f"{self._root()}?{urlencode({'path': folder})}")
            for one in answer.get("files") or ():
                # The server lists names below the folder that was asked for, or whole paths.
                leaf = PurePosixPath(str(one["path"])).name
                path = f"{folder}/{leaf}"
                (folders if one.get("is_dir") else found).append(path)
                if len(found) + len(folders) > FILES_MAX:
                    raise ModelMissing(f"{self.peer.what} has more than {FILES_MAX} files")
        return bounded([path.removeprefix(f"{self.path}/") for path in found], self.peer.what) or None

    def read(self, name: str = "") -> bytes:
        """See Place."""
        path = f"{self.path}/{name}" if name else self.path
        return self.peer.get(f"{self._root()}/{quote(path)}", bytes_max=FILE_BYTES_MAX)

    def _root(self) -> str:
        return f"{self.server}/api/2.0/mlflow-artifacts/artifacts"


def bounded(names: list[str], what: str) -> list[str]:
    """Names of files, sorted; ModelMissing for too many, or for one that would lead elsewhere."""
    if len(names) > FILES_MAX:
        raise ModelMissing(f"{what} has more than {FILES_MAX} files")
    if any(".." in PurePosixPath(name).parts or name.startswith("/") or "\\" in name for name in names):
        raise ModelMissing(f"{what} has files whose names lead out of its folder")
    return sorted(names)


def too_large(what: str, where: str) -> ModelMissing:
    """The error for a file that would not fit into memory."""
    return ModelMissing(f"{what}: {where} is larger than {FILE_BYTES_MAX >> 30} GiB")


def disk_path(uri: str, folder: Path | None) -> Path:
    """The path of a file's address; relative ones start from ``folder``."""
    path = Path(os.path.expanduser(uri.removeprefix("file://")))
    return path if path.is_absolute() or folder is None else folder / path


def _small(data: bytes, what: str, where: str) -> bytes:
    """The bytes, unless there are too many."""
    if len(data) > FILE_BYTES_MAX:
        raise too_large(what, where)
    return data
