"""Values that no type of the lake holds: flagged, clamped or quarantined, as the table says."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any

import pytest

from smartstream.transform.rules import Verdict, compile_rules
from tests.rule_setting import compiled, run, settings_of, table

STAMP = datetime(9999, 12, 31, 23, 59, 59, 999999)
MOST = Decimal("999999999999999999.99999999999999999999")
LEAST = Decimal("-999999999999999999.99999999999999999999")  # not -MOST, which Python would round
CLAMPS: list[tuple[str, str, Any]] = [
    ("date", "infinity", date(9999, 12, 31)),
    ("date", "-infinity", date(1, 1, 1)),
    ("date", "0044-03-15 BC", date(1, 1, 1)),
    ("date", "5874897-12-31", date(9999, 12, 31)),
    ("time", "24:00:00", time(23, 59, 59, 999999)),
    ("timestamp", "infinity", STAMP),
    ("timestamp", "4714-11-24 00:00:00 BC", datetime(1, 1, 1)),
    ("timestamp", "294276-12-31 23:59:59.999999", STAMP),
    ("timestamptz", "10000-01-01 00:00:00+00", STAMP.replace(tzinfo=UTC)),
    ("timestamptz", "-infinity", datetime(1, 1, 1, tzinfo=UTC)),
    ("numeric", "Infinity", MOST),
    ("numeric", "-Infinity", LEAST),
    ("numeric", "9" * 131072, MOST),
    ("numeric", "-1" + "0" * 18, LEAST),
    ("numeric", "999999999999999999.999999999999999999995", MOST),
    ("numeric", "0.000000000000000000005", Decimal("0.00000000000000000001")),
    ("numeric", "-0.0000000000000000000049", Decimal(0)),
    ("numeric", "0." + "0" * 999 + "1", Decimal(0)),
]


@pytest.mark.parametrize(("kind", "text", "nearest"), CLAMPS, ids=[f"{k} {t[:25]}" for k, t, _ in CLAMPS])
def test_clamp_puts_the_nearest_value_in_place_and_says_so(kind: str, text: str, nearest: Any) -> None:
    result = run(compiled({"x": kind}, unrepresentable="clamp"), [{"x": None, "_flags": {"x": text}}, {}])
    assert result.verdicts == [Verdict.GOOD, Verdict.GOOD]
    assert result.column("x") == [nearest, None]
    assert result.column("_untyped") == [None, None]
    assert result.column("_quality") == ['{"warn": ["unrepresentable:x"]}', None]


@pytest.mark.parametrize(
    ("kind", "text"), [("numeric", "NaN"), ("numeric(10,2)", "NaN"), ("integer[]", "[0:0]={1}")]
)
def test_clamp_leaves_what_has_no_nearest_value_null_and_flagged(kind: str, text: str) -> None:
    result = run(compiled({"x": kind}, unrepresentable="clamp"), [{"_flags": {"x": text}}])
    assert (result.verdicts, result.column("x")) == ([Verdict.GOOD], [None])
    assert json.loads(result.column("_untyped")[0]) == {"x": text}


@pytest.mark.parametrize("kind", ["date", "time", "timestamp", "timestamptz", "numeric", "date[]"])
def test_quarantine_holds_the_row_and_only_it(kind: str) -> None:
    rows = [{"_flags": {"x": "odd"}}, {}, {"_flags": {"y": "odd"}}]
    rules = compiled({"x": kind, "y": "numeric"}, clean=[{"drop": ["y"]}], unrepresentable="quarantine")
    result = run(rules, rows)
    assert result.verdicts == [Verdict.QUARANTINE, Verdict.GOOD, Verdict.GOOD]
    assert result.broken[0] == [
        ("unrepresentable:x", "the value is not representable in its type (see _untyped)")
    ]
    assert result.bad_columns == [["x"], None, None]


def test_what_clean_has_settled_is_no_longer_judged() -> None:
    clean = [{"null_if": {"a": "infinity"}}, {"cast": {"b": "text"}}, {"drop": ["c"]}]
    columns = {"a": "date", "b": "numeric", "c": "timestamp"}
    flags = {"a": "infinity", "b": "NaN", "c": "infinity"}
    for policy in ("quarantine", "clamp"):
        result = run(compiled(columns, clean=clean, unrepresentable=policy), [{"_flags": flags}])
        assert result.verdicts == [Verdict.GOOD]
        assert (result.column("a"), result.column("b"), result.column("_quality")) == (
            [None],
            ["NaN"],
            [None],
        )


def test_quality_judges_the_clamped_value() -> None:
    quality = [{"range": {"column": "n", "max": "1000"}}, {"not_null": ["n"]}]
    rules = compiled({"n": "numeric"}, quality=quality, unrepresentable="clamp")
    result = run(rules, [{"_flags": {"n": "1e30"}}, {"_flags": {"n": "0." + "0" * 30 + "1"}}])
    assert result.verdicts == [Verdict.QUARANTINE, Verdict.GOOD]


def test_a_clamped_value_is_never_carried_over_from_the_trusted_row() -> None:
    columns = {"n": "numeric", "t": "text"}
    clamp, quarantine = (compiled(columns, unrepresentable=policy) for policy in ("clamp", "quarantine"))
    assert (clamp.carries("n"), clamp.carries("t")) == (False, True)
    assert (quarantine.carries("n"), quarantine.carries("t")) == (True, True)


@pytest.mark.parametrize("policy", ["clamp", "quarantine"])
def test_a_table_that_can_hold_everything_needs_no_rules(policy: str) -> None:
    settings = settings_of(unrepresentable=policy)
    assert compile_rules(table({"a": "text", "b": "double precision"}), settings) is None
    assert compile_rules(table({"d": "date"}, key=("d",)), settings) is None
    assert compile_rules(table({"d": "date"}), settings) is not None


def test_the_policy_is_part_of_the_rules_version_where_it_matters() -> None:
    def version(columns: dict[str, str], **said: Any) -> str:
        return compiled(columns, clean=[{"default": {"t": "x"}}], **said).version

    plain = {"t": "text"}
    assert version(plain) == version(plain, unrepresentable="clamp")
    dated = {"t": "text", "d": "date"}
    versions = [version(dated, unrepresentable=p) for p in ("null_and_flag", "clamp", "quarantine")]
    assert versions[0] == version(dated)
    assert len(set(versions)) == 3
