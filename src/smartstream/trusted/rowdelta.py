"""Row deltas: one metadata swap that adds and removes data files and delete files.

pyiceberg has no public API for position deletes; this file builds the snapshot
from its manifest writers.  tests/unit/test_trusted_contract.py holds down what
is relied on.  ``Transaction`` is avoided: it copies the whole metadata on every
access, which makes commits slower the more snapshots a table has.
"""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from pyiceberg.avro.file import AvroOutputFile
from pyiceberg.io import FileIO
from pyiceberg.manifest import (
    DataFile,
    ManifestContent,
    ManifestEntry,
    ManifestEntryStatus,
    ManifestFile,
    ManifestWriterV2,
    write_manifest_list,
)
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.table.locations import LocationProvider
from pyiceberg.table.snapshots import (
    Operation,
    Snapshot,
    SnapshotSummaryCollector,
    Summary,
    update_snapshot_summaries,
)
from pyiceberg.types import IntegerType, ListType, NestedField, StructType
from pyroaring import BitMap

from smartstream.trusted.deletes import write_deletes
from smartstream.trusted.state import LiveFile, Member, TableState
from smartstream.trusted.updates import BRANCH, Requirements, Updates, add_snapshot, set_properties, unchanged

CODEC: Final = "deflate"
MANIFESTS_MAX = 12
"""Above this many manifests of a kind, the small ones are written into one."""
MANIFEST_ENTRIES_MAX = 1_000
"""A manifest with more files is left alone when manifests are merged."""
UNASSIGNED = -1

_EQUALITY_IDS = 135


@dataclass(frozen=True, slots=True)
class RowDelta:
    """What one commit changes.

    Attributes:
        add: new data files.
        delete: all deleted positions of a live file, old ones included.
        drop: data files that leave the table, with their delete files.
        added_deletes: deleted positions of files in ``add``.
    """

    add: Sequence[DataFile] = ()
    delete: Mapping[str, BitMap] = field(default_factory=dict)
    drop: frozenset[str] = frozenset()
    added_deletes: Mapping[str, BitMap] = field(default_factory=dict)

    @property
    def empty(self) -> bool:
        """Whether no row changes."""
        return not (self.add or self.delete or self.drop)


@dataclass(frozen=True, slots=True)
class Staged:
    """A commit that is written but not yet visible, and the state it leads to."""

    updates: Updates
    requirements: Requirements
    state: TableState


def stage(
    table: Table,
    state: TableState,
    delta: RowDelta,
    *,
    properties: Mapping[str, str],
    operation: Operation = Operation.OVERWRITE,
    schema_id: int | None = None,
) -> Staged:
    """Write the manifests of ``delta`` and return the updates that make it visible.

    Properties go into the table *and* the snapshot's summary.  Nothing is visible
    until the updates are committed; a crash leaves unreferenced files only.  A
    delta without changes makes no snapshot.
    """
    requirements = unchanged(table.metadata, state.snapshot_id)
    if delta.empty:
        return Staged(set_properties(properties), requirements, state)
    snapshot, after = _Snapshot(table, state).build(delta, properties, operation, schema_id)
    return Staged(add_snapshot(snapshot) + set_properties(properties), requirements, after)


class _DataManifest(ManifestWriterV2):
    """Writes data manifests; declares equality_ids as list<int>, as the specification does."""

    def _with_partition(self, format_version: int) -> Schema:
        entry = super()._with_partition(format_version)  # type: ignore[arg-type]
        return Schema(*(_with_int_equality_ids(f) for f in entry.fields), schema_id=entry.schema_id)

    def new_writer(self) -> AvroOutputFile[ManifestEntry]:
        schema = self._with_partition(self.version)
        return AvroOutputFile[ManifestEntry](
            output_file=self._output_file,
            file_schema=schema,
            record_schema=schema,
            schema_name="manifest_entry",
            metadata=self._meta,
        )


class _DeleteManifest(_DataManifest):
    """Writes delete manifests."""

    def content(self) -> ManifestContent:
        return ManifestContent.DELETES

    @property
    def _meta(self) -> dict[str, str]:
        return {**super()._meta, "content": "deletes"}


def _with_int_equality_ids(entry: NestedField) -> NestedField:
    """The data_file field of a manifest entry with equality_ids as list<int>."""
    if not isinstance(entry.field_type, StructType):
        return entry
    ids = ListType(element_id=136, element_type=IntegerType(), element_required=True)
    fields = (
        NestedField(field_id=f.field_id, name=f.name, field_type=ids, required=False)
        if f.field_id == _EQUALITY_IDS
        else f
        for f in entry.field_type.fields
    )
    return NestedField(
        field_id=entry.field_id, name=entry.name, field_type=StructType(*fields), required=entry.required
    )


class _Snapshot:
    """Builds one snapshot: its manifests, its manifest list, and the state after it."""

    def __init__(self, table: Table, state: TableState) -> None:
        self._metadata = table.metadata
        self._io: FileIO = table.io
        self._locations: LocationProvider = table.location_provider()
        self._state = state
        self._id = table.metadata.new_snapshot_id()
        self._sequence = table.metadata.next_sequence_number()
        self._commit_id = uuid.uuid4()
        self._numbers = itertools.count()
        self._summary = SnapshotSummaryCollector()

    def build(
        self, delta: RowDelta, properties: Mapping[str, str], operation: Operation, schema_id: int | None
    ) -> tuple[Snapshot, TableState]:
        """Write the snapshot's files; return it with the state that it leads to."""
        new_deletes = {
            path: write_deletes(self._io, self._locations, path, rows)
            for path, rows in {**delta.delete, **delta.added_deletes}.items()
        }
        live = self._state.live
        gone = {path: live[path].data for path in delta.drop}
        old_deletes = [live[p].deletes for p in (*delta.drop, *delta.delete)]
        data, members = self._replace(ManifestContent.DATA, delta.add, gone.values())
        deletes, delete_members = self._replace(
            ManifestContent.DELETES, list(new_deletes.values()), [m for m in old_deletes if m is not None]
        )
        manifests = (*data, *deletes)
        after = self._live_after(delta, members, delete_members, new_deletes)
        state = TableState(self._id, after, manifests)
        return self._snapshot(manifests, properties, operation, schema_id), state

    def _replace(
        self, content: ManifestContent, add: Sequence[DataFile], remove: Iterable[Member]
    ) -> tuple[list[ManifestFile], dict[str, Member]]:
        """Manifests of one kind after adding and removing files, and the members that moved.

        Only the manifests that lose a file are written again, together with the new
        entries; unless there are too many, then all small ones are.
        """
        removed = {member.file.file_path: member for member in remove}
        if not add and not removed:
            return [m for m in self._state.manifests if m.content == content and _entry_count(m)], {}
        touched = {member.manifest for member in removed.values()}
        kept = [
            m
            for m in self._state.manifests
            if m.content == content and m.manifest_path not in touched and _entry_count(m)
        ]
        if len(kept) >= MANIFESTS_MAX:
            small = {m.manifest_path for m in kept if _entry_count(m) <= MANIFEST_ENTRIES_MAX}
            touched |= small
            kept = [m for m in kept if m.manifest_path not in small]
        staying = [
            m
            for m in self._state.members(content)
            if m.manifest in touched and m.file.file_path not in removed
        ]
        for file in add:
            self._summary.add_file(file, self._metadata.schema())
        for member in removed.values():
            self._summary.remove_file(member.file, self._metadata.schema())
        manifest = self._write(content, add, staying, list(removed.values()))
        moved = {m.file.file_path: replace(m, manifest=manifest.manifest_path) for m in staying}
        for file in add:
            moved[file.file_path] = Member(
                file, self._id, self._sequence, self._sequence, manifest.manifest_path
            )
        return [manifest, *kept], moved

    def _write(
        self,
        content: ManifestContent,
        add: Sequence[DataFile],
        staying: Sequence[Member],
        removed: Sequence[Member],
    ) -> ManifestFile:
        """Write one manifest and give it this commit's sequence number."""
        kind = _DataManifest if content == ManifestContent.DATA else _DeleteManifest
        output = self._io.new_output(
            self._locations.new_metadata_location(f"{self._commit_id}-m{next(self._numbers)}.avro")
        )
        spec = self._metadata.specs()[0]
        with kind(spec, self._metadata.schema(), output, self._id, CODEC) as writer:
            for file in add:
                writer.add_entry(self._entry(ManifestEntryStatus.ADDED, file, None))
            for member in staying:
                writer.add_entry(self._entry(ManifestEntryStatus.EXISTING, member.file, member))
            for member in removed:
                writer.add_entry(self._entry(ManifestEntryStatus.DELETED, member.file, member))
        manifest = writer.to_manifest_file()
        manifest.sequence_number = self._sequence
        if manifest.min_sequence_number == UNASSIGNED:
            manifest.min_sequence_number = self._sequence
        return manifest

    def _entry(self, status: ManifestEntryStatus, file: DataFile, member: Member | None) -> ManifestEntry:
        """A manifest entry; added files inherit their sequence numbers."""
        existing = member if status == ManifestEntryStatus.EXISTING else None
        return ManifestEntry.from_args(
            status=status,
            snapshot_id=existing.snapshot_id if existing else self._id,
            sequence_number=member.sequence if member else None,
            file_sequence_number=member.file_sequence if member else None,
            data_file=file,
        )

    def _live_after(
        self,
        delta: RowDelta,
        members: Mapping[str, Member],
        delete_members: Mapping[str, Member],
        new_deletes: Mapping[str, DataFile],
    ) -> dict[str, LiveFile]:
        """The live files after this snapshot."""
        after: dict[str, LiveFile] = {}
        for path, file in self._state.live.items():
            if path in delta.drop:
                continue
            deletes = file.deletes
            if path in delta.delete:
                deletes = delete_members[new_deletes[path].file_path]
            elif deletes is not None:
                deletes = delete_members.get(deletes.file.file_path, deletes)
            after[path] = LiveFile(
                members.get(path, file.data), delta.delete.get(path, file.deleted), deletes
            )
        for new in delta.add:
            rows = delta.added_deletes.get(new.file_path)
            member = delete_members[new_deletes[new.file_path].file_path] if rows else None
            after[new.file_path] = LiveFile(members[new.file_path], rows or BitMap(), member)
        return after

    def _snapshot(
        self,
        manifests: Sequence[ManifestFile],
        properties: Mapping[str, str],
        operation: Operation,
        schema_id: int | None,
    ) -> Snapshot:
        """Write the manifest list and describe the snapshot."""
        parent = self._metadata.snapshot_by_name(BRANCH)
        parent_id = parent.snapshot_id if parent else None
        path = self._locations.new_metadata_location(f"snap-{self._id}-0-{self._commit_id}.avro")
        output = self._io.new_output(path)
        with write_manifest_list(2, output, self._id, parent_id, self._sequence, CODEC) as writer:
            writer.add_manifests(list(manifests))
        # pyiceberg refuses totals for REPLACE, so they are made for OVERWRITE.
        totals = update_snapshot_summaries(
            Summary(operation=Operation.OVERWRITE, **self._summary.build(), **properties),
            parent.summary if parent else None,
        )
        return Snapshot.model_validate(
            {
                "snapshot-id": self._id,
                "parent-snapshot-id": parent_id,
                "manifest-list": path,
                "sequence-number": self._sequence,
                "summary": Summary(operation=operation, **totals.additional_properties),
                "schema-id": self._metadata.current_schema_id if schema_id is None else schema_id,
            }
        )


def _entry_count(manifest: ManifestFile) -> int:
    """Live entries of a manifest."""
    return (manifest.added_files_count or 0) + (manifest.existing_files_count or 0)
