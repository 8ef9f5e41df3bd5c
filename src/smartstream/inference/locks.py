"""One run of a model at a time, on one machine: the system lets go of a lock when its process ends."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from smartstream.errors import ModelBusy


class FileLocks:
    """Locks as files below a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @contextmanager
    def hold(self, name: str) -> Iterator[None]:
        """Hold the lock of a model.

        Raises:
            ModelBusy: another process, or another thread, has it.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(self._folder / f"{name}.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise ModelBusy(f"model {name} is scoring at this moment") from error
            yield
        finally:
            os.close(handle)
