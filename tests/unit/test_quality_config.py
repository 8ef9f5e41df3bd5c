"""Quality checks as the file says them: what is accepted, what is refused, and how they are called."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from smartstream.config import Settings, load, rules_of
from smartstream.errors import ConfigInvalid
from smartstream.quality.config import CHECKS_MAX, QualityCheck, SchemaContract, named


def check(**values: Any) -> QualityCheck:
    return QualityCheck.model_validate(values)


@pytest.mark.parametrize(
    "values",
    [
        {"metric": "nullValues", "column": "a", "mustBe": 0},
        {"metric": "nullValues", "column": "a", "mustBeLessThan": 1.5, "unit": "percent"},
        {"metric": "missingValues", "column": "a", "mustBe": 0, "on_fail": "quarantine"},
        {
            "metric": "missingValues",
            "column": "a",
            "arguments": {"missingValues": [None, "N/A"]},
            "mustBe": 0,
        },
        {
            "metric": "invalidValues",
            "column": "a",
            "arguments": {"pattern": "^x"},
            "mustBe": 0,
            "on_fail": "drop",
        },
        {"metric": "invalidValues", "column": "a", "arguments": {"minimum": 0}, "mustBeBetween": [0, 9]},
        {"metric": "duplicateValues", "column": "a", "mustBeLessOrEqualTo": 3},
        {
            "metric": "duplicateValues",
            "arguments": {"properties": ["a", "b"]},
            "mustBe": 0,
            "on_fail": "stop",
        },
        {"metric": "rowCount", "mustNotBeBetween": [1, 5]},
        {"metric": "rowCount", "mustBeGreaterOrEqualTo": 1},
        {"metric": "freshness", "mustBeLessThan": "15m"},
        {"metric": "freshness", "column": "at", "mustBeLessThan": 60},
        {"metric": "volume", "mustBeBetween": [0.5, 2]},
        {"metric": "volume", "arguments": {"against": "mean", "days": 7}, "mustBeGreaterThan": 0.5},
        {"metric": "foreign_key", "column": "a", "arguments": {"table": "public.t"}, "mustBe": 0},
    ],
)
def test_checks_that_make_sense_are_accepted(values: dict[str, Any]) -> None:
    assert check(**values).metric == values["metric"]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"metric": "nullValues", "column": "a"}, "expected one operator"),
        ({"metric": "nullValues", "column": "a", "mustBe": 0, "mustNotBe": 1}, "got 2"),
        ({"metric": "nullValues", "mustBe": 0}, "nullValues needs a column"),
        ({"metric": "rowCount", "column": "a", "mustBe": 0}, "takes no column"),
        ({"metric": "rowCount", "mustBe": 1, "unit": "percent"}, "not counted in percent"),
        ({"metric": "rowCount", "mustBe": "1m"}, "expected a number"),
        ({"metric": "rowCount", "mustBe": True}, "expected a number"),
        ({"metric": "rowCount", "mustBeBetween": [5, 5]}, "the smaller number first"),
        ({"metric": "freshness", "mustBeLessThan": "soon"}, "a duration"),
        ({"metric": "invalidValues", "column": "a", "mustBe": 0}, "says what is valid"),
        (
            {"metric": "invalidValues", "column": "a", "arguments": {"days": 3}, "mustBe": 0},
            "no argument days",
        ),
        (
            {"metric": "nullValues", "column": "a", "arguments": {"pattern": "x"}, "mustBe": 0},
            "it knows none",
        ),
        ({"metric": "duplicateValues", "mustBe": 0}, "either a column or arguments.properties"),
        ({"metric": "foreign_key", "column": "a", "mustBe": 0}, "needs arguments.table"),
        ({"metric": "volume", "arguments": {"days": 3}, "mustBe": 1}, "days belong to against: mean"),
        ({"metric": "nullValues", "column": "a", "mustBeLessThan": 5, "on_fail": "drop"}, "which rows"),
        ({"metric": "duplicateValues", "column": "a", "mustBe": 0, "on_fail": "quarantine"}, "dedupe"),
        ({"metric": "freshness", "mustBeLessThan": 5, "on_fail": "quarantine"}, "which rows"),
    ],
)
def test_checks_that_make_none_are_refused_with_the_reason(values: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        check(**values)


def test_a_foreign_key_names_as_many_columns_there_as_here() -> None:
    arguments = {"properties": ["a", "b"], "table": "public.t", "columns": ["x"]}
    with pytest.raises(ValidationError, match="as many"):
        check(metric="foreign_key", arguments=arguments, mustBe=0)


def test_names_are_made_of_column_and_metric_and_never_clash() -> None:
    checks = [
        check(metric="nullValues", column="a", mustBe=0),
        check(metric="nullValues", column="a", mustBeLessThan=5),
        check(metric="rowCount", mustBe=1),
        check(metric="rowCount", mustBe=2, id="a.nullValues"),
    ]
    assert [one.id for one in named(checks)] == [
        "a.nullValues_2",
        "a.nullValues_3",
        "rowCount",
        "a.nullValues",
    ]


def test_a_contract_in_one_word_means_all_three() -> None:
    contract = SchemaContract.model_validate("freeze")
    assert (contract.tables, contract.columns, contract.data_type) == ("freeze", "freeze", "freeze")
    partly = SchemaContract.model_validate({"columns": "discard_row"})
    assert (partly.tables, partly.columns, partly.data_type) == ("evolve", "discard_row", "evolve")


def test_the_file_blames_the_line_of_a_check(tmp_path: Path) -> None:
    path = tmp_path / "smartstream.yaml"
    path.write_text(
        "source: {url: 'postgresql://u@h/d'}\n"
        "tables:\n"
        "  public.orders:\n"
        "    quality:\n"
        "      - {metric: rowCount, mustBeGreaterThan: 0}\n"
        "      - {metric: nullValues, mustBe: 0}\n"
    )
    with pytest.raises(ConfigInvalid, match=r"smartstream\.yaml:6: .*nullValues needs a column"):
        load(path)


def test_checks_of_several_patterns_add_up() -> None:
    settings = Settings.model_validate(
        {
            "source": {"url": "postgresql://u@h/d"},
            "tables": {
                "public.*": {"quality": [{"metric": "rowCount", "mustBeGreaterThan": 0}]},
                "public.orders": {
                    "contract": "freeze",
                    "quality": [{"metric": "nullValues", "column": "a", "mustBe": 0}],
                },
            },
        }
    )
    rules = rules_of(settings, "public.orders")
    assert [one.id for one in named(rules.metrics)] == ["rowCount", "a.nullValues"]
    assert rules.contract.columns == "freeze"
    assert rules_of(settings, "public.other").contract.columns == "evolve"


@pytest.mark.parametrize("count", [CHECKS_MAX, CHECKS_MAX + 1])
def test_a_table_has_a_bounded_number_of_checks(count: int) -> None:
    tables = {"public.*": {"quality": [{"metric": "rowCount", "mustBeGreaterThan": 0}] * count}}
    values = {"source": {"url": "postgresql://u@h/d"}, "tables": tables}
    if count <= CHECKS_MAX:
        assert Settings.model_validate(values)
    else:
        with pytest.raises(ValidationError):
            Settings.model_validate(values)
