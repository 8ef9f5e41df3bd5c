"""Operators say what ODCS says they say; the breaker breaks where its limits are."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

import pytest

from smartstream.errors import ExitCode, QualityStop
from smartstream.quality.breaker import SLOTS, Judged, Window, breaker
from smartstream.quality.config import QualitySettings
from smartstream.quality.threshold import holds, implies, threshold_text

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("operator", "bounds", "passing", "failing"),
    [
        ("mustBe", [5], [5], [4, 6]),
        ("mustNotBe", [5], [4, 6], [5]),
        ("mustBeGreaterThan", [5], [6], [5, 4]),
        ("mustBeGreaterOrEqualTo", [5], [5, 6], [4]),
        ("mustBeLessThan", [5], [4], [5, 6]),
        ("mustBeLessOrEqualTo", [5], [5, 4], [6]),
        ("mustBeBetween", [5, 9], [6, 8.9], [5, 9, 4, 10]),
        ("mustNotBeBetween", [5, 9], [5, 9, 4, 10], [6]),
    ],
)
def test_operators(operator: str, bounds: list[float], passing: list[float], failing: list[float]) -> None:
    assert all(holds(operator, bounds, value) for value in passing)
    assert not any(holds(operator, bounds, value) for value in failing)


def test_thresholds_are_written_as_in_the_file() -> None:
    assert threshold_text("mustBe", [0]) == "mustBe 0"
    assert threshold_text("mustBeBetween", [0.5, 2]) == "mustBeBetween [0.5, 2]"
    assert threshold_text("mustBeLessThan", [123456789]) == "mustBeLessThan 123456789"


def test_a_threshold_implies_another_exactly_when_no_number_tells_them_apart(seed: str) -> None:
    operators = [
        "mustBe",
        "mustNotBe",
        "mustBeGreaterThan",
        "mustBeGreaterOrEqualTo",
        "mustBeLessThan",
        "mustBeLessOrEqualTo",
        "mustBeBetween",
        "mustNotBeBetween",
    ]

    def some() -> tuple[str, list[float]]:
        operator = random.choice(operators)
        low = random.randint(0, 5)
        return operator, [low, low + random.randint(1, 4)] if "Between" in operator else [low]

    numbers = [quarter / 4 for quarter in range(-8, 60)]
    for _ in range(2000):
        strict, loose = some(), some()
        told = all(holds(*loose, n) for n in numbers if holds(*strict, n))
        assert implies(strict, loose) == told, f"{strict} {loose}, {seed}"


LIMITS = QualitySettings(quarantine_ratio_max=0.5, quarantine_rows_min=100)


@pytest.mark.parametrize(("rows", "held"), [(100, 50), (99, 99), (0, 0), (1000, 500)])
def test_the_breaker_lets_pass_up_to_its_limits(rows: int, held: int) -> None:
    assert breaker([Judged("public.t", rows, held)], LIMITS) is None


def test_the_breaker_stops_past_them_and_says_which_table() -> None:
    stop = breaker([Judged("public.good", 500, 0), Judged("public.bad", 100, 51)], LIMITS)
    assert isinstance(stop, QualityStop)
    assert stop.exit_code == ExitCode.DEGRADED
    assert "public.bad: 51 of 100 rows broke a rule (51.0%)" in str(stop)


def test_a_ratio_of_one_never_stops() -> None:
    assert breaker([Judged("t", 1000, 1000)], QualitySettings(quarantine_ratio_max=1)) is None


def test_the_window_forgets_what_is_older_and_stays_small() -> None:
    window = Window(timedelta(seconds=60))
    for second in range(600):
        judged = window.add("t", 10, 1, NOW + timedelta(seconds=second))
        assert judged.row_count == judged.held_count * 10
    assert 600 <= judged.row_count <= 620
    assert len(window._slots["t"]) <= SLOTS + 1
    assert window.add("t", 5, 5, NOW + timedelta(hours=1)) == Judged("t", 5, 5)
    assert window.add("other", 1, 0, NOW + timedelta(hours=1)) == Judged("other", 1, 0)


def test_counts_of_one_moment_are_summed() -> None:
    window = Window(timedelta(seconds=60))
    window.add("t", 5, 1, NOW)
    assert window.add("t", 5, 2, NOW) == Judged("t", 10, 3)
