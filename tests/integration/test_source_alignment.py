"""Relation messages find the right columns, or none: a wrong one would mix up values."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

import pytest

from smartstream.capture.alignment import align
from smartstream.errors import SchemaError
from smartstream.schema import Column, Kind, PgType, TableSchema

TYPES = {23: PgType("integer", Kind.INT4), 20: PgType("bigint", Kind.INT8), 25: PgType("text", Kind.TEXT)}
OIDS = {type_.name: oid for oid, type_ in TYPES.items()}


@dataclass(frozen=True)
class FakeColumn:
    """Stands for pgoutput.RelationColumn."""

    name: str
    type_oid: int
    typmod: int
    is_key: bool


@dataclass(frozen=True)
class FakeRelation:
    """Stands for pgoutput.Relation."""

    oid: int
    schema: str
    name: str
    replica_identity: str
    columns: tuple[FakeColumn, ...]


def pg_type(oid: int, typmod: int) -> PgType:
    """Stands for catalog.pg_type."""
    if oid not in TYPES:
        raise SchemaError("no such type")
    return TYPES[oid]


def schema_of(text: str, key: tuple[str, ...] = ("id",)) -> TableSchema:
    """``1 id, 2 a text`` as a table; integer where no type is given."""
    columns = []
    for part in text.split(", "):
        attnum, name, *rest = part.split(" ")
        type_ = next(t for t in TYPES.values() if t.name == (rest[0] if rest else "integer"))
        columns.append(Column(name, int(attnum), type_, name not in key))
    return TableSchema(7, "public", "t", tuple(columns), key)


def message(schema: TableSchema, identity: str = "d") -> FakeRelation:
    """The Relation message that a server with this schema sends."""
    columns = tuple(
        FakeColumn(c.name, OIDS[c.type.name], -1, identity == "f" or c.name in schema.key)
        for c in schema.columns
    )
    return FakeRelation(schema.oid, schema.schema, schema.name, identity, columns)


def aligned(known: str | None, at_message: str, current: str | None) -> TableSchema | None:
    """``align`` over tables in the notation of ``schema_of``."""
    return align(
        message(schema_of(at_message)),
        schema_of(known) if known else None,
        schema_of(current) if current else None,
        pg_type,
    )


@pytest.mark.parametrize(
    ("known", "at_message", "current"),
    [
        ("1 id, 2 a", "1 id, 2 a", "1 id, 2 a"),
        (None, "1 id, 4 a", "1 id, 4 a"),
        ("1 id, 2 a", "1 id, 2 a", None),
        ("1 id, 2 a", "1 id, 2 a, 3 b", "1 id, 2 a, 3 b"),
        ("1 id, 2 a", "1 id, 2 b", "1 id, 2 b"),
        ("1 id, 2 a", "1 id, 2 a bigint", "1 id, 2 a bigint"),
        ("1 id, 2 a, 3 b", "1 id, 3 b", "1 id, 3 b"),
        ("1 id, 2 a", "1 id, 2 a", "1 id, 2 b, 3 c"),
        ("1 id, 2 a", "1 id, 2 a, 3 b", "1 id, 2 a, 3 b, 4 c"),
        ("1 id, 2 a, 3 b", "1 id, 2 b, 3 a", "1 id, 2 b, 3 a"),
        ("1 id, 2 a, 3 b", "1 id, 2 a, 3 b", "1 id, 2 b, 3 a"),
        ("1 id, 2 a, 3 b", "1 id, 2 a, 3 b", "1 id, 2 a"),
        ("1 id, 2 a", "1 id, 2 x", "1 id, 2 b"),  # renamed twice
        ("1 id, 2 a", "1 id, 2 a bigint", "1 id, 2 a text"),  # of two other types
    ],
)
def test_one_reading_gives_the_attnums(known: str | None, at_message: str, current: str | None) -> None:
    assert aligned(known, at_message, current) == schema_of(at_message)


@pytest.mark.parametrize(
    ("known", "at_message", "current"),
    [
        ("1 id, 2 a", "1 id, 2 a", "1 id, 3 a"),  # dropped and added again: before or after the message?
        ("1 id, 2 a", "1 id, 3 b", "1 id, 4 b"),
        ("1 id, 2 a", "1 id, 2 a, 3 b", "1 id, 2 a, 4 b"),
        ("1 id, 2 a, 3 b", "1 id, 2 a, 4 b", "1 id, 2 a, 4 c"),
        (None, "1 id, 2 a", "1 id, 2 b"),
        (None, "1 id", None),
    ],
)
def test_doubt_gives_nothing(known: str | None, at_message: str, current: str | None) -> None:
    assert aligned(known, at_message, current) is None


def test_a_type_that_was_dropped_gives_nothing() -> None:
    relation = message(schema_of("1 id, 2 a"))
    gone = replace(relation, columns=(relation.columns[0], replace(relation.columns[1], type_oid=99)))
    assert align(gone, schema_of("1 id, 2 a"), schema_of("1 id"), pg_type) is None


def test_the_key_is_that_of_the_message_in_index_order() -> None:
    known, current = schema_of("1 id, 2 a, 3 b"), schema_of("1 id, 2 a, 3 b", key=("b", "a"))
    found = align(message(current), known, current, pg_type)
    assert found is not None
    assert found.key == ("b", "a")
    before = align(message(known), known, current, pg_type)
    assert before is not None
    assert before.key == ("id",)


def test_replica_identity_full_takes_the_key_from_the_catalog_under_its_name_then() -> None:
    known, then = schema_of("1 id, 2 a"), schema_of("1 id, 2 a")
    current = schema_of("1 nr, 2 a", key=("nr",))
    found = align(message(then, "f"), known, current, pg_type)
    assert found is not None
    assert found.key == ("id",)


def test_a_message_without_a_key_gives_nothing() -> None:
    schema = schema_of("1 id, 2 a")
    relation = message(schema)
    keyless = replace(relation, columns=tuple(replace(c, is_key=False) for c in relation.columns))
    assert align(keyless, schema, schema, pg_type) is None


def test_another_table_of_the_same_name_is_not_mixed_up() -> None:
    schema = schema_of("1 id, 2 a")
    other = replace(schema, oid=8)
    assert align(message(other), schema, other, pg_type) == other


def test_a_table_with_as_many_columns_as_there_can_be_is_aligned_quickly() -> None:
    schema = schema_of("1 id, " + ", ".join(f"{n} c{n}" for n in range(2, 1601)))
    current = replace(schema, columns=tuple(replace(c, name=c.name + "x") for c in schema.columns[1:]))
    assert align(
        message(schema), schema, replace(current, columns=(schema.columns[0], *current.columns)), pg_type
    )


def noted(schema: TableSchema) -> str:
    """A table in the notation of ``schema_of``."""
    return ", ".join(f"{c.attnum} {c.name} {c.type.name}" for c in schema.columns)


def migrate(schema: TableSchema, newest: int, rng: random.Random) -> tuple[TableSchema, int]:
    """The schema after one random DDL statement; ``newest`` is the highest attnum ever used."""
    free = sorted(set("abcd") - {c.name for c in schema.columns})
    others = schema.columns[1:]
    action = rng.choice(["add", "add", "drop", "rename", "retype"])
    if action == "add" and free:
        type_ = rng.choice([TYPES[23], TYPES[23], TYPES[25]])
        return replace(
            schema, columns=(*schema.columns, Column(rng.choice(free), newest + 1, type_))
        ), newest + 1
    if not others or not free:
        return schema, newest
    chosen = rng.choice(others)
    if action == "drop":
        return replace(schema, columns=tuple(c for c in schema.columns if c is not chosen)), newest
    other = replace(chosen, name=rng.choice(free))
    if action == "retype":
        other = replace(chosen, type=rng.choice([TYPES[20], TYPES[23], TYPES[25]]))
    return replace(schema, columns=tuple(other if c is chosen else c for c in schema.columns)), newest


def types_of(attnum: int, history: list[TableSchema]) -> set[str]:
    return {column.type.name for schema in history for column in schema.columns if column.attnum == attnum}


def test_under_random_ddl_no_column_takes_the_place_of_another() -> None:
    """Of four statements, any number lie before the message and any number after it."""
    seed = random.randrange(2**32)
    rng = random.Random(seed)
    answered = 0
    for trial in range(10_000):
        history, newest = [schema_of("1 id, 2 a, 3 b")], 3
        for _ in range(4):
            schema, newest = migrate(history[-1], newest, rng)
            history.append(schema)
        first, middle, last = sorted(rng.choices(range(5), k=3))
        known, then, current = history[first], history[middle], history[last]
        found = align(message(then), known, current, pg_type)
        if found is None:
            continue
        answered += 1
        alive = {c.attnum for c in current.columns}
        for got, true in zip(found.columns, then.columns, strict=True):
            same = got.attnum == true.attnum or not alive & {got.attnum, true.attnum}
            # A change of type writes all rows anew: the catalog shows that, and the table is copied.
            rewritten = any(len(types_of(n, history)) > 1 for n in (got.attnum, true.attnum))
            assert same or rewritten, f"seed {seed}, trial {trial}: " + " / ".join(
                map(noted, (known, then, current, found))
            )
    assert answered > 6_000, f"seed {seed}: doubt should be the exception, {answered} answers"
