"""A folder as a store."""

from __future__ import annotations

import errno
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

import pyarrow.fs as pafs

from smartstream.errors import DiskFull, LakeError, LakeNotWritable
from smartstream.raw.store import AlreadyExists, NotFound, StoredObject

_TEMPORARY = ".tmp-"


class LocalStore:
    """Files below a root folder; see Store.

    Every object is written under a temporary name in its folder, flushed to disk, and
    only then given its name; the folder is flushed too.
    """

    def __init__(self, root: str | Path) -> None:
        self._root = Path(root)
        self._filesystem = pafs.LocalFileSystem()

    def put(self, key: str, data: bytes, *, if_absent: bool = False) -> None:
        """See Store; hard links make the name and its absence one atomic step."""
        with self._temporary(key) as temporary:
            with open(temporary, "wb") as file:
                file.write(data)
                _flush(file)
            if if_absent:
                self._link(temporary, self._root / key)
            else:
                os.replace(temporary, self._root / key)

    @contextmanager
    def create(self, key: str) -> Iterator[BinaryIO]:
        """See Store."""
        with self._temporary(key) as temporary:
            with open(temporary, "wb") as file:
                yield file
                _flush(file)
            os.replace(temporary, self._root / key)

    def get(self, key: str) -> bytes:
        """See Store."""
        try:
            return (self._root / key).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            raise NotFound(key) from None
        except OSError as error:
            raise _mapped(error, key) from error

    def list(self, prefix: str, *, after: str | None = None) -> Iterator[StoredObject]:
        """See Store."""
        folder = self._root / prefix.rpartition("/")[0]
        found = []
        for directory, _, names in os.walk(folder):
            below = Path(directory).relative_to(self._root).as_posix()
            found += [name if below == "." else f"{below}/{name}" for name in names if _TEMPORARY not in name]
        for key in sorted(k for k in found if k.startswith(prefix) and (after is None or k > after)):
            try:
                status = (self._root / key).stat()
            except FileNotFoundError:  # deleted since the listing
                continue
            yield StoredObject(key, status.st_size, datetime.fromtimestamp(status.st_mtime, UTC))

    def delete(self, key: str) -> None:
        """See Store."""
        try:
            (self._root / key).unlink(missing_ok=True)
        except OSError as error:
            raise _mapped(error, key) from error

    def path(self, key: str) -> str:
        """See Store."""
        return str(self._root / key)

    @property
    def filesystem(self) -> pafs.FileSystem:
        """See Store."""
        return self._filesystem

    @contextmanager
    def _temporary(self, key: str) -> Iterator[Path]:
        """A temporary name beside the key's; afterwards it is gone and the folder flushed."""
        folder = (self._root / key).parent
        temporary = folder / f"{_TEMPORARY}{uuid.uuid4().hex}"
        try:
            self._make_folder(folder)
            try:
                yield temporary
            finally:
                temporary.unlink(missing_ok=True)
            _flush_folder(folder)
        except OSError as error:
            raise _mapped(error, key) from error

    def _make_folder(self, folder: Path) -> None:
        """Create missing folders, durably."""
        missing = [parent for parent in (folder, *folder.parents) if not parent.exists()]
        for parent in reversed(missing):
            parent.mkdir(exist_ok=True)
            _flush_folder(parent.parent)

    def _link(self, temporary: Path, target: Path) -> None:
        """Give the file its name unless the name is taken."""
        try:
            os.link(temporary, target)
        except FileExistsError:
            raise AlreadyExists(str(target)) from None
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK, errno.ENOSYS):
                raise
            self._copy_exclusively(temporary, target)

    def _copy_exclusively(self, temporary: Path, target: Path) -> None:
        """For file systems without hard links: a crash in here leaves a short file, which readers refuse."""
        try:
            with open(target, "xb") as file:
                file.write(temporary.read_bytes())
                _flush(file)
        except FileExistsError:
            raise AlreadyExists(str(target)) from None


def _flush(file: BinaryIO) -> None:
    """Force a file's content to disk."""
    file.flush()
    os.fsync(file.fileno())


def _flush_folder(folder: Path) -> None:
    """Force a folder's names to disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _mapped(error: OSError, key: str) -> LakeError:
    """Our error for one of the file system."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return DiskFull(f"no space left to write {key}: {error.strerror}")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR):
        return LakeNotWritable(f"{key} can't be written: {error.strerror}")
    return LakeError(f"{key}: {error.strerror}")
