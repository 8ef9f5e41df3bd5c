"""Commits of trusted tables: all or nothing, exactly once, never over another writer."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pyiceberg.catalog import Catalog

from smartstream.errors import CommitConflict, DiskFull, StoreUnavailable, TableCorrupt
from smartstream.trusted.compaction import compact
from smartstream.trusted.engine import Engine
from smartstream.trusted.garbage import collect
from smartstream.trusted.position import Position
from smartstream.trusted.table import TrustedTable
from tests.trusted_lake import (
    INT8,
    TEXT,
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


@pytest.fixture
def engine() -> Iterator[Engine]:
    engine = Engine(memory_bytes=128 << 20)
    yield engine
    engine.close()


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    return local_catalog(tmp_path / "a lake")


@pytest.fixture
def table(catalog: Catalog, engine: Engine) -> TrustedTable:
    table = TrustedTable.open(catalog, SCHEMA, engine=engine)
    apply(table, [_row(n, "first") for n in range(10)], seq=1)
    return table


def _row(number: int, name: str) -> dict[str, Any]:
    return {"id": number, "name": name}


def _ids(table: TrustedTable) -> dict[int, str]:
    return {key[0]: row["name"] for key, row in contents(read_pyiceberg(table), ["id"]).items()}


def test_rows_and_position_are_there_after_a_commit(catalog: Catalog, table: TrustedTable) -> None:
    apply(table, [_row(3, "second"), _row(20, "new")], [4], seq=2)
    again = reopened(catalog, table)
    assert again.position == Position(lsn=20, seq=2, generation=1)
    assert again.row_count == 10
    assert _ids(again) == {**{n: "first" for n in range(10) if n != 4}, 3: "second", 20: "new"}
    snapshot = table.iceberg.current_snapshot()
    assert snapshot is not None
    assert snapshot.summary is not None
    assert snapshot.summary["smartstream.lsn"] == "20"
    assert snapshot.summary["smartstream.seq"] == "2"


def test_a_row_deletes_nothing_twice(table: TrustedTable) -> None:
    before = table.locate(keys(SCHEMA, [3]))
    table.commit(add=[], delete=[before, before], position=Position(20, 2, 1))
    table.commit(add=[], delete=before, position=Position(30, 3, 1))
    assert table.row_count == 9
    assert not table.locate(keys(SCHEMA, [3])).positions


def test_each_data_file_has_one_delete_file_at_most(table: TrustedTable) -> None:
    for seq in range(2, 8):
        apply(table, [], [seq], seq=seq)
    assert [len(file.deleted) for file in table.live_files] == [6]
    snapshot = table.iceberg.current_snapshot()
    assert snapshot is not None
    assert snapshot.summary is not None
    assert snapshot.summary["total-delete-files"] == "1"
    assert snapshot.summary["total-position-deletes"] == "6"


def test_a_file_without_rows_leaves_the_table(table: TrustedTable) -> None:
    apply(table, [_row(50, "stays")], list(range(10)), seq=2)
    assert [(file.record_count, len(file.deleted)) for file in table.live_files] == [(1, 0)]
    assert _ids(table) == {50: "stays"}


def test_a_truncated_table_takes_rows_again(catalog: Catalog, table: TrustedTable) -> None:
    table.commit(add=[], delete=None, position=Position(20, 2, 1), replace_all=True)
    assert (table.row_count, _ids(table)) == (0, {})
    assert reopened(catalog, table).row_count == 0
    table.commit(add=[], delete=None, position=Position(30, 3, 1), replace_all=True)
    apply(table, [_row(1, "after")], [7], seq=4)
    assert _ids(reopened(catalog, table)) == {1: "after"}


def test_replace_all_swaps_every_row_at_once(table: TrustedTable) -> None:
    files = table.write(rows(SCHEMA, [_row(100, "copy"), _row(101, "copy")]))
    assert len(_ids(table)) == 10
    table.commit(add=files, delete=None, position=Position(20, 2, 2), replace_all=True)
    assert _ids(table) == {100: "copy", 101: "copy"}
    assert table.position.generation == 2


def test_a_position_without_changes_makes_no_snapshot(catalog: Catalog, table: TrustedTable) -> None:
    snapshot = table.iceberg.metadata.current_snapshot_id
    table.commit(add=[], delete=table.locate(keys(SCHEMA, [999])), position=Position(70, 7, 1))
    assert table.iceberg.metadata.current_snapshot_id == snapshot
    assert reopened(catalog, table).position == Position(70, 7, 1)


def test_metadata_files_do_not_pile_up(tmp_path: Path, table: TrustedTable) -> None:
    for seq in range(2, 45):
        table.commit(add=[], delete=None, position=Position(seq, seq, 1))
    assert len(list(tmp_path.rglob("*.metadata.json"))) <= 32


def test_many_commits_keep_few_manifests(table: TrustedTable) -> None:
    for seq in range(2, 40):
        apply(table, [_row(seq * 100, "x")], [seq % 10] if seq % 3 == 0 else [], seq=seq)
    assert len(table.view().state.manifests) <= 16
    assert reopened(table.iceberg.catalog, table).row_count == table.row_count


def test_a_stale_writer_gets_a_conflict_and_recovers(catalog: Catalog, table: TrustedTable) -> None:
    stale = reopened(catalog, table)
    apply(table, [_row(3, "theirs")], [5], seq=2)
    located = stale.locate(keys(SCHEMA, [3]))
    files = stale.write(rows(SCHEMA, [_row(3, "ours")]))
    with pytest.raises(CommitConflict):
        stale.commit(add=files, delete=located, position=Position(30, 3, 1))
    assert stale.position == table.position
    apply(stale, [_row(3, "ours")], seq=3)
    assert _ids(stale) == {n: "ours" if n == 3 else "first" for n in range(10) if n != 5}


def test_a_batch_that_is_there_already_is_a_success(catalog: Catalog, table: TrustedTable) -> None:
    stale = reopened(catalog, table)
    apply(table, [_row(3, "once")], seq=2)
    located = stale.locate(keys(SCHEMA, [3]))
    files = stale.write(rows(SCHEMA, [_row(3, "once")]))
    stale.commit(add=files, delete=located, position=Position(20, 2, 1))
    assert _ids(stale)[3] == "once"
    assert stale.row_count == 10


def test_part_of_a_batch_is_no_success_when_the_position_did_not_move(
    catalog: Catalog, table: TrustedTable
) -> None:
    """A commit that keeps the position (the rest of its entry follows) must not pass for done."""
    stale = reopened(catalog, table)
    table.commit(add=table.write(rows(SCHEMA, [_row(90, "x")])), delete=None, position=table.position)
    stale.commit(add=stale.write(rows(SCHEMA, [_row(91, "y")])), delete=None, position=stale.position)
    assert {90, 91} <= set(_ids(stale))


def test_maintenance_of_another_process_is_overtaken(catalog: Catalog, table: TrustedTable) -> None:
    apply(table, [_row(20, "x")], [1], seq=2)
    applier = reopened(catalog, table)
    located = applier.locate(keys(SCHEMA, [2, 20]))
    assert not compact(table, table.live_files).given_up
    applier.commit(add=[], delete=located, position=Position(30, 3, 1))
    assert set(_ids(applier)) == {0, 3, 4, 5, 6, 7, 8, 9}
    assert reopened(catalog, table).row_count == 8


def _failing(catalog: Catalog, error: BaseException, *, after: bool) -> Callable[..., Any]:
    """commit_table that fails once, before or after the swap."""
    original = catalog.commit_table

    def commit_table(*arguments: Any) -> Any:
        catalog.commit_table = original  # type: ignore[method-assign]
        if after:
            original(*arguments)
        raise error

    return commit_table


def test_an_answer_lost_after_the_swap_is_a_success(catalog: Catalog, table: TrustedTable) -> None:
    catalog.commit_table = _failing(catalog, ConnectionError("lost"), after=True)  # type: ignore[method-assign]
    apply(table, [_row(3, "second")], [4], seq=2)
    assert table.position.seq == 2
    assert (len(_ids(table)), _ids(table)[3], table.row_count) == (9, "second", 9)


def test_an_answer_lost_does_not_double_a_commit_that_keeps_the_position(
    catalog: Catalog, table: TrustedTable
) -> None:
    catalog.commit_table = _failing(catalog, ConnectionError("lost"), after=True)  # type: ignore[method-assign]
    table.commit(add=table.write(rows(SCHEMA, [_row(90, "x")])), delete=None, position=table.position)
    assert _ids(table)[90] == "x"
    assert table.row_count == len(_ids(table)) == 11


@pytest.mark.parametrize(
    ("error", "expected"),
    [(ConnectionError("refused"), StoreUnavailable), (OSError(28, "No space left on device"), DiskFull)],
)
def test_a_request_that_never_arrived_changes_nothing(
    catalog: Catalog, table: TrustedTable, error: OSError, expected: type[Exception]
) -> None:
    catalog.commit_table = _failing(catalog, error, after=False)  # type: ignore[method-assign]
    with pytest.raises(expected):
        apply(table, [_row(3, "second")], [4], seq=2)
    assert (table.position.seq, table.row_count) == (1, 10)
    apply(table, [_row(3, "second")], [4], seq=2)
    assert len(_ids(table)) == 9


def test_a_catalog_that_is_gone_is_asked_again(
    catalog: Catalog, table: TrustedTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalog.commit_table = _failing(catalog, ConnectionError("lost"), after=True)  # type: ignore[method-assign]
    with monkeypatch.context() as patch:
        patch.setattr(catalog, "load_table", _raise)
        located = table.locate(keys(SCHEMA, [3]))
        # The first load is part of the swap itself; only the reading afterwards must fail.
        patch.setattr(table.iceberg, "refresh", _raise)
        patch.undo()
        patch.setattr(table.iceberg, "refresh", _raise)
        with pytest.raises(StoreUnavailable):
            table.commit(add=[], delete=located, position=Position(20, 2, 1))
    assert table.position.seq == 2
    assert table.row_count == 9


def _raise(*_: Any, **__: Any) -> Any:
    raise ConnectionError("no route")


def _die_before_the_swap(folder: Path) -> None:
    catalog = local_catalog(folder)
    table = TrustedTable.open(catalog, SCHEMA)
    catalog.commit_table = lambda *_: os._exit(9)  # type: ignore[method-assign]
    apply(table, [_row(3, "lost")], [4], seq=2)


def test_a_crash_before_the_swap_leaves_the_table_as_it_was(
    tmp_path: Path, catalog: Catalog, table: TrustedTable
) -> None:
    count = len(list(tmp_path.rglob("*.parquet")))
    child = multiprocessing.get_context("spawn").Process(
        target=_die_before_the_swap, args=(tmp_path / "a lake",)
    )
    child.start()
    child.join(60)
    assert child.exitcode == 9
    again = reopened(catalog, table)
    assert again.position.seq == 1
    assert _ids(again) == dict.fromkeys(range(10), "first")
    assert len(list(tmp_path.rglob("*.parquet"))) == count + 2
    later = datetime.now(UTC) + timedelta(hours=1)
    assert collect(again, again.references, lambda: later, timedelta(minutes=15)).file_count >= 4
    assert len(list(tmp_path.rglob("*.parquet"))) == count
    apply(again, [_row(3, "second")], [4], seq=2)
    assert len(_ids(again)) == 9


def test_a_table_made_by_another_tool_is_refused(catalog: Catalog, engine: Engine) -> None:
    catalog.create_table(("trusted", "orders"), schema=SCHEMA.arrow_schema())
    with pytest.raises(TableCorrupt):
        TrustedTable.open(catalog, SCHEMA, engine=engine)


def test_a_missing_table_is_not_made_unasked(catalog: Catalog, engine: Engine) -> None:
    with pytest.raises(TableCorrupt):
        TrustedTable.open(catalog, SCHEMA, create=False, engine=engine)


def test_files_are_rolled_at_their_target_size(catalog: Catalog, engine: Engine) -> None:
    table = TrustedTable.open(catalog, SCHEMA, engine=engine, target_bytes=20_000)
    batch = rows(SCHEMA, [_row(n, f"{n * 7919:x}" * 5) for n in range(150_000)])
    files = table.write(iter(batch.to_batches(max_chunksize=30_000)))
    assert len(files) == 2
    table.commit(add=files, delete=None, position=Position(1, 1, 1))
    assert table.row_count == 150_000
    assert table.write([]) == []
