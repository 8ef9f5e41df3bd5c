"""PostgreSQL's array text, ``{1,2,NULL}``, as Arrow lists.

One-dimensional arrays without quotes are split by Arrow; the others are parsed one
by one.  Arrays of several dimensions, or whose lower bound is not 1, are untyped.

Source: PostgreSQL manual, "Arrays", Array Input and Output Syntax.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from smartstream.capture.values.cast import Cast, cast
from smartstream.errors import ProtocolError
from smartstream.schema import PgType

_NEEDS_PARSER = r'["\\]|^\[|\{.*\{'


def cast_arrays(text: pa.Array, type_: PgType) -> Cast:
    """Return array texts as lists; see ``cast``.  An element that is untyped makes its array so."""
    assert type_.element is not None
    hard = pc.fill_null(pc.match_substring_regex(text, _NEEDS_PARSER), False)
    elements, counts = _split(pc.if_else(hard, pa.scalar(None, pa.string()), text))
    present = text.is_valid().to_numpy(zero_copy_only=False)
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
    null = ~present | untyped
    values = pa.ListArray.from_arrays(
        pa.array(offsets), inner.values, type=type_.arrow, mask=pa.array(null) if null.any() else None
    )
    return Cast(values, pa.array(untyped) if untyped.any() else None)


def _split(text: pa.Array) -> tuple[pa.Array, np.ndarray]:
    """Elements of plain arrays, flat, and how many each array has (0 for null)."""
    inside = pc.utf8_slice_codeunits(text, 1, -1)
    if pc.any(pc.not_equal(pc.binary_join_element_wise("{", inside, "}", ""), text)).as_py():
        raise ProtocolError("a value is not an array")
    lists = pc.split_pattern(inside, ",")
    flat = pc.list_flatten(lists)
    owner = pc.list_parent_indices(lists).to_numpy()
    real = pc.not_equal(flat, "")  # {} splits into one empty piece; an empty element is quoted
    counts = np.bincount(owner[real.to_numpy(zero_copy_only=False)], minlength=len(text))
    flat = flat.filter(real)
    return pc.if_else(pc.equal(flat, "NULL"), pa.scalar(None, pa.string()), flat), counts


def _merge(
    elements: pa.Array, counts: np.ndarray, rows: np.ndarray, parsed: list[list[str | None] | None]
) -> tuple[pa.Array, np.ndarray]:
    """Put the parsed arrays' elements between those of the split ones."""
    flat = [element for value in parsed if value is not None for element in value]
    sizes = np.array([len(value) if value is not None else 0 for value in parsed])
    merged = counts.copy()
    merged[rows] = sizes
    owner = np.repeat(np.arange(len(counts)), merged)
    from_parser = np.isin(owner, rows)
    index = np.empty(len(owner), np.int64)
    index[~from_parser] = np.arange(len(elements))
    index[from_parser] = len(elements) + np.arange(len(flat))
    return pa.concat_arrays([elements, pa.array(flat, pa.string())]).take(pa.array(index)), merged


def parse_array(text: str) -> list[str | None] | None:
    """The elements of one array, None if it has several dimensions or a lower bound of its own.

    Raises:
        ProtocolError: the text is not an array.
    """
    if text.startswith("["):
        return None
    if len(text) < 2 or text[0] != "{" or text[-1] != "}":
        raise ProtocolError("a value is not an array")
    if text[1:2] == "{":
        return None
    elements: list[str | None] = []
    at, end = 1, len(text) - 1
    while at < end:
        element, at = _quoted(text, at + 1) if text[at] == '"' else _plain(text, at, end)
        elements.append(element)
        if at < end and text[at] != ",":
            raise ProtocolError("a value is not an array")
        at += 1
    return elements


def _plain(text: str, at: int, end: int) -> tuple[str | None, int]:
    """An element without quotes, and the position behind it."""
    stop = text.find(",", at, end)
    stop = end if stop < 0 else stop
    element = text[at:stop]
    return (None if element == "NULL" else element), stop


def _quoted(text: str, at: int) -> tuple[str, int]:
    """An element in quotes, and the position behind the closing one."""
    parts: list[str] = []
    begin = at
    while at < len(text):
        if text[at] == "\\":
            parts.append(text[begin:at])
            begin = at + 1
            at += 2
        elif text[at] == '"':
            parts.append(text[begin:at])
            return "".join(parts), at + 1
        else:
            at += 1
    raise ProtocolError("a value is not an array")
