"""Chunks and the sweep add up to the table, whatever happens between them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
import pyarrow as pa
import pytest

from smartstream import errors
from smartstream.capture import snapshot
from smartstream.capture.connect import adbc_connect, connect
from smartstream.schema import TableSchema

from .source_setup import FakeSource, run_sql, table

COPY_LSN = 4711
BIG = 1 << 40


@dataclass
class Copier:
    """A table and the connections that copy it."""

    url: str
    connection: psycopg.Connection[tuple[Any, ...]]
    bulk: Any

    def plan(self, name: str, chunk_bytes: int = 8192) -> tuple[TableSchema, snapshot.Plan]:
        """A table's schema and plan; chunks of one page unless told."""
        schema = table(self.connection, name)
        return schema, snapshot.plan(self.connection, schema, chunk_bytes)

    def read(self, schema: TableSchema, plan: snapshot.Plan, chunks: Iterable[int] | None = None) -> pa.Table:
        """The rows of some chunks, or all."""
        wanted = range(len(plan.chunks)) if chunks is None else chunks
        parts = [
            part
            for n in wanted
            for part in snapshot.read_chunk(
                self.bulk, schema, tuple(plan.chunks[n]), copy_lsn=COPY_LSN, filenode=plan.filenode
            )
        ]
        return pa.concat_tables([schema.changelog_schema().empty_table(), *parts])

    def sweep(self, schema: TableSchema, plan: snapshot.Plan) -> pa.Table:
        """The rows written since the plan."""
        parts = snapshot.read_sweep(
            self.bulk, schema, xmin=plan.xmin, copy_lsn=COPY_LSN, filenode=plan.filenode
        )
        return pa.concat_tables([schema.changelog_schema().empty_table(), *parts])


@pytest.fixture
def copier(database: str) -> Iterator[Copier]:
    """Connections to a fresh database."""
    with connect(FakeSource(database)) as connection, adbc_connect(FakeSource(database)) as bulk:
        yield Copier(database, connection, bulk)


def ids(rows: pa.Table) -> list[int]:
    """The ``id`` column, sorted."""
    return sorted(rows["id"].to_pylist())


def filled(url: str, row_count: int, *, columns: str = "v text") -> None:
    """A table ``t`` with rows of about 100 bytes, without autovacuum."""
    run_sql(
        url,
        f"CREATE TABLE t (id int PRIMARY KEY, {columns}) WITH (autovacuum_enabled = false, fillfactor = 100)",
        f"INSERT INTO t SELECT g, repeat('x', 70) FROM generate_series(1, {row_count}) g",
    )


def test_the_chunks_of_a_table_are_its_rows(copier: Copier) -> None:
    filled(copier.url, 1000)
    schema, plan = copier.plan("t")
    assert len(plan.chunks) > 10
    assert plan.chunks[-1].page_max == snapshot.PAGE_MAX
    rows = copier.read(schema, plan)
    assert rows.schema == schema.changelog_schema()
    assert ids(rows) == list(range(1, 1001))
    assert set(rows["_op"].to_pylist()) == {"r"}
    assert set(rows["_commit_lsn"].to_pylist()) == {COPY_LSN}


def test_chunks_are_about_as_large_as_asked_for(copier: Copier) -> None:
    filled(copier.url, 1000)
    _, plan = copier.plan("t", 4 * 8192)
    assert [(c.page_min, c.page_max) for c in plan.chunks[:2]] == [(0, 3), (4, 7)]
    assert [c.page_min for c in plan.chunks[1:]] == [c.page_max + 1 for c in plan.chunks[:-1]]
    assert len(copier.plan("t", BIG)[1].chunks) == 1


def test_a_chunk_survives_the_manifest(copier: Copier) -> None:
    filled(copier.url, 10)
    schema, plan = copier.plan("t")
    stored = json.loads(json.dumps({"chunks": plan.chunks, "filenode": plan.filenode, "xmin": plan.xmin}))
    parts = snapshot.read_chunk(
        copier.bulk, schema, tuple(stored["chunks"][0]), copy_lsn=1, filenode=stored["filenode"]
    )
    assert sum(part.num_rows for part in parts) == 10


def test_an_empty_table_is_one_empty_chunk(copier: Copier) -> None:
    run_sql(copier.url, "CREATE TABLE t (id int PRIMARY KEY)")
    schema, plan = copier.plan("t")
    assert len(plan.chunks) == 1
    assert plan.row_estimate == 0
    assert copier.read(schema, plan).num_rows == 0


def test_rows_that_come_after_the_plan_are_in_the_last_chunk(copier: Copier) -> None:
    filled(copier.url, 100)
    schema, plan = copier.plan("t")
    run_sql(copier.url, "INSERT INTO t SELECT g, repeat('x', 70) FROM generate_series(101, 1000) g")
    assert ids(copier.read(schema, plan)) == list(range(1, 1001))


def test_a_partitioned_table_is_read_leaf_by_leaf_under_odd_names(copier: Copier) -> None:
    run_sql(
        copier.url,
        'CREATE SCHEMA "S ""x"""',
        "CREATE TABLE p (id int, v text, PRIMARY KEY (id)) PARTITION BY RANGE (id)",
        'CREATE TABLE "S ""x"""."Leaf 1" PARTITION OF p FOR VALUES FROM (0) TO (500)',
        "CREATE TABLE p_2 (gone int, v text, id int PRIMARY KEY)",
        "ALTER TABLE p_2 DROP COLUMN gone, ALTER id SET NOT NULL",
        "ALTER TABLE p ATTACH PARTITION p_2 FOR VALUES FROM (500) TO (2000)",
        "INSERT INTO p SELECT g, repeat('x', 70) FROM generate_series(1, 1000) g",
    )
    schema, plan = copier.plan("p")
    assert {chunk.relation for chunk in plan.chunks} == {'"S ""x"""."Leaf 1"', "public.p_2"}
    rows = copier.read(schema, plan)
    assert ids(rows) == list(range(1, 1001))
    assert set(rows["v"].to_pylist()) == {"x" * 70}


def test_a_partitioned_table_without_partitions_has_no_chunk(copier: Copier) -> None:
    run_sql(copier.url, "CREATE TABLE p (id int PRIMARY KEY) PARTITION BY RANGE (id)")
    assert copier.plan("p")[1].chunks == ()


def test_rows_of_inheriting_tables_are_not_the_parents(copier: Copier) -> None:
    filled(copier.url, 10)
    run_sql(copier.url, "CREATE TABLE child () INHERITS (t)", "INSERT INTO child VALUES (99, 'x')")
    schema, plan = copier.plan("t")
    assert ids(copier.read(schema, plan)) == list(range(1, 11))


REWRITES = {
    "VACUUM FULL": ["VACUUM FULL t"],
    "CLUSTER": ["CLUSTER t USING t_pkey"],
    "another type": ["ALTER TABLE t ALTER COLUMN id TYPE bigint"],
    "TRUNCATE": ["TRUNCATE t"],
    "a column dropped": ["ALTER TABLE t DROP COLUMN v"],
    "a column renamed": ["ALTER TABLE t RENAME COLUMN v TO w"],
    "dropped": ["DROP TABLE t"],
    "replaced": ["ALTER TABLE t RENAME TO old", "CREATE TABLE t (id int PRIMARY KEY, v text)"],
}


@pytest.mark.parametrize("statements", REWRITES.values(), ids=REWRITES.keys())
def test_a_table_that_is_rewritten_between_chunks_is_noticed(
    copier: Copier, statements: Sequence[str]
) -> None:
    filled(copier.url, 1000)
    schema, plan = copier.plan("t")
    assert copier.read(schema, plan, [0]).num_rows > 0
    run_sql(copier.url, *statements)
    with pytest.raises(errors.TableRewritten):
        copier.read(schema, plan, [1])
    with pytest.raises(errors.TableRewritten):
        copier.sweep(schema, plan)
    run_sql(copier.url, "SET lock_timeout = '2s'", "DROP TABLE IF EXISTS t")


def test_no_rewrite_comes_between_the_check_and_the_last_row(copier: Copier) -> None:
    filled(copier.url, 50_000)
    schema, plan = copier.plan("t", BIG)
    parts = snapshot.read_chunk(
        copier.bulk, schema, tuple(plan.chunks[0]), copy_lsn=COPY_LSN, filenode=plan.filenode
    )
    rows = next(parts).num_rows
    with psycopg.connect(copier.url, autocommit=True) as other:
        other.execute("SET lock_timeout = '100ms'")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            other.execute("TRUNCATE t")
        rows += sum(part.num_rows for part in parts)
        assert rows == 50_000
        other.execute("TRUNCATE t")


def test_a_reader_that_is_left_early_lets_go(copier: Copier) -> None:
    filled(copier.url, 300_000)
    schema, plan = copier.plan("t", BIG)
    parts = snapshot.read_chunk(
        copier.bulk, schema, tuple(plan.chunks[0]), copy_lsn=COPY_LSN, filenode=plan.filenode
    )
    assert 0 < next(parts).num_rows < 300_000, "a chunk comes in bounded pieces"
    parts.close()  # type: ignore[attr-defined]
    run_sql(copier.url, "SET lock_timeout = '2s'", "TRUNCATE t")
    schema, plan = copier.plan("t")
    assert copier.read(schema, plan).num_rows == 0


def test_a_connection_lost_in_the_middle_is_gone(copier: Copier) -> None:
    filled(copier.url, 300_000)
    schema, plan = copier.plan("t", BIG)
    with adbc_connect(FakeSource(copier.url)) as bulk:
        parts = snapshot.read_chunk(
            bulk, schema, tuple(plan.chunks[0]), copy_lsn=COPY_LSN, filenode=plan.filenode
        )
        next(parts)
        run_sql(
            copier.url,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND query LIKE 'COPY%'",
        )
        with pytest.raises(errors.SourceGone):
            list(parts)


def toasted(copier: Copier) -> tuple[TableSchema, snapshot.Plan]:
    """A table with a TOASTed column, free space in its first pages, and its plan."""
    run_sql(
        copier.url,
        "CREATE TABLE t (id int PRIMARY KEY, v text, big text) WITH (autovacuum_enabled = false)",
        "ALTER TABLE t ALTER big SET STORAGE EXTERNAL",
        "INSERT INTO t SELECT g, repeat('x', 900), repeat(g || ',', 1000) FROM generate_series(1, 80) g",
        "DELETE FROM t WHERE id <= 8",
        "VACUUM t",
    )
    return copier.plan("t")


def test_a_row_that_moves_to_a_page_already_read_is_in_the_sweep_only(copier: Copier) -> None:
    schema, plan = toasted(copier)
    assert len(plan.chunks) > 5
    first = copier.read(schema, plan, [0])
    # The page of row 80 has no room, so its new version goes to the free first page.
    run_sql(copier.url, "UPDATE t SET v = repeat('y', 900) WHERE id = 70")
    moved_to = copier.connection.execute("SELECT ctid::text FROM public.t WHERE id = 70").fetchone()
    assert moved_to is not None
    assert moved_to[0].startswith("(0,")
    rest = copier.read(schema, plan, range(1, len(plan.chunks)))
    assert ids(first) + ids(rest) == [n for n in range(9, 81) if n != 70], "no chunk has row 70"

    assert snapshot.needs_sweep(copier.connection, schema)
    swept = copier.sweep(schema, plan)
    assert ids(swept) == [70]
    assert swept["v"].to_pylist() == ["y" * 900]
    assert swept["big"].to_pylist() == ["70," * 1000]


def test_the_sweep_has_rows_of_transactions_that_were_open_at_the_plan(copier: Copier) -> None:
    with psycopg.connect(copier.url) as other:
        run_sql(copier.url, "CREATE TABLE t (id int PRIMARY KEY, v text)")
        run_sql(copier.url, "INSERT INTO t VALUES (1, 'a'), (2, 'a')")
        other.execute("SAVEPOINT s")
        other.execute("UPDATE t SET v = 'b' WHERE id = 2")
        other.execute("RELEASE SAVEPOINT s")
        run_sql(copier.url, "INSERT INTO t VALUES (3, 'a')")
        schema, plan = copier.plan("t")
        other.commit()
    swept = copier.sweep(schema, plan)
    assert 2 in ids(swept)
    assert 1 not in ids(swept)
    assert dict(zip(swept["id"].to_pylist(), swept["v"].to_pylist(), strict=True))[2] == "b"


def test_only_tables_with_toasted_values_need_a_sweep(copier: Copier) -> None:
    run_sql(
        copier.url,
        "CREATE TABLE numbers (id int PRIMARY KEY)",
        "CREATE TABLE small (id int PRIMARY KEY, v text)",
        "INSERT INTO small VALUES (1, 'x')",
        "CREATE TABLE p (id int PRIMARY KEY, v text) PARTITION BY RANGE (id)",
        "CREATE TABLE p_1 PARTITION OF p DEFAULT",
        "ALTER TABLE p_1 ALTER v SET STORAGE EXTERNAL",
    )
    for name in ("numbers", "small", "p"):
        assert not snapshot.needs_sweep(copier.connection, table(copier.connection, name))
    run_sql(copier.url, "INSERT INTO p VALUES (1, repeat('x', 5000))")
    assert snapshot.needs_sweep(copier.connection, table(copier.connection, "p"))


def test_a_table_that_is_gone_cannot_be_planned(copier: Copier) -> None:
    filled(copier.url, 1)
    schema = table(copier.connection, "t")
    run_sql(copier.url, "DROP TABLE t")
    with pytest.raises(errors.TableRewritten):
        snapshot.plan(copier.connection, schema, BIG)


def test_a_policy_that_hides_rows_fails_instead_of_leaving_them_out(copier: Copier) -> None:
    filled(copier.url, 10)
    schema, plan = copier.plan("t")
    run_sql(
        copier.url,
        "ALTER TABLE t ENABLE ROW LEVEL SECURITY",
        "CREATE POLICY part ON t USING (id < 5)",
        "CREATE ROLE hidden_from LOGIN PASSWORD 'x'",
        "GRANT SELECT ON t TO hidden_from",
    )
    try:
        limited = copier.url.replace(copier.url.split("://")[1].split("@")[0], "hidden_from:x")
        with adbc_connect(FakeSource(limited)) as bulk, pytest.raises(errors.MissingRight):
            list(snapshot.read_chunk(bulk, schema, plan.chunks[0], copy_lsn=1, filenode=plan.filenode))
    finally:
        run_sql(copier.url, "DROP OWNED BY hidden_from", "DROP ROLE hidden_from")
