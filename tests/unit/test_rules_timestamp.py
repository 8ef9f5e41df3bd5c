"""The rule parse_timestamp: formats, zones, and what clocks do in spring and autumn."""

from __future__ import annotations

import zoneinfo
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pytest

from smartstream.errors import RuleInvalid
from smartstream.transform.rules import zones
from tests.rule_setting import compiled, run, through

SKIPPED, DOUBLED = "is a local time that the clock skips", "is a local time that the clock shows twice"
NO_FORMAT, YEARS = "has none of the formats, or does not exist", "is outside the years 1 to 9999"


def parsed(kind: str, value: Any, **options: Any) -> Any:
    """The instant in UTC, or the reason why there is none."""
    result = through(kind, {"parse_timestamp": {"column": "x", **options}}, [value, None])
    first, null = result.column("x")
    assert null is None
    assert (first is None) == (value is None or bool(result.reasons[0]))
    return result.reasons[0] or (first and first.astimezone(UTC).isoformat().removesuffix("+00:00"))


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        ("2026-01-02 03:04:05", "2026-01-02T03:04:05"),
        ("2026-01-02T03:04", "2026-01-02T03:04:00"),
        ("2026-01-02", "2026-01-02T00:00:00"),
        ("2026-01-02 03:04:05.123456000", "2026-01-02T03:04:05.123456"),
        ("2026-01-02 03:04:05.1234567", NO_FORMAT),
        ("2026-01-02T03:04:05Z", "2026-01-02T03:04:05"),
        ("2026-01-02 03:04:05+0230", "2026-01-02T00:34:05"),
        ("2026-01-02 03:04:05-11", "2026-01-02T14:04:05"),
        ("2026-02-29 00:00:00", NO_FORMAT),
        ("2026-01-02 24:00:00", NO_FORMAT),
        ("2026-01-02 23:59:60", NO_FORMAT),
        (" 2026-01-02", NO_FORMAT),
        ("0000-01-01", YEARS),
        ("0001-01-01", "0001-01-01T00:00:00"),
        ("0001-01-01 00:00:00+01", YEARS),
        ("9999-12-31 23:59:59.999999", "9999-12-31T23:59:59.999999"),
        ("9999-12-31T23:59:59-01", YEARS),
        ("", NO_FORMAT),
    ],
)
def test_iso_is_the_format_without_a_word(value: str, wanted: str) -> None:
    assert parsed("text", value) == wanted


@pytest.mark.parametrize(
    ("pattern", "value", "wanted"),
    [
        ("%d.%m.%Y %H:%M", "5.1.2026 7:08", "2026-01-05T07:08:00"),
        ("%d.%m.%Y %H:%M", "05.01.2026  07:08", NO_FORMAT),
        ("%d.%m.%Y %H:%M", "05.01.2026 07:08 ", NO_FORMAT),
        ("%m/%d/%y", "12/31/68", "2068-12-31T00:00:00"),
        ("%m/%d/%y", "12/31/69", "1969-12-31T00:00:00"),
        ("%b %d, %Y %I:%M:%S %p", "Jan 5, 2026 12:00:01 am", "2026-01-05T00:00:01"),
        ("%A, %d %B %Y", "Monday, 05 january 2026", "2026-01-05T00:00:00"),
        ("%Y%m%d%H%M%S", "20260105070809", "2026-01-05T07:08:09"),
        ("%Y%m%d", "2026015", NO_FORMAT),
        ("%Y-%m-%d %H:%M:%S.%f", "2026-01-05 01:02:03.5", "2026-01-05T01:02:03.500000"),
        ("%d/%b/%Y:%H:%M:%S %z", "05/Jan/2026:01:02:03 +0100", "2026-01-05T00:02:03"),
        ("%Y-%m-%d%z", "2026-01-05Z", "2026-01-05T00:00:00"),
        ("%d %%%m %Y", "05 %01 2026", "2026-01-05T00:00:00"),
        ("am %d.%m.%Y", "am 31.04.2026", NO_FORMAT),
        ("%d.%m.%Y", "05x01x2026", NO_FORMAT),
    ],
)
def test_patterns_are_exact_but_for_leading_zeros(pattern: str, value: str, wanted: str) -> None:
    assert parsed("text", value, formats=pattern) == wanted


def test_formats_are_tried_in_order_and_a_day_that_does_not_exist_is_tried_on() -> None:
    formats = ["%d/%m/%Y", "%m/%d/%Y", "epoch_ms"]
    assert parsed("text", "02/01/2026", formats=formats) == "2026-01-02T00:00:00"
    assert parsed("text", "12/25/2026", formats=formats) == "2026-12-25T00:00:00"
    assert parsed("text", "1767225600000.5", formats=formats) == "2026-01-01T00:00:00.000500"


@pytest.mark.parametrize(
    ("kind", "value", "unit", "wanted"),
    [
        ("integer", 0, "epoch_s", "1970-01-01T00:00:00"),
        ("bigint", -1, "epoch_us", "1969-12-31T23:59:59.999999"),
        ("bigint", 1767225600123, "epoch_ms", "2026-01-01T00:00:00.123000"),
        ("bigint", 2**63 - 1, "epoch_us", NO_FORMAT),
        ("bigint", 253402300799, "epoch_s", "9999-12-31T23:59:59"),
        ("bigint", -62135596801, "epoch_s", YEARS),
        ("numeric(20,6)", Decimal("1.000001"), "epoch_s", "1970-01-01T00:00:01.000001"),
        ("numeric(20,6)", Decimal("1.000001"), "epoch_ms", NO_FORMAT),
        ("numeric(20,7)", Decimal("1.0000001"), "epoch_s", NO_FORMAT),
        ("text", "1767225600", "epoch_s", "2026-01-01T00:00:00"),
        ("text", "-0.5", "epoch_s", "1969-12-31T23:59:59.500000"),
        ("text", "1e9", "epoch_s", NO_FORMAT),
        ("text", "9" * 18, "epoch_s", NO_FORMAT),
    ],
)
def test_epochs_are_exact(kind: str, value: Any, unit: str, wanted: str) -> None:
    assert parsed(kind, value, formats=[unit], zone="Asia/Tokyo") == wanted


@pytest.mark.parametrize(
    ("zone", "value", "options", "wanted"),
    [
        ("Europe/Berlin", "2026-07-01 12:00", {}, "2026-07-01T10:00:00"),
        ("Europe/Berlin", "2026-03-29 01:59:59.999999", {}, "2026-03-29T00:59:59.999999"),
        ("Europe/Berlin", "2026-03-29 02:00", {}, SKIPPED),
        ("Europe/Berlin", "2026-03-29 02:59:59.999999", {}, SKIPPED),
        ("Europe/Berlin", "2026-03-29 02:30", {"gap": "shift"}, "2026-03-29T01:30:00"),
        ("Europe/Berlin", "2026-03-29 02:00", {"gap": "shift"}, "2026-03-29T01:00:00"),
        ("Europe/Berlin", "2026-03-29 03:00", {}, "2026-03-29T01:00:00"),
        ("Europe/Berlin", "2026-10-25 01:59:59", {}, "2026-10-24T23:59:59"),
        ("Europe/Berlin", "2026-10-25 02:30", {}, DOUBLED),
        ("Europe/Berlin", "2026-10-25 02:30", {"fold": "earlier"}, "2026-10-25T00:30:00"),
        ("Europe/Berlin", "2026-10-25 02:30", {"fold": "later"}, "2026-10-25T01:30:00"),
        ("Europe/Berlin", "2026-10-25 03:00", {}, "2026-10-25T02:00:00"),
        ("Europe/Berlin", "2026-10-25T02:30+02", {}, "2026-10-25T00:30:00"),
        ("America/New_York", "2026-03-08 02:30", {}, SKIPPED),
        ("America/New_York", "2026-03-08 02:30", {"gap": "shift"}, "2026-03-08T07:30:00"),
        ("America/New_York", "2026-11-01 01:30", {"fold": "earlier"}, "2026-11-01T05:30:00"),
        ("America/New_York", "2026-11-01 01:30", {"fold": "later"}, "2026-11-01T06:30:00"),
        ("America/New_York", "2026-11-01 01:30", {}, DOUBLED),
        ("Australia/Lord_Howe", "2026-10-04 02:15", {"gap": "shift"}, "2026-10-03T15:45:00"),
        ("Pacific/Apia", "2011-12-30 12:00", {"gap": "shift"}, "2011-12-30T22:00:00"),
        ("Pacific/Apia", "2011-12-30 12:00", {}, SKIPPED),
    ],
)
def test_what_the_clocks_of_a_zone_skip_or_show_twice(
    zone: str, value: str, options: dict[str, str], wanted: str
) -> None:
    assert parsed("text", value, zone=zone, **options) == wanted


def test_local_timestamps_and_dates_are_placed_in_their_zone() -> None:
    assert parsed("timestamp", datetime(2026, 7, 1, 12), zone="Europe/Berlin") == "2026-07-01T10:00:00"
    assert parsed("date", date(2026, 7, 1), zone="America/New_York") == "2026-07-01T04:00:00"
    assert parsed("timestamp", datetime(1, 1, 1), zone="Asia/Tokyo") == YEARS


def test_a_flagged_timestamp_is_held() -> None:
    rules = compiled({"x": "timestamp"}, clean=[{"parse_timestamp": {"column": "x", "zone": "Asia/Tokyo"}}])
    result = run(rules, [{"_flags": {"x": "infinity"}}, {"x": datetime(2026, 1, 1)}])
    assert "not representable" in result.reasons[0] and not result.reasons[1]


@pytest.mark.parametrize(
    ("kind", "options", "problem"),
    [
        ("text", {"zone": "Europe/Berlim"}, "did you mean Europe/Berlin"),
        ("text", {"zone": "nowhere"}, "there is no time zone nowhere"),
        ("text", {"formats": "%d.%m"}, "a year, a month and a day are needed"),
        ("text", {"formats": "%Y-%m-%d %q"}, "%q is not known"),
        ("text", {"formats": "%Y-%m-%d %Y"}, "%Y stands twice"),
        ("text", {"formats": "%Y-%m-%d %I"}, "%I and %p belong together"),
        ("text", {"formats": "%Y-%m-%d %H %I %p"}, "%H stands alone"),
        ("text", {"formats": "%z %Y-%m-%d"}, "%z must be the last"),
        ("text", {"formats": "%Y-%m-%d %"}, "a % at the end"),
        ("text", {"formats": "%Y-%m-%d %B"}, "the date stands there twice"),
        ("text", {"formats": "ISO"}, "neither a pattern"),
        ("integer", {}, "say in formats what it counts"),
        ("integer", {"formats": "%Y"}, "say in formats what it counts"),
        ("timestamp", {"formats": "%Y-%m-%d"}, "which has no formats"),
        ("timestamptz", {}, "the rule takes text"),
        ("double precision", {"formats": "epoch_s"}, "the rule takes text"),
    ],
)
def test_what_makes_no_sense_is_refused(kind: str, options: dict[str, Any], problem: str) -> None:
    with pytest.raises(RuleInvalid, match=problem):
        compiled({"x": kind}, clean=[{"parse_timestamp": {"column": "x", **options}}])


def test_looking_at_hours_says_the_same_as_looking_at_each_time(seed: str) -> None:
    rng = np.random.default_rng(list(seed.encode()))
    names = sorted(zone for zone in zoneinfo.available_timezones() if not zones.unknown_zone(zone))
    year_s = 31_556_952
    for zone in rng.choice(names, 12, replace=False):
        within = rng.integers(-70, 130) * year_s + np.arange(0, year_s, 1800) + rng.integers(1800)
        local = np.tile(within * 1_000_000, 4)  # so that few hours have many times
        quick = zones.to_utc(local, zone, gap="shift", fold="later")
        slow = zones._one_by_one(local, zone, gap="shift", fold="later")
        assert np.array_equal(quick.utc, slow.utc), zone
        assert np.array_equal(quick.skipped, slow.skipped) and np.array_equal(quick.doubled, slow.doubled)
