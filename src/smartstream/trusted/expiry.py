"""Expiry: old Iceberg snapshots are forgotten; their files become garbage."""

from __future__ import annotations

import uuid

from smartstream.errors import CommitConflict
from smartstream.trusted.catalog import lake_errors
from smartstream.trusted.table import TrustedTable
from smartstream.trusted.updates import COMMIT_PROPERTY, remove_snapshots, set_properties, unchanged


def expire(table: TrustedTable, snapshots_max: int) -> int:
    """Keep the newest ``snapshots_max`` snapshots and those that a branch or tag names.

    Deletes no file.  Every commit writes all snapshots' descriptions again, so
    keeping few is what keeps commits fast.

    Returns:
        number of snapshots forgotten; 0 when another process committed meanwhile.
    """
    with table.lock:
        view = table.view()
        metadata = table.iceberg.metadata
        ordered = sorted(metadata.snapshots, key=lambda snapshot: snapshot.sequence_number or 0)
        named = {reference.snapshot_id for reference in metadata.refs.values()}
        old = [s.snapshot_id for s in ordered[:-snapshots_max] if s.snapshot_id not in named]
        if not old:
            return 0
        commit_id = uuid.uuid4().hex
        updates = remove_snapshots(old) + set_properties({COMMIT_PROPERTY: commit_id})
        requirements = unchanged(metadata, view.state.snapshot_id)
        try:
            with lake_errors(f"expire snapshots of trusted table {table.name}"):
                table.submit(updates, requirements, commit_id)
        except CommitConflict:
            return 0
    return len(old)
