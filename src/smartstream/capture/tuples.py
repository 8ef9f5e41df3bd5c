"""Tuples of many rows, walked a column at a time.

All functions work on one buffer of bytes and int64 positions into it.  Positions
only grow while a tuple is walked, so a walk that ends exactly where its message
ends has read nothing outside of it: ``find_values`` makes that one check at the end,
and reads that go astray before it are harmless (``Bytes.words``).

Source: PostgreSQL manual, "Logical Replication Message Formats", TupleData.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from smartstream.lsn import format_lsn

Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
Words = npt.NDArray[np.uint64]
Kinds = npt.NDArray[np.uint8]

_UPDATE, _DELETE = b"UD"
_NEW, _OLD, _KEY = b"NOK"
_NAMES = dict(zip(b"IUDT", ("Insert", "Update", "Delete", "Truncate"), strict=True))  # of row changes
_TEXT, _NULL, _UNCHANGED, _BINARY = b"tnub"
_WORD_BYTES = 8


class BadTuple(Exception):
    """A tuple that is not one; the decoder knows where in the stream it stands.

    Attributes:
        row: which of the rows that were walked.
    """

    def __init__(self, row: int, what: str) -> None:
        super().__init__(what)
        self.row = row


@dataclass(frozen=True, slots=True)
class TextColumn:
    """One column of many rows, in PostgreSQL's text form.

    Attributes:
        values: (n,) binary; null where the value is NULL, not sent or unchanged.
        unchanged: (n,) where a TOASTed value was not sent; None when nowhere.
    """

    values: pa.Array
    unchanged: Mask | None = None


@dataclass(frozen=True, slots=True)
class Rows:
    """Row changes: for each its message, and its place in the order of changes.

    Attributes:
        index: (n,) of the message among those fed, ascending.
        kind: (n,) uint8, the message's first byte; the others are (n,) int64.
    """

    index: Ints
    kind: Kinds
    lsn: Ints
    ordinal: Ints
    ts: Ints
    xid: Ints

    def pick(self, rows: Mask | Ints | slice) -> Rows:
        """Some of them, in the same order."""
        return Rows(
            self.index[rows],
            self.kind[rows],
            self.lsn[rows],
            self.ordinal[rows],
            self.ts[rows],
            self.xid[rows],
        )

    def between(self, begin: int, end: int) -> Rows:
        """Those of messages ``begin`` to ``end``."""
        return self.pick(slice(*np.searchsorted(self.index, [begin, end]).tolist()))

    def name(self, row: int) -> str:
        """A row's message, for errors."""
        return f"message {_NAMES[int(self.kind[row])]} of the transaction at {format_lsn(int(self.lsn[row]))}"


class Bytes:
    """A buffer, and big-endian numbers at any position of it."""

    def __init__(self, buffer: pa.Buffer) -> None:
        self.buffer = buffer
        self.data = np.frombuffer(buffer, np.uint8)
        padded = self.data
        if len(padded) < _WORD_BYTES:
            padded = np.concatenate([padded, np.zeros(_WORD_BYTES, np.uint8)])
        self._last = len(padded) - _WORD_BYTES
        # Element i is the 8 bytes that begin at byte i, the first one lowest.
        self._words: Words = np.ndarray((self._last + 1,), "<u8", buffer=padded, strides=(1,))

    def words(self, positions: Ints) -> Words:
        """The 8 bytes at each position >= 0, the first one lowest; beyond the buffer, anything."""
        if not len(positions) or positions.max() <= self._last:
            return self._words[positions]
        inside = np.minimum(positions, self._last)
        missing = np.minimum(positions - inside, _WORD_BYTES - 1).astype(np.uint64)
        return self._words[inside] >> (missing * np.uint64(8))

    def uint16(self, positions: Ints) -> Ints:
        """Two-byte numbers."""
        return self.words(positions).astype(np.uint16).byteswap().astype(np.int64)

    def uint32(self, positions: Ints) -> Ints:
        """Four-byte numbers."""
        return self.words(positions).astype(np.uint32).byteswap().astype(np.int64)

    def int64(self, positions: Ints) -> Ints:
        """Eight-byte numbers."""
        return self.words(positions).byteswap().astype(np.int64)


@dataclass(frozen=True, slots=True)
class Spans:
    """Where the values of one column lie in the buffer.

    Attributes:
        start, end: (n,); equal where there is no value.
        sent: (n,) where there is one; None: everywhere.
        unchanged: (n,) where a TOASTed one was left out; None: nowhere.
    """

    start: Ints
    end: Ints
    sent: Mask | None = None
    unchanged: Mask | None = None


def walk(data: Bytes, position: Ints, column_count: int) -> tuple[list[Spans], Ints]:
    """Walk the tuples that begin at ``position``.

    Does not check that they end within their messages: see the module's first lines.

    Returns:
        the spans of each column, and (n,) the positions behind the tuples.
    Raises:
        BadTuple: a tuple has another number of columns, or a value of unknown kind.
    """
    counts = data.uint16(position)
    if (counts != column_count).any():
        row = int(np.flatnonzero(counts != column_count)[0])
        raise BadTuple(row, f"it has {counts[row]} values, not the {column_count} columns of its relation")
    position = position + 2
    spans = []
    for _ in range(column_count):
        span = _column(data, position)
        spans.append(span)
        position = span.end
    return spans, position


def _column(data: Bytes, position: Ints) -> Spans:
    """One column of all tuples."""
    words = data.words(position)  # the kind, and behind it the length of a sent value
    kind = words.astype(np.uint8)
    length = (words >> np.uint64(8)).astype(np.uint32).byteswap().astype(np.int64)
    sent = kind == _TEXT
    if sent.all():
        start = position + 5
        return Spans(start, start + length)
    unchanged = kind == _UNCHANGED
    known = sent | unchanged | (kind == _NULL)
    if not known.all():
        row = int(np.flatnonzero(~known)[0])
        binary = "in binary form, which was not asked for"
        what = binary if kind[row] == _BINARY else f"of unknown kind {int(kind[row]):#04x}"
        raise BadTuple(row, f"it holds a value {what}")
    start = position + np.where(sent, 5, 1)
    return Spans(start, start + length * sent, sent, unchanged if unchanged.any() else None)


def find_values(
    data: Bytes, column_count: int, kind: Kinds, starts: Ints, ends: Ints
) -> tuple[list[Spans], list[Spans], Ints]:
    """Find the values in Insert, Update and Delete messages of one relation.

    Args:
        kind, starts, ends: (n,) the messages, of 8 bytes or more each, within the buffer.
    Returns:
        for each column the spans of the (n,) rows, those of the (n_old,) old tuples that
        updates bring, and (n_old,) which rows these belong to.
    Raises:
        BadTuple: a message is damaged.
    """
    marker = data.data[starts + 5]
    before = (marker == _KEY) | (marker == _OLD)
    known = np.where(kind == _DELETE, before, (marker == _NEW) | (before & (kind == _UPDATE)))
    _check(known, "it has an unknown tuple marker")
    position = starts + 6
    with_old = np.flatnonzero(before & (kind == _UPDATE))
    old_spans: list[Spans] = []
    if len(with_old):
        old_spans, behind = _old_tuples(data, position[with_old], ends[with_old], column_count, with_old)
        position[with_old] = behind
    spans, behind = walk(data, position, column_count)
    _check(behind <= ends, "its row is longer than its message")
    _check(behind == ends, "its row is followed by other bytes")
    if len(with_old):
        spans = [fill_unchanged(new, old, with_old) for new, old in zip(spans, old_spans, strict=True)]
    return spans, old_spans, with_old


def _old_tuples(
    data: Bytes, position: Ints, ends: Ints, column_count: int, rows: Ints
) -> tuple[list[Spans], Ints]:
    """Walk the old tuples of updates; return the positions of the new ones too."""
    try:
        spans, behind = walk(data, position, column_count)
    except BadTuple as bad:
        raise BadTuple(int(rows[bad.row]), f"its old row: {bad}") from None
    has_new = behind < ends
    has_new[has_new] = data.data[behind[has_new]] == _NEW
    _check(has_new, "it has no new row", rows)
    return spans, behind + 1


def _check(holds: Mask, what: str, rows: Ints | None = None) -> None:
    """Raise BadTuple for the first row that doesn't hold; ``rows`` numbers them."""
    if not holds.all():
        row = int(np.flatnonzero(~holds)[0])
        raise BadTuple(row if rows is None else int(rows[row]), what)


def fill_unchanged(new: Spans, old: Spans, rows: Ints) -> Spans:
    """Take values that the new tuples leave out from the old tuples, where those have them.

    Args:
        rows: (n_old,) which of the new tuples' rows the old ones belong to.
    """
    if new.unchanged is None:
        return new
    assert new.sent is not None
    found = new.unchanged[rows]
    if old.sent is not None:
        found = found & old.sent
    if not found.any():
        return new
    start, end = new.start.copy(), new.end.copy()
    sent, unchanged = new.sent.copy(), new.unchanged.copy()
    hits = rows[found]
    start[hits], end[hits] = old.start[found], old.end[found]
    sent[hits], unchanged[hits] = True, False
    return Spans(start, end, sent, unchanged if unchanged.any() else None)


def gather(data: Bytes, spans: Spans) -> TextColumn:
    """Lay the values into an array of their own; their spans must lie within the buffer, in order.

    A single value that is nearly all of the buffer stays where it is: it may be very large.
    """
    if len(spans.start) == 1 and 2 * int(spans.end[0] - spans.start[0]) > len(data.data):
        return TextColumn(_slots(data, spans), spans.unchanged)
    index = np.arange(0, 2 * len(spans.start), 2)
    absent = None if spans.sent is None else ~spans.sent
    return TextColumn(_slots(data, spans).take(pa.array(index, mask=absent)), spans.unchanged)


def scatter(data: Bytes, spans: Spans, rows: Ints, count: int) -> pa.Array:
    """Like ``gather``, into an array of ``count`` rows of which the spans belong to ``rows``."""
    index, absent = np.zeros(count, np.int64), np.ones(count, np.bool_)
    index[rows] = np.arange(0, 2 * len(rows), 2)
    absent[rows] = False if spans.sent is None else ~spans.sent
    return _slots(data, spans).take(pa.array(index, mask=absent))


def _slots(data: Bytes, spans: Spans) -> pa.Array:
    """An array over the buffer itself whose even slots are the values, and the odd ones what is between."""
    n = len(spans.start)
    offsets = np.empty(2 * n, np.int32)
    offsets[0::2], offsets[1::2] = spans.start, spans.end
    return pa.Array.from_buffers(pa.binary(), 2 * n - 1, [None, pa.py_buffer(offsets), data.buffer])
