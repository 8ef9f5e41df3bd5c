"""Records of DMS decoded: exactly, or told as damaged and why."""

from __future__ import annotations

import gzip
import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from smartstream.delivery.records import Decoded, Options, read_object
from smartstream.delivery.records.options import (
    INEXACT,
    KEY_UNTYPED,
    LOB_CUT,
    NO_BEFORE_IMAGE,
    NO_KEY,
    NO_PLACE,
    NOT_DMS,
    NOT_JSON,
    UNKNOWN_COLUMN,
    WRONG_VALUE,
)
from smartstream.errors import RawCorrupt
from smartstream.schema import Kind, TableSchema
from tests.dms_records import ITEMS, Known, control, record

KNOWN = Known({ITEMS.id: ITEMS})
LIMIT = 65_536


def read(*lines: str | bytes, options: Options | None = None) -> Decoded:
    """Records one a line."""
    encoded = [line.encode() if isinstance(line, str) else line for line in lines]
    return read_object("raw/1", b"".join(line + b"\n" for line in encoded), KNOWN, options)


def rows(decoded: Decoded, table: str = "public.items") -> list[dict[str, Any]]:
    """The changes of a table."""
    if table not in decoded.changes:
        return []
    schema, changelog = decoded.changes[table]
    assert changelog.schema.equals(schema.changelog_schema())
    changelog.validate(full=True)
    found: list[dict[str, Any]] = changelog.to_pylist()
    return found


def reasons(decoded: Decoded) -> list[tuple[int, str]]:
    """Numbers and reasons of damaged records."""
    return [(row["number"], row["reason"]) for row in decoded.damaged.to_pylist()]


WHOLE = (
    '{"id": 1, "name": "a\\n\\"é😀", "price": 1234567890123456.7891, "count": 123456789012345678,'
    ' "seen": "2026-01-02T03:04:05.250000Z", "sold": "true", "photo": "0x00fF", "code": "ab"}'
)
TYPED = {
    "id": 1,
    "name": 'a\n"é😀',
    "price": Decimal("1234567890123456.7891"),
    "count": 123456789012345678,
    "seen": datetime(2026, 1, 2, 3, 4, 5, 250_000, UTC),
    "sold": True,
    "photo": b"\x00\xff",
    "code": "ab  ",
}
# What makes a chunk odd: the same values go the slow way then.
ODD = record("insert", '{"id": 99, "price": "NaN"}', lsn=1)


@pytest.mark.parametrize("extra", [(), (ODD,)], ids=["fast", "slow"])
@pytest.mark.parametrize("sold", ['"true"', "true"])
def test_every_value_keeps_all_of_its_digits(extra: tuple[str, ...], sold: str) -> None:
    found = read(record("insert", WHOLE.replace('"true"', sold), lsn=(7 << 32) + 9, number=3), *extra)
    row = rows(found)[0]
    assert {name: row[name] for name in TYPED} == TYPED
    assert (row["_op"], row["_commit_lsn"], row["_ordinal"]) == ("i", (7 << 32) + 9, 3)
    assert row["_commit_ts"] == datetime(2026, 1, 2, 3, 4, 4, 500_000, UTC)
    assert (row["_unchanged"], row["_old_key"], row["_untyped"]) == (None, None, None)
    assert not found.damaged.num_rows


@pytest.mark.parametrize("extra", [(), (ODD,)], ids=["fast", "slow"])
def test_operations_places_and_old_keys(extra: tuple[str, ...]) -> None:
    found = read(
        record("load", {"id": 1}),
        record("update", {"id": 2, "name": "b"}, lsn=5, before={"id": 1}),
        record("update", {"id": 2, "name": "c"}, lsn=6, before={"id": 2}),
        record("update", {"id": 2, "name": "d"}, lsn=7, before={}),
        record("delete", {"id": 2, "name": None}, lsn=8),
        *extra,
    )
    kept = rows(found)[:5]
    assert [(row["_op"], row["_commit_lsn"], row["_ordinal"]) for row in kept] == [
        ("r", 0, -1),
        ("u", 5, 2),
        ("u", 6, 2),
        ("u", 7, 2),
        ("d", 8, 2),
    ]
    assert [row["_old_key"] for row in kept] == [None, {"id": 1}, None, None, None]
    assert kept[0]["_xid"] is None and kept[1]["_xid"] == 705


@pytest.mark.parametrize("extra", [(), ("odd",)], ids=["fast", "slow"])
def test_parts_of_a_key_that_a_before_image_does_not_tell_are_as_they_were(extra: tuple[str, ...]) -> None:
    pair = TableSchema(1, "public", "pairs", ITEMS.columns, ("id", "name"))
    table = ("public", "pairs")
    lines = [
        record("update", {"id": 2, "name": "a"}, lsn=5, before={"id": 1}, table=table),
        record("update", {"id": 3, "name": "b"}, lsn=6, before={"id": 3, "name": None}, table=table),
        record("update", {"id": 3, "name": "c", "count": "x"}, lsn=7, before={"name": "b"}, table=table),
        *(record("insert", '{"id": 9, "name": "z", "price": "NaN"}', lsn=8, table=table) for _ in extra),
    ]
    found = read_object("k", "\n".join(lines).encode(), Known({pair.id: pair}))
    changed = [(row["_op"], row["id"], row["name"], row["_old_key"]) for row in rows(found, pair.id)]
    assert sorted(changed[: len(changed) - len(extra)], key=str) == [
        ("d", 3, "b", None),
        ("d", 3, "c", None),
        ("u", 2, "a", {"id": 1, "name": "a"}),
        ("u", 3, "b", None),
    ]
    assert reasons(found) == [(2, WRONG_VALUE)]


def test_the_larger_lsn_is_the_changes_own() -> None:
    one = record("insert", {"id": 1}, **{"stream-position": "00000001/0000000a.12.00000002/0000000B"})
    (row,) = rows(read(one))
    assert (row["_commit_lsn"], row["_ordinal"]) == ((2 << 32) + 11, 12)


DAMAGED = {
    "no place": (record("insert", {"id": 1}, lsn=5, **{"stream-position": "5.1"}), NO_PLACE, []),
    "no key": (record("insert", {"name": "a"}, lsn=5), NO_KEY, []),
    "null key": (record("delete", {"id": None}, lsn=5), NO_KEY, []),
    "no image": (record("update", {"id": 1}, lsn=5).replace(',"before-image": {}', ""), NO_BEFORE_IMAGE, [1]),
    "unknown column": (record("insert", {"id": 1, "more": 2}, lsn=5), UNKNOWN_COLUMN, [1]),
    "nested": (record("insert", {"id": 1, "name": {"a": 1}}, lsn=5), WRONG_VALUE, [1]),
    "no number": (record("insert", {"id": 1, "count": "many"}, lsn=5), WRONG_VALUE, [1]),
    "no moment": (record("insert", {"id": 1, "seen": "soon"}, lsn=5), WRONG_VALUE, [1]),
    "no bytea": (record("insert", {"id": 1, "photo": "\\\\x00"}, lsn=5), WRONG_VALUE, [1]),
    "rounded bigint": (record("insert", '{"id": 1, "count": 9.223372036854776E+18}', lsn=5), INEXACT, [1]),
    "rounded numeric": (record("insert", '{"id": 1, "price": 1.5E+22}', lsn=5), INEXACT, [1]),
    "rounded key": (record("insert", '{"id": 9.2E+18}', lsn=5), INEXACT, []),
    "moved to a rounded key": (record("update", '{"id": 9.2E+18}', lsn=5, before={"id": 1}), INEXACT, [1]),
    "moved to no key": (record("update", '{"id": "x"}', lsn=5, before={"id": 1}), WRONG_VALUE, [1]),
    "cut text": (record("insert", {"id": 1, "name": "a" * (LIMIT // 2)}, lsn=5), LOB_CUT, [1]),
    "cut pairs": (record("insert", {"id": 1, "name": "😀" * (LIMIT // 4)}, lsn=5), LOB_CUT, [1]),
    "cut bytes": (record("insert", {"id": 1, "photo": "0x" + "ff" * LIMIT}, lsn=5), LOB_CUT, [1]),
    "moved": (record("update", {"id": 2, "count": "x"}, lsn=5, before={"id": 1}), WRONG_VALUE, [2, 1]),
    "moved cut": (
        record("update", {"id": 2, "name": "a" * (LIMIT // 2)}, lsn=5, before={"id": 1}),
        LOB_CUT,
        [2, 1],
    ),
}


@pytest.mark.parametrize("extra", [(), (ODD,)], ids=["fast", "slow"])
@pytest.mark.parametrize("name", DAMAGED)
def test_what_dms_damaged_is_told_and_its_older_row_goes(name: str, extra: tuple[str, ...]) -> None:
    line, reason, gone = DAMAGED[name]
    found = read(record("insert", {"id": 50}, lsn=5), line, *extra)
    assert reasons(found) == [(1, reason)]
    changed = [row for row in rows(found) if row["id"] not in (50, 99)]
    assert [(row["_op"], row["id"]) for row in changed] == [("d", key) for key in gone]
    assert all((row["_commit_lsn"], row["_ordinal"]) == (5, 2) for row in changed)
    kept = found.damaged.to_pylist()[0]
    assert (kept["object"], kept["schema"], kept["table"]) == ("raw/1", "public", "items")
    assert json.loads(kept["record"]) == json.loads(line)


def test_numbers_in_scientific_notation_pass_where_nothing_can_be_lost() -> None:
    found = read(record("insert", '{"id": 1E+1, "count": 9.007199254740991E+15}', lsn=5))
    assert [(row["id"], row["count"]) for row in rows(found)] == [(10, 2**53 - 1)]
    assert not found.damaged.num_rows


def test_a_text_one_short_of_the_limit_is_whole() -> None:
    found = read(
        record("insert", {"id": 1, "name": "a" * (LIMIT // 2 - 2)}, lsn=5),
        record("insert", {"id": 2, "photo": "0x" + "ff" * (LIMIT - 1)}, lsn=5),
    )
    assert not found.damaged.num_rows and len(rows(found)) == 2


def test_values_that_their_type_cannot_hold_keep_their_text() -> None:
    found = read(
        record("insert", '{"id": 1, "price": "NaN", "seen": "0044-03-15T01:00:00.250000Z BC"}', lsn=5),
        record("insert", '{"id": 2, "price": 123456789012345678901.5}', lsn=5),
    )
    assert [json.loads(row["_untyped"]) for row in rows(found)] == [
        {"price": "NaN", "seen": "0044-03-15 01:00:00.25+00 BC"},
        {"price": "123456789012345678901.5"},
    ]


def test_updates_without_a_before_image_can_be_allowed() -> None:
    line = record("update", {"id": 1}, lsn=5).replace(',"before-image": {}', "")
    found = read(line, options=Options(before_image_required=False))
    assert [row["_op"] for row in rows(found)] == ["u"] and not found.damaged.num_rows


def test_a_whole_before_image_is_as_good_as_one_of_the_key() -> None:
    found = read(record("update", {"id": 2}, lsn=5, before={"id": 1, "name": "a", "price": 1.5}))
    assert [row["_old_key"] for row in rows(found)] == [{"id": 1}]


def test_dmss_own_tables_are_noise() -> None:
    found = read(
        record("insert", {"a": 1}, table=("", "awsdms_status")),
        record("insert", {"a": 1}, table=("awsdms", "awsdms_heartbeat")),
        control("create-table", {"A": {"type": "STRING"}}, ["A"], ("", "awsdms_apply_exceptions")),
    )
    assert (found.ignored, found.control, found.changes, found.undefined) == (3, 0, {}, {})
    assert not found.damaged.num_rows


def test_a_table_that_nothing_defines_is_named() -> None:
    found = read(record("insert", {"a": 1}, lsn=5, table=("public", "others")), record("load", {"id": 1}))
    assert found.undefined == {"public.others": 1} and len(rows(found)) == 1


def test_a_control_record_defines_a_table_wherever_it_stands() -> None:
    columns = {
        "id": {"type": "INT64", "nullable": False},
        "n": {"type": "NUMERIC", "nullable": True, "precision": 10, "scale": 2},
        "t": {"type": "STRING", "nullable": True, "length": 255},
    }
    table = ("sales", "others")
    found = read(
        record("insert", '{"id": 1, "n": 1.25, "t": "x"}', lsn=5, table=table),
        control("create-table", columns, ["id"], table),
    )
    (row,) = rows(found, "sales.others")
    assert (row["id"], row["n"], row["t"]) == (1, Decimal("1.25"), "x")
    assert found.control == 1
    learnt: TableSchema = found.learnt["sales.others"]
    assert [(c.attnum, c.type.kind, c.nullable) for c in learnt.columns] == [
        (1, Kind.INT8, False),
        (2, Kind.NUMERIC, True),
        (3, Kind.TEXT, True),
    ]


def test_a_control_record_adds_columns_and_changes_none() -> None:
    columns = {"id": {"type": "STRING"}, "more": {"type": "INT32"}}
    found = read(
        control("add-column", columns, ["id"], ("public", "items")),
        record("insert", {"id": 1, "more": 2}, lsn=5),
    )
    assert [(row["id"], row["more"]) for row in rows(found)] == [(1, 2)]
    learnt = found.learnt["public.items"]
    assert learnt.columns[:-1] == ITEMS.columns and learnt.columns[-1].attnum == 9


@pytest.mark.parametrize(
    "table_def",
    [
        None,
        {"columns": {}, "primary-key": []},
        {"columns": {"a": {"type": "INT32"}}, "primary-key": ["b"]},
        {"columns": {"_op": {"type": "INT32"}}, "primary-key": ["_op"]},
        {"columns": {"a": 1}, "primary-key": ["a"]},
    ],
)
def test_a_control_record_that_defines_nothing_is_no_harm(table_def: object) -> None:
    line = json.loads(control("drop-table", {}, [], ("public", "x")))
    line["control"] = {} if table_def is None else {"table-def": table_def}
    found = read(json.dumps(line, separators=(",", ":")))
    assert (found.control, found.learnt, found.damaged.num_rows) == (1, {}, 0)


def test_records_of_any_layout_are_found() -> None:
    first, second = record("insert", {"id": 1}, lsn=5), record("insert", {"id": 2}, lsn=6)
    pretty = json.dumps(json.loads(second), indent=1)
    for text in (
        f"{first}{second}",
        f"{first}\n\n  \n{second}\n",
        f"{first}\r\n{second}",
        f"{first} {pretty}",
        f"{pretty}\n{first}",
    ):
        for data in (text.encode(), gzip.compress(text.encode())):
            found = read_object("k", data, KNOWN)
            assert {row["id"] for row in rows(found)} == {1, 2}
            assert not found.damaged.num_rows


def test_two_gzip_files_in_one_object_are_both_read() -> None:
    parts = [gzip.compress(record("insert", {"id": n}, lsn=5).encode() + b"\n") for n in (1, 2)]
    assert [row["id"] for row in rows(read_object("k", b"".join(parts), KNOWN))] == [1, 2]


def test_what_is_no_record_is_kept_as_damaged_and_the_rest_read() -> None:
    good = record("insert", {"id": 1}, lsn=5)
    found = read(good, good[:100], "[1]", "{}", b'{"data":{"id":"\xff"}}', good)
    assert reasons(found) == [(1, NOT_JSON), (2, NOT_DMS), (3, NOT_DMS), (4, NOT_JSON)]
    assert len(rows(found)) == 2


def test_bytes_that_are_not_utf8_are_damaged_among_good_records_too() -> None:
    bad = record("insert", {"id": 2, "name": "a?c"}, lsn=5).encode().replace(b"a?c", b"a\xffc")
    found = read(record("insert", {"id": 1, "name": "b"}, lsn=4), bad)
    assert reasons(found) == [(1, NOT_JSON)]
    assert [row["id"] for row in rows(found)] == [1]


def test_a_partial_last_record_is_damaged() -> None:
    good = record("insert", {"id": 1}, lsn=5)
    for between in ("\n", ""):
        found = read_object("k", (good + between + good[:-20]).encode(), KNOWN)
        assert reasons(found)[0] == (1, NOT_JSON) and len(rows(found)) == 1


def test_a_field_that_is_named_twice_is_not_guessed() -> None:
    assert reasons(read(record("insert", '{"id": 1, "id": 2}', lsn=5))) == [(0, NOT_JSON)]


def test_a_key_that_the_lake_cannot_hold_is_damaged() -> None:
    timed = TableSchema(1, "public", "timed", ITEMS.columns, ("seen",))
    line = record("insert", {"seen": "0044-03-15T01:00:00Z BC"}, lsn=5, table=("public", "timed"))
    found = read_object("k", line.encode(), Known({timed.id: timed}))
    assert reasons(found) == [(0, KEY_UNTYPED)] and not rows(found, "public.timed")


@pytest.fixture(params=[64, 1000, 1 << 24])
def slice_bytes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Objects in slices of so many bytes."""
    monkeypatch.setattr("smartstream.delivery.records.lines.SLICE_BYTES", request.param)
    return int(request.param)


@pytest.mark.parametrize("between", ["\n", "", " ", "\r\n"])
@pytest.mark.parametrize("packed", [True, False])
def test_an_object_in_slices_is_the_same(slice_bytes: int, between: str, packed: bool) -> None:
    columns = {"id": {"type": "INT64"}, "t": {"type": "STRING"}}
    late = [record("insert", {"id": n, "t": "x"}, lsn=5, table=("sales", "late")) for n in range(9)]
    lines = [record("insert", {"id": n, "name": "}{ \n"}, lsn=5 + n) for n in range(40)]
    lines = [
        *late,
        *lines[:20],
        "nonsense",
        *lines[20:],
        control("create-table", columns, ["id"], ("sales", "late")),
    ]
    if between in ("", " "):
        lines.remove("nonsense")
    data = between.join(lines).encode()
    data = gzip.compress(data[:1000]) + gzip.compress(data[1000:]) if packed else data
    found = read_object("raw/1", data, KNOWN)
    assert [row["id"] for row in rows(found)] == list(range(40))
    assert [row["id"] for row in rows(found, "sales.late")] == list(range(9))
    assert (found.learnt.keys(), found.told, found.undefined) == ({"sales.late"}, {"sales.late"}, {})
    assert reasons(found) == ([(29, NOT_JSON)] if "nonsense" in lines else [])


@pytest.mark.parametrize("cut", [1, 12, 40])
def test_half_a_gzip_file_is_refused(cut: int) -> None:
    whole = gzip.compress(record("insert", {"id": 1}, lsn=5).encode())
    with pytest.raises(RawCorrupt, match="not a whole gzip file"):
        read_object("k", whole[:-cut], KNOWN)
    with pytest.raises(RawCorrupt, match="not a whole gzip file"):
        read_object("k", whole + b"rest", KNOWN)


def test_an_empty_object_holds_nothing() -> None:
    for data in (b"", b"\n \n", gzip.compress(b"")):
        found = read_object("k", data, KNOWN)
        assert (found.changes, found.damaged.num_rows) == ({}, 0)
