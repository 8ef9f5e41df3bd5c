"""A copy that the applier needs: asked for, and begun by the thread that reads the stream."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from smartstream.config import Settings
from smartstream.manifest import Entry
from smartstream.pipeline.drift import Drift
from smartstream.pipeline.table_applier import TableApplier
from smartstream.raw.manifest_log import ManifestLog
from smartstream.raw.store import open_store
from smartstream.schema import TableSchema
from smartstream.verify.compare import _now as now
from tests.running_pipeline import assert_equal, once, query, running, settings_for, wait_until


@pytest.fixture
def admin(database: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(b"CREATE TABLE t (id int PRIMARY KEY, v text)")
        connection.execute(b"INSERT INTO t SELECT n, 'copied' FROM generate_series(1, 5) n")
        yield connection


@pytest.fixture
def settings(database: str, admin: object, tmp_path: Path) -> Settings:
    return settings_for(database, tmp_path)


@pytest.fixture
def unsettled(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """The first copy leaves a row that nothing settles."""
    end = TableApplier.end_copy

    def end_with_a_row_left(applier: TableApplier, entry: Entry) -> None:
        end(applier, entry)
        if entry.detail["generation"] == 1 and applier.settling is not None:
            applier.settling.unresolved.add((-1,))

    monkeypatch.setattr(TableApplier, "end_copy", end_with_a_row_left)
    return monkeypatch


def logged(settings: Settings) -> ManifestLog:
    log = ManifestLog(open_store(settings.lake), now)
    log.load()
    return log


@pytest.mark.usefixtures("unsettled")
def test_a_row_that_can_not_be_settled_is_settled_by_another_copy(settings: Settings) -> None:
    once(settings)
    assert logged(settings).state.tables["public.t"].generation == 2
    assert_equal(settings)


def test_a_table_stands_still_and_is_not_ready_until_its_copy_begins(
    unsettled: pytest.MonkeyPatch, admin: psycopg.Connection[Any], settings: Settings
) -> None:
    """Ended in that state, it is found again: what made the copy necessary is read once more."""
    asked: list[TableSchema] = []
    unsettled.setattr(Drift, "ask_copy", lambda drift, schema, **how: asked.append(schema))
    with running(settings, ready=False) as pipeline:
        wait_until(lambda: asked)
        admin.execute(b"UPDATE t SET v = 'changed'")
        wait_until(lambda: pipeline.progress().captured_count == 5 and pipeline._drained())
        assert not pipeline.ready() and pipeline.progress().tables["public.t"].status == "catching_up"
        assert query(settings, "SELECT DISTINCT v FROM t") == [("copied",)]
    assert len(asked) == 1
    log = logged(settings)
    assert log.applied_seq < log.state.tables["public.t"].copy_seq
    unsettled.undo()
    once(settings)
    assert_equal(settings)
    assert query(settings, "SELECT DISTINCT v FROM t") == [("changed",)]
