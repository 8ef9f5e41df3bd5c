"""Contracts in the form of ODCS v3.1: what is exported is valid, and comes back as it was."""

from __future__ import annotations

import importlib.resources
import json
import random
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from smartstream import yaml_file
from smartstream.errors import ContractInvalid
from smartstream.quality.config import OnFail, QualityCheck, SchemaContract
from smartstream.quality.odcs.check import Difference, checks_of, differences
from smartstream.quality.odcs.document import Contract, read_contract
from smartstream.quality.odcs.export import Described, export
from smartstream.quality.odcs.settings import wanted
from smartstream.quality.odcs.types import logical_type, normal_name, widens
from smartstream.schema import Column, Kind, PgType, TableSchema
from tests.trusted_lake import INT4, INT8, TEXT, numeric, table_schema

VARCHAR = PgType("character varying(20)", Kind.TEXT)
KINDS = [PgType(kind.value, kind, element=INT4 if kind is Kind.ARRAY else None) for kind in Kind] + [
    VARCHAR,
    numeric(10, 2),
    PgType("text[]", Kind.ARRAY, element=TEXT),
]
ORDERS = TableSchema(
    1,
    "sales",
    "orders",
    (
        Column("id", 1, INT4, nullable=False),
        Column("code", 2, VARCHAR, nullable=False),
        Column("email", 3, TEXT),
        Column("price", 4, numeric(10, 2)),
        *(Column(f"c{n}", 5 + n, kind) for n, kind in enumerate(KINDS)),
    ),
    ("id",),
)
CHECKS = [
    {"metric": "missingValues", "column": "email", "mustBe": 0, "on_fail": "quarantine"},
    {
        "metric": "invalidValues",
        "column": "email",
        "arguments": {"pattern": "@"},
        "mustBe": 0,
        "on_fail": "drop",
    },
    {"metric": "nullValues", "column": "price", "mustBeLessThan": 2.5, "unit": "percent", "severity": "info"},
    {
        "metric": "duplicateValues",
        "column": "code",
        "mustBe": 0,
        "on_fail": "stop",
        "description": "No twins.",
    },
    {"metric": "duplicateValues", "arguments": {"properties": ["code", "email"]}, "mustBeLessOrEqualTo": 5},
    {"metric": "rowCount", "mustBeBetween": [1, 1000000]},
    {"metric": "freshness", "mustBeLessThan": "15m", "id": "fresh"},
    {"metric": "volume", "mustNotBeBetween": [0.0, 0.5], "arguments": {"against": "mean", "days": 7.0}},
    {"metric": "foreign_key", "column": "price", "arguments": {"table": "public.prices"}, "mustBe": 0},
]


def checks(values: list[dict[str, Any]] = CHECKS) -> list[QualityCheck]:
    return [QualityCheck.model_validate(value) for value in values]


def contract_of(*tables: Described) -> dict[str, Any]:
    return export("shop", tables, warehouse="s3://bucket/lake")


def read(value: dict[str, Any]) -> Contract:
    return Contract.model_validate(value)


def assert_valid(contract: dict[str, Any]) -> None:
    """The standard's own JSON Schema accepts it."""
    text = importlib.resources.files("open_data_contract_standard").joinpath("schema.json").read_text()
    schema = json.loads(text)
    assert contract["apiVersion"] in schema["properties"]["apiVersion"]["enum"]
    jsonschema.Draft201909Validator(schema).validate(contract)


def test_an_exported_contract_is_valid_odcs() -> None:
    assert_valid(contract_of(Described(ORDERS, ORDERS, checks(), SchemaContract(columns="freeze"))))
    assert_valid(export("shop", [Described(ORDERS)], warehouse="lake", version="2.1.0", status="draft"))


def test_the_validator_would_see_what_is_wrong() -> None:
    contract = contract_of(Described(ORDERS))
    contract["schema"][0]["properties"][0]["logicalType"] = "int"
    with pytest.raises(jsonschema.ValidationError):
        assert_valid(contract)


def test_a_contract_says_what_the_table_is() -> None:
    contract = contract_of(Described(ORDERS, ORDERS, checks()))
    assert (contract["apiVersion"], contract["kind"]) == ("v3.1.0", "DataContract")
    assert contract["servers"] == [
        {"server": "lake", "type": "s3", "location": "s3://bucket/lake/trusted", "format": "iceberg"}
    ]
    (table,) = contract["schema"]
    assert (table["name"], table["physicalName"]) == ("sales__orders", "trusted.sales__orders")
    key, code, email, price, *_ = table["properties"]
    assert key == {
        "name": "id",
        "logicalType": "integer",
        "physicalType": "integer",
        "logicalTypeOptions": {"format": "i32"},
        "primaryKey": True,
        "primaryKeyPosition": 1,
        "required": True,
        "unique": True,
    }
    assert (code["physicalType"], code["logicalTypeOptions"]) == ("character varying(20)", {"maxLength": 20})
    assert (code["required"], code["unique"]) == (True, True), "NOT NULL; no duplicates"
    assert (email["required"], email["unique"]) == (True, False), "missing values go to the quarantine"
    assert (price["required"], price["physicalType"]) == (False, "numeric(10,2)")
    assert email["quality"][0] == {
        "name": "email.missingValues",
        "type": "library",
        "metric": "missingValues",
        "mustBe": 0,
        "unit": "rows",
        "dimension": "completeness",
        "severity": "error",
        "customProperties": [{"property": "onFail", "value": "quarantine"}],
    }
    assert {entry["type"] for entry in table["quality"]} == {"library", "custom"}


def test_the_same_tables_give_the_same_contract() -> None:
    other = table_schema([("id", 1, INT4)], ["id"])
    both = [Described(ORDERS), Described(other)]
    assert contract_of(*both) == contract_of(*reversed(both))
    assert contract_of(both[0])["id"] != contract_of(*both)["id"]


def test_a_contract_comes_back_as_it_was(tmp_path: Path) -> None:
    promised = SchemaContract(columns="discard_row", data_type="freeze")
    made = contract_of(Described(ORDERS, ORDERS, checks(), promised))
    path = tmp_path / "orders.odcs.yaml"
    path.write_text(yaml_file.written(made))
    assert yaml_file.read(path).data == made, "YAML changes nothing"
    (back,) = wanted(read_contract(path))
    assert back.table == "sales.orders"
    assert back.contract == promised
    assert back.left_out == []
    same = [check.model_copy(update={"id": None}) for check in back.checks]
    stated = [check.model_copy(update={"id": None}) for check in checks()]
    assert all(one in same for one in stated)
    assert [one.model_dump(exclude_none=True) for one in same if one not in stated] == [
        one.model_dump(exclude_none=True)
        for one in checks([{"metric": "nullValues", "column": "code", "mustBe": 0}])
    ], "what the source itself promises is checked as well"


def test_random_checks_survive_the_way_there_and_back(seed: str) -> None:
    operators: list[dict[str, Any]] = [
        {"mustBe": 3},
        {"mustNotBe": 2},
        {"mustBeGreaterThan": 1.5},
        {"mustBeGreaterOrEqualTo": 0},
        {"mustBeLessThan": 9},
        {"mustBeLessOrEqualTo": 7},
        {"mustBeBetween": [1, 5]},
        {"mustNotBeBetween": [2, 3.5]},
    ]
    metrics: list[dict[str, Any]] = [
        {"metric": "nullValues", "column": "email"},
        {"metric": "missingValues", "column": "email", "arguments": {"missingValues": [None, "", 0, False]}},
        {"metric": "invalidValues", "column": "price", "arguments": {"minimum": 0, "exclusiveMaximum": 9.5}},
        {"metric": "duplicateValues", "column": "email"},
        {"metric": "rowCount"},
        {"metric": "freshness", "column": "email"},
        {"metric": "volume"},
    ]
    for _ in range(100):
        value = {
            **random.choice(metrics),
            **random.choice(operators),
            "on_fail": random.choice(["warn", "stop"]),
        }
        value |= {"id": "one"} if random.random() < 0.5 else {}
        (check,) = checks([value])
        made = contract_of(
            Described(
                table_schema([("id", 1, INT4), ("email", 2, TEXT), ("price", 3, INT8)], ["id"]), None, [check]
            )
        )
        assert_valid(made)
        (back,) = wanted(read(made))
        same = [one.model_copy(update={"id": check.id}) for one in back.checks]
        assert check in same, f"{value}, {seed}"


FOREIGN = """\
apiVersion: v3.1.0
kind: DataContract
id: 53581432-6c55-4ba2-a65f-72344a91553a
version: 1.0.0
status: active
domain: sales
schema:
  - name: orders
    physicalType: table
    properties:
      - {name: id, primaryKey: true, primaryKeyPosition: 1, logicalType: integer, unique: true}
      - name: email
        logicalType: string
        required: true
        unique: true
        logicalTypeOptions: {minLength: 3, format: email}
        quality:
          - {metric: nullValues, mustBeLessThan: 1, unit: percent}
          - {type: sql, query: SELECT 1, mustBe: 1}
          - {type: text, description: Verified by hand.}
      - {name: weight, logicalType: number, logicalTypeOptions: {minimum: 0, multipleOf: 5}}
    quality:
      - {rule: rowCount, mustBeGreaterThan: 10}
      - {metric: rowCount, mustBe: 1, unit: percent}
      - {type: custom, engine: soda, implementation: "type: x"}
"""


def test_a_contract_of_others_becomes_checks_and_says_what_does_not(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(FOREIGN)
    (found,) = wanted(read_contract(path), on_fail=OnFail.QUARANTINE)
    assert found.settings() == {
        "quality": [
            {"metric": "rowCount", "mustBeGreaterThan": 10, "on_fail": "warn"},
            {
                "column": "email",
                "metric": "nullValues",
                "mustBeLessThan": 1,
                "unit": "percent",
                "on_fail": "warn",
            },
            {"column": "email", "metric": "nullValues", "mustBe": 0, "on_fail": "quarantine"},
            {"column": "email", "metric": "duplicateValues", "mustBe": 0, "on_fail": "warn"},
            {
                "column": "email",
                "metric": "invalidValues",
                "arguments": {"minLength": 3},
                "mustBe": 0,
                "on_fail": "quarantine",
            },
            {
                "column": "weight",
                "metric": "invalidValues",
                "arguments": {"minimum": 0},
                "mustBe": 0,
                "on_fail": "quarantine",
            },
        ]
    }
    assert found.left_out == [
        "orders: rowCount is not counted in percent",
        "orders: type custom is for people or other tools",
        "orders.email: type sql is for people or other tools",
        "orders.email: type text is for people or other tools",
        "orders.weight: logicalTypeOptions.multipleOf is not checked",
    ]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("apiVersion: v3.1.0", "apiVersion: v2.2.2", "c.yaml:1: apiVersion"),
        ("kind: DataContract", "kind: Recipe", "c.yaml:2: kind"),
        ("status: active\n", "", "status is missing"),
        ("  - name: orders\n", "  - title: orders\n", "name is missing"),
        ("{name: weight,", "{name: email,", "two properties are called email"),
        ("kind: DataContract", "kind: [", "not YAML"),
    ],
)
def test_what_is_no_contract_is_refused_with_its_line(tmp_path: Path, old: str, new: str, said: str) -> None:
    path = tmp_path / "c.yaml"
    assert old in FOREIGN
    path.write_text(FOREIGN.replace(old, new))
    with pytest.raises(ContractInvalid, match=said):
        read_contract(path)


def test_no_file_no_contract(tmp_path: Path) -> None:
    with pytest.raises(ContractInvalid, match="there is no"):
        read_contract(tmp_path / "nothing.yaml")


def test_a_table_is_as_its_own_contract_says() -> None:
    contract = read(contract_of(Described(ORDERS, ORDERS, checks())))
    assert differences(contract, {"sales.orders": ORDERS}.get) == []
    assert all(one.on_fail is OnFail.WARN for one in checks_of(contract)["sales.orders"])


def test_differences_of_shape() -> None:
    promised = table_schema(
        [("id", 1, INT4), ("a", 2, TEXT), ("b", 3, INT4), ("c", 4, numeric(10, 2))], ["id"]
    )
    found = table_schema(
        [("id", 1, INT4), ("b", 3, TEXT), ("c", 4, numeric(12, 2)), ("d", 5, TEXT)], ["id", "b"]
    )
    contract = read(contract_of(Described(promised)))
    assert differences(contract, lambda _: None) == [
        Difference("public.orders", "the table", "no such table")
    ]
    assert differences(contract, lambda _: found) == [
        Difference("public.orders", "primary key id", "key id, b"),
        Difference("public.orders.a", "the column", "no such column"),
        Difference("public.orders.b", "logicalType integer", "string (text)"),
        Difference("public.orders.c", "physicalType numeric(10,2)", "numeric(12,2)"),
        Difference("public.orders.d", "nothing", "text", breaks=False),
    ]


def test_the_source_must_forbid_nulls_where_the_contract_does() -> None:
    strict = TableSchema(
        1, "public", "t", (Column("id", 1, INT4, False), Column("a", 2, TEXT, False)), ("id",)
    )
    loose = TableSchema(1, "public", "t", (Column("id", 1, INT4, False), Column("a", 2, TEXT)), ("id",))
    contract = read(contract_of(Described(strict, strict)))
    assert differences(contract, lambda _: loose) == []
    assert differences(contract, lambda _: loose, nulls=True) == [
        Difference("public.t.a", "required", "can be null")
    ]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_every_type_has_a_logical_type_of_the_standard(kind: PgType) -> None:
    standard = {"string", "date", "timestamp", "time", "number", "integer", "object", "array", "boolean"}
    assert logical_type(kind)[0] in standard


@pytest.mark.parametrize(
    ("written", "normal"),
    [
        ("INT", "integer"),
        ("VARCHAR (20)", "character varying(20)"),
        ("Decimal( 10, 2 )", "numeric(10,2)"),
        ("timestamptz", "timestamp with time zone"),
        ("int4[]", "integer[]"),
        ("text[][]", "text[]"),
        ("double  precision", "double precision"),
        ("my type!", "my type!"),
    ],
)
def test_physical_types_are_compared_by_what_they_mean(written: str, normal: str) -> None:
    assert normal_name(written) == normal


@pytest.mark.parametrize(
    ("old", "new", "wider"),
    [
        ("int", "bigint", True),
        ("bigint", "int", False),
        ("real", "double precision", True),
        ("varchar(5)", "varchar(8)", True),
        ("varchar(8)", "varchar(5)", False),
        ("varchar(8)", "text", True),
        ("varchar(8)", "varchar", True),
        ("numeric(10,2)", "numeric(12,2)", True),
        ("numeric(10,2)", "numeric(12,3)", False),
        ("char(5)", "char(8)", False),
        ("date", "timestamp", False),
    ],
)
def test_wider_types(old: str, new: str, wider: bool) -> None:
    assert widens(old, new) is wider
