"""The manifest: the ordered log of everything that is durable in the raw zone.

Each entry is one small JSON object under its sequence number, written
put-if-absent: the entry is the commit point of the files it names, and a second
writer fails on it.  Whatever SmartStream must remember about its progress is in
this log, so restarting means reading it (from the last checkpoint on).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, TypeVar

from smartstream.lsn import format_lsn, parse_lsn

T = TypeVar("T")

USUAL_COMPRESSION = 5
"""Of the rows of a raw file, about."""


class EntryKind(StrEnum):
    """What an entry commits."""

    CHANGES = "changes"  # whole transactions up to ``lsn``; without files: progress only
    COPY_START = "copy_start"  # a table's snapshot copy begins (a new generation)
    COPY_CHUNK = "copy_chunk"  # one chunk of it
    COPY_END = "copy_end"  # all chunks are there; the table is exact once ``lsn`` is applied


@dataclass(frozen=True, slots=True)
class RawFile:
    """One Parquet file of the changelog, all rows of one table and schema."""

    table: str
    path: str  # below the warehouse, with forward slashes
    row_count: int
    size_bytes: int
    lsn_min: int
    lsn_max: int
    ops: Mapping[str, int] = field(default_factory=dict)  # op → rows
    rows_bytes: int = 0  # of the rows in memory, as they were written; 0: not noted

    @property
    def weight_bytes(self) -> int:
        """Its size, or what it would be if its rows had been compressed no better than usual."""
        return max(self.size_bytes, self.rows_bytes // USUAL_COMPRESSION)


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of the manifest.

    Attributes:
        seq: position in the log, from 1, without gaps.
        lsn: for CHANGES, the end LSN up to which every committed transaction is
            durable; for copies, see ``LakeState``.
        table: ``schema.name`` for all kinds but CHANGES.
        detail: facts of the kind. COPY_START: ``generation``, ``schema`` (JSON text),
            ``chunks`` (list of [relation, page_min, page_max]), ``filenode``, ``xmin``
            (oldest transaction that the copy may not have seen whole), ``seen`` (LSN: what
            committed before it is in the copy, as it was then or later), and ``reference``
            (JSON text of a schema), where the copy accepts no new shape: see ``TableState``;
            COPY_CHUNK: ``generation``, ``chunk``; COPY_END: ``generation``;
            CHANGES: ``schemas`` (table → ``schema`` (JSON text) and ``fills`` (attnum →
            text that existing rows hold in an added column)), for tables whose schema
            changed, with or without rows; ``reset`` (true after a resync: the stream
            begins anew at ``lsn``); ``source`` (a SourceMark, from here on); ``published`` and
            ``stamps`` (see ``LakeState``: what has changed, with ``reset`` all there is).
    """

    seq: int
    kind: EntryKind
    lsn: int
    written_at: datetime
    files: tuple[RawFile, ...] = ()
    table: str | None = None
    detail: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> bytes:
        """Indented JSON, LSNs in PostgreSQL's notation: made to be read by people too."""
        value = asdict(self)
        value["lsn"] = format_lsn(self.lsn)
        value["written_at"] = self.written_at.isoformat()
        for file in value["files"]:
            file["lsn_min"], file["lsn_max"] = format_lsn(file["lsn_min"]), format_lsn(file["lsn_max"])
        return json.dumps(value, indent=1).encode()

    @staticmethod
    def from_json(data: bytes) -> Entry:
        """Inverse of ``to_json``.

        Raises:
            ValueError, KeyError, TypeError: not a manifest entry.
        """
        value = json.loads(data)
        files = tuple(
            RawFile(**{**f, "lsn_min": parse_lsn(f["lsn_min"]), "lsn_max": parse_lsn(f["lsn_max"])})
            for f in value["files"]
        )
        return Entry(
            seq=value["seq"],
            kind=EntryKind(value["kind"]),
            lsn=parse_lsn(value["lsn"]),
            written_at=datetime.fromisoformat(value["written_at"]),
            files=files,
            table=value["table"],
            detail=value["detail"],
        )


@dataclass(frozen=True, slots=True)
class TableState:
    """What the log says about one table."""

    schema: str  # JSON text of its TableSchema
    generation: int
    copy_seq: int  # of its COPY_START
    copy_lsn: int  # the stream is applied from here on
    chunks: tuple[tuple[str, int, int], ...]
    filenode: str
    xmin: str
    chunks_done: frozenset[int] = frozenset()
    copied: bool = False
    ready_lsn: int = 0  # exact once the applier has passed this
    reference: str = ""  # JSON text of the schema that a contract holds the table to
    schema_lsn: int = 0  # end of the entry that brought ``schema``
    seen_lsn: int = 0  # what committed before this is in the copy, and in no later entry
    copy_schema: str = ""  # as ``schema``, of all of the copy's chunks


@dataclass(frozen=True, slots=True)
class SourceMark:
    """Whom the lake follows.

    Attributes:
        system: the cluster's system identifier; a standby has its primary's.
        timeline: of its WAL; a promotion begins the next one.
        database: its oid.
    """

    system: str
    timeline: int
    database: int


@dataclass(frozen=True, slots=True)
class LakeState:
    """The fold of the manifest up to ``seq``: all that a restart needs to know.

    Attributes:
        source: None in a lake that was begun before this was recorded.
        published: oid of a table → what stands for its uninterrupted membership in the
            publication; another value means that changes may not have been sent.
        stamps: oid of a table → the JSON of its RowStamp: whether rows have changed
            without a word in the stream.
    """

    seq: int = 0
    durable_lsn: int = 0
    tables: Mapping[str, TableState] = field(default_factory=dict)
    source: SourceMark | None = None
    published: Mapping[str, str] = field(default_factory=dict)
    stamps: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def seen_lsn(self, table: str) -> int:
        """What committed before this is in the table's copy; 0 when none has begun."""
        known = self.tables.get(table)
        return known.seen_lsn if known else 0

    def apply(self, entry: Entry) -> LakeState:
        """Return the state after ``entry``; entries must come in order, without gaps."""
        if entry.seq != self.seq + 1:
            raise ValueError(f"manifest entry {entry.seq} follows {self.seq}")
        state = replace(self, seq=entry.seq)
        if entry.kind is EntryKind.CHANGES:
            reset, said = entry.detail.get("reset"), entry.detail.get("source")
            return replace(
                state,
                durable_lsn=entry.lsn if reset else max(self.durable_lsn, entry.lsn),
                tables=_apply_schemas(self.tables, entry),
                source=SourceMark(**said) if said else self.source,
                published=_merged({} if reset else self.published, entry.detail.get("published")),
                stamps=_merged({} if reset else self.stamps, entry.detail.get("stamps")),
            )
        assert entry.table is not None
        tables = {**self.tables, entry.table: _apply_to_table(self.tables.get(entry.table), entry)}
        return replace(state, tables=tables)


def _apply_to_table(table: TableState | None, entry: Entry) -> TableState:
    """One table's state after an entry about it."""
    detail = entry.detail
    if entry.kind is EntryKind.COPY_START:
        return TableState(
            schema=detail["schema"],
            generation=detail["generation"],
            copy_seq=entry.seq,
            copy_lsn=entry.lsn,
            chunks=tuple((c[0], c[1], c[2]) for c in detail["chunks"]),
            filenode=detail["filenode"],
            xmin=detail["xmin"],
            reference=detail.get("reference", detail["schema"]),
            schema_lsn=entry.lsn,
            seen_lsn=parse_lsn(detail["seen"]) if "seen" in detail else 0,
            copy_schema=detail["schema"],
        )
    if table is None:
        raise ValueError(f"manifest entry {entry.seq}: {entry.kind} of {entry.table} before its copy_start")
    if detail["generation"] != table.generation:
        return table
    if entry.kind is EntryKind.COPY_CHUNK:
        return replace(table, chunks_done=table.chunks_done | {detail["chunk"]})
    return replace(table, copied=True, ready_lsn=entry.lsn)


def _merged(before: Mapping[str, T], news: Mapping[str, T] | None) -> Mapping[str, T]:
    """What is known with the news; few entries bring any."""
    return {**before, **news} if news else before


def _apply_schemas(tables: Mapping[str, TableState], entry: Entry) -> Mapping[str, TableState]:
    """The tables after the schema changes that a CHANGES entry carries."""
    schemas = entry.detail.get("schemas", {})
    known = {
        name: replace(tables[name], schema=said["schema"], schema_lsn=entry.lsn)
        for name, said in schemas.items()
        if name in tables
    }
    return {**tables, **known} if known else tables
