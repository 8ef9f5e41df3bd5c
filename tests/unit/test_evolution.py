"""Schemas that change: what differs, and old rows under the new schema."""

from __future__ import annotations

import pyarrow as pa

from smartstream.schema import Column, Kind, PgType, TableSchema
from smartstream.transform.evolution import compare
from smartstream.transform.rows import project

INT4, INT8, TEXT = PgType("integer", Kind.INT4), PgType("bigint", Kind.INT8), PgType("text", Kind.TEXT)


def table(*columns: Column, key: tuple[str, ...] = ("id",), oid: int = 7) -> TableSchema:
    return TableSchema(oid, "public", "t", columns, key)


OLD = table(Column("id", 1, INT4), Column("a", 2, TEXT), Column("b", 3, INT4))


def test_a_rename_is_seen_by_attnum_and_not_as_drop_and_add() -> None:
    change = compare(OLD, table(Column("id", 1, INT4), Column("b", 2, TEXT), Column("a", 3, INT4)))
    assert [(x.name, y.name) for x, y in change.renamed] == [("a", "b"), ("b", "a")]
    assert not change.added and not change.dropped and not change.needs_copy


def test_a_column_dropped_and_added_under_its_name_is_another_column() -> None:
    change = compare(OLD, table(Column("id", 1, INT4), Column("a", 4, TEXT), Column("b", 3, INT4)))
    assert [c.attnum for c in change.added] == [4] and [c.attnum for c in change.dropped] == [2]


def test_widening_keeps_the_rows_and_another_type_needs_them_again() -> None:
    wide = compare(OLD, table(Column("id", 1, INT4), Column("a", 2, TEXT), Column("b", 3, INT8)))
    assert wide.widened and not wide.needs_copy
    other = compare(OLD, table(Column("id", 1, INT4), Column("a", 2, INT4), Column("b", 3, INT4)))
    assert other.needs_copy


def test_char_that_grows_pads_its_values_anew() -> None:
    char = [PgType(f"character({n})", Kind.BPCHAR) for n in (5, 8)]
    assert compare(table(Column("id", 1, char[0])), table(Column("id", 1, char[1]))).needs_copy


def test_varchar_that_grows_changes_nothing_in_the_lake() -> None:
    old, new = (PgType(f"character varying({n})", Kind.TEXT) for n in (5, 8))
    assert not compare(table(Column("id", 1, old)), table(Column("id", 1, new)))


def test_a_table_created_again_keeps_no_column() -> None:
    change = compare(OLD, table(*OLD.columns, oid=8))
    assert len(change.added) == 3 and len(change.dropped) == 3


def test_old_changes_are_read_under_the_new_schema() -> None:
    new = table(Column("key", 1, INT8), Column("b", 3, INT8), Column("c", 4, TEXT), key=("key",))
    row = {
        "_op": "u", "_commit_lsn": 1, "_ordinal": 0, "_commit_ts": None, "_xid": 1,
        "_unchanged": ["a", "b"], "_old_key": {"id": 5},
        "_untyped": '{"a": "x", "b": "y"}', "id": 6, "a": None, "b": None,
    }  # fmt: skip
    changes = pa.Table.from_pylist([row, {**row, "_old_key": None, "b": 3}], OLD.changelog_schema())
    result = project(changes, OLD, new, {4: pa.scalar("x")})
    assert result.schema == new.changelog_schema()
    first, second = result.to_pylist()
    assert (first["key"], first["b"], first["c"]) == (6, None, "x")
    assert first["_unchanged"] == ["b"] and first["_old_key"] == {"key": 5}
    assert first["_untyped"] == '{"b": "y"}'
    assert second["_old_key"] is None and second["b"] == 3
