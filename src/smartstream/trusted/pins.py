"""Pins: tags that keep single snapshots of a table from expiring while somebody needs them."""

from __future__ import annotations

from collections.abc import Collection

from pyiceberg.catalog import Catalog
from pyiceberg.table import Table
from pyiceberg.table.refs import SnapshotRefType
from pyiceberg.table.update import (
    AssertTableUUID,
    RemoveSnapshotRefUpdate,
    SetSnapshotRefUpdate,
    TableUpdate,
)

from smartstream.errors import CommitConflict
from smartstream.trusted.catalog import TRUSTED, lake_errors

ATTEMPTS_MAX = 3
_PREFIX = "smartstream.pin"


def pin(
    catalog: Catalog, name: str, owner: str, snapshots: Collection[int], *, owners: Collection[str] = ()
) -> bool:
    """Keep ``snapshots`` of a trusted table for ``owner``, and none that it kept before.

    One small commit, which changes neither rows nor position, and none when nothing is new.
    The applier beside it goes on: its commits ask for the branch to be as it was, not the tags.
    A process whose metadata does not know a new tag yet can't expire what it names: the
    snapshot was the newest one, and whoever adds another one learns of the tag.

    Args:
        snapshots: those that have expired already are left out.
        owners: all that there are; what others have kept is let go.  Names without dots.
    Returns:
        False when other commits were always faster: nothing is kept, and nothing is lost
        but the comparison with that snapshot.
    """
    for _ in range(ATTEMPTS_MAX):
        with lake_errors(f"keep snapshots of trusted table {name}"):
            table = catalog.load_table((TRUSTED, name))
            updates = _updates(table, owner, snapshots, owners)
            if not updates:
                return True
            try:
                with lake_errors(f"keep snapshots of trusted table {name}"):
                    table._do_commit(updates, (AssertTableUUID(uuid=table.metadata.table_uuid),))
                return True
            except CommitConflict:
                continue
    return False


def _updates(
    table: Table, owner: str, snapshots: Collection[int], owners: Collection[str]
) -> tuple[TableUpdate, ...]:
    """What leads from the tags that there are to those that are wanted."""
    metadata = table.metadata
    there = {snapshot.snapshot_id for snapshot in metadata.snapshots}
    wanted = {f"{_PREFIX}.{owner}.{number}": number for number in snapshots if number in there}
    updates: list[TableUpdate] = [
        SetSnapshotRefUpdate.model_validate(
            {"ref-name": tag, "type": SnapshotRefType.TAG, "snapshot-id": number}
        )
        for tag, number in wanted.items()
        if tag not in metadata.refs
    ]
    for tag in metadata.refs:
        place, _, number = tag.rpartition(".")
        prefix, _, whose = place.rpartition(".")
        if prefix == _PREFIX and number and tag not in wanted and (whose == owner or whose not in owners):
            updates.append(RemoveSnapshotRefUpdate.model_validate({"ref-name": tag}))
    return tuple(updates)
