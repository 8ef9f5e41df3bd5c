"""The rules compute, drop and check: SQL expressions of one row."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from smartstream.errors import RuleInvalid
from smartstream.transform.rules import CompiledRules, Verdict
from tests.rule_setting import compiled, run

COLUMNS = {"a": "integer", "b": "text", "d": "date", "l": "integer[]", "m": "numeric(10,2)", "t": "timestamp"}


def computing(sql: str, **options: Any) -> CompiledRules:
    return compiled(COLUMNS, clean=[{"compute": {"column": "new", "sql": sql, **options}}])


@pytest.mark.parametrize(
    ("sql", "kind", "wanted"),
    [
        ("a + 1", pa.int32(), 6),
        ("A * m", pa.decimal128(18, 2), Decimal("12.50")),
        ("m / 2", pa.float64(), 1.25),
        ("upper(b) || '-' || a  -- a comment", pa.string(), "X-5"),
        ("CASE WHEN a > 3 THEN 'many' ELSE 'few' END", pa.string(), "many"),
        ("nullif(a, 5) IS NULL", pa.bool_(), True),
        ("coalesce(NULL, b)", pa.string(), "x"),
        ("length(b)", pa.int64(), 1),
        ("a::TINYINT", pa.int32(), 5),
        ("year(d)", pa.int64(), 2026),
        ("d + INTERVAL 1 MONTH", pa.timestamp("us"), datetime(2026, 2, 28)),
        ("date_trunc('hour', t)", pa.timestamp("us"), datetime(2026, 1, 2, 3)),
        ("list_sum(list_transform(l, lambda x: x * a))", None, None),
        ("len(list_filter(l, lambda x: x > 1))", pa.int64(), 2),
        ("l[1:2]", pa.list_(pa.field("element", pa.int32())), [1, 2]),
        ("b IN ('x', 'y') AND a BETWEEN 1 AND 9", pa.bool_(), True),
        ("regexp_extract(b, '(.)', 1)", pa.string(), "x"),
        ("strftime(t, '%Y')", pa.string(), "2026"),
        ("sha256(b)", pa.string(), "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"),
        ("json_extract_string('{\"k\": 1}', '$.k')", pa.string(), "1"),
        ("42", pa.int32(), 42),
    ],
)
def test_a_column_is_computed(sql: str, kind: pa.DataType | None, wanted: Any) -> None:
    row = {
        "a": 5, "b": "x", "d": date(2026, 1, 31), "l": [1, 2, 3], "m": Decimal("2.5"),
        "t": datetime(2026, 1, 2, 3, 4),
    }  # fmt: skip
    if kind is None:  # a sum of whole numbers is wider than any type that is carried
        with pytest.raises(RuleInvalid, match="HUGEINT; CAST it"):
            computing(sql)
        return
    rules = computing(sql)
    assert rules.output[-1].type == kind
    result = run(rules, [row])
    assert result.column("new") == [wanted] and not any(result.broken)


@pytest.mark.parametrize(
    ("sql", "problem"),
    [
        ("(SELECT 1)", "subquery"),
        ("EXISTS (SELECT 1)", "subquery"),
        ("a = ANY([1, 2])", "subquery"),
        ("sum(a)", "aggregate"),
        ("a OVER ()", "syntax error|aggregate|not a function|window"),
        ("row_number() OVER (ORDER BY a)", "window function"),
        ("lag(a) OVER ()", "window function"),
        ("random()", "not give the same value"),
        ("a + random()", "not give the same value"),
        ("now()", "not give the same value"),
        ("current_timestamp", "no column current_timestamp"),
        ("today()", "not give the same value"),
        ("current_date", "no column current_date"),
        ("ago(INTERVAL 1 DAY)", "ago is not among"),
        ("gen_random_uuid()", "not give the same value"),
        ("nextval('s')", "not give the same value"),
        ("current_setting('TimeZone')", "not give the same value"),
        ("getvariable('x')", "not give the same value"),
        ("getenv('HOME')", "getenv"),
        ("age(t)", "age is not among"),
        ("current_localtimestamp()", "current_localtimestamp is not among"),
        ("user_agent()", "user_agent is not among"),
        ("hash(a)", "hash is not among"),
        ("version()", "is not among"),
        ("current_user", "no column current_user"),
        ("current_user()", "current_user is not among"),
        ("read_text('/etc/passwd')", "is not among"),
        ("x -> 1", "not found"),
        ("read_csv('x')", "is not among"),
        ("query('SELECT 1')", "is not among"),
        ("unnest(l)", "unnest"),
        ("*", "star"),
        ("COLUMNS('a')", "star"),
        ("?", "parameter"),
        ("$1", "parameter"),
        ("#1", "position"),
        ("t.a", "alone, without its table"),
        ("rows.a", "alone, without its table"),
        ("b.upper()", "upper"),
        ("a, d", "one expression"),
        ("a) , (d", "syntax error"),
        ("1) FROM rows WHERE (true", "syntax error"),
        ("1 FROM rows", "one expression"),
        ("1 AS one", "syntax error"),
        ("1 LIMIT 1", "syntax error|one expression"),
        ("1; SELECT 2", "one expression"),
        ("1); SELECT (2", "syntax error"),
        ("a +", "syntax error"),
        ("", "at least 1 character"),
        ("-- nothing", "syntax error"),
        ("aa + 1", "did you mean a?"),
        ("_lsn", "no column _lsn"),
        ("rowid", "no column rowid"),
        ("frobnicate(a)", "no function frobnicate"),
        ("b + 1", "[Cc]ould not|No function matches|[Cc]onver"),
        ("CAST('x' AS INTEGER)", "[Cc]ould not"),
        ("NULL", "CAST it to one of"),
        ("INTERVAL 1 DAY", "CAST it to one of"),
        ("{'k': a}", "CAST it to one of"),
        ("a::HUGEINT", "CAST it to one of"),
        ("t::TIMESTAMP_NS", "CAST it to one of"),
        ("DEFAULT", "DEFAULT"),
        ("pg_sleep(1)", "."),
        ("write_log('x')", "not give the same value"),
    ],
)
def test_an_expression_that_could_look_beyond_its_row_is_refused(sql: str, problem: str) -> None:
    if not sql:
        with pytest.raises(ValueError, match=problem):
            computing(sql)
        return
    with pytest.raises(RuleInvalid, match=problem):
        computing(sql)


def test_a_row_whose_expression_fails_is_held_alone() -> None:
    result = run(computing("CAST(b AS INTEGER) + a"), [{"a": 1, "b": text} for text in ("1", "x", None, "2")])
    assert result.column("new") == [2, None, None, 3]
    assert result.broken == [[], [("compute:new", "the expression can't be computed")], [], []]
    assert result.bad_columns == [None, ["new"], None, None]


def test_overflow_is_held_too() -> None:
    result = run(computing("a * 2"), [{"a": 2**31 - 1}, {"a": 1}])
    assert result.verdicts == [Verdict.QUARANTINE, Verdict.GOOD]


def test_a_flagged_value_is_not_taken_for_null() -> None:
    result = run(computing("coalesce(d, DATE '2000-01-01')"), [{"_flags": {"d": "infinity"}}, {}])
    assert "not representable" in result.reasons[0]
    assert result.column("new")[1] == date(2000, 1, 1)


def test_names_are_taken_and_reserved_names_refused() -> None:
    for name, problem in (
        ("a", "a column a already"),
        ("A", "a column a already"),
        ("_lsn", "reserved"),
        ("_quality", "reserved"),
        ("_untyped", "reserved"),
        ("_op", "reserved"),
        ("~x", "reserved"),
        ("id", "key column"),
    ):
        with pytest.raises(RuleInvalid, match=problem):
            compiled(COLUMNS, clean=[{"compute": {"column": name, "sql": "1"}}])


def test_a_column_can_be_replaced_by_an_expression_over_itself() -> None:
    rules = compiled(
        {"a": "integer"}, clean=[{"compute": {"column": "a", "sql": "a || '!'", "replace": True}}]
    )
    assert [(c.name, c.type, c.origin) for c in rules.output[1:]] == [("a", pa.string(), None)]
    assert run(rules, [{"a": 1}]).column("a") == ["1!"]


def test_what_is_dropped_is_gone_and_its_flag_with_it() -> None:
    rules = compiled(
        {"d": "date", "e": "date"}, clean=[{"compute": {"column": "y", "sql": "year(d)"}}, {"drop": "e"}]
    )
    assert [column.name for column in rules.output] == ["id", "d", "y"]
    result = run(rules, [{"_flags": {"e": "infinity"}}, {"_flags": {"d": "infinity", "e": "infinity"}}])
    assert result.column("_untyped") == [None, '{"d": "infinity"}']
    assert result.verdicts == [Verdict.GOOD, Verdict.QUARANTINE]


def test_a_dropped_column_can_not_be_used_any_more() -> None:
    with pytest.raises(RuleInvalid, match="any more: a rule above drops it"):
        compiled({"a": "text"}, clean=[{"drop": "a"}, {"trim": "a"}])


def test_a_check_passes_null_and_holds_what_it_can_not_compute() -> None:
    rules = compiled({"a": "integer", "b": "text"}, quality=[{"check": "a < b::INTEGER", "name": "order"}])
    rows = [{"a": 1, "b": "2"}, {"a": 2, "b": "1"}, {"a": None, "b": "1"}, {"a": 1, "b": "x"}]
    result = run(rules, rows)
    assert result.reasons == ["", "is not met", "", "the expression can't be computed"]
    assert result.bad_columns == [None] * 4
    assert result.counts == {"order": 2}


def test_a_check_is_a_condition() -> None:
    with pytest.raises(RuleInvalid, match="INTEGER, not true or false"):
        compiled({"a": "integer"}, quality=[{"check": "a + 1"}])
