"""The bytes of a raw object as one line for each record."""

from __future__ import annotations

import json
import re
import zlib
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from smartstream.errors import RawCorrupt

OBJECT_BYTES_MAX = 160 << 20
"""Of JSON, unpacked.  Firehose is told to write at most 64 MB; the rest is room."""

_GZIP = b"\x1f\x8b"
_NEWLINE = ord("\n")
_RECORD = re.compile(r'\{\s*"(?:data|control|metadata)"')
_BETWEEN = (b"}{", b"} {", b"}\t{")
_PIECE_BYTES = 1 << 20
_BLANK = re.compile(r"\s*")


@dataclass(frozen=True, slots=True)
class Lines:
    """The records of one object.

    Attributes:
        key: of the object.
        texts: (n,) binary, each one record and a line break, in the object's order.
    """

    key: str
    texts: pa.BinaryArray


def unpacked(key: str, data: bytes) -> bytes:
    """The object's text; gzip is told by its first bytes.

    Raises:
        RawCorrupt: it is not a whole gzip file, or larger than an object of Firehose can be.
    """
    parts, size, rest = [], 0, data
    while rest.startswith(_GZIP):
        decoder = zlib.decompressobj(wbits=31)
        try:
            part = decoder.decompress(rest, OBJECT_BYTES_MAX + 1 - size)
        except zlib.error as error:
            raise RawCorrupt(f"{key} is not a whole gzip file") from error
        size += len(part)
        if size > OBJECT_BYTES_MAX:
            raise RawCorrupt(f"{key} has more than {OBJECT_BYTES_MAX:,} bytes")
        if not decoder.eof:
            raise RawCorrupt(f"{key} is not a whole gzip file")
        parts.append(part)
        rest = decoder.unused_data
    if parts and rest.strip(b"\0"):
        raise RawCorrupt(f"{key} is not a whole gzip file")
    found = b"".join(parts) if parts else data
    if len(found) > OBJECT_BYTES_MAX:
        raise RawCorrupt(f"{key} has more than {OBJECT_BYTES_MAX:,} bytes")
    return found


def lines_of(key: str, data: bytes) -> Lines:
    """Return the records of an object, each on one line.

    Where each line looks like an object they are taken as they are.  Otherwise records stand
    one behind the other, or over several lines, and their ends have to be looked for.

    Raises:
        RawCorrupt: see ``unpacked``.
    """
    text = unpacked(key, data)
    lines = _split(text)
    if len(lines) and not _is_object_each(lines):
        lines = _split(_one_a_line(text))
    elif any(between in text for between in _BETWEEN):
        lines = _several_a_line(lines)
    return Lines(key, lines)


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
    if (np.diff(offsets) <= 2).any() or b"\n " in text:
        blank = np.array([not line.strip() for line in lines.to_pylist()], np.bool_)
        return lines.filter(pa.array(~blank)) if blank.any() else lines
    return lines


def _is_object_each(lines: pa.BinaryArray) -> bool:
    """Whether each line begins with a brace and ends with one."""
    begins = pc.starts_with(lines, b"{")
    ends = pc.or_(pc.ends_with(lines, b"}\n"), pc.ends_with(lines, b"}\r\n"))
    return bool(pc.all(pc.and_(begins, ends)).as_py())


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
