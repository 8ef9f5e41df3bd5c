"""Dates and times: exactly, or flagged."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta

import pyarrow as pa
import pytest

from smartstream.capture.values import cast
from smartstream.capture.values.calendar import date_text, timestamp_text
from smartstream.errors import ProtocolError
from smartstream.schema import Kind, PgType


def typed(texts: list[str | None], kind: Kind) -> tuple[list[object], list[int]]:
    done = cast(pa.array(texts, pa.string()), PgType(str(kind), kind))
    flags = done.untyped.to_pylist() if done.untyped is not None else []
    return done.values.to_pylist(), [n for n, flag in enumerate(flags) if flag]


def test_dates_of_four_digit_years_are_held_and_others_flagged() -> None:
    texts = ["0001-01-01", "9999-12-31", None, "2024-02-29"]
    dates = [date(1, 1, 1), date(9999, 12, 31), None, date(2024, 2, 29)]
    assert typed(texts, Kind.DATE) == (dates, [])
    odd = ["infinity", "-infinity", "10000-01-01", "0044-03-15 BC", "5874897-12-31"]
    values, flagged = typed([*texts, *odd], Kind.DATE)
    assert values == [*dates, *[None] * 5]
    assert flagged == [4, 5, 6, 7, 8]


@pytest.mark.parametrize("fraction", ["", ".1", ".12", ".123", ".1234", ".12345", ".123456"])
def test_timestamps_keep_every_digit_of_their_seconds(fraction: str) -> None:
    us = int(fraction[1:].ljust(6, "0") or 0)
    stamp = datetime(2024, 2, 29, 23, 59, 58, us)
    assert typed([f"2024-02-29 23:59:58{fraction}", None], Kind.TIMESTAMP) == ([stamp, None], [])
    zoned = f"2024-02-29 23:59:58{fraction}+00"
    assert typed([zoned, None], Kind.TIMESTAMPTZ) == ([stamp.replace(tzinfo=UTC), None], [])
    clock = f"23:59:58{fraction}"
    assert typed([clock, None, "24:00:00"], Kind.TIME) == ([stamp.time(), None, None], [2])


def test_timestamps_beyond_four_digit_years_are_flagged_alone() -> None:
    good = datetime(1, 1, 1)
    for kind, zone in ((Kind.TIMESTAMP, ""), (Kind.TIMESTAMPTZ, "+00")):
        odd = [
            "infinity",
            "-infinity",
            f"294276-12-31 23:59:59.999999{zone}",
            f"0044-03-15 01:02:03{zone} BC",
        ]
        values, flagged = typed([f"0001-01-01 00:00:00{zone}", *odd], kind)
        assert values == [good.replace(tzinfo=UTC) if zone else good, None, None, None, None]
        assert flagged == [1, 2, 3, 4]


def test_midnight_at_the_end_of_the_day_is_not_midnight_at_its_beginning() -> None:
    assert typed(["00:00:00", "24:00:00"], Kind.TIME) == ([time(0), None], [1])


def test_days_that_no_calendar_has_are_refused() -> None:
    for kind, text in (
        (Kind.DATE, "2023-02-29"), (Kind.DATE, "0000-01-01"), (Kind.TIMESTAMP, "2023-02-29 00:00:00"),
        (Kind.TIMESTAMPTZ, "0000-12-31 00:00:00+00"), (Kind.TIME, "12:60:00"),
    ):  # fmt: skip
        with pytest.raises(ProtocolError):
            typed([text], kind)


def test_the_calendar_agrees_with_pythons_where_python_has_one() -> None:
    origin = date(2000, 1, 1)
    for day in range(date.min.toordinal(), date.max.toordinal(), 397):
        when = date.fromordinal(day)
        assert date_text((when - origin).days) == when.isoformat()
    for us in (-1, 0, 1, 10, 86_399_999_999, 10**15 + 5):
        stamp = datetime(2000, 1, 1) + timedelta(microseconds=us)
        text = timestamp_text(us)
        assert datetime.fromisoformat(text.ljust(26, "0") if "." in text else text) == stamp
