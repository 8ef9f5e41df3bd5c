"""A live workload on the sample tables, and the rows that there are to be afterwards."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping
from typing import Any

import psycopg
from psycopg.conninfo import make_conninfo

from tests.aws.terraform_runner import CANARY_PASSWORD, ROOT

DATABASE = "smartstream"

# Keys first, then columns whose text is the same in PostgreSQL and in records.
COMPARED: Mapping[str, tuple[int, tuple[str, ...]]] = {
    "departments": (1, ("id", "name")),
    "employees": (1, ("id", "department_id", "name", "active")),
    "salaries": (2, ("employee_id", "valid_from", "reason")),
}


def prepare(server: str) -> None:
    """Make the source what the checklist makes of it, with its sample rows."""
    with psycopg.connect(server, autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {DATABASE}")
        admin.execute("CREATE ROLE rds_replication")
    with psycopg.connect(make_conninfo(server, dbname=DATABASE), autocommit=True) as admin:
        for name in ("source-setup.sql", "sample-data.sql"):
            admin.execute((ROOT / "docs" / "aws" / name).read_text(encoding="utf-8"))
        # On RDS the role rds_replication may use slots, elsewhere only a role with the attribute.
        admin.execute(f"ALTER ROLE dms_replication REPLICATION PASSWORD '{CANARY_PASSWORD}'")


def work(source: str, transactions: int, choices: random.Random) -> Counter[str]:
    """Change the sample tables; returns the changed rows by operation."""
    done: Counter[str] = Counter()
    with psycopg.connect(source) as connection:
        for number in range(transactions):
            employee = 1 + choices.randrange(120)
            kind = choices.choice(("insert", "update", "update", "delete"))
            if kind == "insert":
                done[kind] += connection.execute(
                    "INSERT INTO salaries SELECT id, date '2026-01-01' + %s::int, 1000, %s FROM employees"
                    " WHERE id = %s ON CONFLICT DO NOTHING",
                    (number, f"raise {number}: \"quoted\", 'too'", employee),
                ).rowcount
            elif kind == "update":
                done[kind] += connection.execute(
                    "UPDATE employees SET name = %s, active = NOT active WHERE id = %s",
                    (f"Employee {number} ✓", employee),
                ).rowcount
            else:
                done[kind] += connection.execute(
                    "DELETE FROM salaries WHERE employee_id = %s", (employee,)
                ).rowcount
            connection.commit()
    return done


def folded(records: list[dict[str, Any]]) -> dict[str, dict[tuple[str, ...], tuple[str | None, ...]]]:
    """The rows that records say there are: loads first, then changes by their place in the log."""

    def place(record: Mapping[str, Any]) -> tuple[str, int]:
        lsn, number, _ = record["metadata"].get("stream-position", ".0.").split(".")
        return lsn, int(number)

    tables: dict[str, dict[tuple[str, ...], tuple[str | None, ...]]] = {name: {} for name in COMPARED}
    for record in sorted((one for one in records if "data" in one), key=place):
        name, data = record["metadata"]["table-name"], record["data"]
        key_count, columns = COMPARED[name]
        key = tuple(str(data[column]) for column in columns[:key_count])
        if record["metadata"]["operation"] == "delete":
            tables[name].pop(key, None)
        else:
            values = (data[column] for column in columns)
            tables[name][key] = tuple(None if value is None else str(value) for value in values)
    return tables


def expected(source: str) -> dict[str, dict[tuple[str, ...], tuple[str | None, ...]]]:
    """The rows of the source, as ``folded`` has them."""
    tables = {}
    with psycopg.connect(source) as connection:
        for name, (key_count, columns) in COMPARED.items():
            texts = ", ".join(f"{column}::text" for column in columns)
            rows = connection.execute(f"SELECT {texts} FROM {name}").fetchall()
            tables[name] = {tuple(row[:key_count]): tuple(row) for row in rows}
    return tables


def add_columns(source: str) -> None:
    """Widen a table while it is followed."""
    with psycopg.connect(source) as connection:
        connection.execute(
            "ALTER TABLE employees ADD COLUMN grade integer, ADD COLUMN bonus numeric(10, 2),"
            " ADD COLUMN note text"
        )


def work_on_new_columns(source: str, transactions: int, choices: random.Random) -> Counter[str]:
    """Change rows through the columns that ``add_columns`` made; returns the changed rows by operation."""
    done: Counter[str] = Counter()
    with psycopg.connect(source) as connection:
        for number in range(transactions):
            grade, bonus = choices.choice((None, 1, -7, 2_000_000_000)), f"{choices.randrange(10**6)}.25"
            if choices.random() < 0.3:
                done["insert"] += connection.execute(
                    "INSERT INTO employees (id, department_id, name, salary, grade, bonus, note)"
                    " VALUES (%s, %s, %s, 1000.50, %s, %s, '')",
                    (1_000 + number, 1 + number % 5, f"New {number}", grade, bonus),
                ).rowcount
            else:
                done["update"] += connection.execute(
                    "UPDATE employees SET grade = %s, bonus = %s, note = %s WHERE id = %s",
                    (grade, bonus, f"noted\n{number}", 1 + choices.randrange(100)),
                ).rowcount
            connection.commit()
        done["delete"] += connection.execute("DELETE FROM employees WHERE id >= 1000 AND id % 3 = 0").rowcount
    return done
