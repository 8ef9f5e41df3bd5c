"""Tables that come, go and come back while the pipeline runs: nobody else waits for their copy."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from smartstream.config import Settings
from tests.running_pipeline import assert_equal, once, query, running, settings_for, wait_until

ROWS = 1_000
SLOW_CHUNK = 8 << 10
"""A page each: the copy of the large table takes a while."""


@pytest.fixture
def admin(database: str) -> Iterator[Any]:
    with psycopg.connect(database, autocommit=True) as connection:
        yield connection


def make(admin: Any, name: str, rows: int = 5) -> None:
    admin.execute(f"CREATE TABLE {name} (id integer PRIMARY KEY, n integer, v text)".encode())
    admin.execute(
        f"INSERT INTO {name} SELECT i, 0, repeat('x', 500) FROM generate_series(1, {rows}) i".encode()
    )


def settings_of(database: str, folder: Path, *tables: str) -> Settings:
    """A pipeline of these tables; a copy reads page by page, with one worker."""
    return settings_for(
        database,
        folder,
        tables={f"public.{name}": {} for name in tables},
        limits={"copy_chunk_bytes": SLOW_CHUNK, "copy_workers": 1},
    )


@contextmanager
def writing(url: str, *tables: str) -> Iterator[list[int]]:
    """Somebody who changes tables all the time; gives how often it has."""
    stop, rounds = threading.Event(), [0]

    def work() -> None:
        with psycopg.connect(url, autocommit=True) as connection:
            for number in itertools.count(1):
                for table in tables:
                    connection.execute(f"UPDATE {table} SET n = {number} WHERE id = 1".encode())
                    connection.execute(f"INSERT INTO {table} VALUES ({100_000 + number}, 0, 'new')".encode())
                    connection.execute(f"DELETE FROM {table} WHERE id = {number}+1".encode())
                rounds[0] = number
                if stop.wait(0.05):
                    return

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield rounds
    finally:
        stop.set()
        thread.join()


def seen(settings: Settings, table: str = "small") -> int:
    """The round of the writer that a reader sees."""
    ((number,),) = query(settings, f"SELECT n FROM {table} WHERE id = 1")
    return int(number)


def count(settings: Settings, table: str) -> int:
    """How many rows readers find in a table; 0 if there is none."""
    if not query(settings, f"SELECT 1 FROM information_schema.tables WHERE table_name = '{table}'"):
        return 0
    return int(query(settings, f"SELECT count(*) FROM {table}")[0][0])


def status(pipeline: Any, table: str) -> str:
    one = pipeline.progress().tables.get(f"public.{table}")
    return one.status if one else ""


def test_changes_of_others_are_seen_while_a_new_table_is_copied(
    database: str, tmp_path: Path, admin: Any
) -> None:
    make(admin, "small")
    settings = settings_of(database, tmp_path, "*")
    with running(settings) as pipeline, writing(database, "small") as rounds:
        wait_until(lambda: seen(settings) > 0)
        make(admin, "large", ROWS)
        wait_until(lambda: status(pipeline, "large") == "copying")
        begun, while_copied = rounds[0], 0
        with writing(database, "large"):
            while status(pipeline, "large") == "copying":
                now_seen = seen(settings)
                while_copied += now_seen > begun and status(pipeline, "large") == "copying"
                assert (rows := count(settings, "large")) == 0 or rows > ROWS // 2, "never half a table"
            wait_until(lambda: count(settings, "large") > ROWS // 2)
        wait_until(pipeline.ready)
        assert while_copied, "nothing of the others was seen until the copy had ended"
        wait_until(lambda: seen(settings) == rounds[0] or seen(settings) > begun + 4)
    once(settings)
    assert_equal(settings)


def test_a_table_that_is_listed_left_out_and_listed_again(database: str, tmp_path: Path, admin: Any) -> None:
    make(admin, "small")
    make(admin, "large", 100)
    both, one = (settings_of(database, tmp_path, *names) for names in (("small", "large"), ("small",)))
    with writing(database, "small", "large"):
        with running(one):
            wait_until(lambda: seen(one) > 0)
            assert count(one, "large") == 0
        with running(both) as pipeline:  # its copy runs beside the other's changes
            before = seen(both)
            wait_until(lambda: count(both, "large") > 0 and seen(both) > before)
            wait_until(pipeline.ready)
        with running(one):
            wait_until(lambda: seen(one) > before + 4)
        admin.execute("DELETE FROM large WHERE id % 2 = 0")  # nobody looks
        admin.execute("UPDATE large SET v = 'changed unseen' WHERE id % 7 = 0")
        with running(both) as pipeline:
            wait_until(pipeline.ready)
    once(both)
    assert_equal(both)
