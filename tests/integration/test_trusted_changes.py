"""Which keys changed between two snapshots: those whose rows differ, and no row that only moved."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from smartstream.trusted.changes import changed_keys, rows_with_keys, state_of
from smartstream.trusted.engine import Engine
from smartstream.trusted.maintenance import maintain
from smartstream.trusted.position import Position
from smartstream.trusted.table import TrustedTable
from tests.trusted_lake import (
    INT8,
    TEXT,
    MaintenanceOptions,
    Rules,
    apply,
    keys,
    local_catalog,
    rows,
    table_schema,
)

SCHEMA = table_schema([("id", 1, INT8), ("name", 2, TEXT), ("note", 3, TEXT)], ["id"])
LATER = datetime(2100, 1, 1, tzinfo=UTC)


@pytest.fixture
def engine() -> Iterator[Engine]:
    engine = Engine(memory_bytes=128 << 20)
    yield engine
    engine.close()


def record(key: int, name: Any = "x", note: Any = "n") -> dict[str, Any]:
    return {"id": key, "name": name, "note": note}


def changed(table: TrustedTable, then: int | None, engine: Engine, *columns: str) -> list[int] | None:
    found = changed_keys(table.iceberg, then, table.view().state, engine, columns=columns)
    return None if found is None else sorted(found["id"].to_pylist())


def test_random_changes_and_compactions(tmp_path: Path, engine: Engine, seed: str) -> None:
    rng = random.Random(seed)
    table = TrustedTable.open(local_catalog(tmp_path), SCHEMA, engine=engine)
    states: list[tuple[int | None, dict[int, tuple[str, int]]]] = [(None, {})]
    held: dict[int, tuple[str, int]] = {}
    for seq in range(1, 25):
        chosen = rng.sample(range(40), rng.randint(1, 9))
        gone = [key for key in chosen if key in held and rng.random() < 0.4]
        kept = [key for key in chosen if key not in gone]
        apply(table, [record(key, f"v{seq}") for key in kept], gone, seq=seq)
        held = {k: v for k, v in held.items() if k not in gone} | dict.fromkeys(kept, (f"v{seq}", seq))
        if rng.random() < 0.3:
            maintain(table, MaintenanceOptions(Rules(small_files_max=2, grace=900)), lambda: LATER)
        states.append((table.view().state.snapshot_id, dict(held)))
    for then, before in states:
        differ = {key for key in before.keys() | held.keys() if before.get(key) != held.get(key)}
        assert changed(table, then, engine, "name") == sorted(differ)


def test_a_row_that_changed_without_a_change_of_the_source(tmp_path: Path, engine: Engine) -> None:
    table = TrustedTable.open(local_catalog(tmp_path), SCHEMA, engine=engine)
    apply(table, [record(1), record(2), record(3)], seq=1)
    then = table.view().state.snapshot_id
    again = rows(SCHEMA, [record(1, "other"), record(2, "x", "other"), record(3)], lsn=1)
    table.commit(
        add=table.write(again), delete=table.locate(keys(SCHEMA, [1, 2, 3])), position=Position(10, 2, 1)
    )
    assert changed(table, then, engine, "name") == [1]
    assert changed(table, then, engine, "name", "note") == [1, 2]


def test_other_columns_or_an_expired_snapshot_can_not_be_told(tmp_path: Path, engine: Engine) -> None:
    table = TrustedTable.open(local_catalog(tmp_path), SCHEMA, engine=engine)
    apply(table, [record(1)], seq=1)
    then = table.view().state.snapshot_id
    assert changed(table, 4711, engine) is None
    columns = [("id", 1, INT8), ("called", 2, TEXT), ("note", 3, TEXT)]
    table.evolve(table_schema(columns, ["id"]))
    apply(table, [{"id": 2, "called": "y", "note": "n"}], seq=2)
    assert changed(table, then, engine, "called") is None


def test_rows_are_found_as_of_a_snapshot(tmp_path: Path, engine: Engine) -> None:
    table = TrustedTable.open(local_catalog(tmp_path), SCHEMA, engine=engine)
    apply(table, [record(key, "old") for key in range(10)], seq=1)
    then = table.view().state.snapshot_id
    apply(table, [record(3, "new")], [4], seq=2)
    asked = pa.table({"id": pa.array([3, 4, 99], pa.int64())})
    for state, expected in (
        (state_of(table.iceberg, then), {3: "old", 4: "old"}),
        (table.view().state, {3: "new"}),
    ):
        found = rows_with_keys(table.iceberg, state, asked, ["name"], engine)
        assert dict(zip(found["id"].to_pylist(), found["name"].to_pylist(), strict=True)) == expected
