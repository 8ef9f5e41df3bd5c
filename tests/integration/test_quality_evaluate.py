"""Trusted tables are measured right: every metric, every unit, and what can't be measured."""

from __future__ import annotations

import random
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from smartstream.config import Settings
from smartstream.errors import ExitCode
from smartstream.quality.evaluate import stop_of
from smartstream.quality.lake import open_quality_lake
from smartstream.quality.results import Result, ResultsTable
from smartstream.trusted.compaction import compact
from tests.integration.quality_lake import (
    CUSTOMERS,
    Clock,
    check,
    fill,
    hold_back,
    measure,
    settings_in,
    table_in,
)
from tests.trusted_lake import apply

ROWS: list[dict[str, Any]] = [
    {"id": 1, "email": "a@x", "customer": 1},
    {"id": 2, "email": "a@x", "customer": 2},
    {"id": 3, "email": "", "customer": 9},
    {"id": 4, "email": None, "customer": None},
    {"id": 5, "email": "N/A", "customer": 9},
]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return settings_in(tmp_path)


def value(settings: Settings, metric: str, **values: Any) -> float | None:
    (result,) = measure(settings, Clock(), check(metric, **{"mustBe": 0, **values}))
    return result.value


def test_the_metrics_of_the_standard(settings: Settings) -> None:
    fill(settings, ROWS)
    assert value(settings, "rowCount") == 5
    assert value(settings, "nullValues", column="email") == 1
    assert value(settings, "nullValues", column="email", unit="percent") == 20
    assert value(settings, "missingValues", column="email") == 2
    assert value(settings, "missingValues", column="email", arguments={"missingValues": [None, "N/A"]}) == 2
    assert value(settings, "invalidValues", column="email", arguments={"pattern": "@"}) == 2
    assert value(settings, "duplicateValues", column="email") == 1
    assert value(settings, "duplicateValues", column="customer", unit="percent") == 20
    assert value(settings, "duplicateValues", arguments={"properties": ["email", "customer"]}) == 0


def test_deleted_and_replaced_rows_are_not_measured(settings: Settings) -> None:
    table = fill(settings, ROWS)
    apply(table, [{"id": 3, "email": "c@x"}], [4, 5], seq=2)
    assert value(settings, "rowCount") == 3
    assert value(settings, "missingValues", column="email") == 0


def test_a_result_says_what_was_measured_and_when(settings: Settings, clock: Clock) -> None:
    table = fill(settings, ROWS)
    (result,) = measure(
        settings,
        clock,
        check("nullValues", column="email", mustBeLessThan=10, unit="percent", severity="info"),
    )
    assert result == Result(
        table="public.orders",
        check_id="email.nullValues",
        metric="nullValues",
        column="email",
        value=20.0,
        threshold="mustBeLessThan 10",
        unit="percent",
        passed=False,
        severity="info",
        on_fail="warn",
        reason=None,
        rows_checked=5,
        snapshot_id=table.iceberg.current_snapshot().snapshot_id,  # type: ignore[union-attr]
        lsn=10,
        checked_at=clock.now,
        rules_version="",
    )


def test_foreign_keys_look_into_the_other_trusted_table(settings: Settings, clock: Clock) -> None:
    fill(settings, ROWS)
    of_customers = {"column": "customer", "arguments": {"table": "public.customers"}}
    (result,) = measure(settings, clock, check("foreign_key", mustBe=0, **of_customers))
    assert (result.value, result.passed, result.reason) == (
        None,
        False,
        "there is no trusted table public.customers",
    )
    fill(settings, [{"nr": 1, "name": "one"}, {"nr": 2, "name": "9"}], CUSTOMERS)
    assert value(settings, "foreign_key", **of_customers) == 2, "null refers to nothing"
    named = {"arguments": {"table": "public.customers", "properties": ["customer"], "columns": ["nr"]}}
    assert value(settings, "foreign_key", **named, unit="percent") == 40
    wrong = {"column": "customer", "arguments": {"table": "public.customers", "columns": ["name"]}}
    (result,) = measure(settings, clock, check("foreign_key", mustBe=0, **wrong))
    assert result.reason == "quality check foreign_key: customer is int32 and name is string"


def test_freshness_is_the_age_of_the_last_change(settings: Settings, clock: Clock) -> None:
    fill(settings, ROWS)
    clock.advance(seconds=100)
    (result,) = measure(settings, clock, check("freshness", mustBeLessThan="1m"))
    assert result.value == pytest.approx(100, abs=5)
    assert (result.unit, result.passed, result.threshold) == ("seconds", False, "mustBeLessThan 60")
    (result,) = measure(settings, clock, check("freshness", mustBeLessThan="1h"))
    assert result.passed


def test_a_compaction_makes_no_table_fresh(settings: Settings) -> None:
    table = fill(settings, ROWS[:1])
    for number in range(2, 4):
        apply(table, [{"id": number}], seq=number)
    with open_quality_lake(settings) as lake:
        before = lake.trusted("orders")
    compact(table, table.live_files)
    with open_quality_lake(settings) as lake:
        after = lake.trusted("orders")
    assert before is not None and after is not None
    assert after.snapshot_id != before.snapshot_id
    assert after.applied_at == before.applied_at


def test_freshness_of_a_column_is_the_age_of_its_latest_time(settings: Settings, clock: Clock) -> None:
    one = check("freshness", column="at", mustBeLessThan=60)
    fill(settings, ROWS)
    (result,) = measure(settings, clock, one)
    assert (result.value, result.passed, result.reason) == (None, False, "there is no time to measure from")
    times = [clock.now - timedelta(seconds=30), clock.now - timedelta(days=2)]
    apply(table_in(settings), [{"id": 10 + n, "at": at} for n, at in enumerate(times)], seq=2)
    (result,) = measure(settings, clock, one)
    assert result.value == pytest.approx(30)
    (result,) = measure(settings, clock, check("freshness", column="email", mustBeLessThan=60))
    assert "expected a date or a time" in (result.reason or "")


def test_volume_is_a_ratio_of_earlier_counts(settings: Settings, clock: Clock) -> None:
    before, mean = (
        check("volume", mustBeBetween=[0.5, 2]),
        check("volume", mustBeGreaterThan=0.9, arguments={"against": "mean", "days": 1}, id="mean"),
    )
    table, results = fill(settings, ROWS), ResultsTable.open(settings)
    first = measure(settings, clock, before, mean)
    assert [(one.value, one.passed, one.reason) for one in first] == [
        (None, True, "there is no earlier measurement")
    ] * 2
    results.append(first)
    apply(table, [{"id": n} for n in range(100, 110)], seq=2)
    clock.advance(hours=1)
    second = measure(settings, clock, before, mean)
    assert [(one.value, one.passed) for one in second] == [(3.0, False), (3.0, True)]
    results.append(second)
    clock.advance(hours=1)
    third = measure(settings, clock, before, mean)
    assert [one.value for one in third] == [1.0, 1.5], "of the last one; of the mean of 5 and 15"
    clock.advance(days=2)
    assert measure(settings, clock, mean)[0].reason == "there is no earlier measurement"


def test_rows_in_the_quarantine_count_for_the_check_that_sent_them(settings: Settings, clock: Clock) -> None:
    fill(settings, ROWS[:2])
    hold_back(settings, [["email.nullValues"], ["other"], ["other", "email.nullValues"]])
    held = check("nullValues", column="email", mustBe=0, on_fail="quarantine")
    only_said = check("nullValues", column="customer", mustBe=0)
    in_percent = held.model_copy(update={"unit": "percent", "id": "email.nullValues"})
    found = measure(settings, clock, held, only_said)
    assert [(one.value, one.rows_checked, one.passed) for one in found] == [(2.0, 5, False), (0.0, 2, True)]
    assert measure(settings, clock, in_percent)[0].value == 40


def test_what_can_not_be_measured_has_failed_and_says_why(settings: Settings, clock: Clock) -> None:
    fill(settings, ROWS)
    found = measure(
        settings,
        clock,
        check("nullValues", column="gone", mustBe=0),
        check("duplicateValues", column="gone", mustBe=0),
        check("rowCount", mustBe=5),
    )
    assert [(one.value, one.passed) for one in found] == [(None, False), (None, False), (5.0, True)]
    assert found[0].reason == "quality check nullValues: there is no column gone"


def test_an_empty_table_has_no_percentage_to_speak_of(settings: Settings, clock: Clock) -> None:
    apply(fill(settings, ROWS), [], [1, 2, 3, 4, 5], seq=2)
    found = measure(
        settings,
        clock,
        check("nullValues", column="email", mustBe=0, unit="percent"),
        check("rowCount", mustBeGreaterThan=0),
    )
    assert [(one.value, one.passed) for one in found] == [(0.0, True), (0.0, False)]


def test_tables_that_are_not_in_the_lake_yet_are_left_out(settings: Settings, clock: Clock) -> None:
    assert measure(settings, clock, check("rowCount", mustBe=0)) == []
    table_in(settings)
    assert measure(settings, clock, check("rowCount", mustBe=0)) == [], "made, and nothing copied yet"


def test_only_a_failed_check_that_stops_stops(settings: Settings, clock: Clock) -> None:
    fill(settings, ROWS)
    fine = check("rowCount", mustBe=5, on_fail="stop")
    told = check("rowCount", mustBe=6)
    fatal = check("rowCount", mustBe=7, on_fail="stop", id="seven")
    assert stop_of(measure(settings, clock, fine, told)) is None
    stop = stop_of(measure(settings, clock, fine, told, fatal))
    assert stop is not None
    assert stop.exit_code == ExitCode.DEGRADED
    assert "seven of public.orders (mustBe 7)" in str(stop)


def test_random_tables_are_counted_as_python_counts_them(settings: Settings, clock: Clock, seed: str) -> None:
    emails = [None, "", "a", "b", "c"]
    records = [
        {"id": n, "email": random.choice(emails), "customer": random.choice([None, 1, 2, 3])}
        for n in range(500)
    ]
    table = fill(settings, records)
    gone = set(random.sample(range(500), 100))
    apply(table, [], sorted(gone), seq=2)
    live = [record for record in records if record["id"] not in gone]
    fill(settings, [{"nr": 1}], CUSTOMERS)
    known = [record["email"] for record in live if record["email"] is not None]
    both = [(r["email"], r["customer"]) for r in live if None not in (r["email"], r["customer"])]
    expected = {
        check("nullValues", column="email", mustBe=0): sum(r["email"] is None for r in live),
        check("missingValues", column="email", mustBe=0): sum(not r["email"] for r in live),
        check("invalidValues", column="email", arguments={"validValues": ["a", ""]}, mustBe=0): sum(
            r["email"] in ("b", "c") for r in live
        ),
        check("duplicateValues", column="email", mustBe=0): len(known) - len(Counter(known)),
        check("duplicateValues", arguments={"properties": ["email", "customer"]}, mustBe=0): len(both)
        - len(set(both)),
        check("foreign_key", column="customer", arguments={"table": "public.customers"}, mustBe=0): sum(
            r["customer"] not in (None, 1) for r in live
        ),
        check("rowCount", mustBe=0): len(live),
    }
    found = measure(settings, clock, *expected)
    assert [one.value for one in found] == [float(count) for count in expected.values()], seed


def test_a_clock_of_utc_is_taken_as_it_is(settings: Settings, clock: Clock) -> None:
    fill(settings, [{"id": 1, "at": datetime(2020, 1, 1, tzinfo=UTC)}])
    clock.now = datetime(2020, 1, 1, 0, 1, tzinfo=UTC)
    (result,) = measure(settings, clock, check("freshness", column="at", mustBe=60))
    assert result.passed
