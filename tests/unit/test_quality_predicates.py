"""Which rows break a check: the SQL agrees with a judge written in Python, for every type."""

from __future__ import annotations

import json
import random
import re
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from smartstream.errors import ConfigInvalid
from smartstream.quality.config import OnFail, QualityCheck
from smartstream.quality.metrics import check_fits
from smartstream.quality.row_checks import row_checks

TYPES: dict[str, pa.DataType] = {
    "text": pa.string(),
    "number": pa.int32(),
    "price": pa.decimal128(10, 2),
    "ratio": pa.float64(),
    "day": pa.date32(),
    "at": pa.timestamp("us", tz="UTC"),
    "yes": pa.bool_(),
    "list": pa.list_(pa.int32()),
    'we"ird; name': pa.string(),
}


def check(metric: str, column: str, **arguments: Any) -> QualityCheck:
    values = {"metric": metric, "column": column, "arguments": arguments, "mustBe": 0}
    return QualityCheck.model_validate({**values, "on_fail": "quarantine"})


def broken(one: QualityCheck, values: list[Any], flagged: frozenset[int] = frozenset()) -> list[bool]:
    """Which of the values break the check; those flagged are null and stand in ``_untyped``."""
    column = str(one.column)
    texts = [json.dumps({column: "infinity"}) if n in flagged else None for n in range(len(values))]
    rows = pa.table(
        {
            column: pa.array(values, TYPES[column]),
            "_untyped": pa.array(texts, pa.string()),
            "n": range(len(values)),
        }
    )
    (compiled,) = row_checks([one], TYPES)
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.register("rows_", rows)
        found = connection.execute(f"SELECT {compiled.violated} FROM rows_ ORDER BY n").fetchall()
    assert all(isinstance(value, bool) for (value,) in found), "never null"
    return [value for (value,) in found]


def test_null_values() -> None:
    assert broken(check("nullValues", "text"), ["a", None, ""]) == [False, True, False]
    assert broken(check("nullValues", "list"), [[1], None, []]) == [False, True, False]


def test_missing_values_are_null_and_empty_unless_listed() -> None:
    assert broken(check("missingValues", "text"), ["a", None, "", "N/A"]) == [False, True, True, False]
    listed = check("missingValues", "text", missingValues=[None, "N/A"])
    assert broken(listed, ["a", None, "", "N/A"]) == [False, True, False, True]
    assert broken(check("missingValues", "text", missingValues=["x"]), ["x", None]) == [True, False]
    assert broken(check("missingValues", "number"), [0, None]) == [False, True]
    assert broken(check("missingValues", "number", missingValues=[None, -1]), [0, None, -1]) == [
        False,
        True,
        True,
    ]


def test_null_is_not_invalid() -> None:
    one = check("invalidValues", "text", validValues=["kg", "it's"])
    assert broken(one, ["kg", "it's", "lb", None]) == [False, False, True, False]


@pytest.mark.parametrize(
    ("column", "arguments", "good", "bad"),
    [
        ("text", {"pattern": "^[a-z]+$"}, ["abc"], ["Abc", "", "abc1"]),
        ("text", {"pattern": "b"}, ["abc"], ["ac"]),
        ("text", {"minLength": 2, "maxLength": 3}, ["ab", "äöü"], ["a", "abcd", ""]),
        ("text", {"minimum": "b"}, ["b", "c"], ["a"]),
        ("number", {"validValues": [1, 2]}, [1, 2], [3]),
        ("number", {"validValues": ["1"]}, [1], [2]),
        ("number", {"minimum": 0, "exclusiveMaximum": 10}, [0, 9], [-1, 10]),
        ("price", {"maximum": 9.99}, [Decimal("9.99")], [Decimal("10.00")]),
        ("price", {"validValues": [1.5]}, [Decimal("1.50")], [Decimal("1.51")]),
        ("ratio", {"minimum": 0, "maximum": 1}, [0.0, 1.0, 0.5], [1.5, float("nan"), float("inf")]),
        ("day", {"minimum": "2020-01-01"}, [date(2020, 1, 1)], [date(2019, 12, 31)]),
        ("day", {"exclusiveMaximum": date(2020, 1, 1)}, [date(2019, 12, 31)], [date(2020, 1, 1)]),
        (
            "at",
            {"exclusiveMinimum": "2020-01-01 00:00:00+00"},
            [datetime(2020, 1, 2, tzinfo=UTC)],
            [datetime(2020, 1, 1, tzinfo=UTC)],
        ),
        ("yes", {"validValues": [True]}, [True], [False]),
        ('we"ird; name', {"validValues": ["a'; DROP TABLE x; --"]}, ["a'; DROP TABLE x; --"], ["a"]),
    ],
)
def test_invalid_values(column: str, arguments: dict[str, Any], good: list[Any], bad: list[Any]) -> None:
    one = check("invalidValues", column, **arguments)
    assert broken(one, [*good, *bad]) == [False] * len(good) + [True] * len(bad)


def test_a_value_that_arrow_cannot_hold_is_present_but_not_valid() -> None:
    only_first = frozenset({0})
    assert broken(check("nullValues", "at"), [None, None], only_first) == [False, True]
    assert broken(check("missingValues", "at"), [None, None], only_first) == [False, True]
    assert broken(check("invalidValues", "at", minimum="1970-01-01"), [None, None], only_first) == [
        True,
        False,
    ]


@pytest.mark.parametrize(
    ("one", "said"),
    [
        (check("nullValues", "gone"), "there is no column gone"),
        (check("invalidValues", "number", validValues=["many"]), "'many' is not a value of int32"),
        (check("invalidValues", "number", validValues=[1.5]), "'1.5' is not a value of int32"),
        (check("invalidValues", "price", validValues=["1.005"]), "is not a value of decimal"),
        (check("invalidValues", "day", minimum="tomorrow"), "is not a value of date32"),
        (check("invalidValues", "number", pattern="1"), "of texts"),
        (check("invalidValues", "text", minimum=1), "put them in quotes"),
        (check("invalidValues", "text", pattern="(?<=look)"), "not a regular expression"),
        (check("invalidValues", "list", validValues=[1]), "can't be listed"),
    ],
)
def test_a_check_that_does_not_fit_its_column_is_refused(one: QualityCheck, said: str) -> None:
    with pytest.raises(ConfigInvalid, match=re.escape(said)):
        row_checks([one], TYPES)


def test_only_checks_of_single_rows_become_row_checks() -> None:
    of_rows = check("nullValues", "text")
    others = [
        {"metric": "nullValues", "column": "text", "mustBeLessThan": 5},
        {"metric": "duplicateValues", "column": "text", "mustBe": 0},
        {"metric": "rowCount", "mustBe": 0},
    ]
    found = row_checks([*map(QualityCheck.model_validate, others), of_rows], TYPES)
    assert [(one.rule, one.column, one.on_fail) for one in found] == [
        ("text.nullValues_2", "text", OnFail.QUARANTINE)
    ]
    assert found[0].reason == "text is null"


def test_random_checks_agree_with_a_judge_in_python(seed: str) -> None:
    letters = ["", "a", "b", "ab", "N/A", None]
    for _ in range(25):
        values = [random.choice(letters) for _ in range(30)]
        flagged = frozenset(n for n, value in enumerate(values) if value is None and random.random() < 0.3)
        listed = random.sample(letters, random.randint(1, 4))
        valid = [value for value in listed if value is not None] or ["a"]
        length = random.randint(0, 2)
        missing = broken(check("missingValues", "text", missingValues=listed), values, flagged)
        assert missing == [v in listed and n not in flagged for n, v in enumerate(values)], seed
        invalid = broken(check("invalidValues", "text", validValues=valid, minLength=length), values, flagged)
        assert invalid == [
            n in flagged or (v is not None and (v not in valid or len(v) < length))
            for n, v in enumerate(values)
        ], seed


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"metric": "duplicateValues", "column": "gone"}, "there is no column gone"),
        ({"metric": "foreign_key", "column": "gone", "arguments": {"table": "public.t"}}, "no column gone"),
        ({"metric": "freshness", "column": "text"}, "expected a date or a time"),
        ({"metric": "nullValues", "column": "gone"}, "there is no column gone"),
    ],
)
def test_checks_of_whole_tables_are_held_against_the_columns_before_anything_runs(
    values: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigInvalid, match=said):
        check_fits(QualityCheck.model_validate({**values, "mustBe": 1}), TYPES)
    good = {**values, "column": "at", "mustBe": 1}
    check_fits(QualityCheck.model_validate(good), TYPES)
