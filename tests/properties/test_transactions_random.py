"""Sessions with random transactions, a pipeline that comes and goes: equal whenever they rest.

Savepoints, rollbacks, prepared transactions that outlive the pipeline, keys that change hands, values that
the log leaves out, transactions larger than a batch; read in bulk and streamed, in small rounds and batches.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest

from smartstream.capture.catchup import CatchupReader
from smartstream.pipeline import capture_loop
from tests.running_pipeline import assert_equal, once, running, settings_for

SECONDS = float(os.environ.get("SMARTSTREAM_TEST_TXN_SECONDS", "8"))
SESSIONS, KEYS, TABLES_MAX = 3, 60, 40

SETUP = """
CREATE TABLE plain (id integer PRIMARY KEY, v text, n bigint DEFAULT 0);
CREATE TABLE pairs (a integer, b text, big text, n integer DEFAULT 0, PRIMARY KEY (a, b));
CREATE TABLE places (id integer PRIMARY KEY, place integer UNIQUE DEFERRABLE INITIALLY DEFERRED, v text);
CREATE TABLE unseen (id integer, v text);
ALTER TABLE pairs ALTER COLUMN big SET STORAGE EXTERNAL;
INSERT INTO plain SELECT n, 'v' || n FROM generate_series(1, 40) n;
INSERT INTO pairs SELECT n, 'x', repeat(md5(n::text), 100) FROM generate_series(1, 40) n;
INSERT INTO places SELECT n, n, 'v' FROM generate_series(1, 40) n;
"""

STATEMENTS = (
    "INSERT INTO plain VALUES (%(k)s, 'new', %(n)s) ON CONFLICT DO NOTHING",
    "INSERT INTO plain VALUES (%(k)s, 'upsert') ON CONFLICT (id) DO UPDATE SET n = plain.n + 1",
    "INSERT INTO plain SELECT 100 + g, repeat('l', 50) FROM generate_series(1, %(n)s * 100) g"
    " ON CONFLICT (id) DO UPDATE SET n = plain.n + 1",
    "UPDATE plain SET n = n + 1 WHERE id %% 3 = %(n)s %% 3",
    "UPDATE plain SET id = -id WHERE id = %(k)s",
    "UPDATE plain SET id = -id",
    "DELETE FROM plain WHERE id > 100 + %(k)s",
    "DELETE FROM plain WHERE id = %(k)s",
    "INSERT INTO pairs SELECT %(k)s, 'x', repeat(md5(%(n)s::text), 100) ON CONFLICT DO NOTHING",
    "UPDATE pairs SET n = n + 1 WHERE a %% 5 = %(n)s %% 5",
    "UPDATE pairs SET b = CASE b WHEN 'x' THEN 'y' ELSE 'x' END, n = n + 1 WHERE a = %(k)s",
    "UPDATE pairs SET a = a + 1000 * (1 - 2 * (a / 1000)) WHERE a %% 1000 = %(k)s",
    "UPDATE pairs SET big = repeat(md5((%(n)s + a)::text), 90) WHERE a %% 7 = %(n)s %% 7",
    "DELETE FROM pairs WHERE a = %(k)s",
    "UPDATE places SET place = place + 1",
    "UPDATE places SET place = CASE place WHEN %(k)s THEN %(k)s + 1 ELSE %(k)s END"
    " WHERE place IN (%(k)s, %(k)s + 1)",
    "INSERT INTO places VALUES (%(k)s, -%(k)s, 'n') ON CONFLICT (id) DO NOTHING",
    "DELETE FROM places WHERE id = %(k)s",
    "INSERT INTO unseen SELECT g, 'p' FROM generate_series(1, %(n)s * 10) g",
    "SELECT pg_logical_emit_message(%(n)s %% 2 = 0, 'app', repeat('m', %(n)s))",
    "TRUNCATE pairs",
)
EXTRA = (
    "INSERT INTO {} SELECT g, 'e', %(n)s FROM generate_series(%(k)s, %(k)s + 5) g ON CONFLICT DO NOTHING",
    "UPDATE {} SET n = n + 1 WHERE id %% 4 = %(n)s %% 4",
    "UPDATE {} SET id = -id WHERE id = %(k)s",
    "DELETE FROM {} WHERE id = %(k)s",
)
RARE = {"TRUNCATE pairs", "UPDATE plain SET id = -id"}


def swap(connection: Any, rng: random.Random) -> None:
    """Rows of ``pairs`` and ``plain`` take each other's key by way of a third."""
    one, other = rng.sample(range(1, KEYS), 2)
    for table, key in (("plain", "id"), ("pairs", "a")):
        for old, new in ((one, -9000), (other, one), (-9000, other)):
            connection.execute(f"UPDATE {table} SET {key} = %s WHERE {key} = %s", (new, old))


def block(connection: Any, rng: random.Random) -> None:
    """An exception in plpgsql takes back what its block did."""
    connection.execute(
        f"""DO $$ BEGIN FOR i IN 1..{rng.randint(1, 70)} LOOP BEGIN
            UPDATE plain SET n = n + i WHERE id = i;
            DELETE FROM places WHERE id = i AND i % 9 = 0;
            IF i % {rng.randint(1, 4)} = 0 THEN RAISE EXCEPTION 'no'; END IF;
        EXCEPTION WHEN raise_exception THEN NULL; END; END LOOP; END $$"""
    )


def step(connection: Any, rng: random.Random, tables: Sequence[str], depth: int = 0) -> None:
    """A statement, a swap, a block, or a savepoint with more of them.

    Args:
        tables: those that came later.
    """
    kind = rng.random()
    if kind < 0.2 and depth < 4:
        connection.execute(f"SAVEPOINT s{depth}")
        try:
            for _ in range(rng.randint(1, 4)):
                step(connection, rng, tables, depth + 1)
        except (psycopg.errors.UniqueViolation, psycopg.errors.LockNotAvailable):
            connection.execute(f"ROLLBACK TO s{depth}")
        connection.execute(rng.choice((f"ROLLBACK TO s{depth}", f"RELEASE s{depth}", "SELECT 1")))
    elif kind < 0.27:
        swap(connection, rng)
    elif kind < 0.32:
        block(connection, rng)
    elif kind < 0.45 and tables:
        statement = rng.choice(EXTRA).format(rng.choice(tables))
        connection.execute(statement, {"k": rng.randrange(1, KEYS), "n": rng.randrange(1, 60)})
    else:
        statement = rng.choice(STATEMENTS)
        if statement not in RARE or rng.random() < 0.15:
            connection.execute(statement, {"k": rng.randrange(1, KEYS), "n": rng.randrange(1, 60)})


class Session(threading.Thread):
    """Random transactions until told to stop; some end as prepared ones, which any session may end."""

    def __init__(
        self, url: str, rng: random.Random, tables: Sequence[str], stop: threading.Event, name: str
    ) -> None:
        super().__init__(name=name)
        self._url, self._rng, self._tables, self._stop_event, self._number = url, rng, tables, stop, 0
        self.ended: Counter[str] = Counter()  # how many transactions, by how they ended
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            with psycopg.connect(self._url, autocommit=True) as connection:
                connection.execute("SET lock_timeout = '200ms'; SET deadlock_timeout = '50ms'")
                while not self._stop_event.is_set():
                    self._transaction(connection)
                    if self._rng.random() < 0.3:
                        end_prepared(connection, self._rng, count=1)
                    self._stop_event.wait(self._rng.choice((0.0, 0.0, 0.01, 0.05)))
        except BaseException as error:
            self.error = error

    def _transaction(self, connection: Any) -> None:
        """One, which may fail as the server likes."""
        rng = self._rng
        try:
            connection.execute("BEGIN")
            for _ in range(rng.choice((0, 1, 1, 2, 5, 10))):
                step(connection, rng, self._tables)
                if rng.random() < 0.02:  # others commit meanwhile
                    self._stop_event.wait(0.3)
            end = rng.choices(("COMMIT", "ROLLBACK", self._prepare()), (8, 2, 2))[0]
            connection.execute(end)
            self.ended[end.split()[0]] += 1
        except (
            psycopg.errors.UniqueViolation,
            psycopg.errors.LockNotAvailable,
            psycopg.errors.DeadlockDetected,
            psycopg.errors.ConfigurationLimitExceeded,
            psycopg.errors.OutOfMemory,
        ):
            connection.execute("ROLLBACK")
            self.ended["failed"] += 1

    def _prepare(self) -> str:
        self._number += 1
        return f"PREPARE TRANSACTION '{self.name}-{self._number}'"


def end_prepared(connection: Any, rng: random.Random, count: int) -> None:
    """Commit or roll back some that are prepared, unless another session is about to."""
    statement = "SELECT gid FROM pg_prepared_xacts WHERE database = current_database()"
    found = [gid for (gid,) in connection.execute(statement)]
    for gid in rng.sample(found, min(count, len(found))):
        try:
            connection.execute(f"{rng.choice(('COMMIT', 'COMMIT', 'ROLLBACK'))} PREPARED '{gid}'")
        except (psycopg.errors.UndefinedObject, psycopg.errors.ObjectNotInPrerequisiteState):
            continue


def random_settings(database: str, folder: Path, rng: random.Random) -> Any:
    """Small batches or large, early or late catch-up; the same lake."""
    flush = {"every": rng.choice(("20ms", "200ms")), "bytes": rng.choice(("16KiB", "256KiB", "8MiB"))}
    limits = {
        "catchup_backlog_bytes": rng.choice(("0MiB", "1MiB", "16MiB")),
        "queue_bytes": rng.choice(("1KiB", "128MiB")),
        "memory_bytes": rng.choice(("1MiB", "512MiB")),
    }
    tables: dict[str, Any] = {"public.p*": {}}
    return settings_for(database, folder, defaults={"flush": flush}, limits=limits, tables=tables)


def come_and_go(
    settings: Callable[[], Any], rng: random.Random, stop_at: float, new_table: Callable[[], None]
) -> int:
    """Run the pipeline again and again, for a while or up to the moment; how often."""
    pause, runs = threading.Event(), 0
    while time.monotonic() < stop_at:
        runs += 1
        if rng.random() < 0.15:
            new_table()
            pause.wait(rng.uniform(0.0, 0.3))
        if rng.random() < 0.3:
            once(settings())
            continue
        with running(settings(), ready=False):
            pause.wait(rng.uniform(0.1, 1.0))
            if rng.random() < 0.2:
                new_table()
            pause.wait(rng.uniform(0.1, 1.0))
    return runs


def test_random_transactions_are_equal_whenever_they_rest(
    seed: str, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    print(f"seed {seed}")
    rng = random.Random(seed)
    with psycopg.connect(database, autocommit=True) as admin:
        admin.execute(SETUP)
        name = database.rsplit("/", 1)[1]
        settings = partial(random_settings, database, tmp_path, rng)
        once(settings())
        end_at, rests, runs = time.monotonic() + SECONDS, 0, 0
        ended: Counter[str] = Counter()
        tables: list[str] = []

        def new_table() -> None:
            """Sessions write to it at once, before anybody publishes it."""
            if len(tables) < TABLES_MAX:
                table = f"p_late_{len(tables)}"
                admin.execute(f"CREATE TABLE {table} (id integer PRIMARY KEY, v text, n integer)")
                tables.append(table)

        while time.monotonic() < end_at:
            round_changes = rng.choice((50, 1000, 150_000))
            monkeypatch.setattr(
                capture_loop, "CatchupReader", partial(CatchupReader, round_changes=round_changes)
            )
            stop = threading.Event()
            sessions = [
                Session(database, random.Random(rng.random()), tables, stop, f"{name}-{rests}-{number}")
                for number in range(SESSIONS)
            ]
            for session in sessions:
                session.start()
            try:
                rest_at = min(end_at, time.monotonic() + rng.uniform(2.0, 8.0))
                runs += come_and_go(settings, rng, rest_at, new_table)
            finally:
                stop.set()
                for session in sessions:
                    session.join()
            for session in sessions:
                ended += session.ended
                if session.error is not None:
                    raise session.error
            rests += 1
            if rng.random() < 0.5:
                with running(settings(), ready=False):  # what is prepared is still open
                    threading.Event().wait(1.0)
            end_prepared(admin, rng, count=100)
            once(settings())
            assert_equal(settings())
    print(
        f"{rests} rests, {runs} runs of the pipeline, transactions: {dict(ended)},"
        f" {len(tables)} tables came later"
    )
