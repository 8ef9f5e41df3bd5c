"""The rule cast: without loss, or a violation that says why."""

from __future__ import annotations

from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any

import pytest

from smartstream.errors import RuleInvalid
from smartstream.transform.rules import Verdict
from tests.rule_setting import compiled, run, through

D = Decimal
INF, NAN = float("inf"), float("nan")

GOOD: list[tuple[str, str, Any, Any]] = [
    ("text", "integer", "-2147483648", -(2**31)),
    ("text", "integer", "+0007", 7),
    ("text", "bigint", "9223372036854775807", 2**63 - 1),
    ("text", "decimal(5,2)", "-999.99", D("-999.99")),
    ("text", "decimal(5,2)", "1.5000000000000000000000000000000000000000", D("1.50")),
    ("text", "decimal(5,2)", "." + "5", D("0.50")),
    ("text", "decimal(38,0)", "9" * 38, D("9" * 38)),
    ("text", "decimal(38,38)", "0." + "1" * 38, D("0." + "1" * 38)),
    ("text", "numeric(4)", "12", D(12)),
    ("text", "double", "0.1", 0.1),
    ("text", "double", "-1e308", -1e308),
    ("text", "double", "Infinity", INF),
    ("text", "double", "0e-999", 0.0),
    ("text", "real", "0.5", 0.5),
    ("text", "boolean", "YES", True),
    ("text", "boolean", "0", False),
    ("text", "date", "2024-02-29", date(2024, 2, 29)),
    ("text", "time", "23:59:59.999999", time(23, 59, 59, 999999)),
    ("text", "time", "09:30", time(9, 30)),
    ("text", "timestamp", "2024-02-29T12:00:00.10", datetime(2024, 2, 29, 12, 0, 0, 100000)),
    ("text", "timestamp", "2024-02-29", datetime(2024, 2, 29)),
    ("text", "timestamptz", "2024-02-29 12:00:00+05:30", datetime(2024, 2, 29, 6, 30, tzinfo=UTC)),
    ("text", "timestamptz", "2024-02-29T12:00Z", datetime(2024, 2, 29, 12, tzinfo=UTC)),
    ("integer", "bigint", -5, -5),
    ("bigint", "integer", 2**31 - 1, 2**31 - 1),
    ("bigint", "double", 2**53, 2.0**53),
    ("bigint", "double", -(2**63), -(2.0**63)),
    ("integer", "real", 2**24, 2.0**24),
    ("integer", "decimal(3,1)", 99, D("99.0")),
    ("integer", "boolean", 1, True),
    ("boolean", "integer", True, 1),
    ("double precision", "integer", -3.0, -3),
    ("double precision", "bigint", 2.0**62, 2**62),
    ("double precision", "decimal(10,2)", 0.1, D("0.10")),
    ("double precision", "decimal(38,10)", 1234567.89, D("1234567.8900000000")),
    ("double precision", "decimal(38,0)", 1e20, D(10**20)),
    ("double precision", "real", 0.5, 0.5),
    ("double precision", "real", INF, INF),
    ("real", "double", 0.5, 0.5),
    ("numeric(10,2)", "integer", D("5.00"), 5),
    ("numeric(10,2)", "decimal(4,1)", D("123.40"), D("123.4")),
    ("numeric(10,2)", "double", D("0.10"), 0.1),
    ("numeric(38,10)", "decimal(38,2)", D("1.2500000000"), D("1.25")),
    ("date", "timestamp", date(2024, 1, 2), datetime(2024, 1, 2)),
    ("timestamp", "date", datetime(2024, 1, 2), date(2024, 1, 2)),
    ("timestamptz", "timestamp", datetime(2024, 1, 2, 3, tzinfo=UTC), datetime(2024, 1, 2, 3)),
    ("integer", "text", -7, "-7"),
    ("boolean", "text", True, "true"),
    ("double precision", "text", 1.0, "1"),
    ("double precision", "text", 1e20, "1e+20"),
    ("double precision", "text", -INF, "-Infinity"),
    ("double precision", "text", NAN, "NaN"),
    ("numeric(10,2)", "text", D("1.50"), "1.50"),
    ("date", "text", date(2024, 1, 2), "2024-01-02"),
    ("time", "text", time(1, 2, 3, 500000), "01:02:03.5"),
    ("timestamp", "text", datetime(2024, 1, 2, 3, 4, 5), "2024-01-02 03:04:05"),
    ("timestamptz", "text", datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC), "2024-01-02 03:04:05+00"),
    ("bytea", "text", b"\x00\xab", "\\x00ab"),
]

BAD: list[tuple[str, str, Any, str]] = [
    ("text", "integer", "1.5", "is not a whole number"),
    ("text", "integer", "1.0", "is not a whole number"),
    ("text", "integer", " 1", "is not a whole number"),
    ("text", "integer", "1_000", "is not a whole number"),
    ("text", "integer", "0x1f", "is not a whole number"),
    ("text", "integer", "1e3", "is not a whole number"),
    ("text", "integer", "true", "is not a whole number"),
    ("text", "integer", "", "is not a whole number"),
    ("text", "integer", "١", "is not a whole number"),
    ("text", "integer", "2147483648", "is out of range for integer"),
    ("text", "bigint", "9" * 40, "is out of range for bigint"),
    ("text", "decimal(5,2)", "1.234", "would be rounded"),
    ("text", "decimal(5,2)", "1.005", "would be rounded"),
    ("text", "decimal(5,2)", "1000", "does not fit decimal(5,2)"),
    ("text", "decimal(5,2)", "1e1", "is not a decimal number"),
    ("text", "decimal(5,2)", ".", "is not a decimal number"),
    ("text", "decimal(5,2)", "NaN", "is not a decimal number"),
    ("text", "double", "1e999", "is out of range for double precision"),
    ("text", "double", "1e-999", "is out of range for double precision"),
    ("text", "double", "inf", "is not a number"),
    ("text", "double", "1e", "is not a number"),
    ("text", "real", "1e39", "is out of range for real"),
    ("text", "boolean", "maybe", "is neither true nor false"),
    ("text", "date", "2023-02-29", "is a date that does not exist"),
    ("text", "date", "0000-01-01", "is outside the years 1 to 9999"),
    ("text", "date", "2023-2-9", "is not a date (YYYY-MM-DD)"),
    ("text", "date", "10000-01-01", "is not a date (YYYY-MM-DD)"),
    ("text", "time", "24:00:00", "is not a time (HH:MM:SS)"),
    ("text", "time", "12:00:00.1234567", "is not a time (HH:MM:SS)"),
    ("text", "timestamp", "2024-01-01 00:00:00+00", "is not a timestamp (YYYY-MM-DD HH:MM:SS)"),
    ("text", "timestamp", "2024-02-30 00:00:00", "is a timestamp that does not exist"),
    (
        "text",
        "timestamptz",
        "2024-01-01 00:00:00",
        "is not a timestamp with an offset (YYYY-MM-DD HH:MM:SS+00:00)",
    ),
    ("text", "timestamptz", "9999-12-31 23:00:00-02", "is outside the years 1 to 9999"),
    ("text", "timestamptz", "0001-01-01 00:00:00+02", "is outside the years 1 to 9999"),
    ("bigint", "integer", 2**31, "is out of range for integer"),
    ("bigint", "double", 2**53 + 1, "would be rounded"),
    ("bigint", "double", 2**63 - 1, "would be rounded"),
    ("integer", "real", 2**24 + 1, "would be rounded"),
    ("integer", "decimal(3,1)", 100, "is out of range for decimal(3,1)"),
    ("integer", "boolean", 2, "is neither 0 nor 1"),
    ("double precision", "integer", 0.5, "would be rounded"),
    ("double precision", "integer", 1e10, "is out of range for integer"),
    ("double precision", "integer", NAN, "is out of range for integer"),
    ("double precision", "bigint", 2.0**63, "is out of range for bigint"),
    ("double precision", "decimal(10,2)", 0.125, "would be rounded"),
    ("double precision", "decimal(10,2)", 1e-9, "would be rounded"),
    ("double precision", "decimal(10,2)", INF, "is out of range for decimal(10,2)"),
    ("double precision", "real", 0.1, "would be rounded"),
    ("double precision", "real", 1e39, "is out of range for real"),
    ("numeric(10,2)", "integer", D("5.50"), "would be rounded"),
    ("numeric(10,2)", "decimal(4,1)", D("1.25"), "would be rounded"),
    ("numeric(10,2)", "decimal(3,2)", D("10.00"), "is out of range for decimal(3,2)"),
    ("numeric(38,10)", "double", D("1234567890123456789.0123456789"), "would be rounded"),
    ("timestamp", "date", datetime(2024, 1, 2, 0, 0, 0, 1), "has a time of day"),
]


@pytest.mark.parametrize(("kind", "target", "value", "wanted"), GOOD, ids=str)
def test_a_value_that_fits_is_cast(kind: str, target: str, value: Any, wanted: Any) -> None:
    result = through(kind, {"cast": {"x": target}}, [value, None])
    assert not any(result.broken)
    found, null = result.column("x")
    assert (found == wanted or (found != found and wanted != wanted)) and type(found) is type(wanted)
    assert null is None


@pytest.mark.parametrize(("kind", "target", "value", "reason"), BAD, ids=str)
def test_a_value_that_does_not_fit_is_held_with_the_reason(
    kind: str, target: str, value: Any, reason: str
) -> None:
    result = through(kind, {"cast": {"x": target}}, [value, None])
    assert result.broken == [[("cast:x", reason)], []]
    assert result.column("x") == [None, None]
    assert result.bad_columns == [["x"], None]
    assert result.counts == {"cast:x": 1}


@pytest.mark.parametrize(
    ("kind", "target"),
    [
        ("integer", "date"), ("integer", "timestamp"), ("date", "integer"), ("date", "timestamptz"),
        ("timestamp", "timestamptz"), ("timestamptz", "date"), ("boolean", "double"), ("text", "bytea"),
        ("bytea", "integer"), ("time", "timestamp"),
    ],
)  # fmt: skip
def test_a_cast_that_never_works_is_refused(kind: str, target: str) -> None:
    with pytest.raises(RuleInvalid, match="never becomes"):
        compiled({"x": kind}, clean=[{"cast": {"x": target}}])


@pytest.mark.parametrize("target", ["varchar2", "decimal(39,2)", "decimal(2,3)", "decimal", "integer[]", ""])
def test_an_unknown_type_is_refused_with_the_known_ones(target: str) -> None:
    with pytest.raises(RuleInvalid, match=r"there are boolean, integer, .*decimal\(p,s\)"):
        compiled({"x": "text"}, clean=[{"cast": {"x": target}}])


def test_lists_are_not_cast() -> None:
    with pytest.raises(RuleInvalid, match=r"x is integer\[\]"):
        compiled({"x": "integer[]"}, clean=[{"cast": {"x": "text"}}])


def test_the_type_that_a_column_has_already_is_no_work() -> None:
    rules = compiled({"x": "numeric(5,2)", "y": "text"}, clean=[{"cast": {"x": "decimal(5,2)", "y": "text"}}])
    assert rules.sql == ""


def test_a_flagged_value_can_become_text_and_nothing_else() -> None:
    rows = [{"_flags": {"x": "infinity", "y": "NaN"}}, {"x": date(2026, 1, 1), "y": D("1.5")}]
    result = run(compiled({"x": "date", "y": "numeric"}, clean=[{"cast": {"x": "text"}}]), rows)
    assert result.column("x") == ["infinity", "2026-01-01"]
    assert result.column("_untyped") == ['{"y": "NaN"}', None]
    assert not any(result.broken)
    result = run(compiled({"x": "date", "y": "numeric"}, clean=[{"cast": {"y": "double"}}]), rows)
    assert result.reasons == ["the value is not representable in its type (see _untyped)", ""]
    assert result.column("y") == [None, 1.5]


def test_a_warning_leaves_null_and_says_so_never_a_rounded_value() -> None:
    clean = [{"cast": {"x": "integer"}, "on_fail": "warn", "name": "whole"}]
    result = run(compiled({"x": "double precision"}, clean=clean), [{"x": 1.5}, {"x": 2.0}])
    assert result.column("x") == [None, 2]
    assert result.verdicts == [Verdict.GOOD, Verdict.GOOD]
    assert result.column("_quality") == ['{"warn": ["whole"]}', None]
    assert result.counts == {"whole": 1}
