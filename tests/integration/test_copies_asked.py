"""A copy that the applier needs: asked for, and begun by the thread that reads the stream."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from smartstream.capture.copy_sessions import CopySessions
from smartstream.config import Settings
from smartstream.manifest import Entry, EntryKind
from smartstream.pipeline.copy_loop import Copy, CopyLoop
from smartstream.pipeline.drift import Drift
from smartstream.pipeline.journal import Journal
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


def test_a_column_announced_while_rows_wait_is_followed_with_its_default(
    admin: psycopg.Connection[Any], settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No row announces it at first; the rows of the copy have the default, too."""
    held, end = threading.Event(), CopyLoop._finish

    def hold(loop: CopyLoop, *given: Any) -> None:
        assert held.wait(60)
        end(loop, *given)

    with running(settings) as pipeline:
        monkeypatch.setattr(CopyLoop, "_finish", hold)
        (schema,) = pipeline._tables.all()
        pipeline._drift.ask_copy(schema)
        wait_until(lambda: logged(settings).state.tables["public.t"].generation == 2)
        admin.execute(b"ALTER TABLE t ADD COLUMN c int DEFAULT 7")
        wait_until(lambda: '"c"' in logged(settings).state.tables["public.t"].schema)
        admin.execute(b"UPDATE t SET v = 'changed' WHERE id = 2")
        admin.execute(b"ALTER TABLE t ADD COLUMN d int DEFAULT 8")
        wait_until(lambda: '"d"' in logged(settings).state.tables["public.t"].schema)
        held.set()
        wait_until(lambda: pipeline.ready(), 60)
        assert_equal(settings)
    assert query(settings, "SELECT DISTINCT c, d FROM t") == [(7, 8)]


def test_a_column_announced_before_its_first_row_keeps_its_default_when_the_applier_is_behind(
    admin: psycopg.Connection[Any], settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The applier takes both entries at once."""
    take, behind = Journal.take, threading.Event()
    monkeypatch.setattr(
        Journal, "take", lambda journal, *a, **b: [] if behind.is_set() else take(journal, *a, **b)
    )
    with running(settings):
        assert_equal(settings)
        behind.set()
        admin.execute(b"ALTER TABLE t ADD COLUMN c int DEFAULT 7")
        wait_until(lambda: '"c"' in logged(settings).state.tables["public.t"].schema)
        seq = logged(settings).state.seq
        admin.execute(b"UPDATE t SET v = 'changed' WHERE id = 2")
        wait_until(lambda: any(entry.files for entry in logged(settings).entries(seq)))
        behind.clear()
        assert_equal(settings)
    assert query(settings, "SELECT DISTINCT c FROM t") == [(7,)]


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(b"ADD COLUMN c int DEFAULT 7", id="added"),
        pytest.param(b"DROP COLUMN w", id="dropped"),
        pytest.param(b"RENAME COLUMN w TO c", id="renamed"),
        pytest.param(b"ALTER COLUMN w TYPE bigint", id="widened"),
    ],
)
def test_a_copy_that_a_change_of_the_table_found_half_done_goes_on_after_a_restart(
    admin: psycopg.Connection[Any],
    database: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: bytes,
) -> None:
    """The rest of it has the columns that it began with, or it starts over."""
    copy_chunk = CopyLoop._copy_chunk

    def copy_the_first(loop: CopyLoop, copy: Copy, chunk: int, sessions: CopySessions) -> None:
        if chunk == 0:
            copy_chunk(loop, copy, chunk, sessions)

    admin.execute(b"ALTER TABLE t ADD COLUMN w int DEFAULT 1")
    admin.execute(b"INSERT INTO t SELECT n, repeat('x', 1000) FROM generate_series(6, 100) n")
    small = settings_for(database, tmp_path, limits={"copy_chunk_bytes": "16KiB"})
    monkeypatch.setattr(CopyLoop, "_copy_chunk", copy_the_first)
    with running(small, ready=False):
        wait_until(lambda: any(entry.kind is EntryKind.COPY_CHUNK for entry in logged(small).entries(0)))
        before = logged(small).state.tables["public.t"].schema
        admin.execute(b"ALTER TABLE t " + change)
        admin.execute(b"UPDATE t SET v = 'changed' WHERE id = 2")
        wait_until(lambda: logged(small).state.tables["public.t"].schema != before)
    state = logged(small).state.tables["public.t"]
    assert not state.copied and len(state.chunks_done) < len(state.chunks)
    monkeypatch.undo()
    once(small)
    assert_equal(small)
