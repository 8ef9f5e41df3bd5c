"""Quality of a real pipeline: bad rows are held back, and the results say how many."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from smartstream.config import Settings, rules_of
from smartstream.pipeline import Pipeline
from smartstream.quality.results import Result
from smartstream.quality.watch import QualityWatch
from smartstream.query import open_lake
from tests.integration.quality_lake import Clock
from tests.integration.source_setup import run_sql

QUALITY = [
    {"column": "email", "metric": "missingValues", "mustBe": 0, "on_fail": "quarantine"},
    {
        "column": "state",
        "metric": "invalidValues",
        "arguments": {"validValues": ["new"]},
        "mustBe": 0,
        "on_fail": "drop",
    },
    {"column": "customer", "metric": "foreign_key", "arguments": {"table": "public.customers"}, "mustBe": 0},
    {"metric": "rowCount", "mustBeGreaterThan": 0, "on_fail": "stop"},
    {"metric": "freshness", "mustBeLessThan": "1h"},
]


@pytest.fixture
def settings(database: str, tmp_path: Path) -> Settings:
    run_sql(
        database,
        "CREATE TABLE customers (id int PRIMARY KEY)",
        "INSERT INTO customers SELECT generate_series(1, 3)",
        "CREATE TABLE orders (id int PRIMARY KEY, email text, state text, customer int)",
        "INSERT INTO orders SELECT i, 'e' || i, 'new', 1 + i % 3 FROM generate_series(1, 50) i",
    )
    return Settings.model_validate(
        {
            "source": {"url": database},
            "lake": {"warehouse": str(tmp_path / "lake")},
            "tables": {"public.*": {}, "public.orders": {"quality": QUALITY}},
        }
    )


def measured(settings: Settings) -> dict[str, Result]:
    checks = {"public.orders": rules_of(settings, "public.orders").metrics}
    return {one.check_id: one for one in QualityWatch(settings, lambda: checks, clock=Clock()).look()}


def query(settings: Settings, statement: str) -> list[tuple[Any, ...]]:
    with open_lake(settings) as lake:
        return lake.execute(statement).fetchall()


def test_bad_rows_are_held_back_counted_and_come_back_when_they_are_good(
    settings: Settings, database: str
) -> None:
    Pipeline(settings).run(once=True)
    assert all(one.passed for one in measured(settings).values())
    run_sql(
        database,
        "UPDATE orders SET email = '' WHERE id <= 4",
        "UPDATE orders SET state = 'odd' WHERE id IN (4, 5)",
        "UPDATE orders SET customer = 9 WHERE id = 50",
    )
    Pipeline(settings).run(once=True)
    found = measured(settings)
    assert query(settings, "SELECT count(*) FROM orders") == [(45,)]
    assert {name: (one.value, one.passed) for name, one in found.items() if name != "freshness"} == {
        "email.missingValues": (4.0, False),
        "state.invalidValues": (2.0, False),
        "customer.foreign_key": (1.0, False),
        "rowCount": (45.0, True),
    }
    assert found["email.missingValues"].rows_checked == 50
    assert found["email.missingValues"].rules_version
    run_sql(database, "UPDATE orders SET email = 'x', state = 'new', customer = 1")
    Pipeline(settings).run(once=True)
    assert all(one.passed for one in measured(settings).values())
    assert query(settings, "SELECT count(*) FROM orders") == [(50,)]
