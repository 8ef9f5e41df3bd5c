"""Blocks become changelog tables."""

from __future__ import annotations

import json

import pyarrow as pa
import pytest

from smartstream.capture.pgoutput import Parser
from smartstream.capture.values import changelog, untyped_json
from smartstream.errors import ProtocolError, SchemaError
from smartstream.schema import Column, Kind, PgType, TableSchema
from tests.pgoutput_encoder import (
    UNCHANGED,
    begin,
    commit,
    delete,
    insert,
    messages,
    relation,
    truncate,
    update,
)

TEXT, DATE = PgType("text", Kind.TEXT), PgType("date", Kind.DATE)
RELATION = relation(1, "a", [("id", 25, True), ("x", 1082, False), ("y", 25, False)])
SCHEMA = TableSchema(
    1, "public", "a", (Column("id", 1, TEXT), Column("x", 2, DATE), Column("y", 3, TEXT)), ("id",)
)


def table(stream: list[bytes], schema: TableSchema = SCHEMA, definition: bytes = RELATION) -> pa.Table:
    blocks = Parser().feed(messages([definition, begin(22), *stream, commit(22)])).blocks
    result = pa.concat_tables([changelog(block, schema) for block in blocks])
    assert result.schema == schema.changelog_schema()
    result.validate(full=True)
    return result


def test_a_row_is_typed_and_what_its_type_cannot_hold_is_kept_as_text() -> None:
    rows = table([insert(1, ["1", "infinity", 'q"']), insert(1, ["2", "2024-01-01", None])]).to_pylist()
    assert (rows[0]["x"], json.loads(rows[0]["_untyped"])) == (None, {"x": "infinity"})
    assert (str(rows[1]["x"]), rows[1]["_untyped"], rows[1]["y"]) == ("2024-01-01", None, None)
    assert (rows[0]["_op"], rows[0]["_commit_lsn"], rows[1]["_ordinal"], rows[0]["_xid"]) == ("i", 22, 1, 7)


def test_the_old_key_is_there_only_where_it_was_another_one() -> None:
    stream = [
        update(1, ["1", None, "a"]),
        update(1, ["1", None, "b"], old=["1", None, None]),
        update(1, ["2", None, "c"], old=["1", None, None]),
        delete(1, ["2", None, None]),
    ]
    assert table(stream)["_old_key"].to_pylist() == [None, None, {"id": "1"}, None]


def test_a_key_that_was_left_out_is_the_old_one_and_has_not_changed() -> None:
    (row,) = table([update(1, [UNCHANGED, None, "a"], old=["long", None, None])]).to_pylist()
    assert (row["id"], row["_old_key"], row["_unchanged"]) == ("long", None, None)


def test_values_that_were_left_out_are_listed() -> None:
    stream = [
        update(1, ["1", UNCHANGED, UNCHANGED]),
        update(1, ["2", None, UNCHANGED]),
        update(1, ["3", None, None]),
    ]
    assert table(stream)["_unchanged"].to_pylist() == [["x", "y"], ["y"], None]


def test_columns_are_matched_by_name_and_absent_ones_are_null() -> None:
    wider = TableSchema(1, "public", "a", (*SCHEMA.columns[::-1], Column("g", 4, DATE)), ("id",))
    (row,) = table([insert(1, ["1", "2024-01-01", "why"])], wider).to_pylist()
    assert (row["id"], str(row["x"]), row["y"], row["g"]) == ("1", "2024-01-01", "why", None)


def test_a_truncate_is_a_row_without_values() -> None:
    (row,) = table([truncate(1)]).to_pylist()
    assert (row["_op"], row["id"], row["x"], row["_old_key"]) == ("t", None, None, None)


def test_errors_name_table_column_and_transaction_and_no_value() -> None:
    with pytest.raises(ProtocolError, match=r"public\.a, transactions 0/16 to 0/16, column x") as caught:
        table([insert(1, ["1", "2023-02-30", "secret"])])
    assert "2023" not in str(caught.value)
    with pytest.raises(ProtocolError, match="column y: a value is not UTF-8"):
        table([insert(1, ["1", None, "?"])[:-1] + b"\xff"])


@pytest.mark.parametrize(
    "change",
    [
        delete(1, [None, None, "a"]),
        update(1, [UNCHANGED, None, "a"]),
        insert(1, [None, None, "a"]),
    ],
)
def test_a_change_that_does_not_say_which_row_it_is_for_is_refused(change: bytes) -> None:
    with pytest.raises(SchemaError, match="key column id"):
        table([insert(1, ["1", None, None]), change])


def test_an_identity_that_does_not_cover_the_key_is_refused() -> None:
    other = relation(1, "a", [("id", 25, False), ("x", 1082, False), ("y", 25, True)], identity="i")
    with pytest.raises(SchemaError, match="key column id"):
        table([update(1, ["1", None, "b"], old=[None, None, "a"])], definition=other)
    assert table([insert(1, ["1", None, "b"])], definition=other).num_rows == 1


def test_untyped_texts_are_one_json_object_a_row() -> None:
    mask, texts = pa.array([True, False, True]), pa.array(["ž", None, '"'])
    found = untyped_json(
        3, {"a": (mask, texts), "b": (pa.array([False, False, True]), pa.array([None, None, b"x"]))}
    )
    assert [t and json.loads(t) for t in found.to_pylist()] == [{"a": "ž"}, None, {"a": '"', "b": "x"}]
    assert untyped_json(2, {}).to_pylist() == [None, None]
