"""The bytes of a raw object as one line for each record."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from smartstream.errors import RawCorrupt

OBJECT_BYTES_MAX = 160 << 20
"""Of JSON, unpacked.  Firehose is told to write at most 64 MB; the rest is room."""

SLICE_BYTES = 4 << 20
"""Of JSON, held at once: some thousand records, as many as are parsed together."""

_GZIP = b"\x1f\x8b"
_NEWLINE, _BRACE = ord("\n"), ord("{")
_RECORD = re.compile(r'\{\s*"(?:data|control|metadata)"')
_ONCE = b'"record-type"'
_BETWEEN = (b"}{", b"} {", b"}\t{")
_PIECE_BYTES = 1 << 20
_BLANK = re.compile(r"\s*")


@dataclass(frozen=True, slots=True)
class Lines:
    """Some records of one object.

    Attributes:
        first: number of the first one in the object.
        texts: (n,) binary, each one record and a line break, in the object's order.
    """

    first: int
    texts: pa.BinaryArray


def lines_of(key: str, data: bytes) -> Iterator[Lines]:
    """Yield the records of an object, each on one line, as many at a time as SLICE_BYTES hold.

    Where each line looks like an object they are taken as they are.  Otherwise records stand
    one behind the other, or over several lines, and their ends have to be looked for; what is
    left of the object is then held at once.

    Raises:
        RawCorrupt: the object is not a whole gzip file, or larger than one of Firehose can be.
    """
    # With a line break at the end, the last line is whole like the others.
    pieces, rest, first = chain(unpacked(key, data), [b"\n"]), b"", 0
    for piece in pieces:
        text = rest + piece
        end = text.rfind(b"\n") + 1
        text, rest = text[:end], text[end:]
        lines = _split(text)
        if len(lines) and not _is_object_each(lines):
            lines, rest = _split(_one_a_line(b"".join([text, rest, *pieces]))), b""
        elif _may_hold_several(text, lines):
            lines = _several_a_line(lines)
        if len(lines):
            yield Lines(first, lines)
        first += len(lines)


def unpacked(key: str, data: bytes) -> Iterator[bytes]:
    """Yield the object's text in pieces of at most SLICE_BYTES; gzip is told by its first bytes.

    Raises:
        RawCorrupt: see ``lines_of``.
    """
    size = 0
    for piece in _gunzipped(key, data) if data.startswith(_GZIP) else _cut(data):
        size += len(piece)
        if size > OBJECT_BYTES_MAX:
            raise RawCorrupt(f"{key} has more than {OBJECT_BYTES_MAX:,} bytes")
        yield piece


def _cut(data: bytes) -> Iterator[bytes]:
    """Pieces of a text."""
    for first in range(0, len(data), SLICE_BYTES):
        yield data[first : first + SLICE_BYTES]


def _gunzipped(key: str, data: bytes) -> Iterator[bytes]:
    """Pieces of the gzip files that lie one behind the other."""
    rest = data
    while rest.startswith(_GZIP):
        decoder = zlib.decompressobj(wbits=31)
        while not decoder.eof:
            try:
                piece = decoder.decompress(rest, SLICE_BYTES)
            except zlib.error as error:
                raise RawCorrupt(f"{key} is not a whole gzip file") from error
            rest = decoder.unconsumed_tail
            if not piece and not decoder.eof:
                raise RawCorrupt(f"{key} is not a whole gzip file")
            yield piece
        rest = decoder.unused_data
    if rest.strip(b"\0"):
        raise RawCorrupt(f"{key} is not a whole gzip file")


def _split(text: bytes) -> pa.BinaryArray:
    """The lines that are not blank, with their line breaks, without a copy of the text."""
    if not text.endswith(b"\n"):
        text += b"\n"
    codes = np.frombuffer(text, np.uint8)
    pieces = range(0, len(codes), _PIECE_BYTES)
    ends = [np.flatnonzero(codes[first : first + _PIECE_BYTES] == _NEWLINE) + first + 1 for first in pieces]
    offsets = np.concatenate([[0], *ends]).astype(np.int32)
    lines = pa.BinaryArray.from_buffers(
        pa.binary(), len(offsets) - 1, [None, pa.py_buffer(offsets), pa.py_buffer(text)]
    )
    if (codes[offsets[:-1]] != _BRACE).any():
        blank = np.array([not line.strip() for line in lines.to_pylist()], np.bool_)
        return lines.filter(pa.array(~blank)) if blank.any() else lines
    return lines


def _is_object_each(lines: pa.BinaryArray) -> bool:
    """Whether each line begins with a brace and ends with one."""
    begins = pc.starts_with(lines, b"{")
    ends = pc.or_(pc.ends_with(lines, b"}\n"), pc.ends_with(lines, b"}\r\n"))
    return bool(pc.all(pc.and_(begins, ends)).as_py())


def _may_hold_several(text: bytes, lines: pa.BinaryArray) -> bool:
    """Whether a line may have more than one record.

    Each record has the field ``record-type`` once, and a quote within a text is escaped; so that
    one long word is looked for, and the short ones, which takes longer, only where it says so.
    """
    return text.count(_ONCE) != len(lines) and any(between in text for between in _BETWEEN)


def _several_a_line(lines: pa.BinaryArray) -> pa.BinaryArray:
    """Take those lines apart that may hold several records; a text may look like that, too."""
    suspects = pc.match_substring_regex(lines, rb"\}\s*\{").to_numpy(zero_copy_only=False)
    pieces = [
        _one_a_line(line) + b"\n" if suspect else line
        for line, suspect in zip(lines.to_pylist(), suspects, strict=True)
    ]
    return _split(b"".join(pieces))


def _one_a_line(text: bytes) -> bytes:
    """The same records with a line break behind each, and none within.

    What is not JSON stays, up to where the next line or record begins: it is told later that
    it is none.  Bytes that are not UTF-8 stay as they are.
    """
    decoder, whole = json.JSONDecoder(), text.decode("utf-8", "surrogateescape")
    pieces, at = [], _blank_end(whole, 0)
    while at < len(whole):
        try:
            _, end = decoder.raw_decode(whole, at)
        except (ValueError, RecursionError):
            end = _next_start(whole, at)
        pieces.append(whole[at:end].replace("\r", " ").replace("\n", " ").strip())
        at = _blank_end(whole, end)
    return "\n".join(pieces).encode("utf-8", "surrogateescape")


def _blank_end(text: str, at: int) -> int:
    """Where the white space that begins at ``at`` ends."""
    found = _BLANK.match(text, at)
    return found.end() if found else at


def _next_start(text: str, at: int) -> int:
    """Where after ``at`` something begins that may be read again."""
    newline = text.find("\n", at)
    record = _RECORD.search(text, at + 1, newline if newline >= 0 else len(text))
    if record:
        return record.start()
    return newline if newline >= 0 else len(text)
