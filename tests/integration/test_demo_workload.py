"""The demo's company is what it says, and its people leave nothing out."""

from __future__ import annotations

import threading
from typing import Any

import psycopg

from smartstream.demo import company
from smartstream.demo.workload import Workload
from smartstream.testing.postgres import PostgresServer

ROWS = 1000
TABLES = ("all_types", "attendance", "badges", "departments", "employees", "salaries")


def counts(url: str) -> dict[str, int]:
    with psycopg.connect(url) as connection:
        found = {}
        for table in TABLES:
            row = connection.execute(f"SELECT count(*) FROM {table}".encode()).fetchone()
            assert row is not None
            found[table] = row[0]
        return found


def operations(url: str, slot: str) -> dict[tuple[str, str], int]:
    """How often the WAL has each kind of change of each table, from PostgreSQL's own decoder."""
    found: dict[tuple[str, str], int] = {}
    with psycopg.connect(url) as connection:
        lines = connection.execute(
            "SELECT data FROM pg_logical_slot_get_changes(%s, NULL, NULL) WHERE data LIKE 'table %%'", (slot,)
        )
        for (line,) in lines:
            table, kind = line.removeprefix("table public.").split(": ")[:2]
            found[table, kind] = found.get((table, kind), 0) + 1
    return found


def test_the_company_has_as_many_rows_as_asked(database: str) -> None:
    company.create(database, ROWS)
    found = counts(database)
    assert {found["employees"], found["salaries"], found["attendance"]} == {ROWS}
    with psycopg.connect(database) as connection:
        row = connection.execute(
            "SELECT count(*) FROM employees WHERE length(biography) > 2048"
            " AND pg_column_toast_chunk_id(biography) IS NOT NULL"
            if connection.info.server_version >= 170000
            else "SELECT count(*) FROM employees WHERE length(biography) > 2048"
        ).fetchone()
    assert row is not None
    assert row[0] == ROWS // 50


def one(url: str, statement: str) -> Any:
    """The first value of an answer."""
    with psycopg.connect(url) as connection:
        row = connection.execute(statement.encode()).fetchone()
    assert row is not None
    return row[0]


def test_there_is_something_to_learn_from_the_company(database: str) -> None:
    """Some left, rather those who are badly paid or overworked; few are paid by mistake."""
    company.create(database, 5000)
    assert 0.12 < one(database, "SELECT avg((left_on IS NOT NULL)::int) FROM employees") < 0.18
    assert one(database, "SELECT bool_and(active = (left_on IS NULL)) FROM employees")
    assert (
        0.002 < one(database, f"SELECT avg(({company.MISPAID})::int) FROM generate_series(1, 5000) n") < 0.01
    )
    ratio = "salary / reference_pay / 1.15 ^ (grade - 3)"
    employees = (
        "employees JOIN departments d ON d.id = department_id JOIN attendance ON employee_id = employees.id"
    )
    for measure, more in ((ratio, False), ("rating", False), ("hours", True)):
        median = f"percentile_cont(0.5) WITHIN GROUP (ORDER BY {measure}) FILTER (WHERE {{}})"
        left, stayed = (median.format(state) for state in ("NOT active", "active"))
        assert one(database, f"SELECT {left} > {stayed} FROM {employees}") is more, measure
    assert (
        one(
            database,
            "SELECT count(*) FROM salaries s JOIN employees e ON e.id = employee_id"
            " WHERE amount != salary OR valid_from < hired::date OR valid_from > '2026-01-01'",
        )
        == 0
    )


def test_a_person_is_the_same_in_every_company(postgres: PostgresServer, database: str) -> None:
    """Which people there are follows from their numbers alone, not from how many there are."""
    company.create(database, 300)
    with psycopg.connect(postgres.url, autocommit=True) as admin:
        admin.execute("CREATE DATABASE larger")
        try:
            company.create(postgres.url_of("larger"), 900)
            everything = "SELECT md5(string_agg(t::text, '|' ORDER BY t)) FROM {} t WHERE {} <= 300"
            for table, key in (
                ("employees", "id"),
                ("salaries", "employee_id"),
                ("attendance", "employee_id"),
            ):
                statement = everything.format(table, key)
                assert one(database, statement) == one(postgres.url_of("larger"), statement), table
        finally:
            admin.execute("DROP DATABASE larger WITH (FORCE)")


def test_people_do_everything_that_a_pipeline_must_bear(database: str) -> None:
    company.create(database, ROWS)
    with psycopg.connect(database) as connection:
        connection.execute("SELECT pg_create_logical_replication_slot('watch', 'test_decoding')")
    workload = Workload(database, rows=ROWS, rate=100_000)
    workload.run(threading.Event(), 4)
    found = operations(database, "watch")
    for table in ("employees", "salaries", "attendance"):
        assert {kind for name, kind in found if name == table} >= {"INSERT", "UPDATE", "DELETE"}, found
    assert found["badges", "TRUNCATE"] > 0
    assert found["all_types", "UPDATE"] > 0
    changed = sum(found.values())
    assert changed == workload.change_count
    with psycopg.connect(database) as connection:
        columns = connection.execute(
            "SELECT attname FROM pg_attribute WHERE attrelid = 'employees'::regclass AND attnum > 0"
        ).fetchall()
    assert {("office",), ("job_title",)} <= set(columns)
    assert ("title",) not in columns


def test_the_same_seed_does_the_same_work() -> None:
    picks = [
        [workload._pick().__name__ for _ in range(200)]
        for workload in (Workload("", rows=ROWS, seed=7), Workload("", rows=ROWS, seed=7))
    ]
    assert picks[0] == picks[1]


def test_stop_ends_the_work_at_once(database: str) -> None:
    company.create(database, ROWS)
    stop = threading.Event()
    thread = threading.Thread(target=Workload(database, rows=ROWS, rate=10).run, args=(stop, 600))
    thread.start()
    stop.set()
    thread.join(10)
    assert not thread.is_alive()
