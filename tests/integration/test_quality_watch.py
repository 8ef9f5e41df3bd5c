"""Results are kept as a table, tables are measured when they are due, and old results go."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from smartstream.config import Settings
from smartstream.errors import QualityStop
from smartstream.quality.config import QualityCheck
from smartstream.quality.results import ResultsTable
from smartstream.quality.watch import QualityWatch, summary
from smartstream.query import open_lake
from smartstream.trusted.maintenance import maintain
from tests.integration.quality_lake import CUSTOMERS, Clock, check, fill, hold_back, settings_in, table_in
from tests.trusted_lake import apply

ROW_COUNT = check("rowCount", mustBe=1)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return settings_in(tmp_path, quality={"every": "60s", "keep": "1d"})


def watch(settings: Settings, clock: Clock, *checks: QualityCheck) -> QualityWatch:
    return QualityWatch(settings, lambda: {"public.orders": checks}, clock=clock)


def query(settings: Settings, statement: str) -> list[tuple[Any, ...]]:
    with open_lake(settings) as lake:
        columns = [column.to_pylist() for column in lake.sql(statement).to_arrow_table().columns]
    return list(zip(*columns, strict=True))


def test_results_are_a_table_like_any_other(settings: Settings, clock: Clock) -> None:
    fill(settings, [{"id": 1}])
    watch(settings, clock, ROW_COUNT, check("nullValues", column="email", mustBe=0)).look()
    columns = '"table", check_id, value, threshold, passed, rows_checked, lsn'
    assert query(settings, f"SELECT {columns} FROM analytics.trusted_quality ORDER BY check_id") == [
        ("public.orders", "email.nullValues", 1.0, "mustBe 0", False, 1, 10),
        ("public.orders", "rowCount", 1.0, "mustBe 1", True, 1, 10),
    ]


def test_a_table_is_measured_when_it_is_due_and_has_changed(settings: Settings, clock: Clock) -> None:
    table, watching = fill(settings, [{"id": 1}]), watch(settings, clock, ROW_COUNT)
    assert len(watching.look()) == 1
    assert watching.look() == [], "not due"
    clock.advance(seconds=60)
    assert watching.look() == [], "due, but nothing changed"
    apply(table, [{"id": 2}], seq=2)
    assert watching.look() == [], "changed, but looked at a moment ago"
    clock.advance(seconds=60)
    assert [one.value for one in watching.look()] == [2.0]


def test_a_new_row_in_the_quarantine_is_a_change(settings: Settings, clock: Clock) -> None:
    fill(settings, [{"id": 1, "email": "a"}])
    one = check("nullValues", column="email", mustBe=0, on_fail="quarantine")
    watching = watch(settings, clock, one)
    assert [result.value for result in watching.look()] == [0.0]
    hold_back(settings, [["email.nullValues"]])
    clock.advance(seconds=60)
    assert [result.value for result in watching.look()] == [1.0]


def test_what_depends_on_the_time_is_measured_again_and_again(settings: Settings, clock: Clock) -> None:
    fill(settings, [{"id": 1}])
    watching = watch(settings, clock, check("freshness", mustBeLessThan=90))
    assert watching.look()[0].passed
    clock.advance(seconds=120)
    assert not watching.look()[0].passed


def test_what_depends_on_another_table_is_measured_again(settings: Settings, clock: Clock) -> None:
    fill(settings, [{"id": 1, "customer": 7}])
    fill(settings, [{"nr": 1}], CUSTOMERS)
    one = check("foreign_key", column="customer", arguments={"table": "public.customers"}, mustBe=0)
    watching = watch(settings, clock, one)
    assert not watching.look()[0].passed
    apply(table_in(settings, CUSTOMERS), [{"nr": 7}], seq=2)
    clock.advance(seconds=60)
    assert watching.look()[0].passed


def test_a_check_that_stops_raises_after_its_result_is_kept(settings: Settings, clock: Clock) -> None:
    fill(settings, [{"id": 1}])
    with pytest.raises(QualityStop, match=r"rowCount of public\.orders"):
        watch(settings, clock, check("rowCount", mustBeGreaterThan=10, on_fail="stop")).look()
    assert query(settings, "SELECT passed FROM analytics.trusted_quality") == [(False,)]


def test_old_results_go_and_the_table_stays_small(settings: Settings, clock: Clock) -> None:
    table, watching = fill(settings, [{"id": 0}]), watch(settings, clock, ROW_COUNT)
    for number in range(1, 21):
        watching.look()
        apply(table, [{"id": number}], seq=number + 1)
        clock.advance(hours=2)
    watching.look()
    ((count, oldest),) = query(settings, "SELECT count(*), min(checked_at) FROM analytics.trusted_quality")
    assert count == 13, "of the last day"
    assert (clock.now - oldest).total_seconds() <= 86400
    (kept,) = watching.tables()
    for _ in range(3):
        maintain(kept, settings, clock)
    assert len(kept.live_files) <= 16


def test_two_processes_can_both_write_results(settings: Settings, clock: Clock) -> None:
    fill(settings, [{"id": 1}])
    one, other = watch(settings, clock, ROW_COUNT), watch(settings, clock, ROW_COUNT)
    one.look()
    clock.advance(seconds=60)
    other.look()
    apply(table_in(settings), [{"id": 2}], seq=2)
    clock.advance(seconds=60)
    one.look()
    assert query(settings, "SELECT count(*) FROM analytics.trusted_quality") == [(3,)]


def test_the_summary_tells_of_the_last_measurement_only(settings: Settings, clock: Clock) -> None:
    assert summary(settings).check_count == 0
    table = fill(settings, [{"id": 1}])
    known = check("nullValues", column="email", mustBeLessThan=1, severity="info")
    watch(settings, clock, check("rowCount", mustBe=2), known).look()
    told = summary(settings)
    assert (told.check_count, [one.check_id for one in told.failed]) == (2, ["email.nullValues", "rowCount"])
    assert told.degraded
    apply(table, [{"id": 2}], seq=2)
    clock.advance(seconds=60)
    watch(settings, clock, check("rowCount", mustBe=2), known).look()
    told = summary(settings)
    assert [one.check_id for one in told.failed] == ["email.nullValues"]
    assert not told.degraded, "worth knowing, no more"
    assert told.to_dict()["checked_at"] == clock.now.isoformat()


def test_results_hold_no_values_of_rows(settings: Settings, clock: Clock) -> None:
    fill(settings, [{"id": 1, "email": "canary@example.org"}])
    valid = check("invalidValues", column="email", arguments={"validValues": ["x"]}, mustBe=0)
    watch(settings, clock, valid, check("duplicateValues", column="email", mustBe=1)).look()
    assert "canary" not in str(query(settings, "SELECT * FROM analytics.trusted_quality"))


def test_the_results_table_is_made_once(settings: Settings) -> None:
    assert ResultsTable.open(settings).table.iceberg.metadata.table_uuid == (
        ResultsTable.open(settings).table.iceberg.metadata.table_uuid
    )
