"""What is live in a trusted table, held in memory and kept in step with each commit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from pyiceberg.io import FileIO
from pyiceberg.manifest import DataFile, ManifestContent, ManifestFile
from pyiceberg.table.snapshots import Snapshot
from pyroaring import BitMap

from smartstream.errors import TableCorrupt
from smartstream.trusted.deletes import data_path_of, read_deletes


@dataclass(frozen=True, slots=True)
class Member:
    """A file of the current snapshot and the manifest that names it."""

    file: DataFile
    snapshot_id: int
    sequence: int
    file_sequence: int
    manifest: str


@dataclass(frozen=True, slots=True)
class LiveFile:
    """A data file, its deleted rows and the delete file that says so."""

    data: Member
    deleted: BitMap = field(default_factory=BitMap)
    deletes: Member | None = None

    @property
    def path(self) -> str:
        """Where it lies."""
        return str(self.data.file.file_path)

    @property
    def size_bytes(self) -> int:
        """Its size, the delete file not included."""
        return int(self.data.file.file_size_in_bytes)

    @property
    def record_count(self) -> int:
        """Rows in the file, deleted ones included."""
        return int(self.data.file.record_count)

    @property
    def live_count(self) -> int:
        """Rows that are not deleted."""
        return self.record_count - len(self.deleted)


@dataclass(frozen=True, slots=True)
class TableState:
    """The current snapshot of a table, never changed in place.

    Attributes:
        snapshot_id: None while the table has never held a row.
        live: live files by path.
        manifests: the Iceberg manifests of the snapshot.
    """

    snapshot_id: int | None = None
    live: Mapping[str, LiveFile] = field(default_factory=dict)
    manifests: tuple[ManifestFile, ...] = ()

    @property
    def row_count(self) -> int:
        """Live rows."""
        return sum(file.live_count for file in self.live.values())

    def members(self, content: ManifestContent) -> Iterable[Member]:
        """The live data files, or the live delete files."""
        for file in self.live.values():
            if content == ManifestContent.DATA:
                yield file.data
            elif file.deletes is not None:
                yield file.deletes


def load_state(snapshot: Snapshot | None, io: FileIO) -> TableState:
    """Read the live files and deleted positions of ``snapshot`` from its manifests.

    Raises:
        TableCorrupt: a delete file that we did not write, or one of a file that
            is not in the snapshot.
    """
    if snapshot is None:
        return TableState()
    manifests = tuple(snapshot.manifests(io))
    live: dict[str, LiveFile] = {}
    for manifest in manifests:
        if manifest.content == ManifestContent.DATA:
            for member in _members(manifest, io):
                live[member.file.file_path] = LiveFile(member)
    deletes = [m for f in manifests if f.content == ManifestContent.DELETES for m in _members(f, io)]
    for member, rows in zip(deletes, read_deletes(io, [m.file for m in deletes]), strict=True):
        path = data_path_of(member.file)
        file = live.get(path)
        if file is None or file.deletes is not None:
            raise TableCorrupt(f"delete file {member.file.file_path} does not belong to one live data file")
        live[path] = replace(file, deleted=rows, deletes=member)
    return TableState(snapshot.snapshot_id, live, manifests)


def _members(manifest: ManifestFile, io: FileIO) -> list[Member]:
    """The live files that a manifest names."""
    found = []
    for entry in manifest.fetch_manifest_entry(io, discard_deleted=True):
        assert entry.snapshot_id is not None
        assert entry.sequence_number is not None
        assert entry.file_sequence_number is not None
        found.append(
            Member(
                entry.data_file,
                entry.snapshot_id,
                entry.sequence_number,
                entry.file_sequence_number,
                manifest.manifest_path,
            )
        )
    return found
