"""Garbage: files in a table's folder that no retained snapshot needs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

import pyarrow.fs as pafs
from pyiceberg.io.pyarrow import PyArrowFileIO

from smartstream.trusted.catalog import lake_errors
from smartstream.trusted.references import References
from smartstream.trusted.table import TrustedTable


@dataclass(frozen=True, slots=True)
class Collected:
    """Files deleted."""

    file_count: int = 0
    size_bytes: int = 0


def collect(
    table: TrustedTable, references: References, clock: Callable[[], datetime], grace: timedelta
) -> Collected:
    """Delete unreferenced files of the table's folder that are older than ``grace``.

    Files of the current metadata and of every retained snapshot stay, and so do
    files that this process has written and not yet committed.  Another process must
    commit what it writes within ``grace``; readers of an expired snapshot have as long.
    """
    io = table.iceberg.io
    assert isinstance(io, PyArrowFileIO)
    with lake_errors(f"collect garbage of trusted table {table.name}"):
        scheme, netloc, folder = PyArrowFileIO.parse_location(table.iceberg.location(), io.properties)
        filesystem = io.fs_by_scheme(scheme, netloc)
        # The order matters: what is committed after the listing is pending or referenced below.
        listed = filesystem.get_file_info(pafs.FileSelector(folder, recursive=True, allow_not_found=True))
        pending = table.pending.now()
        fresh = table.iceberg.catalog.load_table(table.iceberg.name())
        kept = {PyArrowFileIO.parse_location(f, io.properties)[2] for f in references.of(fresh) | pending}
        deadline = clock() - grace
        garbage = [
            info
            for info in listed
            if info.type == pafs.FileType.File and info.path not in kept and info.mtime < deadline
        ]
        return _delete(filesystem, garbage)


def _delete(filesystem: pafs.FileSystem, files: Iterable[pafs.FileInfo]) -> Collected:
    """Delete files; one that is gone already does not count."""
    count = size = 0
    for info in files:
        try:
            filesystem.delete_file(info.path)
        except FileNotFoundError:
            continue
        count, size = count + 1, size + info.size
    return Collected(count, size)
