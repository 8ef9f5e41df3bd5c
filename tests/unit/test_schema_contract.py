"""Schema contracts: what a change in the source may do to a trusted table."""

from __future__ import annotations

import itertools
import json
import random
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pytest

from smartstream.errors import ExitCode, SchemaFrozen
from smartstream.quality.config import SchemaContract
from smartstream.quality.schema_contract import Decision, admit, decide, hold
from smartstream.schema import Column, TableSchema
from tests.trusted_lake import INT4, INT8, TEXT, numeric, table_schema

REFERENCE = table_schema([("id", 1, INT4), ("name", 2, TEXT), ("age", 3, INT4)], ["id"])
LSN = 0x16B374D848
MODES = ("evolve", "freeze", "discard_row", "discard_value")


def contract(**words: Any) -> SchemaContract:
    return SchemaContract.model_validate(words)


def with_column(schema: TableSchema, *columns: Column) -> TableSchema:
    return replace(schema, columns=(*schema.columns, *columns))


def changed(schema: TableSchema, column: str, /, **values: Any) -> TableSchema:
    columns = tuple(replace(c, **values) if c.name == column else c for c in schema.columns)
    return replace(schema, columns=columns)


ADDED = with_column(REFERENCE, Column("email", 4, TEXT))
DROPPED = replace(REFERENCE, columns=REFERENCE.columns[:2])
RENAMED = changed(REFERENCE, "age", name="years")
WIDENED = changed(REFERENCE, "age", type=INT8)
RETYPED = changed(REFERENCE, "age", type=TEXT)
NEW_KEY = replace(REFERENCE, key=("name",))


def rows_of(schema: TableSchema, records: list[dict[str, Any]]) -> pa.Table:
    full = [{"_lsn": 7, "_untyped": None, **record} for record in records]
    return pa.Table.from_pylist(full, schema=schema.trusted_schema())


@pytest.mark.parametrize("new", [REFERENCE, ADDED, DROPPED, RENAMED, WIDENED, RETYPED, NEW_KEY])
def test_evolve_follows_whatever_comes(new: TableSchema) -> None:
    decision = decide(SchemaContract(), REFERENCE, new, lsn=LSN)
    assert decision == Decision(new, new)
    assert decision.follows


@pytest.mark.parametrize("mode", MODES)
def test_nothing_happens_without_a_change(mode: str) -> None:
    frozen = SchemaContract.model_validate(mode)
    assert decide(frozen, REFERENCE, REFERENCE, lsn=LSN).follows


@pytest.mark.parametrize(
    ("words", "new", "column"),
    [
        ({"columns": "freeze"}, ADDED, "email"),
        ({"columns": "freeze"}, DROPPED, "age"),
        ({"columns": "freeze"}, RENAMED, "age"),
        ({"columns": "discard_row"}, DROPPED, "age"),
        ({"columns": "discard_value"}, DROPPED, "age"),
        ({"columns": "freeze"}, NEW_KEY, "name"),
        ({"columns": "discard_value"}, NEW_KEY, "name"),
        ({"data_type": "freeze"}, RETYPED, "age"),
        ({"data_type": "freeze"}, WIDENED, "age"),
        ({"data_type": "discard_value"}, changed(REFERENCE, "id", type=INT8), "id"),
    ],
)
def test_what_is_not_allowed_names_table_column_and_lsn(
    words: dict[str, str], new: TableSchema, column: str
) -> None:
    with pytest.raises(SchemaFrozen) as stopped:
        decide(contract(**words), REFERENCE, new, lsn=LSN)
    assert "public.orders" in str(stopped.value)
    assert column in str(stopped.value)
    assert "16/B374D848" in str(stopped.value)
    assert stopped.value.exit_code == ExitCode.DEGRADED


def test_one_word_does_not_speak_for_another() -> None:
    assert decide(contract(columns="freeze"), REFERENCE, RETYPED, lsn=LSN).follows
    assert decide(contract(data_type="freeze"), REFERENCE, ADDED, lsn=LSN).follows
    assert decide(contract(tables="freeze"), REFERENCE, NEW_KEY, lsn=LSN).follows


@pytest.mark.parametrize("name", ["character varying(5)", "character varying(9)"])
def test_a_type_that_the_lake_carries_alike_is_no_change(name: str) -> None:
    new = changed(REFERENCE, "name", type=replace(TEXT, name=name))
    decision = decide(contract(data_type="freeze"), REFERENCE, new, lsn=LSN)
    assert decision.schema == new


def test_a_new_column_is_left_out() -> None:
    decision = decide(contract(columns="discard_value"), REFERENCE, ADDED, lsn=LSN)
    assert decision.schema == REFERENCE
    assert [column.name for column in decision.ignored] == ["email"]
    held = hold(rows_of(ADDED, [{"id": 1, "name": "a", "age": 3, "email": "x"}]), decision)
    assert held.rows.to_pylist() == [{"id": 1, "name": "a", "age": 3, "_lsn": 7, "_untyped": None}]
    assert held.bad.to_pylist() == [False]


def test_rows_with_a_value_in_a_new_column_are_held_back() -> None:
    decision = decide(contract(columns="discard_row"), REFERENCE, ADDED, lsn=LSN)
    assert decision.quarantine == ADDED.columns[3:]
    records = [
        {"id": 1, "email": "secret@example.org"},
        {"id": 2},
        {"id": 3, "_untyped": json.dumps({"email": "?", "age": "1"})},
    ]
    held = hold(rows_of(ADDED, records), decision)
    assert held.bad.to_pylist() == [True, False, True]
    (reason,) = json.loads(held.reasons[0].as_py())
    assert reason == {"rule": "contract", "column": "email", "reason": "email (text) is not in the contract"}
    assert "secret" not in held.reasons[0].as_py()
    assert held.reasons[1].as_py() is None
    assert json.loads(held.rows["_untyped"][2].as_py()) == {"age": "1"}


def test_a_rename_keeps_the_name_of_the_contract_and_every_value() -> None:
    decision = decide(contract(columns="discard_value"), REFERENCE, RENAMED, lsn=LSN)
    assert [column.name for column in decision.schema.columns] == ["id", "name", "age"]
    records = [{"id": 1, "years": 30}, {"id": 2, "_untyped": json.dumps({"years": "infinity"})}]
    held = hold(rows_of(RENAMED, records), decision)
    assert held.rows["age"].to_pylist() == [30, None]
    assert json.loads(held.rows["_untyped"][1].as_py()) == {"age": "infinity"}
    assert held.bad.to_pylist() == [False, False]


def test_a_renamed_key_stays_the_key() -> None:
    renamed = replace(changed(REFERENCE, "id", name="nr"), key=("nr",))
    decision = decide(contract(columns="discard_value"), REFERENCE, renamed, lsn=LSN)
    assert decision.schema == REFERENCE


@pytest.mark.parametrize("new", [RETYPED, WIDENED])
def test_values_of_another_type_become_null_and_are_named(new: TableSchema) -> None:
    decision = decide(contract(data_type="discard_value"), REFERENCE, new, lsn=LSN)
    assert decision.schema == REFERENCE
    assert [column.name for column in decision.nulled] == ["age"]
    value = "thirty" if new is RETYPED else 30
    held = hold(rows_of(new, [{"id": 1, "age": value}, {"id": 2}]), decision)
    assert held.rows["age"].to_pylist() == [None, None]
    assert held.nulled.to_pylist() == [["age"], []]
    assert held.bad.to_pylist() == [False, False]


def test_rows_with_a_value_of_another_type_are_held_back() -> None:
    decision = decide(contract(data_type="discard_row"), REFERENCE, RETYPED, lsn=LSN)
    held = hold(rows_of(RETYPED, [{"id": 1, "age": "thirty"}, {"id": 2, "age": None}]), decision)
    assert held.bad.to_pylist() == [True, False]
    assert held.rows.schema == REFERENCE.trusted_schema()


def test_a_type_that_comes_back_brings_the_values_back() -> None:
    words = contract(data_type="discard_value")
    away = decide(words, REFERENCE, RETYPED, lsn=LSN)
    back = decide(words, away.schema, REFERENCE, lsn=LSN + 1)
    assert back.follows


def test_a_table_made_again_is_compared_by_name() -> None:
    again = TableSchema(
        99,
        "public",
        "orders",
        (Column("name", 1, TEXT), Column("id", 2, INT4), Column("age", 3, INT4)),
        ("id",),
    )
    decision = decide(contract(columns="freeze", data_type="freeze"), REFERENCE, again, lsn=LSN)
    assert decision.schema == again
    without_age = replace(again, columns=again.columns[:2])
    with pytest.raises(SchemaFrozen, match="age was dropped"):
        decide(contract(columns="freeze"), REFERENCE, without_age, lsn=LSN)


@pytest.mark.parametrize(
    ("mode", "followed"), [("evolve", True), ("discard_row", False), ("discard_value", False)]
)
def test_new_tables(mode: str, followed: bool) -> None:
    assert admit(contract(tables=mode), REFERENCE, lsn=LSN) is followed


def test_new_tables_can_be_refused() -> None:
    with pytest.raises(SchemaFrozen, match="16/B374D848"):
        admit(contract(tables="freeze"), REFERENCE, lsn=LSN)


def test_many_columns_and_no_rows() -> None:
    decision = decide(contract(columns="discard_row", data_type="discard_row"), REFERENCE, ADDED, lsn=LSN)
    held = hold(rows_of(ADDED, []), decision)
    assert (held.rows.num_rows, len(held.bad), len(held.reasons), len(held.nulled)) == (0, 0, 0, 0)


def test_whatever_changes_every_value_is_kept_named_or_held_back(seed: str) -> None:
    """Random changes under random contracts: no value is lost without a word."""
    types = [INT4, INT8, TEXT, numeric(10, 2)]
    for _ in range(300):
        words = contract(columns=random.choice(MODES), data_type=random.choice(MODES))
        new = REFERENCE
        if random.random() < 0.5:
            new = with_column(new, Column("extra", 4, random.choice(types)))
        if random.random() < 0.5:
            new = changed(new, "age", type=random.choice(types))
        if random.random() < 0.5:
            new = changed(new, "name", name="title")
        try:
            decision = decide(words, REFERENCE, new, lsn=LSN)
        except SchemaFrozen:
            assert "freeze" in (words.columns, words.data_type), seed
            continue
        records = [{"id": n, **_values(new)} for n in range(5)]
        held = hold(rows_of(new, records), decision)
        assert held.rows.schema == decision.schema.trusted_schema(), seed
        outcome = zip(
            records, held.rows.to_pylist(), held.bad.to_pylist(), held.nulled.to_pylist(), strict=True
        )
        for (record, row, bad, nulled), column in itertools.product(outcome, new.columns):
            _assert_accounted(record, row, bad, nulled, column, decision, seed)
        if words.columns != "evolve":
            assert [c.name for c in decision.schema.columns] == ["id", "name", "age"], seed
        if words.data_type != "evolve":
            assert decision.schema.columns[2].type.arrow == INT4.arrow, seed


def _values(schema: TableSchema) -> dict[str, Any]:
    """Random values of the columns but the key."""
    made: dict[str, Any] = {}
    for column in schema.columns[1:]:
        value = random.choice([None, 1, 2])
        made[column.name] = str(value) if value is not None and column.type == TEXT else value
    return made


def _assert_accounted(
    record: dict[str, Any],
    row: dict[str, Any],
    bad: bool,
    nulled: list[str],
    column: Column,
    decision: Decision,
    seed: str,
) -> None:
    """A value is in the row, or its absence is said."""
    value = record[column.name]
    if value is None or bad:
        return
    there = next((c.name for c in decision.schema.columns if c.attnum == column.attnum), None)
    if there is None:
        assert column in decision.ignored, seed
    elif there in nulled:
        assert row[there] is None, seed
    else:
        assert row[there] == value, seed
