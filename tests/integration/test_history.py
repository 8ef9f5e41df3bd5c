"""History and --as-of: every state that the source has had is found again, and no other."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from smartstream.config import Settings
from smartstream.errors import NotDurable, PastUnknown
from smartstream.pipeline import Pipeline
from smartstream.pipeline.resync import resync
from smartstream.query import open_lake
from smartstream.verify.compare import _now as now
from tests.integration.history_setup import (
    CREATE,
    Recorder,
    fetched,
    random_statements,
    state_as_of,
    state_from_history,
)
from tests.running_pipeline import once, running, settings_for, wait_until


@pytest.fixture
def admin(database: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(database, autocommit=True) as connection:
        yield connection


def prepared(admin: Any, database: str, folder: Path, *statements: str) -> tuple[Settings, Recorder]:
    """Tables that are copied, and the state at that moment written down."""
    for statement in statements or CREATE:
        admin.execute(statement)
    settings = settings_for(database, folder)
    once(settings)
    return settings, Recorder(admin)


@contextmanager
def _started(settings: Settings) -> Iterator[Pipeline]:
    """A pipeline that runs, and perhaps still copies."""
    pipeline, stop = Pipeline(settings), threading.Event()
    thread = threading.Thread(target=lambda: pipeline.run(stop=stop))
    thread.start()
    try:
        yield pipeline
    finally:
        stop.set()
        thread.join()


def past(settings: Settings, statement: str) -> list[tuple[Any, ...]]:
    """The rows of a statement about history."""
    with open_lake(settings, statement) as lake:
        return fetched(lake, statement)


def assert_every_state_is_found(settings: Settings, recorder: Recorder, *, times: bool = True) -> None:
    """As-of by LSN, by time, and by the history tables."""
    for number, (lsn, time, state) in enumerate(recorder.seen):
        assert state_as_of(settings, lsn, recorder.columns) == state, f"as of {lsn}"
        if times and number % 3 == 0:
            assert state_as_of(settings, time, recorder.columns) == state, f"as of {time}"
    for lsn, _, state in recorder.seen[::8]:
        assert state_from_history(settings, lsn, recorder.columns) == state


def test_every_state_of_a_random_life_is_found_again(
    admin: Any, database: str, tmp_path: Path, seed: str
) -> None:
    settings, recorder = prepared(admin, database, tmp_path)
    chance = random.Random(seed)
    for step in range(30):
        recorder.run(*random_statements(chance))
        if step % 10 == 9:
            once(settings)
    admin.execute("INSERT INTO a VALUES (100000)")
    once(settings)
    assert_every_state_is_found(settings, recorder)


def test_current_versions_are_the_trusted_rows(admin: Any, database: str, tmp_path: Path, seed: str) -> None:
    settings, recorder = prepared(admin, database, tmp_path)
    chance = random.Random(seed)
    for _ in range(25):
        recorder.run(*random_statements(chance))
    once(settings)
    for table, names in recorder.columns.items():
        lake = past(settings, f"SELECT {names}, _lsn FROM {table} ORDER BY ALL")
        shown = f"SELECT {names}, valid_from_lsn FROM history.{table} WHERE is_current ORDER BY ALL"
        assert past(settings, shown) == lake
        broken = (
            f"SELECT count(*) FROM history.{table} WHERE valid_to_lsn <= valid_from_lsn"
            " OR valid_to < valid_from OR valid_from IS NULL OR is_current <> (valid_to IS NULL)"
        )
        assert past(settings, broken) == [(0,)]


def test_versions_of_a_key_never_overlap(admin: Any, database: str, tmp_path: Path, seed: str) -> None:
    settings, recorder = prepared(admin, database, tmp_path)
    chance = random.Random(seed)
    for _ in range(25):
        recorder.run(*random_statements(chance))
    resync(settings, ["public.a"], clock=now)
    for _ in range(5):
        recorder.run(*random_statements(chance))
    once(settings)
    overlapping = (
        "SELECT count(*) FROM history.a x JOIN history.a y ON x.id = y.id"
        " AND x.valid_from_lsn < y.valid_from_lsn AND coalesce(x.valid_to_lsn > y.valid_from_lsn, true)"
    )
    assert past(settings, overlapping) == [(0,)]


def test_a_copy_that_changes_run_over_gives_no_version_twice(
    admin: Any, database: str, tmp_path: Path, seed: str
) -> None:
    for statement in CREATE:
        admin.execute(statement)
    settings = settings_for(database, tmp_path, limits={"copy_chunk_bytes": "8KiB", "copy_workers": 1})
    recorder, chance = Recorder(admin), random.Random(seed)
    once(settings)
    resync(settings, clock=now)
    with _started(settings) as pipeline:
        for _ in range(12):
            recorder.run(*random_statements(chance))
        wait_until(pipeline.ready)
        ready = len(recorder.seen)
        for _ in range(6):
            recorder.run(*random_statements(chance))
        admin.execute("INSERT INTO a VALUES (100000)")
    once(settings)
    known = 0
    for lsn, _, state in recorder.seen:
        try:
            assert state_as_of(settings, lsn, recorder.columns) == state
            known += 1
        except PastUnknown:
            assert lsn <= recorder.seen[ready - 1][0], "a table that is ready is known"
    assert known >= 6
    twice = "SELECT id, valid_from_lsn FROM history.a GROUP BY ALL HAVING count(*) > 1"
    assert past(settings, twice) == []


def test_ddl_shows_the_past_under_the_newest_names(admin: Any, database: str, tmp_path: Path) -> None:
    settings, recorder = prepared(
        admin,
        database,
        tmp_path,
        "CREATE TABLE t (id integer PRIMARY KEY, a text, gone text, n integer)",
        "INSERT INTO t SELECT i, 'a' || i, 'g', i FROM generate_series(1, 20) i",
    )
    recorder.columns = {"t": "id, a, n"}
    renamed = {"t": "id, b, n"}
    with running(settings) as pipeline:
        for step, ddl in enumerate(
            (
                "ALTER TABLE t ADD COLUMN added integer DEFAULT 7",
                "ALTER TABLE t RENAME COLUMN a TO b",
                "ALTER TABLE t DROP COLUMN gone",
                "ALTER TABLE t ALTER COLUMN n TYPE bigint",
            )
        ):
            recorder.run(
                f"UPDATE t SET n = n + 1 WHERE id % 5 = {step}", f"DELETE FROM t WHERE id = {step + 6}"
            )
            admin.execute(ddl)
            if "RENAME" in ddl:
                recorder.columns = renamed
            applied = pipeline.progress().applied_count
            recorder.run("UPDATE t SET n = n * 2 WHERE id = 20")
            wait_until(lambda before=applied: pipeline.progress().applied_count > before)
        admin.execute("INSERT INTO t VALUES (99, 'x', 1)")
    once(settings)
    for lsn, _, state in recorder.seen:
        assert state_as_of(settings, lsn, renamed) == state
        assert state_from_history(settings, lsn, renamed) == state
    assert past(settings, "SELECT DISTINCT added FROM history.t WHERE id = 6") == [(7,)]
    with pytest.raises(Exception, match="gone"):
        past(settings, "SELECT gone FROM history.t")


def test_a_column_of_another_type_begins_anew_and_keeps_the_old_value_as_text(
    admin: Any, database: str, tmp_path: Path
) -> None:
    settings, recorder = prepared(
        admin,
        database,
        tmp_path,
        "CREATE TABLE t (id integer PRIMARY KEY, a text)",
        "INSERT INTO t VALUES (1, 'xyz')",
    )
    with running(settings) as pipeline:
        admin.execute("ALTER TABLE t ALTER COLUMN a TYPE integer USING length(a)")
        admin.execute("UPDATE t SET a = 9")
        wait_until(lambda: past(settings, "SELECT count(*) FROM history.t WHERE a::VARCHAR = '9'") != [(0,)])
        wait_until(pipeline.ready)
    rows = past(settings, "SELECT a, _untyped, is_current FROM history.t ORDER BY valid_from_lsn")
    assert rows == [(None, '{"a":"xyz"}', False), (9, None, True)]
    assert recorder.admin is admin


def test_a_truncate_ends_only_what_was_before_it(admin: Any, database: str, tmp_path: Path) -> None:
    settings, recorder = prepared(admin, database, tmp_path)
    recorder.run("INSERT INTO a VALUES (50, 'before')", "TRUNCATE a", "INSERT INTO a VALUES (1, 'after')")
    recorder.run("INSERT INTO a VALUES (50, 'again')", "UPDATE a SET v = 'last' WHERE id = 50")
    recorder.run("TRUNCATE a", "INSERT INTO a VALUES (50, 'more')", "TRUNCATE a")
    admin.execute("INSERT INTO a VALUES (100000)")
    once(settings)
    assert_every_state_is_found(settings, recorder)
    ended = "SELECT id, v, is_current FROM history.a WHERE id IN (1, 50) AND op <> 'r' ORDER BY id"
    assert past(settings, ended) == [(1, "after", False), (50, "last", False)]


def test_rows_that_vanished_between_copies_end_with_the_new_one(
    admin: Any, database: str, tmp_path: Path
) -> None:
    settings, recorder = prepared(admin, database, tmp_path)
    recorder.run("UPDATE a SET n = 5 WHERE id = 1")
    once(settings)
    admin.execute("SELECT pg_drop_replication_slot('smartstream')")
    admin.execute("DELETE FROM a WHERE id = 2")  # nobody reads this
    resync(settings, clock=now)
    once(settings)
    recorder.run("UPDATE a SET n = 6 WHERE id = 1")
    admin.execute("INSERT INTO a VALUES (100000)")
    once(settings)
    assert_every_state_is_found(settings, recorder, times=False)
    (vanished,) = past(settings, "SELECT is_current, valid_to IS NOT NULL FROM history.a WHERE id = 2")
    assert vanished == (False, True)
    lives = past(settings, "SELECT n, op, is_current FROM history.a WHERE id = 1 ORDER BY valid_from_lsn")
    assert lives == [(0, "r", False), (5, "u", False), (5, "r", False), (6, "u", True)]


def test_moments_that_are_not_known_are_refused(admin: Any, database: str, tmp_path: Path) -> None:
    admin.execute("CREATE TABLE t (id integer PRIMARY KEY)")
    settings = settings_for(database, tmp_path)
    with pytest.raises(PastUnknown, match="empty"):
        state_as_of(settings, 5, {"t": "id"})
    once(settings)
    admin.execute("INSERT INTO t VALUES (1)")
    once(settings)
    with pytest.raises(
        PastUnknown, match=r"public\.t is not known as of 0/5; it is known from [0-9A-F]+/[0-9A-F]+"
    ):
        state_as_of(settings, 5, {"t": "id"})
    with pytest.raises(PastUnknown, match="does not reach back to 2001"):
        state_as_of(settings, datetime(2001, 1, 1, tzinfo=UTC), {"t": "id"})
    with pytest.raises(NotDurable, match="its last commit is of"):
        state_as_of(settings, now() + timedelta(days=1), {"t": "id"})
    with pytest.raises(NotDurable, match="lies behind what the lake holds") as caught:
        state_as_of(settings, 1 << 60, {"t": "id"})
    latest = int(str(caught.value.hint).split("--as-of 0/")[1].split(";")[0], 16)
    assert state_as_of(settings, latest, {"t": "id"}) == {"t": [(1,)]}


def test_a_table_made_again_under_its_name_begins_a_new_history(
    admin: Any, database: str, tmp_path: Path
) -> None:
    settings, _ = prepared(
        admin,
        database,
        tmp_path,
        "CREATE TABLE t (id integer PRIMARY KEY, a text)",
        "INSERT INTO t VALUES (1, 'old')",
    )
    admin.execute("DROP TABLE t")
    admin.execute("CREATE TABLE t (a text, id integer PRIMARY KEY)")
    admin.execute("INSERT INTO t VALUES ('new', 1)")
    once(settings)
    assert past(settings, "SELECT id, a FROM history.t") == [(1, "new")]
