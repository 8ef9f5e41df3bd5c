"""PostgreSQL's array text, ``{1,2,NULL}``, as Arrow lists.

One-dimensional arrays without quotes are split by Arrow; the others are parsed one
by one.  Arrays of several dimensions, or whose lower bound is not 1, are untyped.

Source: PostgreSQL manual, "Arrays", Array Input and Output Syntax.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from smartstream.capture.values.typed import Cast, holds
from smartstream.errors import ProtocolError
from smartstream.schema import Kind, PgType

Counts = npt.NDArray[np.int64]

_NEEDS_PARSER = r'["\\]|^\[|\{[^}]*\{'
# Quoted for their blanks or their backslash, these hold no comma, quote or brace.
_STAMPS = r'^\{[-0-9:., +"A-Za-z]*\}$'
_BYTEAS = r'^\{("\\\\x[0-9a-f]*"|NULL)(,("\\\\x[0-9a-f]*"|NULL))*\}$'
_NO_QUOTES = {
    Kind.TIMESTAMP: (_STAMPS, r'"', ""),
    Kind.TIMESTAMPTZ: (_STAMPS, r'"', ""),
    Kind.BYTEA: (_BYTEAS, r'"(\\)\\(x[0-9a-f]*)"', r"\1\2"),
}
_ELEMENT = re.compile(r'"((?:[^"\\]|\\.)*)"|([^",{}\\]+)', re.DOTALL)
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)


def arrays(text: pa.Array, type_: PgType, cast: Callable[[pa.Array, PgType], Cast]) -> Cast:
    """Return array texts as lists; an element that is untyped makes its array so.

    Args:
        cast: for the elements.
    """
    assert type_.element is not None
    hard = pc.fill_null(pc.match_substring_regex(text, _NEEDS_PARSER), False)
    plain, hard = _without_quotes(text, hard, type_.element.kind)
    elements, counts = _split(pc.if_else(hard, pa.scalar(None, pa.string()), plain))
    untyped = np.zeros(len(text), np.bool_)
    rows = np.flatnonzero(hard.to_numpy(zero_copy_only=False))
    if len(rows):
        parsed = [parse_array(value) for value in text.take(pa.array(rows)).to_pylist()]
        untyped[rows] = [value is None for value in parsed]
        elements, counts = _merge(elements, counts, rows, parsed)
    inner = cast(elements, type_.element)
    if inner.untyped is not None:
        owner = np.repeat(np.arange(len(text)), counts)
        untyped[owner[inner.untyped.to_numpy(zero_copy_only=False)]] = True
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    null = text.is_null().to_numpy(zero_copy_only=False) | untyped
    values = pa.ListArray.from_arrays(
        pa.array(offsets), inner.values, type=type_.arrow, mask=pa.array(null) if null.any() else None
    )
    return Cast(values, pa.array(untyped) if untyped.any() else None)


def _without_quotes(text: pa.Array, hard: pa.Array, kind: Kind) -> tuple[pa.Array, pa.Array]:
    """Arrays of some kinds without the quotes around their elements, and which are still hard."""
    if kind not in _NO_QUOTES or not pc.any(hard).as_py():
        return text, hard
    pattern, quoted, bare = _NO_QUOTES[kind]
    simple = pc.and_(hard, pc.match_substring_regex(text, pattern))
    plain = pc.if_else(simple, pc.replace_substring_regex(text, quoted, bare), text)
    return plain, pc.fill_null(pc.and_not(hard, simple), False)


def _split(text: pa.Array) -> tuple[pa.Array, Counts]:
    """Elements of plain arrays, flat, and how many each array has (0 for null)."""
    if not holds(pc.match_substring_regex(text, r"^\{[^{}]*\}$")):
        raise ProtocolError("a value is not an array")
    lists = pc.split_pattern(pc.utf8_slice_codeunits(text, 1, -1), ",")
    flat = pc.list_flatten(lists)
    is_empty = pc.fill_null(pc.equal(text, "{}"), False).to_numpy(zero_copy_only=False)
    counts: Counts = pc.fill_null(pc.list_value_length(lists), 0).to_numpy().astype(np.int64)
    counts[is_empty] = 0  # {} splits into one empty piece
    blank = pc.equal(flat, "")
    if pc.sum(blank).as_py() not in (None, int(is_empty.sum())):  # an empty element is quoted
        raise ProtocolError("an array has an element without text")
    if is_empty.any():
        flat = flat.filter(pc.invert(blank))
    return pc.if_else(pc.equal(flat, "NULL"), pa.scalar(None, pa.string()), flat), counts


def _merge(
    elements: pa.Array, counts: Counts, rows: npt.NDArray[np.int64], parsed: list[list[str | None] | None]
) -> tuple[pa.Array, Counts]:
    """Put the parsed arrays' elements between those of the split ones."""
    flat = [element for value in parsed if value is not None for element in value]
    merged = counts.copy()
    merged[rows] = [len(value) if value is not None else 0 for value in parsed]
    is_parsed = np.zeros(len(counts), np.bool_)
    is_parsed[rows] = True
    from_parser = np.repeat(is_parsed, merged)
    index = np.empty(len(from_parser), np.int64)
    index[~from_parser] = np.arange(len(elements))
    index[from_parser] = len(elements) + np.arange(len(flat))
    return pa.concat_arrays([elements, pa.array(flat, pa.string())]).take(pa.array(index)), merged


def parse_array(text: str) -> list[str | None] | None:
    """The elements of one array, None if it has several dimensions or a lower bound of its own.

    Raises:
        ProtocolError: the text is not an array.
    """
    if text.startswith(("[", "{{")):
        return None
    if len(text) < 2 or text[0] != "{" or text[-1] != "}":
        raise ProtocolError("a value is not an array")
    elements: list[str | None] = []
    at, end = 1, len(text) - 1
    while at < end or elements:
        match = _ELEMENT.match(text, at, end)
        if match is None:
            raise ProtocolError("a value is not an array")
        quoted, plain = match.groups()
        if quoted is None:
            elements.append(None if plain == "NULL" else plain)
        else:
            elements.append(_ESCAPE.sub(r"\1", quoted) if "\\" in quoted else quoted)
        at = match.end()
        if at == end:
            break
        if text[at] != ",":
            raise ProtocolError("a value is not an array")
        at += 1
    return elements
