"""Checks of the warehouse and of this machine."""

from __future__ import annotations

import re
import shutil
import sys
import uuid
from importlib import metadata
from pathlib import Path

from smartstream.config import Settings
from smartstream.doctor.check import Check, Patient, Status, ok
from smartstream.errors import LakeError
from smartstream.raw.store import AlreadyExists, open_store
from smartstream.trusted.catalog import open_catalog

FREE_BYTES_MIN = 256 << 20

PACKAGES: dict[str, tuple[tuple[int, ...], tuple[int, ...] | None]] = {
    "psycopg": ((3, 3), (3, 4)),
    "adbc-driver-postgresql": ((1, 13), (2,)),
    "pyarrow": ((20,), None),
    "numpy": ((2,), None),
    "duckdb": ((1, 5, 5), (3,)),
    "pyiceberg": ((0, 12), (0, 13)),
    "pydantic": ((2, 10), None),
}
"""Package → first version that will do, first one that will not."""


def writable(settings: Settings) -> Check:
    """An object can be created, found, read and deleted."""
    store, key, data = open_store(settings.lake), f"raw/_doctor/{uuid.uuid4().hex}", b"smartstream doctor"
    store.put(key, data, if_absent=True)
    try:
        if store.get(key) != data:
            raise LakeError(
                f"the store under {settings.lake.warehouse} returns other bytes than were written"
            )
        try:
            store.put(key, b"second", if_absent=True)
        except AlreadyExists:
            return ok("lake", f"{settings.lake.warehouse} is writable")
    finally:
        store.delete(key)
    return Check(
        "lake",
        Status.FAIL,
        f"{settings.lake.warehouse} overwrites objects that it should only create",
        why="The manifest relies on put-if-absent: two processes must not write the same entry.",
        fix="Use a store that honours If-None-Match: *.",
    )


def catalog(settings: Settings) -> Check:
    """The Iceberg catalog answers."""
    opened = open_catalog(settings.lake)
    count = len(opened.list_tables("trusted"))
    return ok("catalog", f"{settings.lake.catalog.type}, trusted tables: {count}")


def disk_space(patient: Patient) -> Check:
    """A local warehouse has room for the first copy."""
    warehouse = patient.settings.lake.warehouse
    if warehouse.startswith("s3://"):
        return ok("disk space", "an object store")
    folder = Path(warehouse).absolute()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    known = patient.state.tables if patient.state else {}
    new = [table.oid for table in patient.discovery.tables if table.id not in known]
    (needed,) = patient.row(_SIZE, new)
    found = f"{_gigabytes(free)} free, the tables to copy have {_gigabytes(needed)}"
    if free < FREE_BYTES_MIN:
        fix = "Free space on the warehouse's disk."
        return Check("disk space", Status.FAIL, found, why="Nothing can be written when it is full.", fix=fix)
    if free < needed:
        why = "The copy lies in the lake twice: raw and trusted, both compressed."
        return Check("disk space", Status.WARN, found, why, fix="Make room, or move lake.warehouse.")
    return ok("disk space", found)


def packages(settings: Settings) -> Check:
    """The libraries are of versions that were tested."""
    wrong = []
    for name, (least, below) in PACKAGES.items():
        found = metadata.version(name)
        number = tuple(map(int, re.findall(r"\d+", found)[:3]))
        if number < least or (below is not None and number >= below):
            wrong.append(f"{name} {found}")
    if wrong:
        return Check(
            "packages",
            Status.FAIL,
            ", ".join(wrong),
            why="These versions are not the ones that SmartStream is tested with.",
            fix="Install the versions in requirements.lock.",
        )
    return ok(
        "packages", f"Python {sys.version_info.major}.{sys.version_info.minor}, {len(PACKAGES)} libraries"
    )


def _gigabytes(size_bytes: int) -> str:
    """A size for people."""
    return f"{size_bytes / 1e9:.1f} GB"


_SIZE = """
SELECT coalesce(sum(pg_catalog.pg_table_size(t.relid)), 0)::bigint
FROM unnest(%s::oid[]) AS root(oid)
CROSS JOIN LATERAL (SELECT root.oid UNION SELECT p.relid::oid
                    FROM pg_catalog.pg_partition_tree(root.oid) p) AS t(relid)
"""
