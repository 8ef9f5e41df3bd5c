"""Tuples of many rows, walked a column at a time.

All functions work on one buffer of bytes and int64 positions into it; they trust
nothing: a length or kind that does not fit raises ProtocolError.

Source: PostgreSQL manual, "Logical Replication Message Formats", TupleData.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from smartstream.errors import ProtocolError

Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

_TEXT, _NULL, _UNCHANGED, _BINARY = (ord(c) for c in "tnub")
_BUFFER_BYTES_MAX = (1 << 31) - 1


@dataclass(frozen=True, slots=True)
class TextColumn:
    """One column of many rows, in PostgreSQL's text form.

    Attributes:
        values: (n,) binary; null where the value is NULL, not sent or unchanged.
        unchanged: (n,) where a TOASTed value was not sent; None when nowhere.
    """

    values: pa.Array
    unchanged: Mask | None = None


class Bytes:
    """A buffer, and big-endian numbers at any position of it."""

    def __init__(self, buffer: pa.Buffer) -> None:
        if buffer.size > _BUFFER_BYTES_MAX:
            raise ProtocolError(f"a block of {buffer.size} bytes is larger than 2 GiB")
        self.buffer = buffer
        self.data = np.frombuffer(buffer, np.uint8)

    @cached_property
    def _two(self) -> npt.NDArray[Any]:
        return self._overlapping("<u2")

    @cached_property
    def _four(self) -> npt.NDArray[Any]:
        return self._overlapping("<u4")

    @cached_property
    def _eight(self) -> npt.NDArray[Any]:
        return self._overlapping("<u8")

    def _overlapping(self, dtype: str) -> npt.NDArray[Any]:
        """A view in which element i is the number that begins at byte i.

        Little-endian, to be swapped after gathering: NumPy gathers native numbers faster.
        """
        width = np.dtype(dtype).itemsize
        count = max(0, len(self.data) - width + 1)
        return np.ndarray((count,), dtype, buffer=self.data, strides=(1,))

    def uint16(self, positions: Ints) -> Ints:
        """Two-byte numbers at positions within the buffer."""
        return _swapped(self._two[positions])

    def uint32(self, positions: Ints) -> Ints:
        """Four-byte numbers at positions within the buffer."""
        return _swapped(self._four[positions])

    def int64(self, positions: Ints) -> Ints:
        """Eight-byte numbers at positions within the buffer."""
        return _swapped(self._eight[positions])

    def last(self, width: int) -> int:
        """The last position at which ``width`` bytes begin."""
        return len(self.data) - width


def _swapped(numbers: npt.NDArray[Any]) -> Ints:
    """Big-endian numbers that were read as little-endian."""
    swapped: Ints = numbers.byteswap().astype(np.int64)
    return swapped


@dataclass(frozen=True, slots=True)
class _Spans:
    """Where one column's values lie."""

    start: Ints
    end: Ints
    sent: Mask
    unchanged: Mask


def walk(data: Bytes, position: Ints, limit: Ints, column_count: int) -> tuple[list[_Spans], Ints]:
    """Walk the tuples that begin at ``position``; none may pass its ``limit``.

    Returns:
        the spans of each column, and the positions behind the tuples.
    Raises:
        ProtocolError: a tuple doesn't hold what it must.
    """
    _within(position + 2, limit)
    if len(position) and (data.uint16(position) != column_count).any():
        raise ProtocolError(f"a row does not have the {column_count} columns of its relation")
    position = position + 2
    spans = []
    for _ in range(column_count):
        span = _column(data, position, limit)
        spans.append(span)
        position = span.end
    return spans, position


def _column(data: Bytes, position: Ints, limit: Ints) -> _Spans:
    """One column of all tuples."""
    _within(position + 1, limit)
    kind = data.data[position]
    sent = kind == _TEXT
    if sent.all():
        _within(position + 5, limit)
        start = position + 5
        end = start + data.uint32(position + 1)
        _within(end, limit)
        return _Spans(start, end, sent, np.zeros(len(sent), np.bool_))
    unchanged = kind == _UNCHANGED
    _check_kinds(kind, sent | unchanged | (kind == _NULL))
    _within(np.where(sent, position + 5, position), limit)
    length = (
        data.uint32(np.minimum(position + 1, data.last(4))) if data.last(4) >= 0 else np.zeros_like(position)
    )
    start = position + np.where(sent, 5, 1)
    end = start + np.where(sent, length, 0)
    _within(end, limit)
    return _Spans(start, end, sent, unchanged)


def _check_kinds(kind: npt.NDArray[np.uint8], known: Mask) -> None:
    """Every value is sent, null or unchanged."""
    if not known.all():
        odd = int(kind[np.flatnonzero(~known)[0]])
        what = "in binary form, which was not asked for" if odd == _BINARY else f"of unknown kind {odd:#04x}"
        raise ProtocolError(f"a row holds a value {what}")


def _within(position: Ints, limit: Ints) -> None:
    """No position passes its limit."""
    if (position > limit).any():
        raise ProtocolError("a row is longer than its message")


def gather(data: Bytes, spans: _Spans, rows: Ints | None = None, count: int | None = None) -> TextColumn:
    """Lay a column's values into an array.

    Args:
        rows, count: the array has ``count`` rows and the spans belong to ``rows`` of them
            (ascending); without them, to all.
    """
    n = len(spans.start)
    if n == 0:
        return TextColumn(pa.nulls(count or 0, pa.binary()))
    # Starts and ends in turn are the offsets of an array whose even slots are our values.
    offsets = np.empty(2 * n, np.int32)
    offsets[0::2], offsets[1::2] = spans.start, spans.end
    slots = pa.Array.from_buffers(pa.binary(), 2 * n - 1, [None, pa.py_buffer(offsets), data.buffer])
    if rows is None:
        index = pa.array(np.arange(0, 2 * n, 2), mask=None if spans.sent.all() else ~spans.sent)
        unchanged = spans.unchanged if spans.unchanged.any() else None
        return TextColumn(slots.take(index), unchanged)
    assert count is not None
    full, absent = np.zeros(count, np.int64), np.ones(count, np.bool_)
    full[rows], absent[rows] = np.arange(0, 2 * n, 2), ~spans.sent
    return TextColumn(slots.take(pa.array(full, mask=absent)))
