"""A folder as a store."""

from __future__ import annotations

import errno
import fcntl
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
_NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_REFUSED = {
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.EEXIST,  # a file stands where a folder belongs
    errno.ENOTDIR,
    errno.EISDIR,
    errno.ENAMETOOLONG,
}
_NO_HARD_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}
_NO_FOLDER_FLUSH = {errno.EINVAL, errno.EOPNOTSUPP}


class LocalStore:
    """Files below a root folder; see Store.

    Every object is written under a temporary name in its folder, flushed to disk, and
    only then given its name; the folder is flushed too.  So after a crash, or a loss of
    power, an object is there whole or not at all.
    """

    def __init__(self, root: str | Path) -> None:
        self._root = Path(root)
        self._filesystem = pafs.LocalFileSystem()

    def put(self, key: str, data: bytes, *, if_absent: bool = False) -> None:
        """See Store."""
        with self._temporary(key) as temporary:
            with open(temporary, "wb") as file:
                file.write(data)
                _flush(file)
            if if_absent:
                _name_exclusively(temporary, self._root / key)
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
        with _errors(key, "read"):
            try:
                return (self._root / key).read_bytes()
            except (FileNotFoundError, NotADirectoryError):
                raise NotFound(key) from None

    def list(self, prefix: str, *, after: str | None = None) -> Iterator[StoredObject]:
        """See Store; files that a crash left half-written are not objects."""
        with _errors(prefix, "list"):
            keys = [key for key in self._keys(prefix) if not _is_temporary(key)]
        for key in sorted(k for k in keys if after is None or k > after):
            with _errors(key, "list"):
                try:
                    status = (self._root / key).stat()
                except FileNotFoundError:  # deleted since the listing
                    continue
            yield StoredObject(key, status.st_size, datetime.fromtimestamp(status.st_mtime, UTC))

    def delete(self, key: str) -> None:
        """See Store."""
        with _errors(key, "delete"):
            (self._root / key).unlink(missing_ok=True)

    def discard_unfinished(self, prefix: str, *, before: datetime) -> int:
        """See Store."""
        count = 0
        with _errors(prefix, "clear"):
            for key in filter(_is_temporary, self._keys(prefix)):
                path = self._root / key
                try:
                    stale = path.stat().st_mtime < before.timestamp()
                except FileNotFoundError:  # its write has ended meanwhile
                    continue
                if stale:
                    path.unlink(missing_ok=True)
                    count += 1
        return count

    def path(self, key: str) -> str:
        """See Store."""
        return str(self._root / key)

    @property
    def filesystem(self) -> pafs.FileSystem:
        """See Store."""
        return self._filesystem

    def _keys(self, prefix: str) -> Iterator[str]:
        """Every file's key that begins with ``prefix``, unordered, temporary ones too."""
        for directory, _, names in os.walk(self._root / prefix.rpartition("/")[0], onerror=_raise):
            below = Path(directory).relative_to(self._root).as_posix()
            folder = "" if below == "." else f"{below}/"
            yield from (folder + name for name in names if (folder + name).startswith(prefix))

    @contextmanager
    def _temporary(self, key: str) -> Iterator[Path]:
        """A temporary name beside the key's; afterwards it is gone and the folder flushed."""
        folder = (self._root / key).parent
        temporary = folder / f"{_TEMPORARY}{uuid.uuid4().hex}"
        with _errors(key, "write"):
            _make_folder(folder)
            try:
                yield temporary
            finally:
                temporary.unlink(missing_ok=True)
            _flush_folder(folder)


def _name_exclusively(temporary: Path, target: Path) -> None:
    """Give the file its name unless the name is taken: a hard link makes this one step."""
    try:
        os.link(temporary, target)
    except FileExistsError:
        _flush_folder(target.parent)  # the winner may not have come so far
        raise AlreadyExists(str(target)) from None
    except OSError as error:
        if error.errno not in _NO_HARD_LINKS:
            raise
        _name_under_lock(temporary, target)


def _name_under_lock(temporary: Path, target: Path) -> None:
    """The same without hard links (FAT, some network shares): look and rename, under a lock.

    The lock is the folder's own and goes with its process.  Creating the target itself
    with O_EXCL would need no lock, but a crash before it is filled would leave an entry
    that is torn for ever.
    """
    descriptor = os.open(target.parent, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        if target.exists():
            raise AlreadyExists(str(target))
        os.replace(temporary, target)
        _flush_folder(target.parent)
    finally:
        os.close(descriptor)


def _make_folder(folder: Path) -> None:
    """Create missing folders, durably."""
    missing = [parent for parent in (folder, *folder.parents) if not parent.exists()]
    for parent in reversed(missing):
        parent.mkdir(exist_ok=True)
        _flush_folder(parent.parent)


def _flush(file: BinaryIO) -> None:
    """Force a file's content to disk."""
    file.flush()
    os.fsync(file.fileno())


def _flush_folder(folder: Path) -> None:
    """Force a folder's names to disk, where the file system knows how to."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_FOLDER_FLUSH:
            raise
    finally:
        os.close(descriptor)


def _is_temporary(key: str) -> bool:
    """Whether the key is one that ``_temporary`` gave."""
    return key.rpartition("/")[2].startswith(_TEMPORARY)


def _raise(error: OSError) -> None:
    """For os.walk, which passes over what it can't read: a folder that is not there is empty."""
    if not isinstance(error, FileNotFoundError | NotADirectoryError):
        raise error


@contextmanager
def _errors(key: str, verb: str) -> Iterator[None]:
    """The file system's errors as ours."""
    try:
        yield
    except OSError as error:
        raise _mapped(error, f"can't {verb} {key}: {error.strerror or error}") from error


def _mapped(error: OSError, message: str) -> LakeError:
    """Our error for one of the file system."""
    if error.errno in _NO_SPACE:
        return DiskFull(message)
    if error.errno in _REFUSED:
        return LakeNotWritable(message)
    return LakeError(message)
