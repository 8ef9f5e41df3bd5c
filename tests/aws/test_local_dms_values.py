"""Values as the stand-in for DMS writes them, with the damage that DMS does."""

from __future__ import annotations

import random
from decimal import Decimal

from tests.aws.local_dms_setup import Start


def test_an_unchanged_toasted_value_is_lost_unless_the_identity_is_full(begin: Start) -> None:
    task = begin(
        "CREATE TABLE essays (id int PRIMARY KEY, title text, body text)",
        "ALTER TABLE essays ALTER body SET STORAGE EXTERNAL",
        "CREATE TABLE kept (LIKE essays INCLUDING ALL)",
        "ALTER TABLE kept REPLICA IDENTITY FULL",
    )
    for table in ("essays", "kept"):
        task.source.execute(f"INSERT INTO {table} VALUES (1, 'a', repeat('b', 9000))")
        task.source.execute(f"UPDATE {table} SET title = 'c'")
        task.source.execute(f"DELETE FROM {table}")
    assert [record["data"]["body"] for record in task.changes("essays", 3)] == ["b" * 9000, None, None]
    insert, update, delete = task.changes("kept", 3)
    assert insert["data"]["body"] == update["data"]["body"] == delete["data"]["body"] == "b" * 9000
    assert update["before-image"] == {"id": 1}, "pk-only leaves out what else the WAL holds"


def test_values_are_damaged_where_dms_damages_them_in_loads_and_in_changes_alike(begin: Start) -> None:
    task = begin(
        "CREATE TYPE mood AS ENUM ('so so')",
        "CREATE DOMAIN amount AS numeric(30, 2)",
        "CREATE TABLE odd (id bigint PRIMARY KEY, b boolean, plain numeric, exact numeric(38, 10),"
        " a amount, huge numeric(60, 2), big bigint, f float8, c char(4), v varchar(3), m mood, j jsonb,"
        " l int[], y bytea, t timestamp, tz timestamptz, d date, o time, i interval, mo money, x bit(3))",
        "INSERT INTO odd VALUES (1, true, 0.611111104488373, 1.5, 2.5, 3, 9223372036854775807, 1.5e300,"
        " 'ab', 'abc', 'so so', '{\"k\": [1]}', '{1,NULL}', '\\x00ff', '2026-01-02 03:04:05', 'infinity',"
        " 'infinity', '01:02:03.5', '1 day 2 hours', -1234.5, B'101')",
        "INSERT INTO odd (id, plain, big, f, t) VALUES"
        " (2, 12345678901234567890123.5, 123456789012345678, 'NaN', '0044-03-15 01:00:00.25 BC')",
    )
    task.source.execute("UPDATE odd SET id = id + 10")
    first, second = sorted(task.loaded("odd"), key=lambda row: row["id"])
    assert first == {
        "id": 1,
        "b": "true",
        "plain": Decimal("0.611111"),
        "exact": Decimal("1.5"),
        "a": Decimal("2.5"),
        "huge": "3.00",
        "big": Decimal("9.223372036854776E+18"),
        "f": Decimal("1.5E+300"),
        "c": "ab",
        "v": "abc",
        "m": "so so",
        "j": '{"k": [1]}',
        "l": "{1,NULL}",
        "y": "0x00ff",
        "t": "2026-01-02T03:04:05Z",
        "tz": "9999-12-31T23:59:59Z",
        "d": "9999-12-31",
        "o": "01:02:03.500000",
        "i": "1 day 02:00:00",
        "mo": Decimal("-1234.50"),
        "x": "101",
    }

    assert (second["big"], second["f"]) == (123456789012345678, "NaN")
    assert str(second["plain"]) == "1.2345678901234568E+22"
    assert second["t"] == "0044-03-15T01:00:00.250000Z BC"
    for loaded, changed in zip((first, second), task.changes("odd", 2), strict=True):
        assert changed["data"] == {**loaded, "id": loaded["id"] + 10}


def test_any_text_arrives_as_it_is_in_loads_and_in_changes(begin: Start, seed: str) -> None:
    choices = random.Random(seed)
    pieces = [
        "'",
        '"',
        "\\",
        "\n",
        "\t",
        " ",
        "[",
        "]:",
        " new-tuple:",
        "null",
        "{",
        "é",
        "\U0001f600",
        "\x01",
        "a",
    ]

    def text() -> str:
        return "".join(choices.choices(pieces, k=choices.randrange(8)))

    task = begin(
        'CREATE TABLE "A ""table"": x" ("the [key]:" int PRIMARY KEY, "ol\'\'d" text, "né.w" varchar)',
    )
    rows = [(number, text(), text()) for number in range(200)]
    with task.source.cursor() as cursor:
        cursor.executemany('INSERT INTO "A ""table"": x" VALUES (%s, %s, %s)', rows)
    names = ("the [key]:", "ol''d", "né.w")
    changes = task.changes('A "table": x', 200)
    assert [tuple(record["data"][name] for name in names) for record in changes] == rows
    task.stop()
    task.start("reload-target")
    loaded = task.loaded('A "table": x')
    assert sorted(tuple(row[name] for name in names) for row in loaded) == rows


def test_integers_lose_digits_and_booleans_stay_text_by_default(begin: Start) -> None:
    task = begin(
        "CREATE TABLE t (id bigint PRIMARY KEY, b boolean)",
        "INSERT INTO t VALUES (9007199254740993, true), (90071992547409931, NULL)",
        kinesis_settings={"UseLargeIntegerValue": False, "IncludeNullAndEmpty": False},
    )
    short, long = sorted(task.loaded("t"), key=lambda row: row["id"])
    assert short == {"id": 9007199254740993, "b": "true"}
    assert (str(long["id"]), "b" in long) == ("9.007199254740994E+16", False)


def test_booleans_are_booleans_when_the_endpoint_says_so(begin: Start) -> None:
    task = begin(
        "CREATE TABLE t (id int PRIMARY KEY, b boolean)",
        "INSERT INTO t VALUES (1, true)",
        source_settings={"MapBooleanAsBoolean": True},
    )
    task.source.execute("UPDATE t SET b = false")
    assert task.loaded("t") == [{"id": 1, "b": True}]
    assert task.changes("t", 1)[0]["data"] == {"id": 1, "b": False}


def test_large_objects_are_cut_off(begin: Start) -> None:
    task = begin(
        "CREATE TABLE t (id int PRIMARY KEY, text text, bytes bytea, doc tsvector)",
        "INSERT INTO t VALUES (1, repeat('a', 600), decode(repeat('ff', 1030), 'hex'),"
        " repeat('é', 600)::tsvector), (2, repeat('a', 512), decode(repeat('ff', 1024), 'hex'), 'b')",
        task_settings={"TargetMetadata": {"LobMaxSize": 1}},
    )
    cut, whole = sorted(task.loaded("t"), key=lambda row: row["id"])
    # Two bytes for each character of text, and as many as UTF-8 has for those of a tsvector, with its quote.
    assert (len(cut["text"]), len(cut["bytes"]), len(cut["doc"])) == (512, 2 + 2 * 1024, 512)
    assert (len(whole["text"]), len(whole["bytes"])) == (512, 2 + 2 * 1024)
