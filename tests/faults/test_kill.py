"""kill -9 at any moment loses and doubles nothing."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import threading
from pathlib import Path

import psycopg

from smartstream.testing.postgres import PostgresServer
from tests.faults.daemon import Daemon
from tests.types_table import SETUP, create_statement, insert_statements

KILLS = int(os.environ.get("SMARTSTREAM_TEST_KILLS", "5"))
SECONDS = int(os.environ.get("SMARTSTREAM_TEST_KILL_SECONDS", "15"))
SCALE = os.environ.get("SMARTSTREAM_TEST_PGBENCH_SCALE", "1")


def kill_at_random_moments(daemon: Daemon, rng: random.Random) -> None:
    """Start and kill it, then let it live on."""
    pause = threading.Event()
    for _ in range(KILLS):
        daemon.start()
        pause.wait(rng.uniform(1.0, SECONDS / KILLS))
        assert daemon.alive(), daemon.log()
        assert daemon.end(signal.SIGKILL) == -signal.SIGKILL
    daemon.start()
    daemon.wait_running()


def test_pgbench_with_kills_is_equal(postgres: PostgresServer, database: str, tmp_path: Path) -> None:
    pgbench = str(postgres.bin_dir / "pgbench")
    subprocess.run([pgbench, "-i", "-s", SCALE, "-q", database], check=True, capture_output=True)
    with psycopg.connect(database, autocommit=True) as admin:
        admin.execute("ALTER TABLE pgbench_history ADD COLUMN id bigserial PRIMARY KEY")
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    daemon = Daemon(tmp_path, database)
    work = subprocess.Popen(
        [pgbench, "-c", "4", "-T", str(SECONDS + 5), database],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        kill_at_random_moments(daemon, random.Random(seed))
    finally:
        work.wait()
    assert daemon.end(signal.SIGTERM) == 0, daemon.log()
    result = daemon.verify()
    assert len(result["tables"]) == 4
    assert result["ok"], result


def test_random_transactions_over_all_types_with_kills_are_equal(database: str, tmp_path: Path) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    with psycopg.connect(database, autocommit=True) as admin:
        admin.execute(SETUP)
        admin.execute(create_statement("everything"))
        admin.execute("CREATE TABLE pairs (a integer, b text, big text, n integer, PRIMARY KEY (a, b))")
        for start in range(0, 400, 20):
            for statement in insert_statements("everything", first_id=start):
                admin.execute(statement)
    stop = threading.Event()
    worker = threading.Thread(target=random_transactions, args=(database, random.Random(rng.random()), stop))
    daemon = Daemon(tmp_path, database)
    worker.start()
    try:
        kill_at_random_moments(daemon, rng)
    finally:
        stop.set()
        worker.join()
    assert daemon.end(signal.SIGTERM) == 0, daemon.log()
    result = daemon.verify()
    assert len(result["tables"]) == 2
    assert result["ok"], f"seed {seed}: {json.dumps(result)[:3000]}"


def random_transactions(url: str, rng: random.Random, stop: threading.Event) -> None:
    """Inserts, updates with unchanged TOAST, key changes, deletes, truncates, rollbacks."""
    statements = (
        "INSERT INTO pairs SELECT %(n)s, 'x', repeat(md5(%(n)s::text), 200), 0 ON CONFLICT DO NOTHING",
        "UPDATE pairs SET n = n + 1 WHERE a %% 7 = %(n)s %% 7",
        "UPDATE pairs SET b = b || 'y' WHERE a = %(n)s AND length(b) < 50",
        "UPDATE pairs SET big = repeat(md5(%(n)s::text), 150) WHERE a %% 5 = %(n)s %% 5",
        "DELETE FROM pairs WHERE a = %(n)s",
        "UPDATE everything SET c_text = repeat('z', %(n)s * 50), c_integer = %(n)s"
        " WHERE id %% 20 = %(n)s %% 20",
        "UPDATE everything SET c_date = 'infinity', c_numeric_bare = 'NaN' WHERE id = %(n)s",
        "DELETE FROM everything WHERE id = %(n)s",
        "INSERT INTO everything (id, c_jsonb) VALUES (%(n)s, '{\"again\": true}') ON CONFLICT DO NOTHING",
        "UPDATE everything SET id = id + 1000 WHERE id = %(n)s AND NOT EXISTS"
        " (SELECT FROM everything WHERE id = %(n)s + 1000)",
    )
    with psycopg.connect(url) as connection:
        while not stop.is_set():
            for _ in range(rng.randint(1, 6)):
                if rng.random() < 0.1:
                    with connection.transaction(force_rollback=True):
                        connection.execute("DELETE FROM pairs")
                with contextlib.suppress(psycopg.errors.UniqueViolation), connection.transaction():
                    connection.execute(rng.choice(statements), {"n": rng.randrange(400)})
            if rng.random() < 0.01:
                connection.execute("TRUNCATE pairs")
            if rng.random() < 0.1:
                connection.rollback()
            else:
                connection.commit()
            stop.wait(0.002)
