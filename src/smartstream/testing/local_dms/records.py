"""Records as DMS writes them to Kinesis: one JSON object each, with data or control and metadata.

The bodies of control records other than create-table are published nowhere; here they hold
the table's definition after the change, or nothing where it is gone.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from smartstream.testing.local_dms.decoding import RowChange, Unchanged, Values
from smartstream.testing.local_dms.settings import KinesisOptions, Quirks, SourceOptions, TaskOptions
from smartstream.testing.local_dms.source import SourceTable
from smartstream.testing.local_dms.values import ColumnType, column_type

RECORD_BYTES_MAX = 1 << 20
PARTITION_KEY_MAX = 256


class RecordTooLarge(Exception):
    """A record is larger than a message of Kinesis."""


@dataclass(frozen=True)
class Record:
    """What is put into the stream."""

    partition_key: str
    data: bytes


@dataclass(frozen=True)
class Position:
    """Where in the source's log a change stands.

    Attributes:
        transaction: its number.
        number: of the change among those of its transaction that are replicated, from 1.
        message: of the change among all messages of its transaction, of which BEGIN is the first.
        previous: transaction and number of the change before this one, None for the first of all.
        lsn, first_lsn: of this change, and of its transaction's first one.
        committed: when, as ISO 8601.
    """

    transaction: int
    number: int
    message: int
    previous: tuple[int, int] | None
    lsn: str
    first_lsn: str
    committed: str


class TableRecords:
    """Makes the records of one table, as it was defined when this was made."""

    def __init__(
        self,
        table: SourceTable,
        partition_key_type: str | None,
        options: tuple[SourceOptions, KinesisOptions, TaskOptions],
        quirks: Quirks,
    ) -> None:
        source, self._target, self._task = options
        self.table = table
        types = {
            column.name: column_type(column.type, source, self._target, self._task.lob_kb_max)
            for column in table.columns
        }
        self._types: dict[str, ColumnType] = {name: found for name, found in types.items() if found}
        self._rule, self._quirks = partition_key_type, quirks
        self._labels = {name: json.dumps(name, ensure_ascii=False) for name in self._types}

    def load(self, row: Sequence[str | None], now: str) -> Record:
        """A record of a row that was there before the changes.

        Raises:
            LobTruncated, RecordTooLarge: it can't be written.
        """
        names = (column.name for column in self.table.columns)
        return self._data("load", dict(zip(names, row, strict=True)), None, now, None)

    def change(self, change: RowChange, now: str, position: Position) -> Record | None:
        """A record of a change; None for an update or delete of a table without a key.

        Raises:
            LobTruncated, RecordTooLarge: it can't be written.
        """
        if change.operation != "insert" and not self.table.key:
            return None
        if change.operation == "delete":
            return self._data("delete", change.old, None, now, position)
        before = change.old if change.operation == "update" and self._task.before_image else None
        return self._data(change.operation, self._with_old_toast(change), before, now, position)

    def definition(self) -> dict[str, Any]:
        """The table as control records describe it."""
        columns: dict[str, dict[str, Any]] = {}
        for column in self.table.columns:
            if found := self._types.get(column.name):
                described: dict[str, Any] = {"type": found.name, "nullable": column.nullable}
                if found.length is not None:
                    described["length"] = found.length
                if found.numeric is not None:
                    described["precision"], described["scale"] = found.numeric
                columns[column.name] = described
        key = {"primary-key": list(self.table.key)} if self.table.key else {}
        return {"columns": columns, **key}

    def _with_old_toast(self, change: RowChange) -> Values:
        """The new row; what an update left where it was comes from the old row, if the WAL has that."""
        if Unchanged.TOAST not in change.new.values():
            return change.new
        new = dict(change.new)
        for name, value in change.new.items():
            if value is Unchanged.TOAST and self.table.has_full_identity:
                new[name] = change.old.get(name)
            elif value is Unchanged.TOAST and self._quirks.toast_as_null:
                new[name] = None
        return new

    def _data(
        self, operation: str, values: Values, before: Values | None, now: str, position: Position | None
    ) -> Record:
        key_type, key = self._partition(values, is_change=position is not None)
        metadata: dict[str, Any] = {
            "timestamp": now,
            "record-type": "data",
            "operation": operation,
            "partition-key-type": key_type,
        }
        if self._target.include_partition_value and key_type == "primary-key":
            metadata["partition-key-value"] = key
        metadata |= {"schema-name": self.table.schema, "table-name": self.table.name}
        if position is not None and self._target.include_transaction_details:
            metadata |= _transaction(position)
        is_sparse = operation == "delete" and self._target.include_null_and_empty
        shown: Iterable[str] = self._types if is_sparse else (n for n in values if n in self._types)
        parts = ['{"data":', self._object(values, shown), ',"metadata":', json.dumps(metadata)]
        if before is not None:
            parts += [",", json.dumps(self._task.before_image), ":", self._before(before)]
        return self._record(key, "".join(parts))

    def _object(self, values: Values, names: Iterable[str]) -> str:
        """A JSON object of some columns."""
        keeps = self._target.include_null_and_empty
        parts = []
        for name in names:
            value = values.get(name)
            if isinstance(value, Unchanged) or (not value and not keeps):
                continue
            rendered = "null" if value is None else self._types[name].render(value)
            parts.append(f"{self._labels[name]}:{rendered}")
        return "{" + ",".join(parts) + "}"

    def _before(self, old: Values) -> str:
        """What the WAL holds of the row before the update, as far as the task wants it."""
        chosen = self._task.before_image_columns
        return self._object(
            old,
            [
                name
                for name in old
                if name in self._types
                and (
                    chosen == "all"
                    or name in self.table.key
                    or (chosen == "non-lob" and not self._types[name].is_lob)
                )
            ],
        )

    def _partition(self, values: Values, *, is_change: bool) -> tuple[str, str]:
        """The type of the partition key, and the key."""
        name = f"{self.table.schema}.{self.table.name}"
        by_table = is_change and not self._task.changes_by_primary_key
        if by_table or self._rule == "schema-table" or not self.table.key:
            return "schema-table", name
        value = ".".join(str(values.get(column)) for column in self.table.key)
        key = f"{name}.{value}" if self._target.partition_include_schema_table else value
        return "primary-key", key

    def _record(self, key: str, text: str) -> Record:
        return _record(key, text, self._target)


def control(
    operation: str,
    schema: str,
    table: str,
    definition: Mapping[str, Any] | None,
    *,
    task_id: str,
    target: KinesisOptions,
    now: str,
) -> Record:
    """A control record; its partition key is the task, so that it isn't ordered with the data."""
    metadata: dict[str, Any] = {
        "timestamp": now,
        "record-type": "control",
        "operation": operation,
        "partition-key-type": "task-id",
    }
    if target.include_partition_value:
        metadata["partition-key-value"] = task_id
    metadata |= {"schema-name": schema, "table-name": table}
    body: dict[str, Any] = {}
    if target.include_control_details:
        body["control"] = {} if definition is None else {"table-def": definition}
    text = json.dumps({**body, "metadata": metadata}, ensure_ascii=False)
    return _record(f"{task_id}.{schema}.{table}", text[:-1], target)


def own_row(table: str, row: Mapping[str, Any], *, target: KinesisOptions, now: str) -> Record:
    """A record of a row of one of DMS's own tables, which have no schema."""
    metadata = {
        "timestamp": now,
        "record-type": "data",
        "operation": "insert",
        "partition-key-type": "schema-table",
        "schema-name": "",
        "table-name": table,
    }
    text = json.dumps({"data": row, "metadata": metadata}, ensure_ascii=False)
    return _record(f".{table}", text[:-1], target)


def _transaction(position: Position) -> dict[str, Any]:
    """The details of a change's transaction.

    A stream position is published as two LSNs around a number that are equal where a transaction
    has one change.  Here they are the change's own and that of its transaction's first change,
    as in DMS's checkpoints; the number counts the transaction's messages.
    """
    found: dict[str, Any] = {
        "transaction-id": position.transaction,
        "transaction-record-id": position.number,
    }
    if position.previous is not None:
        found["prev-transaction-id"], found["prev-transaction-record-id"] = position.previous
    found["commit-timestamp"] = position.committed
    lsn, first = _padded(position.lsn), _padded(position.first_lsn)
    found["stream-position"] = f"{lsn}.{position.message}.{first}"
    return found


def _padded(lsn: str) -> str:
    high, _, low = lsn.partition("/")
    return f"{high:0>8}/{low:0>8}"


def _record(key: str, text: str, target: KinesisOptions) -> Record:
    """A record of an object without its last brace.

    The format json has no newline between records; its line breaks inside a record are not
    imitated, for to JSON they are the same.
    """
    data = f"{text}}}\n" if target.json_unformatted else f"{text}}}"
    encoded = data.encode()
    if len(encoded) > RECORD_BYTES_MAX:
        raise RecordTooLarge
    return Record(key[:PARTITION_KEY_MAX], encoded)
