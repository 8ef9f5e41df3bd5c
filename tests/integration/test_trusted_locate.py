"""Locate and read: the right rows for every kind of key, and no others."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID as Uuid

import pytest

from smartstream.schema import Kind, PgType
from smartstream.trusted.engine import Engine
from smartstream.trusted.locate import prune
from smartstream.trusted.table import TrustedTable
from tests.trusted_lake import (
    BOOL,
    BYTEA,
    DATE,
    FLOAT8,
    INT4,
    INT8,
    TEXT,
    UUID,
    apply,
    contents,
    keys,
    local_catalog,
    numeric,
    read_pyiceberg,
    table_schema,
)

STAMP = PgType("timestamp with time zone", Kind.TIMESTAMPTZ)

KINDS: list[tuple[PgType, list[Any]]] = [
    (INT4, [-(2**31), -1, 0, 1, 2**31 - 1]),
    (INT8, [-(2**63), -5, 0, 7, 2**63 - 1]),
    (TEXT, ["", " ", "a", "a" * 40, "a" * 40 + "b", "Z", "é", "\U0010ffff" * 20, "'\"%"]),
    (UUID, [str(Uuid(int=n * 3**70 % 2**128)) for n in range(6)]),
    (DATE, [date(1, 1, 1), date(1969, 12, 31), date(1970, 1, 1), date(9999, 12, 31)]),
    (numeric(8, 2), [Decimal("-999999.99"), Decimal("-0.01"), Decimal(0), Decimal("12.50")]),
    (numeric(38, 10), [Decimal("-1e20"), Decimal(0), Decimal("1e-10"), Decimal("9" * 28)]),
    (BOOL, [False, True]),
    (BYTEA, [b"", b"\x00", b"\xff" * 20, b"\xff" * 19 + b"\xfe", b"abc"]),
    (FLOAT8, [float("-inf"), -1.5, 0.0, 1e300, float("inf")]),
    (STAMP, []),
]


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    engine = Engine(memory_bytes=128 << 20)
    yield engine
    engine.close()


@pytest.mark.parametrize("stream", [False, True], ids=["DuckDB reads", "pyarrow streams"])
@pytest.mark.parametrize(("kind", "values"), [k for k in KINDS if k[1]], ids=lambda k: getattr(k, "name", ""))
def test_every_kind_of_key_is_found(
    kind: PgType, values: list[Any], stream: bool, tmp_path: Path, engine: Engine
) -> None:
    # A column called "filename" is one that DuckDB cannot read by name beside its own.
    other = "filename" if stream else "other"
    schema = table_schema([("k", 1, kind), (other, 2, INT4)], ["k"])
    table = TrustedTable.open(local_catalog(tmp_path), schema, engine=engine)
    for seq, value in enumerate(values, start=1):
        apply(table, [{"k": value, other: seq}], seq=seq)
    for n, value in enumerate(values, start=1):
        located = table.locate(keys(schema, [value]))
        assert table.read(located, [other]).to_pylist() == [{"k": value, other: n}]
    half = values[::2]
    apply(table, [{"k": value, other: 100} for value in half], values[1::2], seq=99)
    assert contents(read_pyiceberg(table), ["k"]) == {(v,): {"k": v, other: 100} for v in half}


def test_composite_keys_match_as_a_whole(tmp_path: Path, engine: Engine) -> None:
    schema = table_schema([("a", 1, TEXT), ("b", 2, INT4), ("v", 3, INT4)], ["b", "a"])
    table = TrustedTable.open(local_catalog(tmp_path), schema, engine=engine)
    apply(table, [{"a": a, "b": b, "v": 0} for a in "xyz" for b in range(3)], seq=1)
    located = table.locate(keys(schema, [(1, "x"), (2, "z"), (7, "x")]))
    assert located.row_count == 2
    assert {(r["b"], r["a"]) for r in table.read(located, []).to_pylist()} == {(1, "x"), (2, "z")}


def test_names_that_differ_in_case_only_are_kept_apart(tmp_path: Path, engine: Engine) -> None:
    schema = table_schema(
        [("ID", 1, INT4), ("id", 2, INT4), ('o"d.d', 3, TEXT)], ["id"], name='Odd "T"able.%'
    )
    table = TrustedTable.open(local_catalog(tmp_path), schema, engine=engine)
    apply(table, [{"ID": n + 1, "id": n, 'o"d.d': "x"} for n in range(5)], seq=1)
    apply(table, [{"ID": 0, "id": 3, 'o"d.d': "y"}], [4], seq=2)
    found = contents(read_pyiceberg(table), ["id"])
    assert {key[0]: row["ID"] for key, row in found.items()} == {0: 1, 1: 2, 2: 3, 3: 0}


def test_a_folder_with_wildcards_is_no_pattern(tmp_path: Path, engine: Engine) -> None:
    schema = table_schema([("id", 1, INT4)], ["id"])
    table = TrustedTable.open(local_catalog(tmp_path / "la[k]e*"), schema, engine=engine)
    apply(table, [{"id": 1}, {"id": 2}], seq=1)
    assert table.locate(keys(schema, [1, 3])).row_count == 1


def test_files_whose_bounds_exclude_the_keys_are_not_read(tmp_path: Path, engine: Engine) -> None:
    schema = table_schema([("id", 1, TEXT)], ["id"])
    table = TrustedTable.open(local_catalog(tmp_path), schema, engine=engine)
    for seq in range(1, 6):
        apply(table, [{"id": f"{seq}{'-' * 30}{n}"} for n in range(4)], seq=seq)
    files = [file.data.file for file in table.live_files]
    fields = table.view().key_fields()
    kept = prune(files, files, fields, keys(schema, ["2" + "-" * 30 + "3", "4" + "-" * 30 + "9"]))
    assert len(kept) == 2
    assert prune(files, files, fields, keys(schema, ["0", "9"])) == []


def test_read_brings_the_columns_that_were_asked_for(tmp_path: Path, engine: Engine) -> None:
    schema = table_schema([("id", 1, INT4), ("big", 2, TEXT), ("small", 3, INT4)], ["id"])
    table = TrustedTable.open(local_catalog(tmp_path), schema, engine=engine)
    apply(table, [{"id": n, "big": "x" * n, "small": n} for n in range(20)], seq=1)
    apply(table, [{"id": 5, "big": "new", "small": 0}], [6], seq=2)
    located = table.locate(keys(schema, [5, 6, 7]))
    found = table.read(located, ["big", "_untyped"])
    assert found.column_names == ["id", "big", "_untyped"]
    assert {r["id"]: r["big"] for r in found.to_pylist()} == {5: "new", 7: "x" * 7}
    assert table.read(table.locate(keys(schema, [])), ["big"]).num_rows == 0
