"""Rules under a contract: one verdict of both, on rows that the contract brings to its shape."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from smartstream.quality.config import SchemaContract
from smartstream.quality.contracted import ContractedRules
from smartstream.quality.schema_contract import Decision, decide, rejudges
from smartstream.schema import Column, TableSchema
from smartstream.transform.rules import CompiledRules, Verdict, compile_rules, no_rules
from tests.rule_setting import settings_of
from tests.trusted_lake import INT4, INT8, TEXT, table_schema

REFERENCE = table_schema([("id", 1, INT4), ("name", 2, TEXT), ("age", 3, INT4)], ["id"])
ADDED = replace(REFERENCE, columns=(*REFERENCE.columns, Column("email", 4, TEXT)))
WIDENED = replace(REFERENCE, columns=(*REFERENCE.columns[:2], Column("age", 3, INT8)))
DISCARD_ROW, DISCARD_VALUE = (
    SchemaContract.model_validate(word) for word in ("discard_row", "discard_value")
)


def decided(contract: SchemaContract, schema: TableSchema) -> Decision:
    return decide(contract, REFERENCE, schema, lsn=1)


def contracted(contract: SchemaContract, schema: TableSchema, **rules: Any) -> ContractedRules:
    decision = decided(contract, schema)
    inner = compile_rules(decision.schema, settings_of(**rules)) if rules else None
    plain = no_rules(decision.schema, "remove")
    return ContractedRules(inner or plain, decision.by_contract_names(), "v")


def rows_of(rules: ContractedRules | CompiledRules, records: list[dict[str, Any]]) -> pa.Table:
    full = [{"_lsn": 7, "_untyped": None, **record} for record in records]
    return pa.Table.from_pylist(full, schema=rules.schema.trusted_schema())


def test_no_rules_leave_everything_as_it_is() -> None:
    rules = no_rules(REFERENCE, "remove")
    given = rows_of(rules, [{"id": 1, "name": "a", "age": None, "_untyped": '{"age": "x"}'}, {"id": 2}])
    cleaned = rules.apply(given)
    assert cleaned.rows.drop_columns(["_quality"]).equals(given)
    assert cleaned.rows["_quality"].null_count == 2
    assert list(cleaned.verdict) == [Verdict.GOOD] * 2
    assert all(rules.carries(name) for name in ("id", "name", "age"))


def test_a_row_is_held_for_what_rules_and_contract_say() -> None:
    rules = contracted(DISCARD_ROW, ADDED, quality=[{"range": {"column": "age", "min": 0}}])
    records = [
        {"id": 1, "age": 1},
        {"id": 2, "age": -1},
        {"id": 3, "age": 1, "email": "e"},
        {"id": 4, "age": -1, "email": "e"},
    ]
    cleaned = rules.apply(rows_of(rules, records))
    broken = [
        [(one["rule"], one["column"]) for one in json.loads(text)] if text else None
        for text in cleaned.violations.to_pylist()
    ]
    assert [one and [rule for rule, _ in one] for one in broken] == [
        None,
        ["range:age"],
        ["contract"],
        ["contract", "range:age"],
    ]
    assert broken[3] == [("contract", "email"), ("range:age", "age")]
    good, held = Verdict.GOOD, Verdict.QUARANTINE
    assert list(cleaned.verdict) == [good, held, held, held]
    assert cleaned.bad_columns.to_pylist() == [None, ["age"], None, None]  # nulls would not help
    assert cleaned.counts == {"range:age": 2, "contract": 2}
    assert "email" not in cleaned.rows.column_names


def test_a_dropped_row_stays_dropped() -> None:
    rules = contracted(DISCARD_ROW, ADDED, quality=[{"not_null": ["age"], "on_fail": "drop"}])
    cleaned = rules.apply(rows_of(rules, [{"id": 1, "email": "e"}, {"id": 2, "age": 1, "email": "e"}]))
    assert list(cleaned.verdict) == [Verdict.DROP, Verdict.QUARANTINE]


def test_nulled_values_are_marked_beside_warnings() -> None:
    rules = contracted(DISCARD_VALUE, WIDENED, quality=[{"not_null": ["name"], "on_fail": "warn"}])
    records = [{"id": 1, "name": "a", "age": 1}, {"id": 2, "age": 1}, {"id": 3}, {"id": 4, "name": "b"}]
    cleaned = rules.apply(rows_of(rules, records))
    nulled, warned = {"nulled": ["age"]}, {"warn": ["not_null:name"]}
    texts = cleaned.rows["_quality"].to_pylist()
    assert [text and json.loads(text) for text in texts] == [nulled, {**warned, **nulled}, warned, None]
    assert cleaned.rows["age"].null_count == 4
    assert cleaned.rows.schema == rules.rules.output_schema()


def test_only_what_no_contract_judges_is_carried() -> None:
    rules = contracted(DISCARD_ROW, ADDED)
    assert rules.carries("name")
    assert not rules.carries("email")
    assert not contracted(DISCARD_VALUE, WIDENED).carries("age")
    left_out = contracted(DISCARD_VALUE, ADDED)
    known = {"email": np.array([True]), "name": np.array([True])}
    assert left_out.apply(rows_of(left_out, [{"id": 1, "age": 5}]), known).rows["name"].to_pylist() == [None]


def test_rows_come_by_the_names_of_the_contract() -> None:
    columns = (
        Column("number", 1, INT4),
        Column("label", 2, TEXT),
        Column("age", 3, INT4),
        Column("name", 4, TEXT),
        Column("name_4", 5, TEXT),
    )
    source = replace(REFERENCE, columns=columns, key=("number",))
    decision = decided(DISCARD_ROW, source).by_contract_names()
    assert [column.name for column in decision.source.columns] == ["id", "name", "age", "name_4", "name_4_5"]
    assert decision.source.key == decision.schema.key == ("id",)
    assert [column.name for column in decision.quarantine] == ["name_4", "name_4_5"]
    rules = contracted(DISCARD_ROW, source)
    cleaned = rules.apply(rows_of(rules, [{"id": 1, "name": "a", "name_4": "x"}]))
    assert list(cleaned.verdict) == [Verdict.QUARANTINE]
    assert cleaned.rows["name"].to_pylist() == ["a"]


@pytest.mark.parametrize(
    ("contract", "before", "now", "filled", "expected"),
    [
        (DISCARD_ROW, REFERENCE, REFERENCE, (), False),
        (DISCARD_ROW, REFERENCE, ADDED, (), False),  # no row has a value in it yet
        (DISCARD_ROW, REFERENCE, ADDED, (4,), True),
        (DISCARD_VALUE, REFERENCE, ADDED, (4,), False),  # it is left out anyway
        (DISCARD_ROW, ADDED, REFERENCE, (), True),  # rows held for it come back
        (DISCARD_VALUE, ADDED, REFERENCE, (), False),
        (DISCARD_ROW, REFERENCE, WIDENED, (), True),
        (DISCARD_VALUE, REFERENCE, WIDENED, (), True),
        (SchemaContract(), REFERENCE, WIDENED, (), False),
    ],
)
def test_rows_are_made_again_when_they_come_out_otherwise(
    contract: SchemaContract, before: TableSchema, now: TableSchema, filled: tuple[int, ...], expected: bool
) -> None:
    assert rejudges(decided(contract, before), decided(contract, now), filled) is expected
