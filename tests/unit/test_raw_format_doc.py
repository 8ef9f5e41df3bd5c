"""What docs/formats/raw.md tells a stranger works and is complete."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import fields
from pathlib import Path
from typing import Any

import duckdb
import pytest

from smartstream.manifest import Entry, EntryKind, RawFile
from smartstream.raw.local_store import LocalStore
from smartstream.raw.manifest_log import ManifestLog
from smartstream.raw.writer import CHECKSUM_KEY, SCHEMA_KEY, RawWriter
from tests.unit.raw_samples import NOON, ORDERS, changelog

DOC = (Path(__file__).parents[2] / "docs/formats/raw.md").read_text()


def block(language: str) -> str:
    """The document's example in a language."""
    (found,) = re.findall(rf"```{language}\n(.*?)```", DOC, re.DOTALL)
    return str(found)


@pytest.fixture
def lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Two committed files with order 7, one of another table, one never committed; the rows of 7."""
    store = LocalStore(tmp_path / "lake")
    writer, log = RawWriter(store, lambda: NOON), ManifestLog(store, lambda: NOON)
    log.load()
    tables = []
    log.append(EntryKind.CHANGES, lsn=1)
    for seed in (2, 1):
        rows = changelog(20, seed=seed)
        rows = rows.set_column(rows.column_names.index("id"), "id", [[n % 10 for n in range(20)]])
        tables.append(rows)
        log.append(EntryKind.CHANGES, lsn=seed, files=[writer.write(ORDERS, rows)])
    writer.write(ORDERS, tables[0])
    monkeypatch.chdir(tmp_path)
    found = [row for rows in tables for row in rows.to_pylist() if row["id"] == 7]
    return sorted(found, key=lambda row: (row["_commit_lsn"], row["_ordinal"]))


def test_the_duckdb_example_reads_the_committed_changes(lake: list[dict[str, Any]]) -> None:
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    *settings, history_query, operations_query = duckdb.extract_statements(block("sql"))
    for statement in settings:
        connection.execute(statement)
    # Through Arrow: DuckDB's own Python values for a timestamptz need a package more.
    history = _rows(connection.sql(history_query))
    by_operation = _rows(connection.sql(operations_query))
    names = ("_commit_ts", "_op", "_commit_lsn", "_ordinal", "amount", "paid")
    assert Counter(history) == Counter(tuple(row[name] for name in names) for row in lake)
    assert [row[2:4] for row in history] == [(row["_commit_lsn"], row["_ordinal"]) for row in lake]
    assert sum(count for _, count in by_operation) == 40


def _rows(result: duckdb.DuckDBPyRelation) -> list[tuple[Any, ...]]:
    return [tuple(row.values()) for row in result.to_arrow_table().to_pylist()]


def test_the_pandas_example_reads_the_committed_changes(lake: list[dict[str, Any]]) -> None:
    pytest.importorskip("pandas")
    names: dict[str, Any] = {}
    exec(block("python"), names)
    assert len(names["orders"]) == 40
    assert sorted(names["history"]["_op"]) == sorted(row["_op"] for row in lake)
    assert list(names["history"]["_commit_lsn"]) == [row["_commit_lsn"] for row in lake]


def test_every_field_kind_and_metadata_key_stands_in_the_document() -> None:
    words = [
        *(field.name for field in fields(Entry)),
        *(field.name for field in fields(RawFile)),
        *(name for name in ORDERS.changelog_schema().names if name.startswith("_")),
        *EntryKind,
        SCHEMA_KEY.decode(),
        CHECKSUM_KEY.decode(),
    ]
    assert [word for word in words if f"`{word}`" not in DOC] == []
