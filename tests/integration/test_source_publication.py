"""The publication sends what the pipeline wants, and is never a danger to the source."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from smartstream.capture import publication
from smartstream.capture.connect import connect
from smartstream.errors import MissingRight, NoTables, PublicationMissing, SourceBusy, TableWithoutKey
from smartstream.schema import TableSchema

from .source_setup import FakeSource, connected, run_sql, table
from .test_source_connect import changed

NAME = "My pub"


def ensure(url: str, *names: str) -> publication.PublicationChange:
    """Publish these tables of public."""
    with connected(url) as connection:
        return publication.ensure(connection, NAME, [table(connection, name) for name in names])


def published(url: str) -> list[str]:
    """What the server says is published."""
    with connected(url) as connection:
        statement = (
            "SELECT schemaname || '.' || tablename FROM pg_publication_tables WHERE pubname = %s ORDER BY 1"
        )
        return [row[0] for row in connection.execute(statement, (NAME,))]


@pytest.fixture
def tables(database: str) -> str:
    """A database with a few tables."""
    run_sql(
        database,
        "CREATE TABLE a (id int PRIMARY KEY)",
        'CREATE TABLE "B b" (id int PRIMARY KEY)',
        "CREATE TABLE p (id int PRIMARY KEY) PARTITION BY RANGE (id)",
        "CREATE TABLE p_1 PARTITION OF p DEFAULT",
    )
    return database


def test_a_publication_is_created_with_partitions_as_their_root(tables: str) -> None:
    assert ensure(tables, "a", "B b", "p") == publication.PublicationChange(
        created=True, added=("public.B b", "public.a", "public.p")
    )
    assert published(tables) == ["public.B b", "public.a", "public.p"]


def test_tables_are_added_and_dropped_as_wanted(tables: str) -> None:
    ensure(tables, "a")
    assert ensure(tables, "B b", "p") == publication.PublicationChange(
        added=("public.B b", "public.p"), dropped=("public.a",)
    )
    assert published(tables) == ["public.B b", "public.p"]
    assert ensure(tables, "B b", "p") == publication.PublicationChange()


def test_inheriting_tables_are_not_published_with_their_parent(tables: str) -> None:
    run_sql(tables, "CREATE TABLE child () INHERITS (a)")
    ensure(tables, "a")
    assert published(tables) == ["public.a"]
    ensure(tables, "p")
    assert published(tables) == ["public.p"]


def test_a_table_without_key_is_never_published(tables: str) -> None:
    with connected(tables) as connection:
        wanted = [table(connection, "a"), table(connection, "p")]
        run_sql(tables, "ALTER TABLE a DROP CONSTRAINT a_pkey")
        with pytest.raises(TableWithoutKey, match=r"public\.a: it has no primary key"):
            publication.ensure(connection, NAME, wanted)
        assert not publication.exists(connection, NAME)
    run_sql(tables, "INSERT INTO a VALUES (1)", "UPDATE a SET id = 2")


def test_tables_that_are_gone_are_passed_over(tables: str) -> None:
    with connected(tables) as connection:
        wanted = [table(connection, "a"), table(connection, "p")]
        run_sql(tables, "DROP TABLE a")
        assert publication.ensure(connection, NAME, wanted).added == ("public.p",)
        with pytest.raises(NoTables):
            publication.ensure(connection, NAME, [])


@pytest.mark.parametrize("times", [1, publication.LOOKS])
def test_names_that_pass_to_other_tables_meanwhile_are_looked_at_again(
    tables: str, times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    ensure(tables, "a")
    look, swaps = publication._existing, []

    def look_then_swap(connection: Any, name: str) -> Any:
        found = look(connection, name)
        if len(swaps) < times:
            swaps.append(name)
            statements = ('ALTER TABLE a RENAME TO "x"', 'ALTER TABLE "B b" RENAME TO a')
            run_sql(tables, "BEGIN", *statements, 'ALTER TABLE x RENAME TO "B b"', "COMMIT")
        return found

    monkeypatch.setattr(publication, "_existing", look_then_swap)
    if times == 1:
        ensure(tables, "a", "B b")
        assert published(tables) == ["public.B b", "public.a"]
    else:
        with pytest.raises(SourceBusy, match="while tables are renamed"):
            ensure(tables, "a", "B b")
        assert published(tables) == ["public.B b"]  # as it is called by now


def test_options_that_would_lose_changes_are_put_right(tables: str) -> None:
    run_sql(tables, f"CREATE PUBLICATION \"{NAME}\" FOR TABLE a WITH (publish = 'insert')")
    assert ensure(tables, "a") == publication.PublicationChange(altered=True)
    with connected(tables) as connection:
        statement = "SELECT pubviaroot, pubinsert, pubupdate, pubdelete, pubtruncate FROM pg_publication"
        assert connection.execute(statement).fetchone() == (True,) * 5


def test_a_row_filter_or_column_list_is_taken_away(tables: str) -> None:
    with connected(tables) as connection:
        if connection.info.server_version < 150000:
            pytest.skip("PostgreSQL 15 and later")
    run_sql(
        tables,
        "CREATE TABLE c (id int PRIMARY KEY, x int)",
        f'CREATE PUBLICATION "{NAME}" FOR TABLE a WHERE (id > 5), c (id)',
    )
    assert set(ensure(tables, "a", "c").added) == {"public.a", "public.c"}
    with connected(tables) as connection:
        statement = "SELECT count(*) FROM pg_publication_rel WHERE prqual IS NOT NULL OR prattrs IS NOT NULL"
        assert connection.execute(statement).fetchone() == (0,)
    assert published(tables) == ["public.a", "public.c"]


def test_generated_columns_are_not_published(tables: str) -> None:
    with connected(tables) as connection:
        if connection.info.server_version < 180000:
            pytest.skip("PostgreSQL 18 and later")
    run_sql(tables, f'CREATE PUBLICATION "{NAME}" FOR TABLE a WITH (publish_generated_columns = stored)')
    assert ensure(tables, "a").altered


@pytest.mark.parametrize("covered", ["FOR ALL TABLES", "FOR TABLES IN SCHEMA public"])
def test_a_wider_publication_is_left_as_it_is(tables: str, covered: str) -> None:
    with connected(tables) as connection:
        if "SCHEMA" in covered and connection.info.server_version < 150000:
            pytest.skip("PostgreSQL 15 and later")
    run_sql(tables, f'CREATE PUBLICATION "{NAME}" {covered} WITH (publish_via_partition_root = true)')
    assert ensure(tables, "a", "p") == publication.PublicationChange()


def test_without_rights_the_error_says_which_and_nothing_changes(tables: str) -> None:
    role = f"r{uuid.uuid4().hex[:8]}"
    run_sql(tables, f"CREATE ROLE {role} LOGIN PASSWORD 'x'")
    theirs = changed(tables, user=role, password="x")
    try:
        with connect(FakeSource(theirs)) as connection:
            wanted = [table(connection, "a")]
            with pytest.raises(PublicationMissing, match="permission denied"):
                publication.ensure(connection, NAME, wanted)
            ensure(tables, "a")
            publication.ensure(connection, NAME, wanted)
            with pytest.raises(MissingRight):
                publication.ensure(connection, NAME, [table(connection, "p")])
        assert published(tables) == ["public.a"]
    finally:
        run_sql(tables, f"DROP OWNED BY {role}", f"DROP ROLE {role}")


def test_the_printed_statement_creates_the_same_publication(tables: str) -> None:
    with connected(tables) as connection:
        wanted: list[TableSchema] = [table(connection, "B b"), table(connection, "p")]
        run_sql(tables, publication.create_statement(NAME, wanted))
        assert publication.ensure(connection, NAME, wanted) == publication.PublicationChange()
