"""The slow way: odd records one by one, every number with the digits that were sent."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from smartstream.delivery.records.options import NOT_DMS, NOT_JSON, UNKNOWN_COLUMN, WRONG_VALUE, Options
from smartstream.delivery.records.rows import OPERATIONS, Changes, Rows, changes_of
from smartstream.errors import ProtocolError
from smartstream.schema import TableSchema

_XID_MAX = (1 << 63) - 1


class _Number(str):
    """Digits of a number of JSON."""

    __slots__ = ()


class _Twice(ValueError):
    """An object names a field twice."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _Twice
    return found


_DECODER = json.JSONDecoder(
    parse_float=_Number, parse_int=_Number, parse_constant=_Number, object_pairs_hook=_object
)


@dataclass(frozen=True, slots=True)
class Record:
    """One record of DMS.

    Attributes:
        number: in its object.
        body: what ``data`` or ``control`` holds.
        before: the before-image, None without one.
    """

    number: int
    is_control: bool
    operation: str
    schema: str
    table: str
    metadata: Mapping[str, Any]
    body: Mapping[str, Any]
    before: Mapping[str, Any] | None

    @property
    def table_id(self) -> str:
        """``schema.table``."""
        return f"{self.schema}.{self.table}"


def record_of(line: bytes, number: int, options: Options) -> Record | str:
    """One line as a record, or what is wrong with it."""
    try:
        content = _DECODER.decode(line.decode())
    except (ValueError, RecursionError):
        return NOT_JSON
    metadata = content.get("metadata") if isinstance(content, dict) else None
    if not isinstance(metadata, dict):
        return NOT_DMS
    kind = metadata.get("record-type")
    names = [metadata.get(name) for name in ("operation", "schema-name", "table-name")]
    if kind not in ("data", "control") or not all(type(name) is str and _is_text(name) for name in names):
        return NOT_DMS
    operation, schema, table = map(str, names)
    body = content.get(kind, {} if kind == "control" else None)
    before = content.get(options.before_image)
    if not isinstance(body, dict) or not (before is None or isinstance(before, dict)):
        return NOT_DMS
    if kind == "data" and operation not in OPERATIONS:
        return NOT_DMS
    return Record(number, kind == "control", operation, schema, table, metadata, body, before)


def _is_text(text: str) -> bool:
    """Whether a text has no half of a surrogate pair."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def exact_changes(records: Sequence[Record], schema: TableSchema, options: Options) -> Changes:
    """The changelog of data records of one table; those that are damaged are found one by one."""
    names = {column.name for column in schema.columns}
    reasons: dict[int, str] = {}
    good: list[Record] = []
    parts: list[pa.Table] = []
    for record in records:
        if reason := _misfit(record, names):
            reasons[record.number] = reason
            parts.append(_key_alone(_rows([record], schema), schema, options))
        else:
            good.append(record)
    found = _narrowed(_rows(good, schema), schema, options)
    return Changes(pa.concat_tables([found.changelog, *parts]), {**reasons, **found.reasons})


def _misfit(record: Record, names: set[str]) -> str | None:
    """Why a record can't be one of the table."""
    for part in (record.body, record.before or {}):
        for name, value in part.items():
            if name not in names:
                return UNKNOWN_COLUMN
            if value is not None and (not isinstance(value, str | bool) or _text(value) is None):
                return WRONG_VALUE
    return None


def _narrowed(rows: Rows, schema: TableSchema, options: Options) -> Changes:
    """Halve rows until those are alone that have a wrong value."""
    try:
        return changes_of(rows, schema, options)
    except ProtocolError:
        if len(rows) == 1:
            changelog = _key_alone(rows, schema, options)
            return Changes(changelog, {int(rows.numbers[0]): WRONG_VALUE})
    half = len(rows) // 2
    first = _narrowed(rows.slice(0, half), schema, options)
    second = _narrowed(rows.slice(half, len(rows) - half), schema, options)
    return Changes(pa.concat_tables([first.changelog, second.changelog]), {**first.reasons, **second.reasons})


def _key_alone(row: Rows, schema: TableSchema, options: Options) -> pa.Table:
    """Of one damaged record the deletes of its keys, as far as they can be read."""
    found = [schema.changelog_schema().empty_table()]
    has_old = any(row.before[name].null_count == 0 for name in schema.key)
    for before in (False, True) if has_old else (False,):
        try:
            found.append(changes_of(row.deletes(schema, before=before), schema, options).changelog)
        except ProtocolError:
            continue  # the key itself is what can't be read, and the record is kept as damaged
    return pa.concat_tables(found)


def _rows(records: Sequence[Record], schema: TableSchema) -> Rows:
    """Records as columns of text."""
    told = [record.metadata for record in records]

    def column(of: Sequence[Mapping[str, Any]], name: str) -> pa.Array:
        return pa.array([_text(one.get(name)) for one in of], pa.string())

    transactions = [_transaction(one.get("transaction-id")) for one in told]
    befores = [record.before or {} for record in records]
    bodies = [record.body for record in records]
    return Rows(
        column(told, "operation"),
        column(told, "stream-position"),
        column(told, "commit-timestamp"),
        pa.array(transactions, pa.int64()),
        {c.name: column(bodies, c.name) for c in schema.columns},
        {name: column(befores, name) for name in schema.key},
        np.array([record.before is not None for record in records], np.bool_),
        np.array([record.number for record in records], np.int64),
    )


def _text(value: Any) -> str | None:
    """A value as text; None for what is none, or not UTF-8."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, str) and _is_text(value) else None


def _transaction(value: Any) -> int | None:
    """The number of a transaction."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 20:
        return int(value) if int(value) <= _XID_MAX else None
    return None
