"""Which tables would be one table in the lake."""

from __future__ import annotations

from smartstream.capture.names import clashes
from smartstream.schema import TableSchema


def table(oid: int, schema: str, name: str) -> TableSchema:
    return TableSchema(oid, schema, name, (), ("id",))


def taken(*tables: TableSchema, settled: tuple[TableSchema, ...] = ()) -> list[tuple[int, str]]:
    return [(clash.table.oid, clash.other.id) for clash in clashes(tables, settled)]


def test_tables_with_names_of_their_own_do_not_clash() -> None:
    assert taken(table(1, "public", "a"), table(2, "b", "a"), table(3, "public", "b.a")) == []


def test_the_older_of_two_tables_keeps_its_name() -> None:
    for one, other in (("T", "t"), ("STRASSE", "straße"), ("É", "é")):
        assert taken(table(2, "public", one), table(1, "public", other)) == [(2, f"public.{other}")]


def test_schema_and_name_may_not_be_joined_to_the_same() -> None:
    assert taken(table(1, "a", "b"), table(2, "public", "a__b")) == [(2, "a.b")]
    assert taken(table(1, "a", "b__c"), table(2, "a__b", "c")) == [(2, "a.b__c")]
    assert taken(table(1, "a.b", "c"), table(2, "a", "b.c")) == [(2, "a.b.c")]


def test_what_is_in_the_lake_keeps_its_name_also_from_older_tables() -> None:
    here = table(9, "public", "T")
    assert taken(table(1, "public", "t"), here, settled=(here,)) == [(1, "public.T")]


def test_a_table_that_was_created_again_is_the_same() -> None:
    assert taken(table(9, "public", "t"), settled=(table(1, "public", "t"),)) == []
