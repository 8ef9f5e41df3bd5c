"""Arrays: split, parsed or untyped, whatever stands beside them in the column."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from decimal import Decimal

import pyarrow as pa
import pytest

from smartstream.capture.values import cast
from smartstream.errors import ProtocolError
from smartstream.schema import Kind, PgType


def array_of(kind: Kind, **rest: int) -> PgType:
    return PgType(f"{kind}[]", Kind.ARRAY, element=PgType(str(kind), kind, **rest))


def typed(texts: list[str | None], type_: PgType) -> tuple[list[object], list[int]]:
    done = cast(pa.array(texts, pa.string()), type_)
    done.values.validate(full=True)
    assert done.values.type == type_.arrow
    flags = done.untyped.to_pylist() if done.untyped is not None else []
    return done.values.to_pylist(), [n for n, flag in enumerate(flags) if flag]


def test_null_the_element_and_null_the_word_are_told_apart() -> None:
    texts = ["{}", "{NULL}", '{"NULL"}', '{""}', None, "{a,NULL}"]
    assert typed(texts, array_of(Kind.TEXT)) == ([[], [None], ["NULL"], [""], None, ["a", None]], [])


def test_quotes_backslashes_commas_braces_and_newlines_are_values() -> None:
    texts = [r'{"a,b","q\"q","b\\s","{x}"," sp ","line' + "\n" + r'break"}', "{plain}"]
    values = [["a,b", 'q"q', "b\\s", "{x}", " sp ", "line\nbreak"], ["plain"]]
    assert typed(texts, array_of(Kind.TEXT)) == (values, [])


@pytest.mark.parametrize("text", ["{{1,2},{3,4}}", "[0:1]={1,2}", "[2:2][1:1]={{1}}"])
def test_what_a_list_cannot_hold_is_untyped_whole_and_alone(text: str) -> None:
    assert typed(["{5}", text, "{6}"], array_of(Kind.INT4)) == ([[5], None, [6]], [1])


def test_an_element_that_its_type_cannot_hold_makes_the_array_untyped() -> None:
    texts = ["{1.50,NULL}", "{1,NaN}", "{}", "{" + "9" * 40 + "}"]
    expected = [[Decimal("1.50"), None], None, [], None]
    assert typed(texts, array_of(Kind.NUMERIC, precision=6, scale=2)) == (expected, [1, 3])
    assert typed(["{2000-01-01,infinity}"], array_of(Kind.DATE)) == ([None], [0])


def test_quoted_timestamps_and_bytes_are_split_like_plain_elements() -> None:
    stamp = datetime(2024, 1, 1, 1, 2, 3, 500000, UTC)
    texts = ['{"2024-01-01 01:02:03.5+00",NULL}', "{}", '{infinity,"2024-01-01 00:00:00+00"}', None]
    assert typed(texts, array_of(Kind.TIMESTAMPTZ)) == ([[stamp, None], [], None, None], [2])
    texts = [r'{"\\x00ff",NULL,"\\x"}', "{}", None, r'{"a\\001",b}']
    assert typed(texts, array_of(Kind.BYTEA)) == ([[b"\x00\xff", None, b""], [], None, [b"a\x01", b"b"]], [])


def test_columns_of_nulls_and_of_nothing() -> None:
    for texts in ([], [None], [None, "{}"]):
        assert typed(texts, array_of(Kind.INT4)) == ([None if t is None else [] for t in texts], [])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1",
        "{",
        "{1",
        "1}",
        "{1,,2}",
        "{,}",
        "{1}x",
        '{"a"b}',
        '{"a",}',
        '{"a',
        '{"a\\"}',
        '{a"b"}',
        "{x}",
    ],
)
def test_what_is_no_array_is_refused(text: str) -> None:
    with pytest.raises(ProtocolError):
        typed(["{1}", text], array_of(Kind.INT4))


def printed(element: str | None) -> str:
    """An element as array_out prints it."""
    if element is None:
        return "NULL"
    if element == "" or element.upper() == "NULL" or any(c in '{}",\\ \n\t' for c in element):
        return '"' + element.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return element


@pytest.mark.parametrize("seed", range(30))
def test_text_arrays_come_back(seed: int) -> None:
    rng = random.Random(seed)
    words = [None, "", "NULL", "null", "a", "žluť", 'q"', "b\\", "\\", "{", "}", ",", " ", "x,y", "a\nb", '"']
    column = [
        None if rng.random() < 0.1 else [rng.choice(words) for _ in range(rng.randint(0, 5))]
        for _ in range(40)
    ]
    texts = [None if a is None else "{" + ",".join(map(printed, a)) + "}" for a in column]
    assert typed(texts, array_of(Kind.TEXT)) == (column, []), f"seed {seed}"
