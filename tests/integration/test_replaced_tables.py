"""A name that passes from one table to another while the pipeline runs, and is behind."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from smartstream.config import Settings
from smartstream.errors import SourceUnreachable
from smartstream.manifest import Entry, EntryKind
from smartstream.pipeline import Pipeline
from smartstream.pipeline.capture_loop import CaptureLoop
from smartstream.pipeline.copy_loop import CopyLoop
from smartstream.pipeline.resync import ask_resync, resync
from smartstream.query import open_lake
from smartstream.raw.manifest_log import ManifestLog
from smartstream.raw.store import open_store
from smartstream.schema import TableSchema
from smartstream.verify import verify
from smartstream.verify.compare import _now as now
from tests.running_pipeline import assert_equal, once, query, running, settings_for, wait_until

ROWS = "INSERT INTO {} SELECT n, '{}' FROM generate_series(1, 5) n"


class Gate:
    """Lets the capture thread read on, or holds it before what it has just received."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._open = threading.Event()
        self._open.set()
        decode = CaptureLoop._decode

        def held(loop: CaptureLoop, messages: Any) -> None:
            assert self._open.wait(60)
            decode(loop, messages)

        monkeypatch.setattr(CaptureLoop, "_decode", held)

    def close(self) -> None:
        self._open.clear()

    def open(self) -> None:
        self._open.set()


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    gate = Gate(monkeypatch)
    yield gate
    gate.open()


@pytest.fixture
def admin(database: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(b"CREATE TABLE t (id int PRIMARY KEY, v text)")
        connection.execute(ROWS.format("t", "old").encode())
        yield connection


@pytest.fixture
def settings(database: str, admin: object, tmp_path: Path) -> Settings:
    return settings_for(database, tmp_path, tables={"public.*": {}})


REPLACED = {
    "dropped and created again": "DROP TABLE t; CREATE TABLE t (id int PRIMARY KEY, v text, more int)",
    "two renamed in one transaction": "ALTER TABLE t RENAME TO t_old; ALTER TABLE u RENAME TO t",
}


@pytest.mark.parametrize("how", REPLACED)
def test_rows_of_the_table_before_stay_with_it(
    how: str, gate: Gate, admin: psycopg.Connection[Any], settings: Settings
) -> None:
    """What it wrote just before its end arrives after the catalog shows its successor."""
    admin.execute(b"CREATE TABLE u (id int PRIMARY KEY, v text)")
    with running(settings) as pipeline:
        admin.execute(b"UPDATE t SET v = 'seen' WHERE id = 5")
        assert_equal(settings)
        gate.close()
        admin.execute(b"UPDATE t SET v = 'older' WHERE id = 1; INSERT INTO t VALUES (60, 'old'), (61, 'old')")
        admin.execute(f"BEGIN; {REPLACED[how]}; COMMIT".encode())
        admin.execute(b"INSERT INTO t (id, v) VALUES (60, 'new'), (70, 'new')")
        wait_until(lambda: seen(pipeline, admin))
        gate.open()
        wait_until(lambda: generation(pipeline, "public.t") == 2)
        admin.execute(b"UPDATE t SET v = 'newer' WHERE id = 70; DELETE FROM t WHERE id = 60")
        assert_equal(settings)
    statement = "SELECT id, v, is_current FROM history.t ORDER BY valid_from_lsn, id"
    with open_lake(settings, statement) as lake:
        found = lake.execute(statement).fetchall()
    assert found[-1] == (70, "newer", True) and {v for _, v, _ in found} <= {"new", "newer"}


def test_a_copy_with_an_older_look_does_not_hide_what_a_rewrite_did(
    gate: Gate, admin: psycopg.Connection[Any], settings: Settings
) -> None:
    """The stream asks for a copy of two columns; on the server a third one has been filled meanwhile."""
    with running(settings) as pipeline:
        gate.close()
        admin.execute(b"ALTER TABLE t ALTER COLUMN v TYPE integer USING 1")
        admin.execute(b"INSERT INTO t VALUES (70, 2)")
        admin.execute(b"ALTER TABLE t ADD COLUMN c float8 DEFAULT random()")
        admin.execute(b"ALTER TABLE t ALTER COLUMN c DROP DEFAULT")
        gate.open()
        wait_until(lambda: generation(pipeline, "public.t") > 1)
        for _ in range(60):  # a second copy follows, by itself
            if (report := verify(settings, rows=True)).ok:
                break
            threading.Event().wait(0.5)
        assert report.ok, report.to_dict()


def generation(pipeline: Pipeline, table: str) -> int:
    assert pipeline._journal is not None
    return pipeline._journal.state.tables[table].generation


def seen(pipeline: Pipeline, admin: psycopg.Connection[Any]) -> bool:
    """Whether the pipeline has looked at the catalog since the table was replaced."""
    row = admin.execute(b"SELECT 't'::regclass::oid::int").fetchone()
    assert row is not None
    waits = [look.schema.oid for look in pipeline._drift.reached(2**63)]
    return row[0] in [*waits, *(schema.oid for schema in pipeline._tables.all() if schema.id == "public.t")]


def test_rows_that_come_before_a_new_table_is_begun_are_in_its_copy(
    database: str, admin: psycopg.Connection[Any], settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And nowhere else: over a copy of rows that a rewrite has changed they would put older ones."""
    start, begun = CopyLoop.start, threading.Event()

    def late(loop: CopyLoop, schema: TableSchema, **more: Any) -> None:
        if schema.name == "fresh":
            admin.execute(b"INSERT INTO fresh VALUES (6, 'before its copy')")
            begun.set()
        start(loop, schema, **more)

    monkeypatch.setattr(CopyLoop, "start", late)
    with running(settings):
        with psycopg.connect(database, autocommit=True) as other:
            other.execute(b"CREATE TABLE fresh (id int PRIMARY KEY, v text)")
        wait_until(begun.is_set, 60)
        assert_equal(settings)
    assert all(entry.kind is not EntryKind.CHANGES for entry in entries_of(settings, "public.fresh"))


def entries_of(settings: Settings, table: str) -> list[Entry]:
    """The entries of the log that have rows of a table."""
    entries = ManifestLog(open_store(settings.lake), now).entries(0)
    return [entry for entry in entries if any(file.table == table for file in entry.files)]


def test_a_copy_that_could_not_begin_is_begun_later(
    admin: psycopg.Connection[Any], settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    start, failures = CopyLoop.start, []

    def failing(loop: CopyLoop, schema: TableSchema, **more: Any) -> None:
        if schema.name == "fresh" and len(failures) < 2:
            failures.append(schema)
            raise SourceUnreachable("the connection was closed")
        start(loop, schema, **more)

    monkeypatch.setattr(CopyLoop, "start", failing)
    with running(settings):
        admin.execute(b"CREATE TABLE fresh (id int PRIMARY KEY, v text); INSERT INTO fresh VALUES (1, 'a')")
        wait_until(lambda: len(failures) == 2)
        assert_equal(settings)


def test_a_table_that_is_rewritten_while_it_is_copied_is_copied_again_even_if_that_fails_at_first(
    admin: psycopg.Connection[Any], settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    start, read, failures, starts = CopyLoop.start, CopyLoop._copy_chunk, [], []

    def rewritten_first(loop: CopyLoop, copy: Any, *more: Any) -> None:
        if copy.schema.name == "big" and len(starts) == 1 and not failures:
            statement = (
                "ALTER TABLE big ADD COLUMN c float8 DEFAULT random(); UPDATE big SET v = 'x' WHERE id = 3"
            )
            admin.execute(statement.encode())
        read(loop, copy, *more)

    def failing(loop: CopyLoop, schema: TableSchema, **more: Any) -> int:
        if schema.name == "big":
            if len(starts) == 1 and not failures:
                failures.append(schema)
                raise SourceUnreachable("the connection was closed")
            starts.append(schema)
        return start(loop, schema, **more)

    monkeypatch.setattr(CopyLoop, "_copy_chunk", rewritten_first)
    monkeypatch.setattr(CopyLoop, "start", failing)
    with running(settings):
        admin.execute(
            b"CREATE TABLE big (id int PRIMARY KEY, v text); INSERT INTO big VALUES (1, 'a'), (3, 'b')"
        )
        wait_until(lambda: len(starts) > 1, 60)
        assert_equal(settings)
    assert failures


SWAP = "ALTER TABLE t RENAME TO x; ALTER TABLE u RENAME TO t; ALTER TABLE x RENAME TO u"


def test_what_a_table_does_under_another_name_is_kept_if_it_gets_its_own_back(
    gate: Gate, admin: psycopg.Connection[Any], settings: Settings
) -> None:
    """The catalog never shows that anything was different."""
    admin.execute(b"CREATE TABLE u (id int PRIMARY KEY, v text); INSERT INTO u VALUES (1, 'u')")
    with running(settings) as pipeline:
        assert_equal(settings)
        gate.close()
        admin.execute(f"BEGIN; {SWAP}; COMMIT".encode())
        admin.execute(b"TRUNCATE u; INSERT INTO u VALUES (7, 'of t'); UPDATE t SET v = 'of u'")
        admin.execute(f"BEGIN; {SWAP}; COMMIT".encode())
        admin.execute(b"INSERT INTO t VALUES (8, 'again')")
        gate.open()
        wait_until(lambda: query(settings, "SELECT count(*) FROM t WHERE id = 8") == [(1,)], 60)
        assert_equal(settings)
        wait_until(lambda: not pipeline._drift)
    assert query(settings, "SELECT id, v FROM t ORDER BY id") == [(7, "of t"), (8, "again")]


REWRITTEN = b"ALTER TABLE t ALTER COLUMN v TYPE text USING 'rewritten'"


def test_rows_from_before_a_rewrite_stay_out_of_a_copy_from_after_it(
    admin: psycopg.Connection[Any], settings: Settings
) -> None:
    """The slot is behind both: what it sends first is older than the copy, and nothing newer follows."""
    once(settings)
    admin.execute(b"UPDATE t SET v = 'older' WHERE id = 1; DELETE FROM t WHERE id = 2")
    admin.execute(REWRITTEN)
    assert resync(settings, ["public.t"], clock=now) == ["public.t"]
    once(settings)
    assert_equal(settings)


def test_rows_from_before_a_rewrite_stay_out_of_a_copy_that_was_asked_for(
    gate: Gate, admin: psycopg.Connection[Any], settings: Settings
) -> None:
    with running(settings) as pipeline:
        assert_equal(settings)
        gate.close()
        admin.execute(b"UPDATE t SET v = 'older' WHERE id = 1")
        admin.execute(REWRITTEN)
        asked = threading.Thread(
            target=ask_resync, args=(settings, ["public.t"]), kwargs={"stop": threading.Event()}
        )
        asked.start()
        wait_until(lambda: bool(pipeline._drift) or generation(pipeline, "public.t") > 1)
        gate.open()
        asked.join()
        assert_equal(settings)
