"""The process's temporary folder: what a killed process leaves there, the next one removes."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import shutil
import tempfile
import threading
from pathlib import Path

_LOG = logging.getLogger(__name__)

PREFIX = "smartstream-scratch-"
MAY_BE_NEW_S = 60.0
"""A folder is made first and locked then; one that is older and not locked belongs to nobody."""

_lock = threading.Lock()
_made: dict[int, tempfile.TemporaryDirectory[str]] = {}  # by process: a fork makes its own


def scratch_folder() -> Path:
    """Where this process may write what nobody needs after it; ``TMPDIR`` says where that lies.

    Made when first asked for, removed when the process ends.  It is locked until then, so that
    what a process that was killed has left, gigabytes perhaps, is known for that, and removed here.
    """
    with _lock:
        if os.getpid() not in _made:
            folder = tempfile.TemporaryDirectory(prefix=PREFIX)
            _try_lock(Path(folder.name))
            _sweep(Path(folder.name))
            _made[os.getpid()] = folder
        return Path(_made[os.getpid()].name)


def _try_lock(folder: Path) -> bool:
    """Lock a folder for as long as this process lives; False if another one has it, or it can't be."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # also of file systems without locks: nothing is swept there
        os.close(descriptor)
        return False
    return True


def _sweep(ours: Path) -> None:
    """Remove what processes of this user have left beside our folder, just made, that were killed."""
    now = ours.stat().st_mtime
    for folder in ours.parent.glob(f"{PREFIX}*"):
        with contextlib.suppress(FileNotFoundError):  # removed by its own process meanwhile
            found = folder.lstat()
            is_old = now - found.st_mtime > MAY_BE_NEW_S
            if is_old and found.st_uid == os.getuid() and _try_lock(folder):
                _LOG.info("removing %s: the process that made it was killed", folder)
                shutil.rmtree(folder, ignore_errors=True)  # what remains is tried again next time
