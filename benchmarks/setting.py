"""The server, the tables and the lake that the benchmarks run on."""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg

from smartstream.config import Settings
from smartstream.pipeline import Pipeline
from smartstream.testing.postgres import PostgresServer
from smartstream.verify import verify

ORDERS = """
CREATE TABLE orders (
    id integer PRIMARY KEY, customer integer, amount numeric(12,2), quantity bigint, status text, note text,
    placed timestamptz, due date, paid boolean, weight double precision, reference uuid)
"""
FILL = """
INSERT INTO orders
SELECT n, n %% 5000, n / 100.0, n * 3, 'new', 'order number ' || n,
       timestamptz '2026-01-01' + n * interval '1 s', date '2026-01-01' + n %% 365,
       n %% 2 = 0, n / 7.0, md5(n::text)::uuid
FROM generate_series(%s::integer, %s::integer) n
"""
TUNING = {"shared_buffers": "256MB", "max_wal_size": "16GB", "checkpoint_timeout": "1h", "autovacuum": "off"}


@contextmanager
def server() -> Iterator[PostgresServer]:
    """A PostgreSQL of its own, durable as in production."""
    with PostgresServer.start(settings=TUNING) as running:
        yield running


@contextmanager
def lake(url: str, **source: Any) -> Iterator[Settings]:
    """Settings with a fresh lake in a temporary folder."""
    with tempfile.TemporaryDirectory(prefix="smartstream-bench-") as folder:
        warehouse = str(Path(folder) / "lake")
        yield Settings.model_validate({"source": {"url": url, **source}, "lake": {"warehouse": warehouse}})


def create_orders(url: str, rows: int) -> None:
    """The table, filled, and its statistics and visibility settled."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(ORDERS)
        connection.execute(FILL, (1, rows))
        connection.execute("VACUUM ANALYZE orders")
        connection.execute("CHECKPOINT")


def make_backlog(url: str, changes: int, *, per_transaction: int = 1000) -> None:
    """Updates (7 in 10), inserts (2 in 10) and deletes (1 in 10) of ``orders``."""
    with psycopg.connect(url) as connection:
        top = connection.execute("SELECT max(id) FROM orders").fetchone()
        assert top is not None
        next_id, update_from, delete_from = top[0] + 1, 1, top[0]
        updates, inserts, deletes = (per_transaction * share // 10 for share in (7, 2, 1))
        for _ in range(changes // per_transaction):
            connection.execute(
                "UPDATE orders SET quantity = quantity + 1, status = 'changed' WHERE id >= %s AND id < %s",
                (update_from, update_from + updates),
            )
            connection.execute(FILL, (next_id, next_id + inserts - 1))
            connection.execute(
                "DELETE FROM orders WHERE id <= %s AND id > %s", (delete_from, delete_from - deletes)
            )
            connection.commit()
            next_id, delete_from = next_id + inserts, delete_from - deletes
            update_from = 1 + (update_from + updates) % max(1, top[0] // 2)


def wal_end(url: str) -> str:
    """The server's WAL position, as text; everything before it is flushed."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CHECKPOINT")
        row = connection.execute("SELECT pg_current_wal_insert_lsn()::text").fetchone()
        assert row is not None
        return str(row[0])


def create_slot(url: str, name: str) -> None:
    """A slot for a baseline."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", (name,))


def timed(work: Callable[[], object]) -> float:
    """Seconds that ``work`` takes."""
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def receive(running: PostgresServer, slot: str, upto: str) -> None:
    """The baseline: pg_recvlogical of the same messages to /dev/null."""
    program = [str(running.bin_dir / "pg_recvlogical"), "-d", running.url, "-S", slot]
    options = ["-o", "proto_version=1", "-o", "publication_names=smartstream"]
    target = ["--start", "--no-loop", "--endpos", upto, "-f", "/dev/null"]
    subprocess.run([*program, *options, *target], check=True)


def copy_out(running: PostgresServer, table: str) -> None:
    """The baseline: COPY (FORMAT binary) to /dev/null, through a client, as a copy must."""
    statement = f"\\copy {table} TO '/dev/null' (FORMAT binary)"
    subprocess.run([str(running.bin_dir / "psql"), running.url, "-qc", statement], check=True)


@contextmanager
def running_pipeline(settings: Settings) -> Iterator[Pipeline]:
    """A pipeline in a thread of its own; its error is raised at the end."""
    pipeline, stop = Pipeline(settings), threading.Event()
    errors: list[BaseException] = []

    def run() -> None:
        try:
            pipeline.run(stop=stop)
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield pipeline
    except TimeoutError as error:  # perhaps only because the pipeline has stopped
        raise (errors or [error])[0] from error
    finally:
        stop.set()
        thread.join()
    if errors:
        raise errors[0]


def wait_until(done: Callable[[], bool], timeout_s: float) -> None:
    """Wait until something holds; TimeoutError if it doesn't in time."""
    pause = threading.Event()
    deadline = time.monotonic() + timeout_s
    while not done():
        if time.monotonic() > deadline:
            raise TimeoutError("the benchmark's pipeline did not get there")
        pause.wait(0.02)


def check(settings: Settings) -> None:
    """Prove the lake right: a figure of wrong work says nothing."""
    report = verify(settings, wait_seconds=60)
    assert report.ok, report


def peak_rss_mib() -> float:
    """The largest memory this process has had, in MiB.

    Linux passes ru_maxrss on from the process that started this one; VmHWM is ours.
    """
    status = Path("/proc/self/status")
    if status.exists():
        (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) / 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20 if sys.platform == "darwin" else 1 << 10)
