"""Pins keep a snapshot that a reader will need again, whatever is committed and expired meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from smartstream.trusted.changes import changed_keys
from smartstream.trusted.engine import Engine
from smartstream.trusted.maintenance import maintain
from smartstream.trusted.pins import pin
from smartstream.trusted.table import TrustedTable
from tests.trusted_lake import (
    INT8,
    TEXT,
    MaintenanceOptions,
    Rules,
    apply,
    local_catalog,
    reopened,
    table_schema,
)

SCHEMA = table_schema([("id", 1, INT8), ("name", 2, TEXT)], ["id"])
RULES = MaintenanceOptions(Rules(small_files_max=3, snapshots_max=2, grace=0))
LATER = datetime(2100, 1, 1, tzinfo=UTC)


@pytest.fixture
def engine() -> Iterator[Engine]:
    engine = Engine(memory_bytes=128 << 20)
    yield engine
    engine.close()


def current(table: TrustedTable) -> int:
    snapshot = table.iceberg.current_snapshot()
    assert snapshot is not None
    return int(snapshot.snapshot_id)


def tags(table: TrustedTable) -> dict[str, int]:
    fresh = table.iceberg.catalog.load_table(table.iceberg.name())
    return {name: ref.snapshot_id for name, ref in fresh.metadata.refs.items() if name != "main"}


def test_a_pinned_snapshot_can_be_compared_with_after_many_commits(tmp_path: Path, engine: Engine) -> None:
    catalog = local_catalog(tmp_path)
    table = TrustedTable.open(catalog, SCHEMA, engine=engine)
    apply(table, [{"id": n, "name": "old"} for n in range(50)], seq=1)
    then = current(table)
    assert pin(catalog, table.name, "risk", [then], owners=["risk"])
    for seq in range(2, 14):
        apply(table, [{"id": 100 + seq, "name": "new"}, {"id": seq, "name": "other"}], [20 + seq], seq=seq)
        maintain(table, RULES, lambda: LATER)
        table.collected_at = None
    fresh = reopened(catalog, table)
    found = changed_keys(fresh.iceberg, then, fresh.view().state, engine)
    assert found is not None
    expected = {*range(102, 114), *range(2, 14), *range(22, 34)}
    assert set(found["id"].to_pylist()) == expected and found.num_rows == len(expected)


def test_without_a_pin_it_is_forgotten(tmp_path: Path, engine: Engine) -> None:
    catalog = local_catalog(tmp_path)
    table = TrustedTable.open(catalog, SCHEMA, engine=engine)
    apply(table, [{"id": 1, "name": "old"}], seq=1)
    then = current(table)
    for seq in range(2, 7):
        apply(table, [{"id": seq, "name": "new"}], seq=seq)
        maintain(table, RULES, lambda: LATER)
    assert changed_keys(table.iceberg, then, table.view().state, engine) is None
    assert pin(catalog, table.name, "risk", [then])
    assert tags(table) == {}


def test_an_owner_keeps_what_it_last_asked_for_and_the_gone_keep_nothing(
    tmp_path: Path, engine: Engine
) -> None:
    catalog = local_catalog(tmp_path)
    table = TrustedTable.open(catalog, SCHEMA, engine=engine)
    snapshots = []
    for seq in range(1, 4):
        apply(table, [{"id": seq, "name": "new"}], seq=seq)
        snapshots.append(current(table))
    one, two, three = snapshots
    both = ["risk", "pay"]
    pin(catalog, table.name, "risk", [one, two], owners=both)
    pin(catalog, table.name, "pay", [one], owners=both)
    pin(catalog, table.name, "risk", [two, three], owners=both)
    assert sorted(tags(table).values()) == sorted([one, two, three])
    pin(catalog, table.name, "risk", [three], owners=["risk"])
    assert list(tags(table).values()) == [three]


def test_the_applier_goes_on_beside_a_pin(tmp_path: Path, engine: Engine) -> None:
    catalog = local_catalog(tmp_path)
    table = TrustedTable.open(catalog, SCHEMA, engine=engine)
    for seq in range(1, 6):
        apply(table, [{"id": seq, "name": "new"}], seq=seq)
        pin(catalog, table.name, "risk", [current(table)], owners=["risk"])
    apply(table, [], [1], seq=6)
    assert reopened(catalog, table).row_count == 4
    assert list(tags(table).values()) != [] and table.position.seq == 6
