"""Partitions that come and go between two copies of their root."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest

from tests.running_pipeline import assert_equal, query, running, settings_for, wait_until


@pytest.mark.parametrize("leaves", ["ALTER TABLE p DETACH PARTITION p_new", "DROP TABLE p_new"])
def test_a_partition_that_came_after_the_copy_takes_its_rows_along(
    database: str, tmp_path: Path, leaves: str
) -> None:
    """The root then consists of the files that were copied, but its rows came through the stream too."""
    settings = settings_for(database, tmp_path)
    with psycopg.connect(database, autocommit=True) as admin:
        admin.execute("CREATE TABLE p (id int PRIMARY KEY, v text) PARTITION BY RANGE (id)")
        admin.execute("CREATE TABLE p_old PARTITION OF p FOR VALUES FROM (0) TO (100)")
        admin.execute("INSERT INTO p SELECT n, 'old' FROM generate_series(1, 9) n")
        with running(settings) as pipeline:

            def files() -> int:
                assert pipeline._journal is not None
                return max(len(stamp["files"]) for stamp in pipeline._journal.state.stamps.values())

            admin.execute("CREATE TABLE p_new PARTITION OF p FOR VALUES FROM (100) TO (200)")
            admin.execute("INSERT INTO p SELECT n, 'new' FROM generate_series(100, 109) n")
            wait_until(lambda: files() == 3)
            assert_equal(settings)
            admin.execute(leaves.encode())
            wait_until(lambda: files() == 2)  # noted when the copy begins, not when it is whole
            wait_until(lambda: query(settings, "SELECT count(*) FROM p") == [(9,)])
            assert_equal(settings)
