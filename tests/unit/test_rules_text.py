"""Rules for text: trim, lower, upper, replace, mask; and null_if, default, required."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Any

import pytest

from smartstream.errors import RuleInvalid
from smartstream.transform.rules import Verdict
from tests.rule_setting import compiled, run, through


def test_trim_removes_every_kind_of_white_space_at_both_ends_only() -> None:
    spaces = " \t\n\v\f\r\x85\xa0\u1680\u2000\u2003\u2009\u2028\u2029\u202f\u205f\u3000"
    values = [f"{spaces}a {spaces}b{spaces}", spaces, "", None, "x", "\u200bx\u200b", "žluť "]
    wanted = [f"a {spaces}b", "", "", None, "x", "\u200bx\u200b", "žluť"]
    assert through("text", {"trim": "x"}, values).column("x") == wanted


@pytest.mark.parametrize(
    ("rule", "value", "wanted"),
    [
        ("lower", "ÀÉ ŽLUŤOUČKÝ Σ 😀 A1", "àé žluťoučký σ 😀 a1"),
        ("upper", "àé žluťoučký σ 😀 a1", "ÀÉ ŽLUŤOUČKÝ Σ 😀 A1"),
        ("lower", "", ""),
        ("upper", None, None),
    ],
)
def test_letters_change_their_case(rule: str, value: str | None, wanted: str | None) -> None:
    assert through("text", {rule: "x"}, [value]).column("x") == [wanted]


@pytest.mark.parametrize(
    ("options", "value", "wanted"),
    [
        ({"pattern": "[^0-9]"}, "+49 (30) 1-2", "493012"),
        ({"pattern": "a", "with": "b", "first_only": True}, "aaa", "baa"),
        ({"pattern": r"(\w+)@(\w+)", "with": r"\2 at \1 \\ \0"}, "me@home", r"home at me \ me@home"),
        ({"pattern": "(?i)X", "with": "'"}, "axX", "a''"),
        ({"pattern": "^$", "with": "empty"}, "", "empty"),
        ({"pattern": "x", "with": "y"}, None, None),
        ({"pattern": r"\p{Lu}", "with": "-"}, "ŽaB", "-a-"),
    ],
)
def test_replace(options: dict[str, Any], value: str | None, wanted: str | None) -> None:
    assert through("text", {"replace": {"column": "x", **options}}, [value]).column("x") == [wanted]


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"pattern": "(a"}, "not a regular expression"),
        ({"pattern": "(?=a)b"}, "not a regular expression"),
        ({"pattern": "(a)", "with": r"\2"}, "no group 2"),
        ({"pattern": "a", "with": r"\1"}, "no group 1"),
        ({"pattern": "a", "with": r"\n"}, "number of a group"),
        ({"pattern": "a", "with": "\\"}, "number of a group"),
    ],
)
def test_a_replacement_that_makes_no_sense_is_refused(options: dict[str, Any], problem: str) -> None:
    with pytest.raises(RuleInvalid, match=problem):
        compiled({"x": "text"}, clean=[{"replace": {"column": "x", **options}}])


@pytest.mark.parametrize(
    ("options", "value", "wanted"),
    [
        ({}, "secret", "***"),
        ({}, "", "***"),
        ({}, None, None),
        ({"keep_last": 4}, "4111111111111111", "***1111"),
        ({"keep_first": 1, "keep_last": 1}, "ab", "***"),
        ({"keep_first": 1, "keep_last": 1}, "a😀b", "a***b"),
        ({"keep_first": 2, "with": "…"}, "žluť", "žl…"),
    ],
)
def test_mask_hides_the_middle_and_never_shows_a_whole_value(
    options: dict[str, Any], value: str | None, wanted: str | None
) -> None:
    assert through("text", {"mask": {"column": "x", **options}}, [value]).column("x") == [wanted]


def test_a_star_means_free_text_and_leaves_keys_and_texts_with_a_form_alone() -> None:
    columns = {
        "a": "text",
        "b": "varchar",
        "c": "uuid",
        "d": "jsonb",
        "e": "mood",
        "f": "integer",
        "g": "inet",
    }
    rules = compiled(columns, clean=[{"upper": "*"}])
    row = {**dict.fromkeys("abcdeg", "x"), "f": 1}
    assert run(rules, [row]).rows[0] | {"_lsn": 0} == {
        "id": 1, "a": "X", "b": "X", "c": "x", "d": "x", "e": "x", "f": 1, "g": "x",
        "_lsn": 0, "_untyped": None, "_quality": None,
    }  # fmt: skip


def test_a_text_that_has_a_form_can_be_named() -> None:
    assert through("uuid", {"upper": "x"}, ["ab"]).column("x") == ["AB"]


def test_rules_act_in_their_order() -> None:
    clean = [{"trim": "x"}, {"null_if": {"x": ""}}, {"default": {"x": " none "}}, {"upper": "x"}]
    result = run(compiled({"x": "text"}, clean=clean), [{"x": "  "}, {"x": " a"}, {"x": None}])
    assert result.column("x") == [" NONE ", "A", " NONE "]


@pytest.mark.parametrize(
    ("kind", "listed", "values", "wanted"),
    [
        ("text", ["", "n/a"], ["", "N/A", "n/a", None, "x"], [None, "N/A", None, None, "x"]),
        ("integer", -1, [-1, 0, None], [None, 0, None]),
        ("numeric(6,2)", "9.5", [Decimal("9.50"), Decimal(9)], [None, Decimal("9.00")]),
        ("date", "1900-01-01", [date(1900, 1, 1), date(1900, 1, 2)], [None, date(1900, 1, 2)]),
        ("double precision", "NaN", [float("nan"), 1.5], [None, 1.5]),
        ("boolean", False, [True, False], [True, None]),
    ],
)
def test_null_if(kind: str, listed: Any, values: list[Any], wanted: list[Any]) -> None:
    assert through(kind, {"null_if": {"x": listed}}, values).column("x") == wanted


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("integer", "1.5"),
        ("integer", "x"),
        ("integer", "2147483648"),
        ("numeric(4,2)", "1.234"),
        ("date", "2026-02-30"),
    ],
)
@pytest.mark.parametrize("rule", ["null_if", "default"])
def test_a_value_that_the_column_can_not_have_is_refused(rule: str, kind: str, text: str) -> None:
    with pytest.raises(RuleInvalid, match="is not a value of"):
        compiled({"x": kind}, clean=[{rule: {"x": text}}])


def test_null_if_forgets_infinity_which_only_the_flags_hold() -> None:
    rules = compiled({"x": "date", "y": "date"}, clean=[{"null_if": {"x": ["infinity", "1900-01-01"]}}])
    rows = [
        {"_flags": {"x": "infinity"}},
        {"_flags": {"x": "-infinity", "y": "infinity"}},
        {"_flags": {"x": "infinity", "y": "infinity"}},
        {"x": date(1900, 1, 1)},
    ]
    result = run(rules, rows)
    assert result.column("x") == [None] * 4
    flags = [None, '{"x": "-infinity", "y": "infinity"}', '{"y": "infinity"}', None]
    assert result.column("_untyped") == flags
    assert not any(result.broken)


def test_default_fills_nulls_and_refuses_to_take_a_flagged_value_for_one() -> None:
    rules = compiled({"x": "date"}, clean=[{"default": {"x": "2000-01-01"}}])
    result = run(rules, [{"x": None}, {"x": date(2026, 1, 1)}, {"_flags": {"x": "infinity"}}])
    assert result.column("x")[:2] == [date(2000, 1, 1), date(2026, 1, 1)]
    assert result.verdicts == [Verdict.GOOD, Verdict.GOOD, Verdict.QUARANTINE]
    assert "not representable" in result.reasons[2]


def test_required_takes_a_flagged_value_for_one() -> None:
    rules = compiled({"x": "date"}, clean=[{"required": "x"}])
    result = run(rules, [{"x": None}, {"x": date(2026, 1, 1)}, {"_flags": {"x": "infinity"}}])
    assert result.broken == [[("required:x", "is null")], [], []]
    assert rules.required == {"x"}
    assert result.column("_untyped")[2] == '{"x": "infinity"}'


def test_no_rows_are_no_problem() -> None:
    clean = [{"trim": "x"}, {"cast": {"x": "integer"}}, {"required": "x"}]
    assert run(compiled({"x": "text"}, clean=clean), []).rows == []
