"""Versions: every state that a table's rows have had, out of raw files, as DuckDB SQL.

First a narrow index: of each change its key, its place in the order and where it lies
(``row_id``: number of the file and of the row in it).  From that follow the versions, and
for each value that an update left out the change that carried it last.  The wide columns
are only read when a statement asks for them.  Everything can spill to disk.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

import duckdb

from smartstream.change import UNTYPED
from smartstream.query.relation import pattern, sql_type
from smartstream.raw.timeline import LoggedFile
from smartstream.schema import Column, TableSchema
from smartstream.sql_text import literal
from smartstream.transform.evolution import can_widen


@dataclass(frozen=True, slots=True)
class Era:
    """A generation as the versions need it.

    Attributes:
        from_lsn, from_time: where a copied row begins that no later change names.
        ready_lsn: versions that ended before are those of a table half copied.
        end_lsn, end_time: where all that is left ends; None for the newest generation.
        files: each with the schema of its rows.
    """

    number: int
    from_lsn: int
    from_time: datetime
    ready_lsn: int
    end_lsn: int | None
    end_time: datetime | None
    files: Sequence[tuple[LoggedFile, TableSchema]]


@dataclass(slots=True)
class Versions:
    """The versions of one table, in tables of their own on ``connection``; see ``build``.

    Attributes:
        name: schema of these tables, quoted.
        schema: the table as its rows are shown.
        left_out: versions with a value that the raw zone does not hold; they are not shown.
    """

    connection: duckdb.DuckDBPyConnection
    name: str
    schema: TableSchema
    groups: list[tuple[TableSchema, list[str]]] = field(default_factory=list)
    filled: Sequence[int] = ()
    carried: list[Column] = field(default_factory=list)
    left_out: int = 0

    def relation(self) -> str:
        """Return a SELECT of every version.

        Returns:
            SQL: c<attnum> of every column, ``_untyped`` and, of the version, ``row_id``,
            ``from_lsn``, ``from_time``, ``to_lsn``, ``to_time`` and ``op``.
        """
        columns, carried = self.schema.columns, self.carried
        shown = [f"{self._value(c, c in carried)} AS c{c.attnum}" for c in columns]
        joins = "".join(
            f" LEFT JOIN {self.name}.source_{c.attnum} AS s{c.attnum} ON s{c.attnum}.row_id = v.row_id"
            f" LEFT JOIN ({self._rows([c])}) AS q{c.attnum} ON q{c.attnum}.row_id = s{c.attnum}.source"
            for c in carried
        )
        fields = "v.row_id, v.from_lsn, v.from_time, v.to_lsn, v.to_time, v.op"
        return (
            f"SELECT {', '.join([*shown, f'{self._flags(carried)} AS {UNTYPED}', fields])} "
            f"FROM {self.name}.versions AS v JOIN ({self._rows(columns)}) AS p ON p.row_id = v.row_id{joins}"
        )

    def _value(self, column: Column, carried: bool) -> str:
        """A column's value: its own, or that of the change that carried it."""
        own = f"p.c{column.attnum}"
        if not carried:
            return own
        return (
            f"CASE WHEN s{column.attnum}.row_id IS NULL THEN {own} ELSE q{column.attnum}.c{column.attnum} END"
        )

    def _flags(self, carried: Sequence[Column]) -> str:
        """``_untyped``, with the texts of carried values."""
        flags = f"p.{UNTYPED}"
        for column in carried:
            text = f"json_extract_string(q{column.attnum}.{UNTYPED}, {literal(pointer(column.name))})"
            with_text = (
                f"json_merge_patch(coalesce({flags}, '{{}}'), json_object({literal(column.name)}, {text}))"
            )
            flags = f"CASE WHEN {text} IS NULL THEN {flags} ELSE CAST({with_text} AS VARCHAR) END"
        return flags

    def _rows(self, columns: Sequence[Column]) -> str:
        """A SELECT of all raw rows: row_id, c<attnum> of the columns, ``_untyped``."""
        if not self.groups:
            nothing = [f"NULL::{sql_type(c.type.arrow)} AS c{c.attnum}" for c in columns]
            return f"SELECT {', '.join([*nothing, f'NULL::VARCHAR AS {UNTYPED}'])}, 0 AS row_id WHERE false"
        names = [c.name for c in self.schema.columns]
        return " UNION ALL ".join(
            scan(
                self.name,
                paths,
                schema,
                [
                    *(
                        f"{_typed(schema, c, c.attnum in self.filled, self.name)} AS c{c.attnum}"
                        for c in columns
                    ),
                    f"{_renamed_flags(schema, self.schema, names)} AS {UNTYPED}",
                ],
            )
            for schema, paths in self.groups
        )


def scan(name: str, paths: Sequence[str], schema: TableSchema, outputs: Sequence[str]) -> str:
    """A SELECT over raw files of one schema; their columns are called f0, f1, … in it.

    No name of a user's column can clash so, not even one that differs in case only.
    """
    files = ", ".join(literal(pattern(path)) for path in paths)
    aliases = ", ".join(f"f{n}" for n in range(len(schema.changelog_schema())))
    return (
        f"SELECT file.number * {1 << 32} + raw.file_row_number AS row_id, {', '.join(outputs)} "
        f"FROM read_parquet([{files}]) AS raw({aliases}) "
        f"JOIN {name}.files AS file ON file.path = raw.filename"
    )


def place(schema: TableSchema, name: str) -> str:
    """The name that ``scan`` gives a column."""
    return f"f{schema.changelog_schema().get_field_index(name)}"


def pointer(name: str) -> str:
    """A JSON pointer to a member."""
    return "/" + name.replace("~", "~0").replace("/", "~1")


def _typed(schema: TableSchema, column: Column, filled: bool, name: str) -> str:
    """A column of the table as a raw file of ``schema`` has it."""
    kind = sql_type(column.type.arrow)
    found = _same(schema, column)
    if found is None:
        return f"(SELECT c{column.attnum} FROM {name}.fills)" if filled else f"NULL::{kind}"
    value = place(schema, found.name)
    return (
        value
        if found.type.arrow == column.type.arrow
        else f"CAST({value} AS {kind})"
        if _fits(found, column)
        else f"NULL::{kind}"
    )


def _same(schema: TableSchema, column: Column) -> Column | None:
    """The column of ``schema`` that is ``column``, whatever it was called."""
    return next((each for each in schema.columns if each.attnum == column.attnum), None)


def _fits(old: Column, new: Column) -> bool:
    """Whether every value of the old type is one of the new."""
    return old.type.arrow == new.type.arrow or can_widen(old.type.arrow, new.type.arrow)


def _renamed_flags(schema: TableSchema, target: TableSchema, names: Sequence[str]) -> str:
    """``_untyped`` of a raw file under the table's names.

    A value whose type the table has no longer is not guessed into the new one: it is null,
    and its text is here.
    """
    flags = place(schema, UNTYPED)
    pairs = [(found, c) for c in target.columns if (found := _same(schema, c)) is not None]
    retyped = [(old, new) for old, new in pairs if not _fits(old, new)]
    if not retyped and [old.name for old, _ in pairs] == names and len(schema.columns) == len(names):
        return flags
    parts = []
    for old, new in pairs:
        text = f"json_extract_string({flags}, {literal(pointer(old.name))})"
        if (old, new) in retyped:
            text = f"coalesce({text}, CAST({place(schema, old.name)} AS VARCHAR))"
        member = f"CAST(json_object({literal(new.name)}, {text}) AS VARCHAR)"
        parts.append(f"CASE WHEN {text} IS NULL THEN '{{}}' ELSE {member} END")
    merged = parts[0] if len(parts) == 1 else f"CAST(json_merge_patch({', '.join(parts)}) AS VARCHAR)"
    guard = f"{flags} IS NULL" + "".join(f" AND {place(schema, old.name)} IS NULL" for old, _ in retyped)
    return f"CASE WHEN {guard} THEN NULL ELSE nullif({merged}, '{{}}') END"
