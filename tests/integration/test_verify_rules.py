"""Verify on tables with rules: each row is where the rules say, and no difference goes unseen."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pyarrow as pa
import pytest

from smartstream.config import Settings
from smartstream.pipeline.requests import RequestKind, post
from smartstream.raw.store import open_store
from smartstream.schema import TableSchema
from smartstream.trusted.catalog import QUARANTINE, TRUSTED, open_catalog
from smartstream.trusted.table import TrustedTable
from smartstream.verify import TableReport, verify
from tests.running_pipeline import once, running, settings_for

PEOPLE = (
    "CREATE TABLE people (id integer PRIMARY KEY, email text, age integer, born date, price numeric(10,2))"
)
CLEAN: list[dict[str, Any]] = [
    {"trim": ["email"]},
    {"lower": ["email"]},
    {"compute": {"column": "adult", "sql": "age >= 18"}},
]
AGE = {"range": {"column": "age", "min": 0, "max": 150}}
POOR = {"range": {"column": "price", "min": 0}, "on_fail": "drop"}
RULES: dict[str, Any] = {"clean": CLEAN, "quality": [AGE, POOR]}
DEDUPE = {"dedupe": {"key": ["email"], "keep": "last", "by": "age"}}


@pytest.fixture
def admin(database: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(PEOPLE)
        yield connection


def insert(admin: psycopg.Connection[Any], first: int, last: int) -> None:
    """People of whom some break a rule, some share an address, some have values that Arrow can't hold."""
    admin.execute(
        "INSERT INTO people SELECT n, ' E' || mod(n, 40) || ' ', mod(n, 170),"
        " CASE WHEN mod(n, 7) = 0 THEN date 'infinity' ELSE date '2000-01-01' + n END,"
        " CASE WHEN mod(n, 11) = 0 THEN -1.5 WHEN mod(n, 13) = 0 THEN 'NaN' ELSE n END"
        " FROM generate_series(%s::int, %s::int) n",
        (first, last),
    )


def ruled(database: str, folder: Path, **rules: Any) -> Settings:
    return settings_for(database, folder, tables={"public.*": rules})


def check(settings: Settings) -> TableReport:
    """Verify the table, without waiting for a pipeline: none is running."""
    (report,) = verify(settings, rows=True, wait_seconds=0.3).tables
    return report


def kinds(report: TableReport) -> list[tuple[str, str | None]]:
    return sorted((one.kind, one.key["id"]) for one in report.differing)


def edit(settings: Settings, namespace: str, ids: list[int], **values: Any) -> None:
    """Delete rows of a table of the lake behind the pipeline's back, or put values into them."""
    catalog = open_catalog(settings.lake)
    found = catalog.load_table((namespace, "people"))
    schema = TableSchema.from_json(found.properties["smartstream.schema"])
    table = TrustedTable.open(catalog, schema, namespace=namespace)
    located = table.locate(pa.table({"id": pa.array(ids, pa.int32())}))
    names = schema.trusted_schema().names
    rows = table.read(located, names).select(names)
    assert rows.num_rows == len(ids)
    for name, value in values.items():
        index = rows.schema.get_field_index(name)
        rows = rows.set_column(
            index, rows.schema.field(index), pa.array([value] * len(rows), rows.schema.field(index).type)
        )
    add = table.write(rows) if values else []
    table.commit(add=add, delete=located, position=table.position)


def test_rows_after_the_rules_and_held_rows_are_compared(admin: Any, database: str, tmp_path: Path) -> None:
    settings = ruled(database, tmp_path, **RULES)
    insert(admin, 1, 2000)
    once(settings)
    report = check(settings)
    assert report.equal, report
    assert report.source_rows == 2000
    assert report.held_rows is not None
    assert report.lake_rows is not None
    assert report.held_rows > 200
    assert report.lake_rows + report.held_rows == 2000
    assert report.source_checksum == report.lake_checksum


def test_every_difference_is_seen_and_named(admin: Any, database: str, tmp_path: Path) -> None:
    settings = ruled(database, tmp_path, **RULES)
    insert(admin, 1, 400)
    once(settings)
    edit(settings, TRUSTED, [1], email="Other")
    edit(settings, TRUSTED, [2], adult=None)
    edit(settings, TRUSTED, [3])
    edit(settings, QUARANTINE, [160])
    edit(settings, QUARANTINE, [161], _violations="[]")
    edit(settings, QUARANTINE, [22], _disposition="quarantined")
    edit(settings, TRUSTED, [14], _untyped='{"born": "-infinity"}')
    edit(settings, TRUSTED, [4], _quality='{"stale_since": 7}')
    report = check(settings)
    assert not report.equal
    assert kinds(report) == [
        ("different", "1"),
        ("different", "14"),
        ("different", "2"),
        ("different", "4"),
        ("held otherwise", "161"),
        ("held otherwise", "22"),
        ("missing", "3"),
        ("not held", "160"),
    ]


def test_a_row_in_both_places_is_seen(admin: Any, database: str, tmp_path: Path) -> None:
    settings = ruled(database, tmp_path, quality=[AGE])
    insert(admin, 1, 170)
    once(settings)
    edit(settings, QUARANTINE, [155], id=5)
    assert kinds(check(settings)) == [("held", "5"), ("not held", "155")]


def test_what_a_person_has_dropped_is_no_difference(admin: Any, database: str, tmp_path: Path) -> None:
    settings = ruled(database, tmp_path, clean=[*CLEAN, DEDUPE], quality=[AGE, POOR])
    insert(admin, 1, 300)
    once(settings)
    post(open_store(settings.lake), RequestKind.DROP, "public.people", [["155"], ["1"]])
    once(settings)
    report = check(settings)
    assert report.equal, report


@pytest.mark.parametrize(("keep", "by"), [("first", "age"), ("last", "age"), ("last", None)])
def test_of_duplicates_the_right_one_must_be_there(
    admin: Any, database: str, tmp_path: Path, keep: str, by: str | None
) -> None:
    rule = {"dedupe": {"key": ["email"], "keep": keep, **({"by": by} if by else {})}}
    settings = ruled(database, tmp_path, clean=[*CLEAN, rule], quality=[AGE, POOR])
    insert(admin, 1, 400)
    admin.execute("UPDATE people SET email = NULL WHERE id % 50 = 0")
    once(settings)
    report = check(settings)
    assert report.equal, report
    admin.execute("DELETE FROM people WHERE id % 3 = 0")
    admin.execute("UPDATE people SET age = 77, email = 'e1' WHERE id % 5 = 0")
    once(settings)
    report = check(settings)
    assert report.equal, report
    loser = admin.execute("SELECT id FROM people WHERE age = 77 ORDER BY id OFFSET 2 LIMIT 1").fetchone()[0]
    edit(settings, QUARANTINE, [loser])
    assert kinds(check(settings)) == [("not held", str(loser))]


@pytest.mark.parametrize("policy", ["keep_previous_marked", "null_value"])
def test_rows_that_a_bad_update_has_marked_are_known(
    admin: Any, database: str, tmp_path: Path, policy: str
) -> None:
    settings = ruled(database, tmp_path, on_bad_update=policy, **RULES)
    insert(admin, 1, 200)
    once(settings)
    admin.execute("UPDATE people SET age = 999 WHERE id IN (1, 2, 3)")
    admin.execute("UPDATE people SET price = -9 WHERE id = 4")
    once(settings)
    report = check(settings)
    assert report.equal, report
    assert report.lake_rows is not None
    assert report.held_rows is not None
    assert report.lake_rows + report.held_rows == 200
    edit(settings, TRUSTED, [5], age=6)
    assert kinds(check(settings)) == [("different", "5")]


def test_the_lake_is_compared_at_the_source_s_position_while_both_change(
    admin: Any, database: str, tmp_path: Path
) -> None:
    admin.execute("CREATE TABLE docs (id integer PRIMARY KEY, body text, age integer, email text)")
    admin.execute("ALTER TABLE docs ALTER body SET STORAGE EXTERNAL")
    both = {"clean": [{"trim": ["email"]}], "quality": [{"range": {"column": "age", "max": 150}}]}
    single = {**both, "clean": [*both["clean"], DEDUPE]}
    settings = settings_for(database, tmp_path, tables={"public.people": single, "public.docs": both})
    insert(admin, 1, 500)
    admin.execute("INSERT INTO docs SELECT n, repeat('x', 9000) || n, n, 'e' FROM generate_series(1, 120) n")
    done = threading.Event()

    def work() -> None:
        with psycopg.connect(database, autocommit=True) as connection:
            while not done.wait(0.01):
                some = random.randrange(1, 120)
                connection.execute("UPDATE docs SET age = %s WHERE id = %s", (random.randrange(180), some))
                connection.execute(
                    "UPDATE people SET age = %s, email = %s WHERE id = %s",
                    (random.randrange(180), f"e{random.randrange(30)}", random.randrange(500)),
                )
                connection.execute("DELETE FROM people WHERE id = %s", (random.randrange(500),))

    with running(settings):
        worker = threading.Thread(target=work)
        worker.start()
        try:
            reports: list[TableReport] = []
            while len(reports) < 20 and sum(report.pending_changes > 0 for report in reports) < 2:
                reports.extend(verify(settings, rows=True).tables)
        finally:
            done.set()
            worker.join()
    assert all(report.equal for report in reports), [report for report in reports if not report.equal]
    assert any(report.pending_changes for report in reports), "nothing was laid over the tables"
    once(settings)
    assert verify(settings).ok


def test_a_lake_that_is_behind_is_compared_as_it_would_be(
    admin: Any, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = ruled(database, tmp_path, clean=[*CLEAN, DEDUPE], quality=[AGE, POOR])
    insert(admin, 1, 300)
    once(settings)
    insert(admin, 301, 350)
    report = check(settings)
    assert not report.equal
    assert report.reason is not None
    assert "the lake is behind" in report.reason


def test_rules_that_have_changed_must_be_applied_first(admin: Any, database: str, tmp_path: Path) -> None:
    insert(admin, 1, 100)
    once(ruled(database, tmp_path, **RULES))
    for rules in ({"quality": [AGE]}, {}):
        report = check(ruled(database, tmp_path, **rules))
        assert not report.equal
        assert report.reason is not None
        assert "rules" in report.reason
    settings = ruled(database, tmp_path, quality=[AGE])
    once(settings)
    assert check(settings).equal


def test_a_rule_that_stops_says_so(admin: Any, database: str, tmp_path: Path) -> None:
    stop = ruled(database, tmp_path, quality=[{**AGE, "on_fail": "stop"}])
    insert(admin, 1, 100)
    once(stop)
    assert check(stop).equal
    admin.execute("UPDATE people SET age = 999 WHERE id = 1")
    report = check(stop)
    assert not report.equal
    assert report.reason is not None
    assert "break" in report.reason
