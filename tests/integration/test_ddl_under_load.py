"""Schema changes while rows are written: each case of the table, several in one pipeline."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from smartstream.config import Settings
from smartstream.manifest import EntryKind
from smartstream.pipeline import Pipeline
from smartstream.raw.manifest_log import ManifestLog
from smartstream.raw.store import open_store
from smartstream.verify import verify
from smartstream.verify.compare import _now as now
from tests.ddl_case import Case, Effect
from tests.ddl_cases import CASES
from tests.ddl_page import page
from tests.running_pipeline import running, settings_for, wait_until

SCHEMA = "ddl"
HALVES = {"first": CASES[::2], "second": CASES[1::2]}


def sql(case: Case, statement: str) -> bytes:
    return statement.format(t=f"{SCHEMA}.{case.name}", s=SCHEMA, name=case.name).encode()


def copies(settings: Settings, table: str) -> int:
    log = ManifestLog(open_store(settings.lake), now)
    return sum(e.kind is EntryKind.COPY_START and e.table == table for e in log.entries(0))


class Writer:
    """Writes to all tables until it is stopped; what a change forbids it leaves."""

    def __init__(self, url: str, tables: Sequence[str]) -> None:
        self._url, self._tables = url, tables
        self._stop = threading.Event()
        self.rounds = 0
        self._thread = threading.Thread(target=self._work)

    def _work(self) -> None:
        with psycopg.connect(self._url, autocommit=True) as connection:
            while not self._stop.is_set():
                k = 10_000 + self.rounds
                for table in self._tables:
                    _try(
                        connection,
                        f"INSERT INTO {table} (id, v, n) VALUES ({k}, 'w{k}', {k})",
                        f"INSERT INTO {table} (id) VALUES ({k})",
                    )
                    _try(
                        connection,
                        f"UPDATE {table} SET v = v || 'x', n = n + 1 WHERE id IN ({k - 2}, {k % 200})",
                        f"UPDATE {table} SET id = id WHERE id IN ({k - 2}, {k % 200})",
                    )
                    _try(connection, f"DELETE FROM {table} WHERE id IN ({k - 5}, {k % 97})")
                self.rounds += 1
                self._stop.wait(0.02)

    @contextmanager
    def working(self) -> Iterator[Writer]:
        self._thread.start()
        try:
            wait_until(lambda: self.rounds > 1 or not self._thread.is_alive())
            yield self
            seen = self.rounds
            wait_until(lambda: self.rounds > seen + 2)
        finally:
            self._stop.set()
            self._thread.join()


def _try(connection: psycopg.Connection[Any], *statements: str) -> None:
    """The first statement that the table takes."""
    for statement in statements:
        try:
            connection.execute(statement.encode())
            return
        except psycopg.Error:
            continue


def chosen(cases: Sequence[Case], server: psycopg.Connection[Any]) -> list[Case]:
    return [case for case in cases if case.needs * 10000 <= server.info.server_version]


def run_script(connection: psycopg.Connection[Any], case: Case, statement: str) -> None:
    """A case's statement; a deadlock with the writer is tried again."""
    for _ in range(5):
        try:
            connection.execute(sql(case, statement))
            return
        except (psycopg.errors.DeadlockDetected, psycopg.errors.NotNullViolation):
            connection.rollback()
    connection.execute(sql(case, statement))


def set_up(url: str, cases: Sequence[Case]) -> list[Case]:
    with psycopg.connect(url, autocommit=True) as admin:
        admin.execute(f"CREATE SCHEMA {SCHEMA}".encode())
        cases = chosen(cases, admin)
        for case in cases:
            for statement in case.setup:
                admin.execute(sql(case, statement))
    return list(cases)


def wait_until_equal(settings: Settings, pipeline: Pipeline, timeout_s: int = 60) -> None:
    """Row for row; a copy that a change asks for takes its moment."""
    pause = threading.Event()
    for _ in range(timeout_s):
        if pipeline._errors:
            raise pipeline._errors[0]
        report = verify(settings, rows=True)
        if report.ok:
            return
        pause.wait(1.0)
        unequal = {
            t.table: (t.reason, [one.key for one in t.differing][:3]) for t in report.tables if not t.equal
        }
        logging.getLogger().warning("%s", unequal)
    raise AssertionError(unequal)


def assert_effects(settings: Settings, cases: Sequence[Case]) -> None:
    wrong = {}
    for case in cases:
        count = copies(settings, f"{SCHEMA}.{case.name}")
        if case.effect is not Effect.EITHER and (count > 1) != (case.effect is Effect.COPIED):
            wrong[case.name] = (case.effect.name, count)
    assert not wrong, wrong


@pytest.mark.parametrize("half", HALVES)
def test_every_change_under_load_leaves_the_lake_equal(half: str, database: str, tmp_path: Path) -> None:
    cases = set_up(database, HALVES[half])
    settings = settings_for(database, tmp_path, tables={f"{SCHEMA}.*": {}})
    writer = Writer(database, [f"{SCHEMA}.{case.name}" for case in cases])
    with running(settings) as pipeline, psycopg.connect(database, autocommit=True) as admin:
        with writer.working():
            for case in cases:
                for statement in case.statements:
                    run_script(admin, case, statement)
        wait_until_equal(settings, pipeline)
        wait_until(pipeline.ready, 60)
        assert_effects(settings, cases)


def test_changes_made_while_the_pipeline_is_down_are_found(database: str, tmp_path: Path) -> None:
    cases = set_up(database, [case for case in CASES if case.down or case.effect is not Effect.COPIED][::2])
    settings = settings_for(database, tmp_path, tables={f"{SCHEMA}.*": {}})
    with running(settings):
        pass
    writer = Writer(database, [f"{SCHEMA}.{case.name}" for case in cases])
    with psycopg.connect(database, autocommit=True) as admin, writer.working():
        for case in cases:
            for statement in case.statements:
                run_script(admin, case, statement)
    with running(settings) as pipeline:
        wait_until_equal(settings, pipeline)
        # Several changes that nobody has seen one by one may leave a doubt, and doubt is a copy.
        assert_effects(settings, [case for case in cases if case.effect is Effect.COPIED])


def test_the_page_of_schema_changes_is_current() -> None:
    written = (Path(__file__).parents[2] / "docs" / "schema-changes.md").read_text(encoding="utf-8")
    assert written == page(), "run: python -m tests.ddl_page > docs/schema-changes.md"
