"""The log as a table's past: its generations, and the raw files of each, pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from smartstream.manifest import Entry, EntryKind, RawFile
from smartstream.schema import TableSchema


@dataclass(frozen=True, slots=True)
class LoggedFile:
    """A raw file and the entry that made it exist.

    Attributes:
        schema: of its rows; None where only the file itself knows.
    """

    seq: int
    file: RawFile
    schema: TableSchema | None


@dataclass(slots=True)
class Generation:
    """One copy of a table and the changes that followed it.

    Attributes:
        schema: the latest one that the log tells.
        schema_lsn: end of the entry that told it.
        reference: the schema that a contract holds the table to; see ``manifest.TableState``.
        copy_lsn: the stream counts from here on; what was there before ends here.
        from_lsn, from_time: a copied row that no later change names is as it was at this moment.
        ready_lsn: exact from here on; None while the copy is under way.
        ready_time: when the log says so.
        stretch: the stream's number when it was complete; see Commits.
        until_lsn: changes from here on were lost to the stream; None if none were.
        fills: attnum → text that existing rows hold in an added column.
        evolved: whether the schema has changed since the copy began.
    """

    number: int
    schema: TableSchema
    schema_lsn: int
    reference: TableSchema
    copy_seq: int
    copy_lsn: int
    from_lsn: int
    from_time: datetime
    ready_lsn: int | None = None
    ready_time: datetime | None = None
    stretch: int = 0
    until_lsn: int | None = None
    copies: list[LoggedFile] = field(default_factory=list)
    changes: list[LoggedFile] = field(default_factory=list)
    fills: dict[str, str] = field(default_factory=dict)
    evolved: bool = False


@dataclass(frozen=True, slots=True)
class Commits:
    """The files that one entry commits, of all tables.

    Attributes:
        stretch: the stream's number; another one begins after a resync of everything.
    """

    seq: int
    stretch: int
    files: tuple[RawFile, ...]


@dataclass(slots=True)
class Past:
    """The fold of the log by table; entries must come in order, without gaps."""

    seq: int = 0
    durable_lsn: int = 0
    stretch: int = 0
    tables: dict[str, list[Generation]] = field(default_factory=dict)
    commits: list[Commits] = field(default_factory=list)

    def add(self, entry: Entry) -> None:
        """Take in the next entry."""
        assert entry.seq == self.seq + 1, "entries come in order"
        self.seq = entry.seq
        if entry.kind is EntryKind.CHANGES:
            self._add_changes(entry)
            return
        assert entry.table is not None
        generations = self.tables.setdefault(entry.table, [])
        if entry.kind is EntryKind.COPY_START:
            schema = TableSchema.from_json(entry.detail["schema"])
            kept = entry.detail.get("reference")
            generations.append(
                Generation(
                    number=entry.detail["generation"],
                    schema=schema,
                    schema_lsn=entry.lsn,
                    reference=TableSchema.from_json(kept) if kept else schema,
                    copy_seq=entry.seq,
                    copy_lsn=entry.lsn,
                    from_lsn=entry.lsn,
                    from_time=entry.written_at,
                )
            )
        elif generations and generations[-1].number == entry.detail["generation"]:
            generation = generations[-1]
            if entry.kind is EntryKind.COPY_CHUNK:
                known = None if generation.evolved else generation.schema
                generation.copies += [LoggedFile(entry.seq, file, known) for file in entry.files]
            else:
                generation.ready_lsn, generation.ready_time = entry.lsn, entry.written_at
                generation.stretch = self.stretch

    def complete(self, table: str) -> list[Generation]:
        """The generations whose copy has ended, oldest first."""
        return [generation for generation in self.tables.get(table, ()) if generation.ready_lsn is not None]

    def end_of(self, table: str, generation: Generation) -> Generation | None:
        """The generation that took the place of a complete one; None while it is the one to read.

        One that never was completed ends it too, as soon as another one was: changes may be
        missing from the stream since then.
        """
        generations = self.tables[table]
        later = generations[generations.index(generation) + 1 :]
        return later[0] if any(each.ready_lsn is not None for each in later) else None

    def _add_changes(self, entry: Entry) -> None:
        """Take in an entry of the stream."""
        if entry.detail.get("reset"):
            self._begin_stretch(entry)
        self.durable_lsn = max(self.durable_lsn, entry.lsn)
        schemas = entry.detail.get("schemas", {})
        for table, change in schemas.items():
            for generation in self.tables.get(table, ())[-1:]:
                generation.schema = TableSchema.from_json(change["schema"])
                generation.schema_lsn = entry.lsn
                generation.fills |= change["fills"]
                generation.evolved = True
        for file in entry.files:
            for generation in self.tables.get(file.table, ())[-1:]:
                known = None if file.table in schemas else generation.schema
                generation.changes.append(LoggedFile(entry.seq, file, known))
        if entry.files:
            self.commits.append(Commits(entry.seq, self.stretch, entry.files))

    def _begin_stretch(self, entry: Entry) -> None:
        """The stream begins anew: what happened before is lost to it, unless a copy has it."""
        rewound = entry.lsn < self.durable_lsn
        self.stretch += 1
        for generations in self.tables.values():
            current = generations[-1]
            if rewound:  # LSNs of another server's past tell nothing about this one's
                del generations[:-1]
                current.copy_lsn = entry.lsn
            if current.ready_lsn is None:
                current.from_lsn, current.from_time = entry.lsn, entry.written_at
            elif current.until_lsn is None:
                current.until_lsn = self.durable_lsn
        if rewound:
            self.commits.clear()
            self.durable_lsn = entry.lsn
