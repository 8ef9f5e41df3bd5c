"""A publication that is not SmartStream's: its row filters and column lists say what is captured."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from smartstream.config import Settings
from smartstream.doctor import diagnose
from smartstream.errors import NoTables, PublicationMissing, PublicationUnfit
from smartstream.pipeline.forecast import forecast
from smartstream.verify.compare import _now as now
from tests.running_pipeline import assert_equal, once, query, running, settings_for, wait_until

VIA_ROOT = "WITH (publish_via_partition_root = true)"


@pytest.fixture
def admin(database: str) -> Iterator[Any]:
    with psycopg.connect(database, autocommit=True) as connection:
        yield connection


@pytest.fixture
def settings(database: str, tmp_path: Path) -> Settings:
    source = {
        "url": database,
        "publication": "own",
        "manage_publication": False,
        "discover_every": "200ms",
        "heartbeat": "200ms",
    }
    return settings_for(database, tmp_path, source=source)


@pytest.fixture
def filters(admin: Any) -> None:
    if admin.info.server_version < 150000:
        pytest.skip("row filters and column lists came with PostgreSQL 15")


def rows(settings: Settings, table: str = "t") -> list[tuple[Any, ...]]:
    return query(settings, f"SELECT * EXCLUDE (_lsn, _untyped) FROM {table} ORDER BY id")


def make(admin: Any) -> None:
    """A table with a filter column in its replica identity, and a secret."""
    admin.execute(
        "CREATE TABLE t (id integer, region integer, note text, secret text, PRIMARY KEY (id, region))"
    )
    admin.execute("INSERT INTO t SELECT i, i % 3, 'note ' || i, 'secret' FROM generate_series(1, 9) i")
    admin.execute("CREATE TABLE other (id integer PRIMARY KEY)")
    admin.execute(f"CREATE PUBLICATION own FOR TABLE t (id, region, note) WHERE (region > 0) {VIA_ROOT}")


def test_a_copy_has_the_rows_and_columns_that_the_stream_has(
    settings: Settings, admin: Any, filters: None
) -> None:
    make(admin)
    with running(settings):
        assert rows(settings) == [(i, i % 3, f"note {i}") for i in range(1, 10) if i % 3]
        admin.execute("UPDATE t SET note = 'changed' WHERE id = 1")
        admin.execute("UPDATE t SET region = 0 WHERE id = 2")  # leaves the filter
        admin.execute("UPDATE t SET region = 1 WHERE id = 3")  # comes into it
        admin.execute("INSERT INTO t VALUES (10, 0, 'out', ''), (11, 1, 'in', '')")
        admin.execute("DELETE FROM t WHERE id IN (4, 6)")
        wait_until(lambda: [row[0] for row in rows(settings)] == [1, 3, 5, 7, 8, 11])
        assert_equal(settings)
    admin.execute("UPDATE t SET note = 'while it was down' WHERE id = 5")
    once(settings)
    assert_equal(settings)
    assert "note" in rows_text(settings) and "secret" not in rows_text(settings)


def rows_text(settings: Settings) -> str:
    return str(query(settings, "DESCRIBE t"))


@pytest.mark.parametrize("down", [False, True], ids=["running", "down"])
def test_what_it_sends_is_followed_when_it_is_altered(
    down: bool, settings: Settings, admin: Any, filters: None
) -> None:
    make(admin)
    alterations = {
        "SET TABLE t (id, region, note) WHERE (region > 1)": (3, 3),
        "SET TABLE t (id, region, secret)": (9, 3),
        "SET TABLE t WHERE (region = 0)": (3, 4),
    }
    if down:
        once(settings)
        for alteration, shape in list(alterations.items())[1:]:
            admin.execute(f"ALTER PUBLICATION own {alteration}")
            admin.execute("UPDATE t SET note = note || '!'")
            once(settings)
            assert _shape(settings) == shape
            assert_equal(settings)
        return
    with running(settings):
        for alteration, shape in alterations.items():
            admin.execute(f"ALTER PUBLICATION own {alteration}")
            admin.execute("UPDATE t SET note = note || '!'")
            wait_until(lambda shape=shape: _shape(settings) == shape, 60)
            assert_equal(settings)


def _shape(settings: Settings) -> tuple[int, int]:
    found = rows(settings)
    return len(found), len(found[0]) if found else 0


def test_a_table_that_it_does_not_send_is_none_of_ours(settings: Settings, admin: Any) -> None:
    admin.execute("CREATE TABLE t (id integer PRIMARY KEY)")
    admin.execute("CREATE TABLE other (n integer)")  # keyless: would be refused
    with pytest.raises(PublicationMissing, match="no publication own"):
        once(settings)
    admin.execute(f"CREATE PUBLICATION own {VIA_ROOT}")
    with pytest.raises(NoTables):
        once(settings)
    admin.execute("ALTER PUBLICATION own ADD TABLE t")
    admin.execute("INSERT INTO t VALUES (1)")
    assert not forecast(settings, clock=now).publication.added
    with running(settings):
        admin.execute("CREATE TABLE late (id integer PRIMARY KEY)")
        admin.execute("INSERT INTO late VALUES (1)")
        admin.execute("ALTER PUBLICATION own ADD TABLE late")
        wait_until(lambda: tables(settings, "late") != [] and rows(settings, "late") == [(1,)])
        admin.execute("ALTER PUBLICATION own DROP TABLE late")
        admin.execute("UPDATE late SET id = 2")
        admin.execute("INSERT INTO t VALUES (2)")
        wait_until(lambda: len(rows(settings)) == 2)
        admin.execute("ALTER PUBLICATION own ADD TABLE late")
        wait_until(lambda: rows(settings, "late") == [(2,)])
        assert_equal(settings)
    assert [check.found for check in diagnose(settings) if check.status == "fail"] == []


def tables(settings: Settings, name: str) -> list[tuple[Any, ...]]:
    return query(settings, f"SELECT table_name FROM information_schema.tables WHERE table_name = '{name}'")


def test_a_large_value_that_comes_into_a_filter_unsent_is_read_from_the_source(
    settings: Settings, admin: Any, filters: None
) -> None:
    """The server makes an INSERT of such an update, and leaves out what the update left as it was."""
    admin.execute("CREATE TABLE t (id integer, region integer, big text, PRIMARY KEY (id, region))")
    admin.execute("ALTER TABLE t ALTER big SET STORAGE EXTERNAL")
    admin.execute("INSERT INTO t SELECT i, 0, repeat(md5(i::text), 300) FROM generate_series(1, 3) i")
    admin.execute(f"CREATE PUBLICATION own FOR TABLE t WHERE (region > 0) {VIA_ROOT}")
    with running(settings):
        admin.execute("UPDATE t SET region = 1 WHERE id < 3")
        wait_until(lambda: len(rows(settings)) == 2)
        assert_equal(settings)


def test_one_that_sends_too_little_is_refused(settings: Settings, admin: Any, filters: None) -> None:
    make(admin)
    all_kinds = "publish = 'insert, update, delete, truncate'"
    refused = {
        "SET TABLE t (id, note)": r"column list of public\.t in publication own lacks region",
        "SET TABLE t": None,
        "SET (publish = 'insert')": f"is not set to {all_kinds}",
        f"SET ({all_kinds}, publish_via_partition_root = false)": "via_partition_root = true",
    }
    for alteration, what in refused.items():
        admin.execute(f"ALTER PUBLICATION own {alteration}")
        if what:
            with pytest.raises(PublicationUnfit, match=what):
                once(settings)
