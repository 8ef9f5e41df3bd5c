"""Metadata updates and their requirements: the vocabulary of an Iceberg commit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pyiceberg.schema import Schema
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.refs import SnapshotRefType
from pyiceberg.table.snapshots import Snapshot
from pyiceberg.table.update import (
    AddSchemaUpdate,
    AddSnapshotUpdate,
    AssertCurrentSchemaId,
    AssertRefSnapshotId,
    AssertTableUUID,
    RemoveSnapshotsUpdate,
    SetCurrentSchemaUpdate,
    SetPropertiesUpdate,
    SetSnapshotRefUpdate,
    TableRequirement,
    TableUpdate,
)

BRANCH = "main"

COMMIT_PROPERTY = "smartstream.commit"
"""Names the last commit: tells, after an unknown outcome, whether it was ours."""

Updates = tuple[TableUpdate, ...]
Requirements = tuple[TableRequirement, ...]


def unchanged(metadata: TableMetadata, snapshot_id: int | None) -> Requirements:
    """The table is the same one, still at this snapshot and schema."""
    return (
        AssertTableUUID(uuid=metadata.table_uuid),
        AssertRefSnapshotId.model_validate(
            {"type": "assert-ref-snapshot-id", "ref": BRANCH, "snapshot-id": snapshot_id}
        ),
        AssertCurrentSchemaId.model_validate(
            {"type": "assert-current-schema-id", "current-schema-id": metadata.current_schema_id}
        ),
    )


def add_snapshot(snapshot: Snapshot) -> Updates:
    """Add a snapshot and make it the current one."""
    reference = SetSnapshotRefUpdate.model_validate(
        {"ref-name": BRANCH, "type": SnapshotRefType.BRANCH, "snapshot-id": snapshot.snapshot_id}
    )
    return AddSnapshotUpdate(snapshot=snapshot), reference


def remove_snapshots(snapshot_ids: Sequence[int]) -> Updates:
    """Forget snapshots."""
    return (RemoveSnapshotsUpdate.model_validate({"snapshot-ids": list(snapshot_ids)}),)


def set_schema(schema: Schema) -> Updates:
    """Add a schema and make it the current one."""
    current = SetCurrentSchemaUpdate.model_validate({"schema-id": schema.schema_id})
    return AddSchemaUpdate.model_validate({"schema": schema}), current


def set_properties(properties: Mapping[str, str]) -> Updates:
    """Set table properties."""
    return (SetPropertiesUpdate(updates=dict(properties)),)


def has_commit(metadata: TableMetadata, commit_id: str) -> bool:
    """Whether a table's history has the commit."""
    if metadata.properties.get(COMMIT_PROPERTY) == commit_id:
        return True
    summaries = (snapshot.summary for snapshot in metadata.snapshots)
    return any(summary is not None and summary[COMMIT_PROPERTY] == commit_id for summary in summaries)
