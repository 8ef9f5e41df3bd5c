"""Checks of rows, verdicts, dedupe, values that are known, and what compile refuses."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from smartstream.config import load, rules_of
from smartstream.errors import RuleInvalid, RuleStop
from smartstream.transform.rules import Dedupe, Verdict, compile_rules
from tests.rule_setting import batch, compiled, run, settings_of, table

GOOD, HELD, DROPPED = Verdict.GOOD, Verdict.QUARANTINE, Verdict.DROP
NAN = float("nan")


@pytest.mark.parametrize(
    ("kind", "check", "good", "bad"),
    [
        ("integer", {"range": {"column": "x", "min": 1, "max": 5}}, [1, 5, None], [0, 6]),
        ("integer", {"range": {"column": "x", "max": 5}}, [-9, None], [6]),
        ("numeric(6,2)", {"range": {"column": "x", "min": 0.01}}, [Decimal("0.01")], [Decimal("0.00")]),
        ("text", {"range": {"column": "x", "min": "b", "max": "c"}}, ["b", "bz", "c"], ["a", "ca", "B", ""]),
        ("date", {"range": {"column": "x", "min": "2026-01-01"}}, [date(2026, 1, 1)], [date(2025, 12, 31)]),
        (
            "timestamptz",
            {"range": {"column": "x", "min": "2026-01-01", "max": "2026-02-01T00:00:00+01:00"}},
            [datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 31, 23, tzinfo=UTC)],
            [datetime(2025, 12, 31, 23, tzinfo=UTC), datetime(2026, 1, 31, 23, 0, 1, tzinfo=UTC)],
        ),
        ("double precision", {"range": {"column": "x", "max": 1}}, [-float("inf"), 1.0], [NAN, 1.1]),
        ("text", {"one_of": {"column": "x", "values": ["a", "b'c", ""]}}, ["a", "b'c", "", None], ["A"]),
        ("integer", {"one_of": {"column": "x", "values": [1, 2]}}, [1, None], [3]),
        ("boolean", {"one_of": {"column": "x", "values": True}}, [True, None], [False]),
        ("text", {"matches": {"column": "x", "pattern": "[^@]+@[^@]+"}}, ["a@b", None], ["a", "a@b@c", ""]),
        ("text", {"matches": {"column": "x", "pattern": "a|b"}}, ["a", "b"], ["ab", "xa"]),
        ("integer[]", {"not_null": "x"}, [[], [None]], [None]),
        ("text", {"metric": "nullValues", "column": "x", "mustBe": 0, "on_fail": "quarantine"}, [""], [None]),
        (
            "text",
            {"metric": "missingValues", "column": "x", "mustBe": 0, "on_fail": "quarantine",
             "arguments": {"missingValues": ["-", None]}},
            ["", "x"],
            ["-", None],
        ),
        (
            "integer",
            {"metric": "invalidValues", "column": "x", "mustBe": 0, "on_fail": "quarantine",
             "arguments": {"minimum": 3}},
            [3, None],
            [2],
        ),
    ],
)  # fmt: skip
def test_a_check_tells_good_from_bad(
    kind: str, check: dict[str, Any], good: list[Any], bad: list[Any]
) -> None:
    result = run(compiled({"x": kind}, quality=[check]), [{"x": value} for value in (*good, *bad)])
    assert result.verdicts == [GOOD] * len(good) + [HELD] * len(bad)
    assert list(result.counts.values()) == [len(bad)]


@pytest.mark.parametrize(
    ("check", "problem"),
    [
        ({"range": {"column": "x", "min": "a"}}, "'a' is not a value of integer"),
        ({"range": {"column": "l", "min": 1}}, r"l is integer\[\]"),
        ({"one_of": {"column": "x", "values": [1, 2.5]}}, "'2.5' is not a value of integer"),
        ({"matches": {"column": "x", "pattern": "a"}}, "x is integer; the rule takes text"),
        ({"matches": {"column": "s", "pattern": "("}}, "not a regular expression"),
        ({"metric": "nullValues", "column": "y", "mustBe": 0}, "there is no column y"),
    ],
)
def test_a_check_that_does_not_fit_is_refused(check: dict[str, Any], problem: str) -> None:
    with pytest.raises(RuleInvalid, match=problem):
        compiled({"x": "integer", "s": "text", "l": "integer[]"}, quality=[check])


def test_checks_see_what_clean_leaves_and_may_look_at_keys() -> None:
    rules = compiled(
        {"x": "text"},
        clean=[{"cast": {"x": "integer"}}],
        quality=[{"range": {"column": ["x", "id"], "max": 2}}],
    )
    assert run(rules, [{"x": "1"}, {"x": "3"}, {"x": "1"}]).verdicts == [GOOD, HELD, HELD]


def test_of_a_flagged_value_nothing_can_be_told() -> None:
    rules = compiled({"x": "date"}, quality=[{"range": {"column": "x", "max": "2026-01-01"}}])
    result = run(rules, [{"_flags": {"x": "infinity"}}, {}])
    assert result.verdicts == [HELD, GOOD] and "not representable" in result.reasons[0]


def test_the_worst_verdict_wins_and_warnings_are_kept_apart() -> None:
    quality = [
        {"range": {"column": "x", "max": 1}, "on_fail": "warn", "name": "small"},
        {"range": {"column": "x", "max": 2}, "on_fail": "quarantine"},
        {"range": {"column": "x", "max": 3}, "on_fail": "drop"},
    ]
    result = run(compiled({"x": "integer"}, quality=quality), [{"x": number} for number in (1, 2, 3, 4)])
    assert result.verdicts == [GOOD, GOOD, HELD, DROPPED]
    assert [text and json.loads(text) for text in result.column("_quality")][1] == {"warn": ["small"]}
    assert result.broken == [
        [],
        [],
        [("range:x", "is greater than the maximum")],
        [("range:x", "is greater than the maximum"), ("range:x#2", "is greater than the maximum")],
    ]
    assert result.bad_columns == [None, None, ["x"], None]
    assert result.counts == {"small": 3, "range:x": 2, "range:x#2": 1}


def test_stop_names_table_rule_and_position_and_no_value() -> None:
    rules = compiled({"x": "text"}, quality=[{"one_of": {"column": "x", "values": ["a"]}, "on_fail": "stop"}])
    assert run(rules, [{"x": "a"}]).verdicts == [GOOD]
    with pytest.raises(RuleStop) as caught:
        run(rules, [{"x": "a"}, {"x": "canary", "_lsn": 0x1_0000_0010}, {"x": "canary"}])
    message = str(caught.value)
    assert message == "public.t: 2 rows break one_of:x, the first at 1/10: x is not one of the values"


def test_bad_columns_are_those_whose_values_must_go() -> None:
    rules = compiled(
        {"price": "text", "count": "integer", "note": "text"},
        clean=[
            {"cast": {"price": "numeric(6,2)"}},
            {"compute": {"column": "total", "sql": "price * count"}},
            {"compute": {"column": "tax", "sql": "total / 5"}},
        ],
        quality=[{"range": {"column": "count", "min": 0}}, {"not_null": "note"}],
    )
    rows = [
        {"price": "x", "count": 1, "note": "n"},
        {"price": "1", "count": -1, "note": "n"},
        {"price": "x", "count": -1, "note": "n"},
        {"price": "x", "count": 1, "note": None},
    ]
    price, count = ["price", "tax", "total"], ["count", "tax", "total"]
    assert run(rules, rows).bad_columns == [price, count, sorted({*price, *count}), None]


def test_dedupe_is_checked_and_handed_on() -> None:
    clean = [{"dedupe": {"key": ["a", "b"], "keep": "first", "by": "d"}}, {"lower": "a"}]
    rules = compiled({"a": "text", "b": "integer", "d": "date"}, clean=clean)
    assert rules.dedupe == Dedupe(("a", "b"), "first", "d")
    result = run(rules, [{"a": "X", "_flags": {"d": "infinity"}}, {"a": "X"}])
    assert result.verdicts == [HELD, GOOD], "a value that can't be compared is held"


@pytest.mark.parametrize(
    ("clean", "problem"),
    [
        ([{"dedupe": {"key": "z"}}], "there is no column z"),
        ([{"dedupe": {"key": "a"}}, {"drop": "a"}], "any more"),
        ([{"dedupe": {"key": "l"}}], "is a list"),
        ([{"dedupe": {"key": "a"}}, {"dedupe": {"key": "b"}}], "one rule dedupe at most"),
    ],
)
def test_a_dedupe_that_can_not_be_is_refused(clean: list[dict[str, Any]], problem: str) -> None:
    with pytest.raises(RuleInvalid, match=problem):
        compiled({"a": "text", "b": "integer", "l": "text[]"}, clean=clean)


KEY_RULES: list[dict[str, Any]] = [
    {"trim": "k"}, {"lower": "k"}, {"upper": "k"}, {"replace": {"column": "k", "pattern": "a"}},
    {"null_if": {"k": "x"}}, {"default": {"k": "x"}}, {"cast": {"k": "integer"}}, {"mask": "k"},
    {"drop": "k"},
    {"parse_timestamp": {"column": "k"}}, {"hash": {"column": "k", "key": "k" * 16}},
    {"tokenise": {"column": "k", "key": "k" * 16}}, {"compute": {"column": "k", "sql": "1", "replace": True}},
]  # fmt: skip


@pytest.mark.parametrize("rule", KEY_RULES, ids=lambda rule: next(iter(rule)))
def test_no_rule_changes_a_key(rule: dict[str, Any]) -> None:
    with pytest.raises(RuleInvalid, match="k is a key column"):
        compiled({"k": "text", "x": "text"}, key=("k",), clean=[rule])


def test_a_mistake_is_blamed_on_its_line_with_a_suggestion(tmp_path: Path) -> None:
    path = tmp_path / "smartstream.yaml"
    path.write_text(
        "source: {url: x}\ntables:\n  public.*:\n    clean:\n    - trim: [name]\n"
        "  public.t:\n    clean:\n    - cast:\n        name: text\n        amuont: integer\n"
    )
    schema = table({"name": "text", "amount": "text"})
    with pytest.raises(RuleInvalid) as caught:
        compile_rules(schema, rules_of(load(path), "public.t"))
    problem = "public.t: cast: there is no column amuont; did you mean amount?"
    assert str(caught.value) == f"{path}:10: {problem}"


def test_a_rule_can_be_left_out_where_its_column_is_missing() -> None:
    rules = compiled({"x": "text"}, clean=[{"upper": ["x", "y"], "if_present": True}])
    assert run(rules, [{"x": "a"}]).column("x") == ["A"]


@pytest.mark.parametrize(
    ("columns", "problem"), [({"a": "text", "A": "text"}, "tell a from A"), ({"~a": "text"}, "begins with ~")]
)
def test_columns_that_the_pass_could_not_tell_apart_are_refused(
    columns: dict[str, str], problem: str
) -> None:
    with pytest.raises(RuleInvalid, match=problem):
        compiled(columns, clean=[{"trim": "*"}])


def test_names_and_values_with_every_kind_of_quote_are_taken_as_they_are() -> None:
    name = "we \"ird' */ -- {0} žluť;"
    clean = [
        {"null_if": {name: ["it's", 'say "x"', "\\", "{old}", "*/"]}},
        {"replace": {"column": name, "pattern": "'", "with": "''"}},
        {"required": name},
    ]
    rules = compiled({name: "text"}, clean=clean, quality=[{"matches": {"column": name, "pattern": "[^;]*"}}])
    values = ["it's", 'say "x"', "\\", "{old}", "*/", "a'b"]
    result = run(rules, [{name: value} for value in values])
    assert result.column(name) == [None] * 5 + ["a''b"]
    assert result.counts == {f"required:{name}": 5, f"matches:{name}": 0}


def test_no_rules_that_concern_rows_are_no_rules() -> None:
    schema = table({"x": "text"})
    assert compile_rules(schema, settings_of()) is None
    assert (
        compile_rules(schema, settings_of(quality=[{"metric": "rowCount", "mustBeGreaterThan": 0}])) is None
    )


def test_the_version_follows_rules_and_the_columns_that_they_look_at() -> None:
    def version(columns: dict[str, str], **rules: Any) -> str:
        return compiled(columns, **rules).version

    columns, clean = {"x": "text", "y": "text"}, [{"trim": "x"}]
    first = version(columns, clean=clean)
    assert version(columns, clean=clean) == first and len(first) == 16
    assert version({**columns, "z": "date"}, clean=clean) == first, "a column that no rule looks at"
    assert version({**columns, "x": "varchar"}, clean=clean) != first
    assert version(columns, clean=[{"trim": "y"}]) != first
    assert version(columns, clean=[*clean, {"drop": "y"}]) != first
    assert version(columns, clean=clean, on_bad_update="null_value") != first
    assert version(columns, clean=clean, quality=[{"not_null": "y"}]) != first


def test_a_known_value_is_not_judged_and_left_to_the_caller() -> None:
    rules = compiled(
        {"x": "text", "y": "integer"},
        clean=[{"upper": "x"}, {"required": "x"}, {"default": {"x": "none"}}, {"required": "y"}],
    )
    assert rules.carries("x") and rules.carries("y")
    result = run(rules, [{"y": 1}, {"y": None}, {"x": "a", "y": None}], {"x": [True, True, False]})
    assert result.column("x") == [None, None, "A"]
    assert result.broken == [[], [("required:y", "is null")], [("required:y", "is null")]]


def test_values_are_carried_only_where_nothing_else_depends_on_them() -> None:
    columns = dict.fromkeys("abcdef", "text")
    rules = compiled(
        columns,
        clean=[
            {"trim": "*"},
            {"compute": {"column": "ab", "sql": "a || b"}},
            {"drop": "c"},
            {"hash": {"column": "d", "key": "k" * 16}},
            {"dedupe": {"key": "d"}},
        ],
        quality=[{"check": "length(e) > 1"}, {"not_null": "f", "on_fail": "warn"}],
    )
    carried = {name for name in columns if rules.carries(name)}
    assert carried == {"c", "d", "e"}
    with pytest.raises(AssertionError):
        run(rules, [{}], {"a": [True]})
    for policy in ("null_value", "keep_previous_marked"):
        assert not compiled(columns, quality=[{"not_null": "a"}], on_bad_update=policy).carries("b")


def test_lists_that_are_known_are_null_too() -> None:
    rules = compiled({"x": "integer[]", "y": "text"}, clean=[{"trim": "y"}])
    assert run(rules, [{"x": [1]}, {"x": [2]}], {"x": [False, True]}).column("x") == [[1], None]


def test_rows_do_not_influence_each_other_however_they_are_cut() -> None:
    rules = compiled(
        {"x": "text", "t": "text"},
        clean=[
            {"trim": "x"},
            {"parse_timestamp": {"column": "t", "zone": "Europe/Berlin", "fold": "later"}},
            {"tokenise": {"column": "x", "key": "k" * 16}},
        ],
        quality=[{"matches": {"column": "x", "pattern": "tok1_.*[a-m]"}}],
    )
    rows = [
        {"id": number, "_lsn": number, "x": f" v{number % 17} ", "t": f"2026-10-25 0{number % 9}:30"}
        for number in range(5000)
    ]
    whole = rules.apply(batch(rules.schema, rows))
    backwards = rules.apply(batch(rules.schema, rows[::-1]))
    assert backwards.rows.to_pylist()[::-1] == whole.rows.to_pylist()
    assert backwards.violations.to_pylist()[::-1] == whole.violations.to_pylist()
    cut = [rules.apply(batch(rules.schema, rows[begin : begin + 701])) for begin in range(0, 5000, 701)]
    assert [row for part in cut for row in part.rows.to_pylist()] == whole.rows.to_pylist()
    assert [int(one) for part in cut for one in part.verdict] == whole.verdict.tolist()
