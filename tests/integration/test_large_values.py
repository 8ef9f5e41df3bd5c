"""Values of many megabytes: copied, streamed, left unchanged, several at once, in bounded memory.

``make soak`` sets ``SMARTSTREAM_TEST_VALUE_MB`` to 100; without it they are small, and memory is not
measured.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from smartstream.config import Settings
from smartstream.errors import ValueTooLarge
from tests.running_pipeline import assert_equal, once, query, running, settings_for, wait_until

VALUE_MB = int(os.environ.get("SMARTSTREAM_TEST_VALUE_MB", "4"))
HEAVY = pytest.mark.skipif(
    "SMARTSTREAM_TEST_VALUE_MB" not in os.environ, reason="set SMARTSTREAM_TEST_VALUE_MB, as `make soak` does"
)
BYTES = VALUE_MB << 20
COUNT = 4
MEMORY_MIB_MAX = 480 + 10 * VALUE_MB
"""Of the process, however many values there are."""

WORDS = f"repeat(md5(%(k)s::text), {BYTES // 32})"
KINDS = {
    "text": WORDS,
    "bytea": f"convert_to({WORDS}, 'UTF8')",
    "jsonb": f"jsonb_build_object('words', {WORDS}, 'k', %(k)s::int)",
    "text[]": f"array_fill(repeat(md5(%(k)s::text), 1024), ARRAY[{BYTES // 32768}])",
}
TABLES = {f"t{number}": kind for number, kind in enumerate(KINDS)}

MEASURED = """
import json, sys
from benchmarks.setting import peak_rss_mib
from smartstream.config import Settings
from smartstream.pipeline import Pipeline
Pipeline(Settings.model_validate(json.load(sys.stdin))).run(once=True)
print(peak_rss_mib())
"""


@pytest.fixture
def admin(database: str) -> Iterator[Any]:
    with psycopg.connect(database, autocommit=True) as connection:
        yield connection


@pytest.fixture
def settings(database: str, tmp_path: Path) -> Settings:
    return settings_for(database, tmp_path, limits={"duckdb_memory": max(256, 20 * VALUE_MB) << 20})


def put(admin: Any, table: str, key: int) -> None:
    """One row with a large value of its own."""
    value = KINDS[TABLES[table]]
    admin.execute(f"INSERT INTO {table} SELECT %(k)s, 0, {value}", {"k": key})


def make(admin: Any) -> None:
    """The tables, with one large value each, and a small one."""
    for table, kind in TABLES.items():
        admin.execute(f"CREATE TABLE {table} (id integer PRIMARY KEY, n integer, v {kind})".encode())
        put(admin, table, 1)
        admin.execute(f"INSERT INTO {table} VALUES (2, 0, NULL)".encode())


def test_large_values_are_copied_and_streamed_alike(settings: Settings, admin: Any) -> None:
    make(admin)
    with running(settings) as pipeline:
        with admin.transaction():  # all kinds in one transaction
            for table in TABLES:
                put(admin, table, 3)
        for table in TABLES:  # what is not sent: 1 and 3 are left unchanged, and moved to another key
            admin.execute(f"UPDATE {table} SET n = n + 1".encode())
            admin.execute(f"UPDATE {table} SET id = 30 WHERE id = 3".encode())
            admin.execute(
                f"UPDATE {table} SET v = (SELECT v FROM {table} WHERE id = 1) WHERE id = 2".encode()
            )
            admin.execute(f"DELETE FROM {table} WHERE id = 1".encode())
        wait_until(lambda: all(_ids(settings, table) == [2, 30] for table in TABLES), 60)
        wait_until(pipeline.ready, 60)
        assert_equal(settings)


def _ids(settings: Settings, table: str) -> list[int]:
    return [key for (key,) in query(settings, f"SELECT id FROM {table} WHERE n = 1 ORDER BY id")]


@HEAVY
@pytest.mark.parametrize("table", ["t0", "t1", "t2"])
def test_memory_does_not_grow_with_their_number(
    table: str, settings: Settings, database: str, tmp_path: Path, admin: Any
) -> None:
    admin.execute(f"CREATE TABLE {table} (id integer PRIMARY KEY, n integer, v {TABLES[table]})".encode())
    for key in range(COUNT):
        put(admin, table, key)
    peaks = {"copy": peak_mib(database, tmp_path)}
    with admin.transaction():
        for key in range(COUNT):
            put(admin, table, 100 + key)
    peaks["stream"] = peak_mib(database, tmp_path)
    admin.execute(f"UPDATE {table} SET n = n + 1".encode())  # sends none of the values
    peaks["unchanged"] = peak_mib(database, tmp_path)
    sys.stderr.write(f"\n{2 * COUNT} values of {VALUE_MB} MB as {TABLES[table]}, peak MiB: {peaks}\n")
    assert max(peaks.values()) < MEMORY_MIB_MAX, peaks
    assert_equal(settings)


def peak_mib(database: str, folder: Path) -> float:
    """Peak memory of a process that brings the lake up to date."""
    given = {"source": {"url": database}, "lake": {"warehouse": str(folder / "lake")}}
    done = subprocess.run(
        [sys.executable, "-c", MEASURED],
        input=json.dumps(given),
        check=True,
        capture_output=True,
        text=True,
        timeout=600,
        cwd=Path(__file__).parents[2],
    )
    return float(done.stdout.splitlines()[-1])


@HEAVY
def test_a_row_that_postgresql_cannot_send_is_named(settings: Settings, admin: Any) -> None:
    admin.execute("CREATE TABLE t (id integer PRIMARY KEY, v bytea)")
    once(settings)
    admin.execute("INSERT INTO t SELECT 1, convert_to(repeat(repeat('x', 1048576), 550), 'UTF8')")
    with pytest.raises(
        ValueTooLarge, match=r"invalid memory alloc.*now such a row is in public\.t"
    ) as raised:
        once(settings)
    assert "xxxx" not in str(raised.value)
    assert "smartstream resync" in raised.value.hint
