"""Maintenance of trusted tables: smaller, faster, never different."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pyiceberg.catalog import Catalog
from pyiceberg.table.snapshots import Operation

from smartstream.trusted.compaction import choose, compact
from smartstream.trusted.engine import Engine
from smartstream.trusted.maintenance import maintain
from smartstream.trusted.position import Position
from smartstream.trusted.table import TrustedTable
from tests.trusted_lake import (
    INT8,
    READERS,
    TEXT,
    MaintenanceOptions,
    Rules,
    apply,
    contents,
    keys,
    local_catalog,
    read_pyiceberg,
    reopened,
    rows,
    table_schema,
)

SCHEMA = table_schema([("id", 1, INT8), ("name", 2, TEXT)], ["id"])
RULES = Rules(small_files_max=4, deleted_ratio_max=0.99)


@pytest.fixture
def engine() -> Iterator[Engine]:
    engine = Engine(memory_bytes=128 << 20)
    yield engine
    engine.close()


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    return local_catalog(tmp_path)


@pytest.fixture
def table(catalog: Catalog, engine: Engine) -> TrustedTable:
    table = TrustedTable.open(catalog, SCHEMA, engine=engine)
    for seq in range(1, 7):
        apply(table, [_row(n, seq) for n in range(seq, 30 + seq, 2)], [seq], seq=seq)
    return table


def _row(number: int, version: int) -> dict[str, Any]:
    return {"id": number, "name": f"v{version}"}


def _rows(table: TrustedTable) -> dict[int, str]:
    return {key[0]: row["name"] for key, row in contents(read_pyiceberg(table), ["id"]).items()}


def _now(offset: timedelta = timedelta()) -> Callable[[], datetime]:
    return lambda: datetime.now(UTC) + offset


def test_compaction_changes_files_and_nothing_else(catalog: Catalog, table: TrustedTable) -> None:
    before, position = _rows(table), table.position
    report = maintain(table, MaintenanceOptions(RULES), _now())
    assert report.compaction.source_count == 6
    assert [len(file.deleted) for file in table.live_files] == [0]
    for read in READERS.values():
        assert {k[0]: r["name"] for k, r in contents(read(table), ["id"]).items()} == before
    assert table.position == position == reopened(catalog, table).position
    snapshot = table.iceberg.current_snapshot()
    assert snapshot is not None
    assert snapshot.summary is not None
    assert snapshot.summary.operation == Operation.REPLACE
    assert read_pyiceberg(table)["id"].to_pylist() == sorted(before)


def test_a_table_in_good_order_is_left_alone(table: TrustedTable) -> None:
    maintain(table, MaintenanceOptions(RULES), _now())
    location = table.iceberg.metadata_location
    report = maintain(table, MaintenanceOptions(RULES), _now())
    assert report.compaction.source_count == 0
    assert table.iceberg.metadata_location == location


def test_a_row_is_not_rewritten_with_every_compaction(table: TrustedTable) -> None:
    """Large results are not read again for a few new small files."""
    file = table.live_files[-1]
    sized = [_resized(file, f"small{n}", 10_000) for n in range(16)] + [
        _resized(file, "merged", 50 << 20),
        _resized(file, "older", 60 << 20),
    ]
    chosen = choose(sized, small_files_max=16, deleted_ratio_max=0.25, target_bytes=128 << 20)
    assert {f.path for f in chosen} == {f"small{n}" for n in range(16)}


def test_one_compaction_reads_a_bounded_amount(table: TrustedTable) -> None:
    file = next(file for file in table.live_files if len(file.deleted) > 0.25 * file.record_count)
    sized = [_resized(file, f"dirty{n}", 100 << 20) for n in range(100)]
    chosen = choose(sized, small_files_max=16, deleted_ratio_max=0.25, target_bytes=128 << 20)
    assert len(chosen) == 10


def _resized(file: Any, path: str, size_bytes: int) -> Any:
    from copy import copy

    data = copy(file.data.file)
    data._data = list(data._data)
    data._data[1], data._data[5] = path, size_bytes
    resized = replace(file, data=replace(file.data, file=data))
    assert (resized.path, resized.size_bytes) == (path, size_bytes)
    return resized


def test_rows_deleted_during_a_compaction_stay_deleted(
    table: TrustedTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    _interrupt(table, monkeypatch, lambda: apply(table, [_row(10, 99)], [11, 12], seq=7))
    before = _rows(table)
    done = compact(table, table.live_files)
    assert not done.given_up
    expected = {n: name for n, name in before.items() if n not in (11, 12)} | {10: "v99"}
    assert _rows(table) == expected
    assert table.row_count == len(expected)
    assert table.position.seq == 7


def test_a_file_emptied_during_its_compaction_does_not_come_back(
    table: TrustedTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    everything = sorted(_rows(table))
    _interrupt(table, monkeypatch, lambda: apply(table, [_row(500, 1)], everything, seq=7))
    compact(table, table.live_files)
    assert _rows(table) == {500: "v1"}


def test_a_compaction_gives_way_to_a_copy_and_to_a_new_schema(
    table: TrustedTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = table.write(rows(SCHEMA, [_row(1, 1)]))
    position = Position(70, 7, 2)
    _interrupt(
        table, monkeypatch, lambda: table.commit(add=files, delete=None, position=position, replace_all=True)
    )
    assert compact(table, table.live_files).given_up
    assert _rows(table) == {1: "v1"}
    renamed = table_schema([("id", 1, INT8), ("label", 2, TEXT)], ["id"])
    _interrupt(table, monkeypatch, lambda: table.evolve(renamed))
    assert compact(table, table.live_files).given_up
    assert table.schema == renamed


def test_a_compaction_gives_way_to_another_process(
    catalog: Catalog, table: TrustedTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = reopened(catalog, table)
    _interrupt(table, monkeypatch, lambda: apply(other, [_row(10, 99)], [11], seq=7))
    assert compact(table, table.live_files).given_up
    assert table.position.seq == 7
    assert _rows(table)[10] == "v99"
    assert not compact(table, table.live_files).given_up


def _interrupt(table: TrustedTable, monkeypatch: pytest.MonkeyPatch, action: Callable[[], object]) -> None:
    """Run ``action`` once, between a compaction's reading and its swap."""
    original = table.write_as

    def write_as(*arguments: Any) -> Any:
        monkeypatch.setattr(table, "write_as", original)
        files = original(*arguments)
        action()
        return files

    monkeypatch.setattr(table, "write_as", write_as)


def test_rows_located_before_a_compaction_are_found_again(table: TrustedTable) -> None:
    before = _rows(table)
    located = table.locate(keys(SCHEMA, [20, 21]))
    compact(table, table.live_files)
    files = table.write(rows(SCHEMA, [_row(20, 50)]))
    table.commit(add=files, delete=located, position=Position(70, 7, 1))
    assert _rows(table) == {n: v for n, v in before.items() if n not in (20, 21)} | {20: "v50"}


def test_an_applier_and_maintenance_at_once_agree_with_a_dictionary(catalog: Catalog, engine: Engine) -> None:
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"SEED={seed}")
    rng = random.Random(seed)
    table = TrustedTable.open(catalog, SCHEMA, engine=engine)
    options = MaintenanceOptions(Rules(small_files_max=2, deleted_ratio_max=0.1, snapshots_max=5, grace=1))
    stop, failures, compactions = threading.Event(), [], []

    def keep() -> None:
        while not stop.is_set():
            try:
                compactions.append(maintain(table, options, _now()).compaction)
            except Exception as error:
                failures.append(error)
                return

    thread = threading.Thread(target=keep)
    thread.start()
    model: dict[int, str] = {}
    try:
        for seq in range(1, 61):
            chosen = rng.sample(range(200), 30)
            gone = set(rng.sample(chosen, 10))
            apply(table, [_row(n, seq) for n in chosen if n not in gone], sorted(gone), seq=seq)
            model |= {n: f"v{seq}" for n in chosen if n not in gone}
            model = {n: v for n, v in model.items() if n not in gone}
    finally:
        stop.set()
        thread.join()
    assert not failures
    assert any(done.source_count for done in compactions)
    assert _rows(table) == model
    assert table.row_count == len(model)
    assert _rows(reopened(catalog, table)) == model


def test_old_snapshots_are_forgotten_and_their_files_deleted_after_the_grace(
    tmp_path: Path, table: TrustedTable
) -> None:
    options = MaintenanceOptions(replace(RULES, snapshots_max=2))
    report = maintain(table, options, _now())
    assert (report.expired_count, report.collected.file_count) == (5, 0)
    assert len(table.iceberg.metadata.snapshots) == 2
    before = _rows(table)
    report = maintain(table, options, _now(timedelta(hours=1)))
    assert report.collected.file_count > 0
    assert _rows(table) == before
    for snapshot in table.iceberg.metadata.snapshots:
        assert table.iceberg.scan(snapshot_id=snapshot.snapshot_id).to_arrow().num_rows == len(before)
    apply(table, [_row(1, 9)], [3], seq=9)
    assert maintain(table, options, _now(timedelta(hours=3))).collected.file_count >= 0
    assert len(_rows(table)) == table.row_count


def test_snapshots_with_a_tag_stay(table: TrustedTable) -> None:
    first = min(table.iceberg.metadata.snapshots, key=lambda s: s.sequence_number or 0)
    table.iceberg.manage_snapshots().create_tag(first.snapshot_id, "kept").commit()
    maintain(table, MaintenanceOptions(replace(RULES, snapshots_max=1)), _now())
    assert {s.snapshot_id for s in table.iceberg.metadata.snapshots} >= {first.snapshot_id}


def test_files_that_await_their_commit_are_no_garbage(table: TrustedTable) -> None:
    files = table.write(rows(SCHEMA, [_row(700, 1)]))
    options = MaintenanceOptions(replace(RULES, grace=0))
    maintain(table, options, _now(timedelta(hours=1)))
    table.commit(add=files, delete=None, position=Position(70, 7, 1))
    assert _rows(table)[700] == "v1"
    given_up = table.write(rows(SCHEMA, [_row(701, 1)]))
    table.discard(given_up)
    report = maintain(table, options, _now(timedelta(hours=2)))
    assert report.collected.file_count >= 1
    assert _rows(table)[700] == "v1"


def test_other_tables_and_young_files_are_not_touched(
    tmp_path: Path, catalog: Catalog, table: TrustedTable
) -> None:
    neighbour = TrustedTable.open(
        catalog, table_schema([("id", 1, INT8)], ["id"], name="orders2"), engine=table.engine
    )
    apply(neighbour, [{"id": 1}], seq=1)
    orphan = tmp_path / "trusted" / "orders" / "data" / "orphan.parquet"
    orphan.write_bytes(b"x")
    maintain(table, MaintenanceOptions(replace(RULES, grace=3600)), _now())
    assert orphan.exists()
    table.collected_at = None
    maintain(table, MaintenanceOptions(replace(RULES, grace=3600)), _now(timedelta(hours=2)))
    assert not orphan.exists()
    assert neighbour.row_count == read_pyiceberg(neighbour).num_rows == 1


def test_the_folder_is_not_listed_every_time(table: TrustedTable) -> None:
    options = MaintenanceOptions(replace(RULES, grace=0.0001))
    maintain(table, options, _now())
    table.discard(table.write(rows(SCHEMA, [_row(1, 1)])))
    options = MaintenanceOptions(replace(RULES, grace=300))
    assert maintain(table, options, _now(timedelta(seconds=90))).collected.file_count == 0
