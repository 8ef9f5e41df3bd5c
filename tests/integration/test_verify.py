"""Verify: equal lakes are equal, and no difference goes unseen."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from smartstream.config import Settings
from smartstream.errors import VerifyError
from smartstream.verify import Report, TableReport, verify
from smartstream.verify.source import SourceSnapshot, chunks
from tests.integration.lake_setup import clock, copied, put, schemas_of, settings_of
from tests.integration.source_setup import run_sql
from tests.integration.verify_setup import check, keys, simple

# column → type, five values, and one more that differs from the first as little as can be.
KINDS: dict[str, tuple[str, list[str], str]] = {
    "small": ("smallint", ["1", "-32768", "32767", "0", "NULL"], "2"),
    "whole": ("integer", ["1", "-2147483648", "2147483647", "0", "NULL"], "2"),
    "big": ("bigint", ["1", "-9223372036854775808", "9223372036854775807", "0", "NULL"], "2"),
    "half": ("real", ["0.1", "'-0'", "'NaN'", "'Infinity'", "NULL"], "0.10000001"),
    "real8": ("double precision", ["0.1", "'-0'", "'NaN'", "'-Infinity'", "5e-324"], "0.10000000000000002"),
    "yes": ("boolean", ["true", "false", "NULL", "true", "false"], "false"),
    "word": ("text", ["'ab'", "''", "NULL", "E'ä\\n\\t,😀'", "repeat('x', 9000)"], "'aB'"),
    "short": ("varchar(10)", ["'ab'", "''", "NULL", "'ab '", "'1:~'"], "'ab '"),
    "padded": ("char(5)", ["'ab'", "''", "NULL", "'ä'", "'abcde'"], "'abc'"),
    "bytes": ("bytea", ["'\\x00ff'", "''", "NULL", "'\\x00'", "'abc'"], "'\\x00fe'"),
    "uid": (
        "uuid",
        ["'00000000-0000-0000-0000-000000000001'", "NULL", "'ffffffff-ffff-ffff-ffff-ffffffffffff'"] * 2,
        "'00000000-0000-0000-0000-000000000002'",
    ),
    "day": (
        "date",
        ["'2024-02-29'", "'infinity'", "'0044-03-15 BC'", "'0001-01-01'", "NULL"],
        "'2024-03-01'",
    ),
    "hour": ("time", ["'01:02:03.000001'", "'24:00'", "'00:00'", "'23:59:59.999999'", "NULL"], "'01:02:03'"),
    "moment": (
        "timestamp",
        [
            "'2024-02-29 01:02:03.000001'",
            "'-infinity'",
            "'0044-03-15 BC'",
            "'9999-12-31 23:59:59.999999'",
            "NULL",
        ],
        "'2024-02-29 01:02:03.000002'",
    ),
    "instant": (
        "timestamptz",
        [
            "'2024-02-29 01:02:03.000001+05'",
            "'infinity'",
            "'294276-01-01+00'",
            "'1969-12-31 23:59:59.9+00'",
            "NULL",
        ],
        "'2024-02-29 01:02:03.000002+05'",
    ),
    "doc": ("json", ["'{\"a\": 1}'", "'{\"a\":1}'", "'null'", "NULL", "'[1,2]'"], "'{\"a\":  1}'"),
    "docb": ("jsonb", ["'{\"a\": 1}'", "'[]'", "'null'", "NULL", "'\"x\"'"], "'{\"a\": 2}'"),
    "price": ("numeric(10,2)", ["1.10", "-0.01", "0", "'NaN'", "99999999.99"], "1.11"),
    "share": ("numeric(4,4)", ["0.1", "-0.0001", "0", "0.9999", "NULL"], "0.1001"),
    "exact": (
        "numeric",
        ["1.10", "-1e-18", "1e30", "'NaN'", "0.1234567890123456789"],
        "1.100000000000000001",
    ),
    "wide": ("numeric(50,5)", ["1.1", "-1e40", "0", "'NaN'", "NULL"], "1.10001"),
    "mood": ("mood", ["'happy'", "'so, so'", "NULL", "'happy'", "'happy'"], "'so, so'"),
    "list": ("int[]", ["'{1,NULL,3}'", "'{}'", "NULL", "'{{1,2},{3,4}}'", "'[2:3]={5,6}'"], "'{1,3,NULL}'"),
    "words": ("text[]", ['\'{a,"b,c",""}\'', "'{NULL}'", "'{\"NULL\"}'", "NULL", "'{}'"], '\'{"a,b",c,""}\''),
    "days": ("date[]", ["'{2024-01-01}'", "'{infinity}'", "'{}'", "NULL", "'{NULL}'"], "'{2024-01-02}'"),
    "prices": ("numeric(6,2)[]", ["'{1.5,2}'", "'{NaN}'", "'{-0.01}'", "NULL", "'{0}'"], "'{1.5,2.01}'"),
    "net": ("inet", ["'10.0.0.1'", "'10.0.0.0/8'", "NULL", "'::1'", "'10.0.0.1'"], "'10.0.0.1/31'"),
    "span": ("interval", ["'1 month'", "'30 days'", "NULL", "'-1 s'", "'0'"], "'31 days'"),
    "ranges": ("int4range", ["'[1,5)'", "'empty'", "NULL", "'(,)'", "'[1,2)'"], "'[1,6)'"),
    "pair": ("pair", ["'(1,x)'", "'(,)'", "NULL", "'(1,\"a,b\")'", "'(2,)'"], "'(1,y)'"),
    "positive": ("positive", ["1", "2", "NULL", "3", "4"], "2"),
}


@pytest.fixture
def settings(database: str, tmp_path: Path) -> Settings:
    return settings_of(database, tmp_path)


@pytest.fixture
def all_kinds(database: str) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    """A table with every kind of column and a key of two columns, one of them oddly named."""
    columns = ", ".join(f'"{name}" {kind}' for name, (kind, _, _) in KINDS.items())
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(
            "CREATE TYPE mood AS ENUM ('happy', 'so, so'); CREATE TYPE pair AS (a int, b text);"
            "CREATE DOMAIN positive AS bigint CHECK (VALUE > 0);"
            f'CREATE TABLE kinds (id int, "Key ""2" text, {columns}, PRIMARY KEY (id, "Key ""2"))'  # type: ignore[arg-type]
        )
        for row in range(5):
            values = ", ".join(values[row] for _, values, _ in KINDS.values())
            connection.execute(f"INSERT INTO kinds VALUES ({row}, 'k{row}', {values})")  # type: ignore[arg-type]
        yield connection


def _again(connection: psycopg.Connection[tuple[object, ...]], *, row: int, as_id: int) -> None:
    """Insert a row of ``kinds`` again under another id."""
    names = ", ".join(f'"{name}"' for name in KINDS)
    target = f'INSERT INTO kinds (id, "Key ""2", {names})'
    connection.execute(f'{target} SELECT {as_id}, "Key ""2", {names} FROM kinds WHERE id = {row}')  # type: ignore[arg-type]


def test_equal_tables_of_every_kind_are_equal(settings: Settings, all_kinds: object) -> None:
    schema = schemas_of(settings)["public.kinds"]
    put(settings, schema, copied(settings, schema))
    report = check(settings)
    assert report.equal, report
    assert (report.source_rows, report.lake_rows) == (5, 5)
    assert report.source_checksum == report.lake_checksum


def test_a_change_of_one_value_is_seen_in_every_kind(
    settings: Settings, all_kinds: psycopg.Connection[tuple[object, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("smartstream.verify.difference.DIFFERING_MAX", 1000)
    for number in range(len(KINDS)):
        _again(all_kinds, row=0, as_id=100 + number)
    schema = schemas_of(settings)["public.kinds"]
    put(settings, schema, copied(settings, schema))
    for number, (name, (_, _, other)) in enumerate(KINDS.items()):
        all_kinds.execute(f'UPDATE kinds SET "{name}" = {other} WHERE id = {100 + number}')  # type: ignore[arg-type]
    seen = {found.key["id"]: found.kind for found in check(settings).differing}
    unseen = [name for number, name in enumerate(KINDS) if seen.get(str(100 + number)) != "different"]
    assert unseen == []
    assert len(seen) == len(KINDS)


def test_values_swapped_between_two_rows_are_seen_in_every_column(
    settings: Settings, all_kinds: psycopg.Connection[tuple[object, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("smartstream.verify.difference.DIFFERING_MAX", 1000)
    for number in range(len(KINDS)):
        _again(all_kinds, row=0, as_id=100 + number)
        _again(all_kinds, row=1, as_id=200 + number)
    schema = schemas_of(settings)["public.kinds"]
    put(settings, schema, copied(settings, schema))
    for number, (name, (type_, values, _)) in enumerate(KINDS.items()):
        swapped = f"CASE id WHEN {100 + number} THEN ({values[1]})::{type_} ELSE ({values[0]})::{type_} END"
        rows = f"id IN ({100 + number}, {200 + number})"
        all_kinds.execute(f'UPDATE kinds SET "{name}" = {swapped} WHERE {rows}')  # type: ignore[arg-type]
    seen = {found.key["id"]: found.kind for found in check(settings).differing}
    ids = [(name, base + number) for number, name in enumerate(KINDS) for base in (100, 200)]
    assert [name for name, id_ in ids if seen.get(str(id_)) != "different"] == []


@pytest.mark.parametrize(
    ("type_", "ours", "theirs"),
    [
        ("text", "''", "NULL"),
        ("bytea", "''", "NULL"),
        ("text", "'~'", "NULL"),
        ("text", "'N'", "NULL"),
        ("float8", "'-0'", "'0'"),
        ("float4", "'-0'", "'0'"),
        ("float8[]", "'{-0}'", "'{0}'"),
        ("text", "'a '", "'a'"),
        ("text[]", "'{NULL}'", "'{~}'"),
        ("text[]", "'{}'", "NULL"),
        ("text[]", "'{}'", "'{\"\"}'"),
        ("int[]", "'{{1},{2}}'", "'{1,2}'"),
        ("numeric", "'NaN'", "NULL"),
        ("date", "'infinity'", "'-infinity'"),
        ("timestamp", "'infinity'", "NULL"),
        ("time", "'24:00'", "'00:00'"),
    ],
)
def test_values_that_look_alike_differ(
    settings: Settings, database: str, type_: str, ours: str, theirs: str
) -> None:
    run_sql(database, f"CREATE TABLE t (id int PRIMARY KEY, v {type_})", f"INSERT INTO t VALUES (1, {ours})")
    schema = schemas_of(settings)["public.t"]
    put(settings, schema, copied(settings, schema))
    assert check(settings).equal
    run_sql(database, f"UPDATE t SET v = {theirs}")
    assert keys(check(settings)) == [("different", "1")]


def test_bytes_cannot_move_from_one_column_to_the_next(settings: Settings, database: str) -> None:
    run_sql(
        database,
        "CREATE TABLE t (id int PRIMARY KEY, a text, b text)",
        "INSERT INTO t VALUES (1, '1:a', 'b')",
    )
    schema = schemas_of(settings)["public.t"]
    put(settings, schema, copied(settings, schema))
    for a, b in (("1:a1:b", ""), ("1:", "ab"), ("", "1:ab"), ("1:ab", "")):
        run_sql(database, f"UPDATE t SET a = '{a}', b = '{b}'")
        assert not check(settings).equal


def test_missing_extra_and_repeated_rows_are_named(settings: Settings, database: str) -> None:
    schema = simple(settings, database)
    run_sql(database, "INSERT INTO t VALUES (5000, 'new', 1)", "DELETE FROM t WHERE id = 77")
    row = copied(settings, schema).filter(pc.field("id") == 5)
    put(settings, schema, row)
    report = check(settings)
    assert (report.source_rows, report.lake_rows) == (1000, 1001)
    assert keys(report) == [("extra", "77"), ("missing", "5000"), ("repeated", "5")]


def test_without_rows_no_key_is_shown(settings: Settings, database: str) -> None:
    simple(settings, database)
    run_sql(database, "UPDATE t SET name = 'secret' WHERE id = 3")
    report = check(settings, rows=False)
    assert not report.equal
    assert report.differing == ()
    assert "secret" not in str(report)


def test_a_table_that_is_all_different_gives_a_sample(
    settings: Settings, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("smartstream.verify.difference.ROWS_READ_MAX", 100)
    simple(settings, database, 5000)
    run_sql(database, "UPDATE t SET name = 'x'")
    report = check(settings)
    assert len(report.differing) == 20
    assert {found.kind for found in report.differing} == {"different"}


def test_a_table_that_was_not_copied_is_not_equal(settings: Settings, database: str) -> None:
    run_sql(database, "CREATE TABLE t (id int PRIMARY KEY)", "INSERT INTO t VALUES (1)")
    report = check(settings)
    assert not report.equal
    assert report.source_rows == 1
    assert report.lake_rows is None


def test_an_unknown_table_is_an_error_with_a_guess(settings: Settings, database: str) -> None:
    simple(settings, database, 1)
    with pytest.raises(VerifyError) as caught:
        verify(settings, ["publik.t"], clock=clock)
    assert "public.t" in caught.value.hint


def test_partitions_other_schemas_and_odd_names_are_read_whole(settings: Settings, database: str) -> None:
    run_sql(
        database,
        'CREATE SCHEMA "Odd %s"',
        'CREATE TABLE "Odd %s"."T ""x""" (id int PRIMARY KEY, "v\'%" text) PARTITION BY RANGE (id)',
        'CREATE TABLE "Odd %s".low PARTITION OF "Odd %s"."T ""x""" FOR VALUES FROM (0) TO (10)',
        'CREATE TABLE "Odd %s".high PARTITION OF "Odd %s"."T ""x""" FOR VALUES FROM (10) TO (100)',
        'INSERT INTO "Odd %s"."T ""x""" SELECT i, i FROM generate_series(0, 19) i',
    )
    (schema,) = schemas_of(settings).values()
    run_sql(database, 'CREATE VIEW public.flat AS SELECT * FROM "Odd %s"."T ""x"""')
    rows = pa.table(
        {"id": pa.array(range(20), pa.int32()), "v'%": [str(i) for i in range(20)]}
        | {"_lsn": pa.array([0] * 20, pa.int64()), "_untyped": pa.nulls(20, pa.string())}
    )
    put(settings, schema, rows)
    report = check(settings)
    assert report.equal, report
    assert report.source_rows == 20


def test_chunks_cover_a_table_once(
    settings: Settings, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("smartstream.verify.source.CHUNK_PAGES", 3)
    schema = simple(settings, database, 5000)
    with (
        SourceSnapshot(settings.source, slot="chunks", wait_seconds=5) as snapshot,
        snapshot.session() as session,
    ):
        assert len(chunks(session, schema)) > 5
    assert check(settings).equal


def test_values_kept_as_text_survive_a_rename(settings: Settings, database: str) -> None:
    run_sql(
        database,
        "CREATE TABLE t (id int PRIMARY KEY, a numeric, b date)",
        "INSERT INTO t VALUES (1, 'NaN', 'infinity')",
    )
    schema = schemas_of(settings)["public.t"]
    lake = put(settings, schema, copied(settings, schema))
    run_sql(database, "ALTER TABLE t RENAME a TO c")
    run_sql(database, "ALTER TABLE t RENAME b TO d")
    with lake.update_schema() as update:
        update.rename_column("a", "c")
    with lake.update_schema() as update:
        update.rename_column("b", "d")
    report = check(settings)
    assert report.equal, report
    run_sql(database, "UPDATE t SET d = '-infinity'")
    assert not check(settings).equal


def test_the_report_as_json_has_the_agreed_names() -> None:
    report = Report(True, 1 << 33, 1 << 33, (TableReport("public.t", 1, 1, True, "0", "0"),))
    value = report.to_dict()
    assert value["ok"] is True
    assert {"table", "source_rows", "lake_rows", "equal"} <= set(value["tables"][0])
    assert value["source_lsn"] == "2/0"
