"""What changes between two contracts, and which changes break a reader."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest

from smartstream.quality.config import QualityCheck
from smartstream.quality.odcs.diff import Change, diff, version_advice
from smartstream.quality.odcs.document import Contract
from smartstream.quality.odcs.export import Described, export
from tests.trusted_lake import INT4, TEXT, numeric, table_schema

CHECKS = [
    {"metric": "nullValues", "column": "name", "mustBeLessThan": 5, "unit": "percent"},
    {"metric": "invalidValues", "column": "name", "arguments": {"validValues": ["a", "b"]}, "mustBe": 0},
    {"metric": "rowCount", "mustBeGreaterThan": 10},
]
OLD = export(
    "shop",
    [
        Described(
            table_schema([("id", 1, INT4), ("name", 2, TEXT), ("price", 3, numeric(10, 2))], ["id"]),
            None,
            [QualityCheck.model_validate(one) for one in CHECKS],
        ),
        Described(table_schema([("id", 1, INT4)], ["id"], name="other")),
    ],
    warehouse="lake",
)
Edit = Callable[[dict[str, Any]], None]


def table(contract: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = contract["schema"][0]
    return found


def column(contract: dict[str, Any], name: str) -> dict[str, Any]:
    return next(one for one in table(contract)["properties"] if one["name"] == name)


def changes(edit: Edit) -> list[Change]:
    new = deepcopy(OLD)
    edit(new)
    return diff(Contract.model_validate(OLD), Contract.model_validate(new))


def setting(where: Callable[[dict[str, Any]], dict[str, Any]], **values: Any) -> Edit:
    return lambda contract: where(contract).update(values)


def name_of(contract: dict[str, Any]) -> dict[str, Any]:
    return column(contract, "name")


def quality(number: int) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda contract: name_of(contract)["quality"][number]


def rows(contract: dict[str, Any]) -> dict[str, Any]:
    return table(contract)["quality"][0]


def test_nothing_changed() -> None:
    assert changes(lambda contract: None) == []
    assert changes(setting(lambda contract: contract, name="another", version="1.0.1")) == []


@pytest.mark.parametrize(
    ("edit", "path", "what"),
    [
        (lambda c: c["schema"].pop(1), "public.other", "the table is gone"),
        (lambda c: table(c)["properties"].pop(2), "public.orders.price", "the column is gone"),
        (
            setting(name_of, logicalType="integer", physicalType="integer"),
            "public.orders.name",
            "logicalType string → integer",
        ),
        (
            setting(lambda c: column(c, "price"), physicalType="numeric(8,2)"),
            "public.orders.price",
            "physicalType numeric(10,2) → numeric(8,2)",
        ),
        (
            setting(name_of, primaryKey=True, primaryKeyPosition=2),
            "public.orders",
            "primary key (id) → (id, name)",
        ),
        (lambda c: rows(c).update(mustBeGreaterThan=5), "public.orders", "mustBeGreaterThan 10 rows → "),
        (lambda c: table(c).pop("quality"), "public.orders", "no longer promised: rowCount"),
        (setting(quality(0), mustBeLessThan=6), "public.orders.name", "mustBeLessThan 5 percent → "),
        (
            setting(quality(1), arguments={"validValues": ["a", "b", "c"]}),
            "public.orders.name",
            "invalidValues mustBe 0 rows",
        ),
        (setting(lambda c: c, status="retired"), "status", "active → retired"),
    ],
)
def test_promises_that_get_weaker_break(edit: Edit, path: str, what: str) -> None:
    found = changes(edit)
    assert [change.path for change in found if change.breaking] == [path]
    assert what in found[0].what


@pytest.mark.parametrize(
    ("edit", "path"),
    [
        (lambda c: c["schema"].append({"name": "new"}), "public.new"),
        (lambda c: table(c)["properties"].append({"name": "new"}), "public.orders.new"),
        (setting(lambda c: column(c, "price"), physicalType="numeric(12,2)"), "public.orders.price"),
        (setting(lambda c: column(c, "price"), required=True), "public.orders.price"),
        (setting(lambda c: column(c, "price"), unique=True), "public.orders.price"),
        (lambda c: rows(c).update(mustBeGreaterThan=50), "public.orders"),
        (setting(quality(0), mustBeLessThan=1), "public.orders.name"),
        (setting(quality(1), arguments={"validValues": ["a"]}), "public.orders.name"),
        (setting(quality(1), arguments={"validValues": ["a", "b"], "pattern": "^a"}), "public.orders.name"),
    ],
)
def test_promises_that_get_stricter_or_more_do_not(edit: Edit, path: str) -> None:
    found = changes(edit)
    assert [(change.path, change.breaking) for change in found] == [(path, False)]


@pytest.mark.parametrize("promise", ["required", "unique"])
def test_a_promise_taken_back_breaks(promise: str) -> None:
    new = deepcopy(OLD)
    column(new, "price")[promise] = True
    taken_back = diff(Contract.model_validate(new), Contract.model_validate(OLD))
    assert [(change.path, change.breaking) for change in taken_back] == [("public.orders.price", True)]


@pytest.mark.parametrize(
    ("old", "new", "breaking", "advice"),
    [
        ("1.2.0", "2.0.0", True, None),
        ("1.2.0", "1.3.0", True, "breaking changes need version 2.0.0, it is 1.3.0"),
        ("1.2.0", "1.3.0", False, None),
        ("1.2.0", "1.2.0", False, "version 1.2.0 does not follow 1.2.0"),
        ("draft", "1.0.0", True, None),
    ],
)
def test_the_version_must_tell_of_breaking_changes(
    old: str, new: str, breaking: bool, advice: str | None
) -> None:
    before = Contract.model_validate({**OLD, "version": old})
    after = Contract.model_validate({**OLD, "version": new})
    assert version_advice(before, after, [Change("x", "y", breaking)]) == advice
    assert version_advice(before, after, []) is None
