"""The snapshot copy and the stream give the same row, for every type and edge value, and the server's."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from typing import Any

import numpy as np
import psycopg
import pyarrow as pa
import pytest

from smartstream.capture import catalog
from smartstream.capture.catchup import _messages
from smartstream.capture.connect import adbc_connect, connect
from smartstream.capture.pgoutput import Messages, Parser
from smartstream.capture.values import changelog, from_snapshot, snapshot_expression
from smartstream.schema import TableSchema
from tests.types_table import CASES, SETUP, create_statement, insert_statements


@dataclass(frozen=True)
class Url:
    """A source as connect() wants it."""

    dsn: str
    connect_timeout: float = 10.0
    silence_max: float = 60.0


@pytest.fixture
def both_ways(database: str) -> tuple[pa.Table, pa.Table]:
    """All rows of the all-types table as read by the copy and by the stream."""
    source = Url(database)
    with psycopg.connect(database, autocommit=True) as admin:
        admin.execute(SETUP)
        admin.execute(create_statement("everything"))
        admin.execute("CREATE PUBLICATION p FOR TABLE everything")
        admin.execute("SELECT pg_create_logical_replication_slot('s', 'pgoutput')")
        for statement in insert_statements("everything"):
            admin.execute(statement)
    with connect(source) as connection:
        schema = catalog.discover(connection, lambda _: True).tables[0]
    with adbc_connect(source) as bulk, bulk.cursor() as cursor:
        cursor.execute(
            "SELECT data FROM pg_logical_slot_peek_binary_changes('s', NULL, NULL,"
            " 'proto_version', '1', 'publication_names', 'p')"
        )
        batches = list(cursor.fetch_record_batch())
        parser = Parser()
        blocks = [block for batch in batches for block in parser.feed(_messages(batch)).blocks]
        columns = ", ".join(snapshot_expression(column) for column in schema.columns)
        cursor.execute(f"SELECT {columns} FROM ONLY public.everything ORDER BY id")
        copied = from_snapshot(cursor.fetch_arrow_table(), schema, 1)
    streamed = pa.concat_tables([changelog(block, schema) for block in blocks])
    return copied, streamed


def flags(table: pa.Table) -> list[dict[str, str]]:
    return [json.loads(text) if text else {} for text in table["_untyped"].to_pylist()]


def test_copy_and_stream_agree_on_every_value(both_ways: tuple[pa.Table, pa.Table]) -> None:
    copied, streamed = both_ways
    assert copied.num_rows == streamed.num_rows > 8
    for case in CASES:
        # repr tells -0.0 from 0.0 and NaN equals itself in it
        assert repr(copied[case.column].to_pylist()) == repr(streamed[case.column].to_pylist()), case.column
    assert flags(copied) == flags(streamed)


def test_what_arrow_cannot_hold_is_null_and_flagged_and_nothing_else(
    both_ways: tuple[pa.Table, pa.Table],
) -> None:
    _, streamed = both_ways
    found = flags(streamed)
    for case in CASES:
        values = case.values + case.flagged
        for row in range(1, streamed.num_rows):
            is_flagged = (row - 1) % len(values) >= len(case.values)
            cell = streamed[case.column][row].as_py()
            assert (case.column in found[row]) == is_flagged, (case.column, values[(row - 1) % len(values)])
            assert (cell is None) == is_flagged, (case.column, values[(row - 1) % len(values)])


def test_values_are_the_servers(both_ways: tuple[pa.Table, pa.Table]) -> None:
    """The text of a few values, spelled out: agreeing readers could both be wrong."""
    _, streamed = both_ways
    rows = {c: streamed[c].to_pylist() for c in streamed.column_names}
    assert rows["c_char"][1:4] == ["     ", "ab   ", "abcde"]
    assert rows["c_inet"][1] == "10.0.0.1"
    assert rows["c_bytea"][3] == b"\xde\xad\xbe\xef\x00\xff"
    assert rows["c_words"][2] == ["", "a,b", 'q"q', "b\\s", None, "NULL", "{x}", " sp "]
    assert str(rows["c_numeric_bare"][3]) == "-123456789012345678.12345678901234567890"
    assert rows["c_time"][3].isoformat() == "12:34:56.500000"
    assert flags(streamed)[6]["c_date"] == "infinity"


def prepare(admin: psycopg.Connection[Any], *statements: str) -> None:
    for statement in statements:
        admin.execute(statement.encode())
    admin.execute("CREATE PUBLICATION p FOR ALL TABLES")
    admin.execute("SELECT pg_create_logical_replication_slot('s', 'pgoutput')")


def schema_of(url: str, name: str) -> TableSchema:
    with connect(Url(url)) as connection:
        return next(t for t in catalog.discover(connection, lambda _: True).tables if t.name == name)


def streamed(url: str, schema: TableSchema) -> list[dict[str, Any]]:
    """The table's changes as the slot gives them."""
    with psycopg.connect(url) as connection:
        rows = connection.execute(
            "SELECT data FROM pg_logical_slot_peek_binary_changes('s', NULL, NULL,"
            " 'proto_version', '1', 'publication_names', 'p')",
            binary=True,
        ).fetchall()
    bodies = [bytes(row[0]) for row in rows]
    ends = np.cumsum([len(body) for body in bodies]).astype(np.int64)
    starts = np.concatenate([[0], ends[:-1]])
    blocks = Parser().feed(Messages(pa.py_buffer(b"".join(bodies)), starts, ends)).blocks
    tables = [changelog(block, schema) for block in blocks if block.relation.name == schema.name]
    return list(pa.concat_tables(tables).to_pylist())


def copied(url: str, schema: TableSchema) -> list[dict[str, Any]]:
    """The table's rows as the copy reads them, in key order."""
    columns = ", ".join(snapshot_expression(column) for column in schema.columns)
    with adbc_connect(Url(url)) as bulk, bulk.cursor() as cursor:
        cursor.execute(f"SELECT {columns} FROM ONLY public.{schema.name} ORDER BY id")
        return list(from_snapshot(cursor.fetch_arrow_table(), schema, 1).to_pylist())


def test_updates_of_a_row_with_a_toasted_key_name_their_key(database: str) -> None:
    key = "k" * 2500
    with psycopg.connect(database, autocommit=True) as admin:
        prepare(
            admin,
            "CREATE TABLE t (k text PRIMARY KEY, v text, b text)",
            "ALTER TABLE t ALTER k SET STORAGE EXTERNAL, ALTER b SET STORAGE EXTERNAL",
        )
        admin.execute("INSERT INTO t VALUES (%s, 'a', repeat('b', 5000))", (key,))
        admin.execute("UPDATE t SET v = 'new'")
        admin.execute("UPDATE t SET k = k || 'x'")
    insert, update, move = streamed(database, schema_of(database, "t"))
    assert (insert["k"], update["k"], move["k"]) == (key, key, key + "x")
    assert (update["_old_key"], move["_old_key"]) == (None, {"k": key})
    assert (update["v"], update["_unchanged"], move["_unchanged"]) == ("new", ["b"], ["b"])


def test_with_the_full_identity_no_value_is_missing(database: str) -> None:
    with psycopg.connect(database, autocommit=True) as admin:
        prepare(
            admin,
            "CREATE TABLE t (id int PRIMARY KEY, v int, b text)",
            "ALTER TABLE t ALTER b SET STORAGE EXTERNAL",
            "ALTER TABLE t REPLICA IDENTITY FULL",
        )
        admin.execute("INSERT INTO t VALUES (1, 1, repeat('b', 5000))")
        admin.execute("UPDATE t SET v = 2")
        admin.execute("UPDATE t SET id = 5")
        admin.execute("DELETE FROM t")
    _, update, move, delete = streamed(database, schema_of(database, "t"))
    assert (update["v"], update["b"], update["_unchanged"], update["_old_key"]) == (2, "b" * 5000, None, None)
    assert (move["id"], move["_old_key"], move["b"]) == (5, {"id": 1}, "b" * 5000)
    assert (delete["_op"], delete["id"], delete["b"]) == ("d", 5, "b" * 5000)


def test_bare_numerics_of_any_size_are_the_servers_or_flagged_with_its_text(database: str) -> None:
    """Compared with what the server prints: copy and stream share a cast, so they could both be wrong."""
    seed = 20
    rng = random.Random(seed)
    numbers = [
        ("-" if rng.random() < 0.3 else "")
        + str(rng.randrange(10 ** rng.randint(1, 60)))
        + (
            "." + "".join(rng.choice("0123456789") for _ in range(rng.randint(1, 45)))
            if rng.random() < 0.7
            else ""
        )
        for _ in range(2000)
    ]
    with psycopg.connect(database, autocommit=True) as admin:
        prepare(admin, "CREATE TABLE t (id int PRIMARY KEY, n numeric)")
        admin.execute(
            "INSERT INTO t SELECT i, x::numeric FROM unnest(%s::text[]) WITH ORDINALITY u(x, i)", (numbers,)
        )
        printed = [text for (text,) in admin.execute("SELECT n::text FROM t ORDER BY id").fetchall()]
    schema = schema_of(database, "t")
    for rows in (streamed(database, schema), copied(database, schema)):
        held = 0
        for text, row in zip(printed, rows, strict=True):
            if row["n"] is None:
                assert json.loads(row["_untyped"]) == {"n": text}, f"seed {seed}"
                continue
            held += 1
            whole, _, decimals = text.partition(".")
            shown, _, shown_decimals = f"{row['n']:f}".partition(".")
            assert shown == whole, f"seed {seed}: {text}"
            assert shown_decimals.rstrip("0") == decimals.rstrip("0"), f"seed {seed}: {text}"
        assert 100 < held < 1500
