"""Transactions of every shape arrive as PostgreSQL has them, however they were built."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest

from smartstream.manifest import EntryKind
from tests.integration.test_pipeline import entries
from tests.running_pipeline import assert_equal, once, query, running, settings_for, wait_until

SETUP = """
CREATE TABLE t (id integer PRIMARY KEY, v text, n integer DEFAULT 0);
CREATE TABLE swaps (
    id integer PRIMARY KEY, place integer UNIQUE DEFERRABLE INITIALLY IMMEDIATE, v text, big text);
CREATE TABLE two (id bigint PRIMARY KEY, v text);
CREATE TABLE parents (id integer PRIMARY KEY);
CREATE TABLE children (
    id integer PRIMARY KEY, parent integer REFERENCES parents DEFERRABLE INITIALLY DEFERRED);
CREATE SEQUENCE numbers;
CREATE UNLOGGED TABLE scratch (id integer PRIMARY KEY);
INSERT INTO t SELECT n, 'v' || n, 0 FROM generate_series(1, 300) n;
INSERT INTO two SELECT n, 'v' FROM generate_series(1, 100) n;
ALTER TABLE swaps ALTER COLUMN big SET STORAGE EXTERNAL;
INSERT INTO swaps SELECT n, n, 'v' || n, repeat('big' || n, 2000) FROM generate_series(1, 200) n;
"""


@pytest.fixture
def admin(database: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(SETUP)
        yield connection


def savepoints(admin: Any) -> None:
    """Kept, rolled back, released and rolled back with what is around them; 64 are the server's cache."""
    with admin.transaction():
        for number in range(200):
            admin.execute(f"SAVEPOINT s{number}")
            admin.execute("UPDATE t SET n = n + %s WHERE id = %s", (number, number % 50 + 1))
            if number % 3 == 0:
                admin.execute(f"ROLLBACK TO s{number}")
            elif number % 3 == 1:
                admin.execute(f"RELEASE s{number}")
        admin.execute("ROLLBACK TO s101")
        admin.execute("INSERT INTO t VALUES (1001, 'behind the savepoint', 1)")


def exceptions(admin: Any) -> None:
    """plpgsql's blocks are subtransactions; what failed in one is gone."""
    admin.execute(
        """
        DO $$ BEGIN
            FOR number IN 1..300 LOOP
                BEGIN
                    INSERT INTO t VALUES (2000 + number, 'loop', number);
                    IF number % 4 = 0 THEN PERFORM 1 / 0; END IF;
                    BEGIN
                        UPDATE t SET n = n + 1 WHERE id = number;
                        IF number % 5 = 0 THEN RAISE EXCEPTION 'inner'; END IF;
                    EXCEPTION WHEN raise_exception THEN
                        UPDATE t SET v = 'inner failed' WHERE id = number;
                    END;
                EXCEPTION WHEN division_by_zero THEN
                    DELETE FROM t WHERE id = number AND number > 200;
                END;
            END LOOP;
        END $$
        """
    )


def nested(admin: Any) -> None:
    """Ninety deep, given up in the middle."""
    with admin.transaction():
        for depth in range(90):
            admin.execute(f"SAVEPOINT deep{depth}")
            admin.execute("UPDATE two SET v = v || %s WHERE id = %s", (str(depth % 10), depth + 1))
        admin.execute("ROLLBACK TO deep40")
        admin.execute("UPDATE two SET v = 'at the bottom' WHERE id = 100")


def rolled_back(admin: Any) -> None:
    """Nothing of it."""
    with admin.transaction(force_rollback=True):
        admin.execute("DELETE FROM t")
        admin.execute("TRUNCATE two")


def ddl_in_savepoints(admin: Any) -> None:
    """A column that never was, and one that is; rows under each shape."""
    with admin.transaction():
        admin.execute("INSERT INTO two VALUES (201, 'before')")
        admin.execute("SAVEPOINT given_up")
        admin.execute("ALTER TABLE two ADD COLUMN never text DEFAULT 'never'")
        admin.execute("INSERT INTO two VALUES (202, 'under a shape that never was', 'x')")
        admin.execute("ROLLBACK TO given_up")
        admin.execute("INSERT INTO two VALUES (203, 'between')")
        admin.execute("SAVEPOINT kept")
        admin.execute("ALTER TABLE two ADD COLUMN late integer DEFAULT 7")
        admin.execute("INSERT INTO two VALUES (204, 'after', 8)")
        admin.execute("RELEASE kept")
        admin.execute("UPDATE two SET late = 9 WHERE id = 1")


def two_sessions_and_ddl(admin: Any) -> None:
    """One has inserted, the other waits with its ALTER and inserts after it, both in open transactions."""
    with psycopg.connect(admin.info.dsn, password=admin.info.password) as other:
        other.execute("INSERT INTO t VALUES (3001, 'before the column', 0)")
        admin.execute("SET lock_timeout = '200ms'")
        with suppress(psycopg.errors.LockNotAvailable):
            admin.execute("ALTER TABLE t ADD COLUMN blocked integer")
        admin.execute("SET lock_timeout = 0")
        other.execute("SAVEPOINT s")
        other.execute("ALTER TABLE t ADD COLUMN mine text DEFAULT 'm'")
        other.execute("INSERT INTO t VALUES (3002, 'after the column', 0, 'x')")
        other.execute("UPDATE t SET mine = 'y' WHERE id < 5")
    admin.execute("INSERT INTO t VALUES (3003, 'another session', 0, 'z')")


def same_key(admin: Any) -> None:
    """A key that is touched a thousand times, and ones that come and go."""
    with admin.transaction():
        for _ in range(1000):
            admin.execute("UPDATE t SET n = n + 1 WHERE id = 7")
        for _ in range(20):
            admin.execute("DELETE FROM t WHERE id = 8")
            admin.execute("INSERT INTO t (id, v) VALUES (8, 'again')")
        admin.execute("INSERT INTO t (id, v) VALUES (4001, 'short')")
        admin.execute("DELETE FROM t WHERE id = 4001")
        admin.execute("DELETE FROM t WHERE id = 9")
        admin.execute("INSERT INTO t (id, v) VALUES (9, 'other')")
        admin.execute("DELETE FROM t WHERE id = 9")


def swapped_keys(admin: Any) -> None:
    """Two rows take each other's key, three go round, with values that the log leaves out."""
    with admin.transaction():
        for old, new in ((1, -1), (2, 1), (-1, 2), (3, -3), (4, 3), (5, 4), (-3, 5), (6, 7000)):
            admin.execute("UPDATE swaps SET id = %s WHERE id = %s", (new, old))
        admin.execute("UPDATE swaps SET v = 'swapped' WHERE id <= 3")
        admin.execute("DELETE FROM swaps WHERE id = 7000")
        admin.execute("INSERT INTO swaps VALUES (7000, 7000, 'the next', 'small')")


def deferred_swaps(admin: Any) -> None:
    """What a deferred constraint lets be double for a while."""
    with admin.transaction():
        admin.execute("SET CONSTRAINTS ALL DEFERRED")
        admin.execute("UPDATE swaps SET place = 11 WHERE place = 10")
        admin.execute("UPDATE swaps SET place = 10 WHERE place = 11 AND v = 'v11'")
        admin.execute("UPDATE swaps SET place = 1000 - place WHERE place BETWEEN 400 AND 600")
        admin.execute("UPDATE swaps SET place = place + 1")


def shifted_keys(admin: Any) -> None:
    """Every key becomes its neighbour's, three times over and back."""
    with admin.transaction():
        for step in (1, 1, -1):
            admin.execute("UPDATE swaps SET id = -id")
            admin.execute("UPDATE swaps SET id = %s - id", (step,))


def deferred_references(admin: Any) -> None:
    """Children come before their parents."""
    with admin.transaction():
        admin.execute("INSERT INTO children SELECT n, n FROM generate_series(1, 50) n")
        admin.execute("INSERT INTO parents SELECT n FROM generate_series(1, 50) n")
    with suppress(psycopg.errors.ForeignKeyViolation), admin.transaction():
        admin.execute("INSERT INTO children VALUES (99, 99)")


def replica_role(admin: Any) -> None:
    """Triggers and foreign keys are silent; the changes are changes all the same."""
    with admin.transaction():
        admin.execute("SET LOCAL session_replication_role = replica")
        admin.execute("INSERT INTO children VALUES (60, NULL), (61, 1)")
        admin.execute("DELETE FROM parents WHERE id = 50")
        admin.execute("DELETE FROM children WHERE id = 50")


def foreign_origin(admin: Any) -> None:
    """Changes that were replicated here from elsewhere are changes of this database."""
    admin.execute("SELECT pg_replication_origin_create('elsewhere_' || current_database())")
    admin.execute("SELECT pg_replication_origin_session_setup('elsewhere_' || current_database())")
    with admin.transaction():
        admin.execute("SELECT pg_replication_origin_xact_setup('0/ABCDEF', '2020-01-01')")
        admin.execute("UPDATE t SET v = 'from elsewhere' WHERE id BETWEEN 20 AND 30")
    admin.execute("SELECT pg_replication_origin_session_reset()")
    admin.execute("SELECT pg_replication_origin_drop('elsewhere_' || current_database())")


def messages_and_nothing(admin: Any) -> None:
    """Logical messages, sequences, empty transactions and tables that are not logged."""
    with admin.transaction():
        admin.execute("SELECT pg_logical_emit_message(true, 'app', repeat('x', 5000))")
        admin.execute("SELECT pg_logical_emit_message(false, 'app', 'at once')")
        admin.execute("UPDATE t SET v = 'with a message' WHERE id = 40")
        admin.execute("SELECT pg_logical_emit_message(true, '', '')")
    admin.execute("SELECT pg_logical_emit_message(false, 'smartstream', 'C')")
    admin.execute("SELECT nextval('numbers') FROM generate_series(1, 100)")
    with admin.transaction():
        admin.execute("SELECT setval('numbers', 5000)")
        admin.execute("SELECT pg_current_xact_id()")
    admin.execute("INSERT INTO scratch SELECT n FROM generate_series(1, 100) n")
    with admin.transaction():
        admin.execute("CREATE TEMP TABLE passing AS SELECT 1")


def truncate_between(admin: Any) -> None:
    """Rows before and after a truncate of the same transaction, and one in a savepoint given up."""
    with admin.transaction():
        admin.execute("INSERT INTO two (id, v) VALUES (301, 'gone')")
        admin.execute("TRUNCATE two")
        admin.execute("INSERT INTO two (id, v) SELECT n, 'new' FROM generate_series(1, 30) n")
        admin.execute("SAVEPOINT s")
        admin.execute("TRUNCATE t")
        admin.execute("INSERT INTO t (id) VALUES (1)")
        admin.execute("ROLLBACK TO s")
        admin.execute("DELETE FROM two WHERE id > 20")


def many_tiny(admin: Any) -> None:
    """Two thousand transactions of one row."""
    with admin.pipeline():
        for number in range(2000):
            admin.execute("UPDATE t SET n = n + 1 WHERE id = %s", (number % 100 + 1,))


SHAPES: tuple[Callable[[Any], None], ...] = (
    savepoints,
    exceptions,
    nested,
    rolled_back,
    same_key,
    swapped_keys,
    deferred_swaps,
    shifted_keys,
    deferred_references,
    replica_role,
    foreign_origin,
    messages_and_nothing,
    ddl_in_savepoints,
    two_sessions_and_ddl,
    truncate_between,
    many_tiny,
)


def test_every_shape_arrives_by_the_stream(admin: Any, database: str, tmp_path: Path) -> None:
    settings = settings_for(database, tmp_path)
    with running(settings):
        for number, shape in enumerate(SHAPES):
            shape(admin)
            if number % 4 == 3:
                assert_equal(settings)
        assert_equal(settings)
    copied = [entry.table for entry in entries(settings) if entry.kind is EntryKind.COPY_START]
    assert all(copied.count(f"public.{name}") == 1 for name in ("swaps", "parents", "children")), copied


def test_every_shape_arrives_by_catching_up_in_small_pieces(
    admin: Any, database: str, tmp_path: Path
) -> None:
    settings = settings_for(
        database,
        tmp_path,
        defaults={"flush": {"every": "100ms", "bytes": "8KiB"}},
        limits={"memory_bytes": "1MiB", "queue_bytes": "1KiB"},
    )
    once(settings)
    for shape in SHAPES:
        shape(admin)
    once(settings)
    assert_equal(settings)
    before = query(settings, "SELECT sum(n), count(*) FROM t")
    once(settings)
    assert query(settings, "SELECT sum(n), count(*) FROM t") == before


def test_the_slot_moves_past_what_is_not_for_us(admin: Any, database: str, tmp_path: Path) -> None:
    """Unpublished tables, messages and sequences are WAL too; nobody may have to keep it."""
    admin.execute("CREATE TABLE private (id integer, v text)")
    settings = settings_for(database, tmp_path, tables={"public.t": {}})
    passed = (
        "SELECT (SELECT confirmed_flush_lsn FROM pg_replication_slots WHERE slot_name = %s) >= %s::pg_lsn"
    )
    with running(settings) as pipeline:
        captured = pipeline.progress().captured_count
        for work in (
            "INSERT INTO private SELECT n, repeat('x', 100) FROM generate_series(1, 20000) n",
            "SELECT pg_logical_emit_message(false, 'app', repeat('x', 1000)) FROM generate_series(1, 1000)",
            "SELECT nextval('numbers') FROM generate_series(1, 1000)",
        ):
            admin.execute(work)
            (end,) = admin.execute("SELECT pg_current_wal_insert_lsn()").fetchone()
            given = (settings.source.slot.name, end)
            wait_until(lambda given=given: admin.execute(passed, given).fetchone() == (True,))
        assert pipeline.progress().captured_count == captured
