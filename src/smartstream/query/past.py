"""A table's past as the log has it: which generations tell about it, and from when to when."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NoReturn

from smartstream.errors import PastUnknown
from smartstream.lsn import format_lsn
from smartstream.query.versions import Era
from smartstream.raw.manifest_log import ManifestLog
from smartstream.raw.reader import read_schema
from smartstream.raw.store import Store
from smartstream.raw.timeline import Generation, LoggedFile, Past
from smartstream.schema import TableSchema
from smartstream.transform.rows import same_key


@dataclass(frozen=True, slots=True)
class TablePast:
    """What is needed to find versions: whose columns are shown, the table's eras, its fills."""

    shown: Generation
    eras: Sequence[Era]
    fills: dict[str, str]

    @property
    def schema(self) -> TableSchema:
        """The table as it is shown."""
        return self.shown.schema


def read_past(store: Store) -> Past:
    """Read the whole log.

    Raises:
        RawCorrupt: it is damaged.
    """
    past = Past()
    for entry in ManifestLog(store, _no_clock).entries(0):
        past.add(entry)
    return past


def whole_past(past: Past, store: Store, table: str) -> TablePast:
    """Everything that is known about a table, under its newest columns.

    Begins with the oldest generation since which the table has been the same one (a table
    that is dropped and made again is another) and has had the same key.

    Raises:
        PastUnknown: no copy is complete, or the key has changed since the last one.
    """
    complete = past.complete(table)
    if not complete:
        raise PastUnknown(f"{table} is still being copied: nothing is known of its past")
    schema = complete[-1].schema
    eras: list[Era] = []
    fills: dict[str, str] = {}
    for generation in reversed(complete):
        end = past.end_of(table, generation)
        assert generation.ready_lsn is not None
        if end is not None and end.copy_lsn < generation.ready_lsn:
            continue  # it never was exact
        files = _schemas(store, [*generation.copies, *generation.changes])
        if not _fits(files, generation, schema):
            break
        eras.insert(0, _era(generation, end, files))
        fills = {**generation.fills, **fills}
    if not eras:
        _refuse_key(table)
    return TablePast(complete[-1], eras, fills)


def past_at(past: Past, store: Store, table: str, lsn: int) -> TablePast:
    """What tells how a table was after the transaction that committed at ``lsn``.

    Raises:
        PastUnknown: the log does not tell; the message says from where on it does.
    """
    complete = past.complete(table)
    known = [each for each in complete if each.ready_lsn is not None and each.ready_lsn - 1 <= lsn]
    if not known or lsn >= known_until(past, table, known[-1]):
        _refuse(past, table, complete, lsn)
    generation, newest = known[-1], complete[-1]
    changes = [logged for logged in generation.changes if logged.file.lsn_min <= lsn]
    files = _schemas(store, [*generation.copies, *changes])
    same = newest.schema.oid == generation.schema.oid and same_key(newest.schema, generation.schema)
    shown = newest if same else generation
    if not _fits(files, generation, shown.schema):
        _refuse_key(table)
    return TablePast(shown, [_era(generation, None, files)], generation.fills)


def known_until(past: Past, table: str, generation: Generation) -> int:
    """The LSN from which on a generation does not tell about the table."""
    generations = past.tables[table]
    later = generations[generations.index(generation) + 1 :]
    ends = [later[0].copy_lsn if later else past.durable_lsn]
    if generation.until_lsn is not None:
        ends.append(generation.until_lsn)
    return min(ends)


def _era(generation: Generation, end: Generation | None, files: list[tuple[LoggedFile, TableSchema]]) -> Era:
    """A generation with its end."""
    assert generation.ready_lsn is not None
    end_lsn, end_time = (end.copy_lsn, end.from_time) if end else (None, None)
    return Era(
        generation.number,
        generation.from_lsn,
        generation.from_time,
        generation.ready_lsn,
        end_lsn,
        end_time,
        files,
    )


def _schemas(store: Store, files: Sequence[LoggedFile]) -> list[tuple[LoggedFile, TableSchema]]:
    """Each file with the schema of its rows."""
    return [(logged, logged.schema or read_schema(store, logged.file)) for logged in files]


def _fits(
    files: Sequence[tuple[LoggedFile, TableSchema]], generation: Generation, schema: TableSchema
) -> bool:
    """Whether it has been the same table with the same key all the time."""
    schemas = [generation.schema, *(found for _, found in files)]
    return all(found.oid == schema.oid and same_key(found, schema) for found in schemas)


def _refuse(past: Past, table: str, complete: Sequence[Generation], lsn: int) -> NoReturn:
    """Say from where to where the past of a table is known."""
    spans = [
        (ready - 1, known_until(past, table, each) - 1, each.ready_time)
        for each in complete
        if (ready := each.ready_lsn) is not None and ready - 1 < known_until(past, table, each)
    ]
    if not spans:
        raise PastUnknown(f"{table} is still being copied: nothing is known of its past")
    told = ", ".join(f"{format_lsn(first)} to {format_lsn(last)}" for first, last, _ in spans)
    since = [time.isoformat(timespec="seconds") for *_, time in spans if time is not None]
    raise PastUnknown(
        f"{table} is not known as of {format_lsn(lsn)}; it is known from {told}",
        hint=f"Its copies were complete at {', '.join(since)}: ask for a later moment.",
    )


def _refuse_key(table: str) -> NoReturn:
    """Say that the key stands in the way."""
    raise PastUnknown(
        f"the key of {table} has changed since it was copied: rows of before and after can't be told alike",
        hint=f"`smartstream resync {table}` begins a new history.",
    )


def _no_clock() -> datetime:
    """For a log that is only read."""
    raise AssertionError("reading needs no clock")
