"""References: the files that a table's metadata leads to."""

from __future__ import annotations

from dataclasses import dataclass, field

from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot


@dataclass(slots=True)
class References:
    """What the manifests of a table name, remembered because manifests never change."""

    manifests: dict[str, frozenset[str]] = field(default_factory=dict)  # of a manifest list
    files: dict[str, frozenset[str]] = field(default_factory=dict)  # of a manifest

    def of(self, table: Table) -> set[str]:
        """Locations of everything that the table's metadata leads to, its own files included."""
        metadata = table.metadata
        needed = {table.metadata_location, *(entry.metadata_file for entry in metadata.metadata_log)}
        needed |= {statistics.statistics_path for statistics in metadata.statistics}
        for snapshot in metadata.snapshots:
            needed.add(snapshot.manifest_list)
            for manifest in self._manifests_of(snapshot, table):
                needed.add(manifest)
                needed |= self.files[manifest]
        self._forget(needed)
        return needed

    def _manifests_of(self, snapshot: Snapshot, table: Table) -> frozenset[str]:
        """The manifests of a snapshot; reads those that are new."""
        known = self.manifests.get(snapshot.manifest_list)
        if known is None:
            manifests = snapshot.manifests(table.io)
            for manifest in manifests:
                if manifest.manifest_path not in self.files:
                    entries = manifest.fetch_manifest_entry(table.io, discard_deleted=True)
                    paths = frozenset(entry.data_file.file_path for entry in entries)
                    self.files[manifest.manifest_path] = paths
            known = frozenset(manifest.manifest_path for manifest in manifests)
            self.manifests[snapshot.manifest_list] = known
        return known

    def _forget(self, needed: set[str]) -> None:
        """Drop what expired snapshots needed."""
        self.manifests = {path: value for path, value in self.manifests.items() if path in needed}
        self.files = {path: value for path, value in self.files.items() if path in needed}
