"""What the applier has in hand: parts of the changelog, and tables on their way to be exact."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from smartstream.capture.values import cast
from smartstream.change import OLD_KEY, UNCHANGED
from smartstream.manifest import RawFile
from smartstream.pipeline.journal import Item
from smartstream.pipeline.table_writer import Staged
from smartstream.raw.reader import read_batches
from smartstream.raw.store import Store
from smartstream.schema import TableSchema
from smartstream.transform.partition import can_partition

MEMORY_PER_RAW_BYTE = 40
"""Memory that folding takes for each byte of a raw file's weight; past the limit it slices."""


@dataclass(slots=True)
class Part:
    """One raw file of CHANGES for one table: in memory, or to be read."""

    seq: int
    lsn: int
    file: RawFile
    fills: dict[str, str]
    loaded: tuple[TableSchema, pa.Table] | None = None
    schema: TableSchema = field(init=False)

    def add_fills(self, earlier: Mapping[str, str]) -> None:
        """Note what entries before this one said of added columns."""
        self.fills = {**earlier, **self.fills}


@dataclass(slots=True)
class Base:
    """A generation whose copy is under way: nothing of it is visible yet."""

    generation: int
    copy_seq: int
    schema: TableSchema
    copy_lsn: int
    staged: Staged = field(default_factory=Staged)  # written ahead of the commit
    chunks: list[RawFile] = field(default_factory=list)
    deferred: list[Part] = field(default_factory=list)


@dataclass(slots=True)
class Settling:
    """A table whose copy is visible, until the stream has passed the copy's end."""

    schema: TableSchema
    copy_seq: int
    ready_lsn: int
    unresolved: set[tuple[Any, ...]] = field(default_factory=set)


def parts_of(item: Item) -> Iterator[Part]:
    """The files of a CHANGES entry."""
    entry = item.entry
    schemas = entry.detail.get("schemas", {})
    for file in entry.files:
        fills = schemas.get(file.table, {}).get("fills", {})
        yield Part(entry.seq, entry.lsn, file, fills, item.payload.get(file.path))


def grouped(parts: list[Part], bytes_max: int) -> Iterator[list[Part]]:
    """Consecutive parts, whole entries, of about ``bytes_max``."""
    group: list[Part] = []
    size = 0
    for part in parts:
        if group and size >= bytes_max and part.seq != group[-1].seq:
            yield group
            group, size = [], 0
        group.append(part)
        size += part.file.weight_bytes
    if group:
        yield group


def key_tuples(keys: pa.Table) -> set[tuple[Any, ...]]:
    """Keys as a set; for the few that need it."""
    return set(zip(*(column.to_pylist() for column in keys.columns), strict=True))


def divisible(store: Store, file: RawFile) -> bool:
    """Whether a raw file's changes can be cut by key."""
    batches = read_batches(store, file, columns=[OLD_KEY, UNCHANGED])
    return all(can_partition(pa.Table.from_batches([batch])) for batch in batches)


def fills_of(schema: TableSchema, parts: list[Part]) -> dict[int, pa.Scalar]:
    """What existing rows hold in the columns that these parts' schema adds."""
    merged = {attnum: text for part in parts for attnum, text in part.fills.items()}
    return scalars(schema, merged)


def scalars(schema: TableSchema, fills: dict[str, str]) -> dict[int, pa.Scalar]:
    """Texts of defaults as typed scalars."""
    by_attnum = {column.attnum: column for column in schema.columns}
    texts = {int(attnum): text for attnum, text in fills.items()}
    return {
        attnum: cast(pa.array([text]), by_attnum[attnum].type).values[0]
        for attnum, text in texts.items()
        if attnum in by_attnum
    }
