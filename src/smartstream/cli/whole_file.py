"""A file that a command writes: whole under its name, or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from smartstream.errors import LakeNotWritable


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Give a file beside ``target`` to write; it takes its place when the block is left without an exception.

    A file that is replaced keeps its permissions.

    Raises:
        LakeNotWritable: the folder or the file refuses.
    """
    unfinished = target.with_name(f".{target.name}.unfinished")
    try:
        yield unfinished
        if target.exists():
            os.chmod(unfinished, target.stat().st_mode & 0o777)
        unfinished.replace(target)
    except OSError as error:
        hint = "Name a file in a folder that exists and that you may write to."
        raise LakeNotWritable(f"cannot write {target}: {error.strerror}", hint=hint) from error
    finally:
        unfinished.unlink(missing_ok=True)
