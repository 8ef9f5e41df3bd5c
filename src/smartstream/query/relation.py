"""The live rows of a trusted table as DuckDB SQL over its Parquet files, pure.

DuckDB needs no extension for this: pyiceberg has planned the files (LivePlan).
Columns are resolved by field id, so a file written before a column was renamed or
added is read right.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import pyarrow as pa

from smartstream.sql_text import literal, quoted
from smartstream.trusted.plan import LiveColumn, LivePlan

_SQL_TYPES: dict[pa.DataType, str] = {
    pa.bool_(): "BOOLEAN",
    pa.int32(): "INTEGER",
    pa.int64(): "BIGINT",
    pa.float32(): "FLOAT",
    pa.float64(): "DOUBLE",
    pa.string(): "VARCHAR",
    pa.large_string(): "VARCHAR",
    pa.binary(): "BLOB",
    pa.large_binary(): "BLOB",
    pa.date32(): "DATE",
    pa.time64("us"): "TIME",
    pa.timestamp("us"): "TIMESTAMP",
    pa.timestamp("us", tz="UTC"): "TIMESTAMP WITH TIME ZONE",
}


def relation(plan: LivePlan, names: Mapping[int, str] | None = None) -> str:
    """Return a SELECT of the live rows.

    Files with deleted rows are anti joined with their delete files; the others are
    scanned as they are, so that counting them reads no data.

    Args:
        names: field id → output name, to select and rename; all columns under
            their own names if None.
    """
    if names is None:
        names = {column.field_id: column.name for column in plan.columns}
    columns = [column for column in plan.columns if column.field_id in names]
    output = ", ".join(f"f{c.field_id} AS {quoted(names[c.field_id])}" for c in columns)
    parts = []
    if plan.whole_files:
        parts.append(f"SELECT {output} FROM {_scan(plan.whole_files, columns)}")
    if plan.reduced_files:
        parts.append(
            f"SELECT {output} FROM {_scan(plan.reduced_files, columns, positions=True)} AS live "
            f"ANTI JOIN {_deleted(plan.delete_files)} AS gone "
            f"ON live.filename = gone.data_path AND live.file_row_number = gone.pos"
        )
    if not parts:
        nulls = ", ".join(f"NULL::{sql_type(c.type)} AS {quoted(names[c.field_id])}" for c in columns)
        return f"SELECT {nulls} WHERE false"
    return " UNION ALL ".join(parts)


def unread(columns: Sequence[LiveColumn], view: str) -> str:
    """Return a SELECT with a table's columns that fails when it is run: the table was not planned."""
    nulls = ", ".join(f"NULL::{sql_type(column.type)} AS {quoted(column.name)}" for column in columns)
    return f"SELECT {nulls} WHERE {not_named(view)}::BOOLEAN"


def not_named(view: str) -> str:
    """Return an expression that fails when it is computed, not before; it asks for the name ``view``."""
    message = literal(f"write the name {view} out in the statement")
    return f"error(CASE WHEN random() >= 0 THEN {message} END)"


def sql_type(kind: pa.DataType) -> str:
    """Return DuckDB's name of the type that Parquet values of Arrow type ``kind`` are read in."""
    if pa.types.is_decimal(kind):
        return f"DECIMAL({kind.precision}, {kind.scale})"
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return f"{sql_type(kind.value_type)}[]"
    if pa.types.is_struct(kind):
        fields = ", ".join(f"{quoted(field.name)} {sql_type(field.type)}" for field in kind)
        return f"STRUCT({fields})"
    if pa.types.is_map(kind):
        return f"MAP({sql_type(kind.key_type)}, {sql_type(kind.item_type)})"
    if pa.types.is_fixed_size_binary(kind):
        return "BLOB"
    return _SQL_TYPES[kind]


def local_path(path: str) -> str:
    """Return ``path`` as DuckDB names the file: without ``file://``."""
    return path.removeprefix("file://")


def pattern(path: str) -> str:
    """Return ``path`` with what DuckDB takes for wildcards in brackets, so that it means itself."""
    return re.sub(r"([*?\[])", r"[\1]", path)


def _scan(files: Sequence[str], columns: Sequence[LiveColumn], *, positions: bool = False) -> str:
    """A table function over data files; columns are named f<field id>, which no option can clash with."""
    fields = ", ".join(
        f"{c.field_id}: {{name: 'f{c.field_id}', type: {literal(sql_type(c.type))}, default_value: NULL}}"
        for c in columns
    )
    options = ", filename = true, file_row_number = true" if positions else ""
    return f"read_parquet({_list(files)}, schema = MAP {{{fields}}}{options})"


def _deleted(files: Sequence[str]) -> str:
    """Deleted positions: (data_path, pos)."""
    path = "CASE WHEN starts_with(file_path, 'file://') THEN substr(file_path, 8) ELSE file_path END"
    return f"(SELECT {path} AS data_path, pos FROM read_parquet({_list(files)}))"


def _list(files: Sequence[str]) -> str:
    """A SQL list of files."""
    return "[" + ", ".join(literal(pattern(local_path(file))) for file in files) + "]"
