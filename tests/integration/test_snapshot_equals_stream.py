"""The snapshot copy and the stream give the same row, for every type and edge value."""

from __future__ import annotations

import json
from dataclasses import dataclass

import psycopg
import pyarrow as pa
import pytest

from smartstream.capture import catalog
from smartstream.capture.catchup import _messages
from smartstream.capture.connect import adbc_connect, connect
from smartstream.capture.pgoutput import Parser
from smartstream.capture.values import changelog, from_snapshot, snapshot_expression
from tests.types_table import CASES, SETUP, create_statement, insert_statements


@dataclass(frozen=True)
class Url:
    """A source as connect() wants it."""

    dsn: str
    connect_timeout: float = 10.0


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
    assert rows["c_text_array"][2] == ["", "a,b", 'q"q', "b\\s", None, "NULL", "{x}", " sp "]
    assert str(rows["c_numeric_bare"][3]) == "-123456789012345678.12345678901234567890"
    assert rows["c_time"][3].isoformat() == "12:34:56.500000"
    assert flags(streamed)[5]["c_date"] == "infinity"
