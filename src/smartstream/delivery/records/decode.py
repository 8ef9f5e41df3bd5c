"""Raw objects decoded: each table's changes, what is damaged, what was of no use."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from smartstream.delivery.records.control import merged, schema_of_control
from smartstream.delivery.records.exact import Record, exact_changes, record_of
from smartstream.delivery.records.lines import Lines, lines_of
from smartstream.delivery.records.options import Options
from smartstream.delivery.records.parsed import Parser
from smartstream.delivery.records.rows import changes_of
from smartstream.errors import ProtocolError
from smartstream.schema import TableSchema

DAMAGED_SCHEMA = pa.schema(
    [
        ("object", pa.string()),
        ("number", pa.int64()),
        ("reason", pa.string()),
        ("schema", pa.string()),
        ("table", pa.string()),
        ("record", pa.string()),
    ]
)
"""One damaged record: where it lies, constant words, whose it is (null if that can't be read), its text."""

PIECES = 16
"""Into so many a chunk with an odd record is cut, so that few of its others go the slow way."""
OWN_TABLES = "awsdms_"
_TABLES_GUESSED_MAX = 64
_PLACE = re.compile(rb'"schema-name":\s*"[^"\\]*",\s*"table-name":\s*"[^"\\]*"')

Numbers = npt.NDArray[np.int64]


class Known(Protocol):
    """What tables look like; see delivery.definitions."""

    def get(self, table_id: str) -> TableSchema | None:
        """The definition of ``schema.name``."""


@dataclass(slots=True)
class Decoded:
    """What objects hold.

    Attributes:
        changes: by table, its definition and its changelog.
        damaged: (n, DAMAGED_SCHEMA).
        learnt: definitions that control records have added to.
        told: tables whose columns control records tell, whether they add to what is known or not.
        undefined: tables of which no definition is known, with the number of their records.
        control, ignored: numbers of control records, and of records of DMS's own tables.
        is_late: a table was defined behind records of the object, which may be its own.
    """

    changes: dict[str, tuple[TableSchema, pa.Table]]
    damaged: pa.Table
    learnt: dict[str, TableSchema] = field(default_factory=dict)
    told: set[str] = field(default_factory=set)
    undefined: dict[str, int] = field(default_factory=dict)
    control: int = 0
    ignored: int = 0
    is_late: bool = False


def read_object(key: str, data: bytes, definitions: Known, options: Options | None = None) -> Decoded:
    """Decode the records of one object, gzip or not.

    A damaged record is never guessed at.  If its key can be read it is also a delete among
    the changes, so that trusted tables do not go on showing what the row was before.

    Raises:
        RawCorrupt: the object can't be unpacked, or a definition can't be read.
    """
    found = _Decoding(key, definitions, options or Options()).decoded(data)
    if found.is_late:
        # A table was told of behind some of its records: rare enough to read them all once more.
        again = _Decoding(key, _Overlay(definitions, found.learnt), options or Options()).decoded(data)
        again.learnt = found.learnt
        return again
    return found


@dataclass(frozen=True, slots=True)
class _Overlay:
    """Definitions, some of them replaced."""

    known: Known
    learnt: dict[str, TableSchema]

    def get(self, table_id: str) -> TableSchema | None:
        """See Known."""
        return self.learnt.get(table_id) or self.known.get(table_id)


class _Decoding:
    """One object on its way, a slice at a time.

    Numbers of records are those in the slice, but for what leaves.
    """

    def __init__(self, key: str, definitions: Known, options: Options) -> None:
        self._key, self._definitions, self._options = key, definitions, options
        self._lines = Lines(0, pa.array([], pa.binary()))
        self._parts: defaultdict[str, list[pa.Table]] = defaultdict(list)
        self._schemas: dict[str, TableSchema] = {}
        self._parser: Parser | None = None
        self._parsers: dict[str, Parser] = {}
        self._odd: list[Record] = []
        self._damaged: list[tuple[int, str, str | None, str | None]] = []
        self._found = Decoded({}, DAMAGED_SCHEMA.empty_table())

    def decoded(self, data: bytes) -> Decoded:
        """All of it; of an object that ``is_late`` only what it has ``learnt``."""
        found, damaged = self._found, [self._found.damaged]
        for lines in lines_of(self._key, data):
            self._lines, learnt = lines, dict(found.learnt)
            self._slice()
            damaged.append(self._damaged_table())
            found.is_late |= lines.first > 0 and found.learnt != learnt
        if found.is_late:
            return found
        found.changes = {
            name: (self._schemas[name], pa.concat_tables(parts)) for name, parts in self._parts.items()
        }
        found.damaged = pa.concat_tables(damaged)
        return found

    def _slice(self) -> None:
        """Some records; control records first, since they may say what the others' tables are."""
        told = pc.starts_with(self._lines.texts, b'{"control"').to_numpy(zero_copy_only=False)
        self._one_by_one(np.flatnonzero(told))
        for chunk in _chunks(np.flatnonzero(~told), self._options.chunk_rows):
            self._chunk(chunk)
        self._finish_odd()

    def _chunk(self, numbers: Numbers) -> None:
        """Some lines: most often all are of the table that the last ones were of."""
        if self._parser and self._fast(self._parser, numbers):
            return
        groups, others = self._groups(numbers)
        self._one_by_one(others)
        for table_id, alike in groups:
            schema = self._schema(table_id)
            self._parser = self._parsers.get(table_id)
            if schema is None or table_id.startswith(".") or _is_own(table_id.partition(".")[2]):
                self._one_by_one(alike)
                continue
            if self._parser is None or self._parser.schema != schema:
                self._parser = self._parsers[table_id] = Parser(schema, self._options)
            for piece in _chunks(alike, max(1, self._options.chunk_rows // PIECES)):
                if not self._fast(self._parser, piece):
                    self._one_by_one(piece)

    def _groups(self, left: Numbers) -> tuple[list[tuple[str, Numbers]], Numbers]:
        """Lines that look like data of one table, by table, and the others."""
        others, groups = [left[:0]], []
        for _ in range(_TABLES_GUESSED_MAX):
            if not len(left):
                break
            first = self._lines.texts[int(left[0])].as_py()
            found, record = _PLACE.search(first), record_of(first, 0, self._options)
            if found is None or isinstance(record, str):
                others.append(left[:1])
                left = left[1:]
                continue
            alike = pc.match_substring(self._texts(left), found[0]).to_numpy(zero_copy_only=False)
            groups.append((record.table_id, left[alike]))
            left = left[~alike]
        return groups, np.concatenate([*others, left])

    def _texts(self, numbers: Numbers) -> pa.BinaryArray:
        """Some lines, without a copy where they lie one behind the other."""
        first = int(numbers[0])
        if int(numbers[-1]) - first + 1 == len(numbers):
            return self._lines.texts.slice(first, len(numbers))
        return self._lines.texts.take(pa.array(numbers))

    def _fast(self, parser: Parser, numbers: Numbers) -> bool:
        """Whether the fast way was one for these lines."""
        rows = parser.parse(self._texts(numbers), numbers)
        if rows is None:
            return False
        try:
            found = changes_of(rows, parser.schema, self._options)
        except ProtocolError:
            return False
        self._add(parser.schema, found.changelog, found.reasons)
        return True

    def _one_by_one(self, numbers: Numbers) -> None:
        """Lines of any kind."""
        for number in numbers.tolist():
            record = record_of(self._lines.texts[number].as_py(), number, self._options)
            if isinstance(record, str):
                self._damaged.append((number, record, None, None))
            elif not record.schema or _is_own(record.table):
                self._found.ignored += 1
            elif record.is_control:
                self._found.control += 1
                self._learn(record)
            else:
                self._odd.append(record)

    def _learn(self, record: Record) -> None:
        """Take over what a control record says."""
        told = schema_of_control(record)
        if told is not None:
            self._found.told.add(told.id)
            known = self._schema(told.id)
            schema = merged(known, told)
            if schema != known:
                self._found.learnt[told.id] = schema

    def _finish_odd(self) -> None:
        """Decode what the fast way left."""
        by_table: defaultdict[str, list[Record]] = defaultdict(list)
        odd, self._odd = self._odd, []
        for record in odd:
            by_table[record.table_id].append(record)
        for table_id, records in by_table.items():
            schema = self._schema(table_id)
            if schema is None:
                count = self._found.undefined.get(table_id, 0) + len(records)
                self._found.undefined[table_id] = count
                continue
            for first in range(0, len(records), self._options.chunk_rows):
                chunk = records[first : first + self._options.chunk_rows]
                found = exact_changes(chunk, schema, self._options)
                self._add(schema, found.changelog, found.reasons)

    def _schema(self, table_id: str) -> TableSchema | None:
        """What is known of a table."""
        return self._found.learnt.get(table_id) or self._definitions.get(table_id)

    def _add(self, schema: TableSchema, changelog: pa.Table, reasons: dict[int, str]) -> None:
        """Keep what has been decoded."""
        self._schemas[schema.id] = schema
        if changelog.num_rows:
            self._parts[schema.id].append(changelog)
        self._damaged += [(number, why, schema.schema, schema.name) for number, why in reasons.items()]

    def _damaged_table(self) -> pa.Table:
        """The damaged records of a slice, in its order."""
        damaged, self._damaged = self._damaged, []
        rows = [
            {
                "object": self._key,
                "number": self._lines.first + number,
                "reason": reason,
                "schema": schema,
                "table": table,
                "record": self._lines.texts[number].as_py().decode(errors="backslashreplace").rstrip(),
            }
            for number, reason, schema, table in sorted(damaged, key=lambda one: one[0])
        ]
        return pa.Table.from_pylist(rows, DAMAGED_SCHEMA)


def _is_own(table: str) -> bool:
    """Whether DMS has made the table for itself."""
    return table.startswith(OWN_TABLES)


def _chunks(numbers: Numbers, size: int) -> Iterator[Numbers]:
    """Pieces of at most ``size``."""
    for first in range(0, len(numbers), size):
        yield numbers[first : first + size]
