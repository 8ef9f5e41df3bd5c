"""bytea, in both of its text forms.

Source: PostgreSQL manual, "Binary Data Types".
"""

from __future__ import annotations

import binascii
import re

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from smartstream.capture.values.typed import Cast, holds
from smartstream.errors import ProtocolError
from smartstream.schema import PgType

_LARGE_BYTES = 64 << 10
_ESCAPED = re.compile(rb"\\(?:(\\)|([0-3][0-7]{2}))|([^\\])", re.DOTALL)


def byteas(text: pa.Array, type_: PgType) -> Cast:
    """Bytes in hexadecimal form (``\\x00ff``); in escape form, one by one."""
    is_hex = pc.starts_with(text, "\\x")
    if holds(is_hex):
        return Cast(_from_hex(text))
    others = [unescape(value) for value in text.filter(pc.invert(is_hex)).cast(pa.binary()).to_pylist()]
    values = _from_hex(pc.if_else(is_hex, text, pa.scalar(None, pa.string())))
    mask = pc.fill_null(pc.invert(is_hex), False)
    return Cast(pc.replace_with_mask(values, mask, pa.array(others, pa.binary())))


def _from_hex(text: pa.Array) -> pa.Array:
    """The bytes of ``\\x…`` texts: all digits stand in one buffer and are decoded at once."""
    if text.nbytes > _LARGE_BYTES * len(text):
        return _from_large_hex(text)
    digits = pc.utf8_slice_codeunits(text, 2)  # compact, nulls are empty
    validity, offsets_buffer, data = digits.buffers()
    offsets = np.frombuffer(offsets_buffer, np.int32)[digits.offset : digits.offset + len(digits) + 1]
    if not len(offsets) or not data:
        return pa.array([None if value is None else b"" for value in digits.to_pylist()], pa.binary())
    if (np.diff(offsets) % 2).any():
        raise ProtocolError("a bytea has an odd number of digits")
    decoded = _unhexlified(memoryview(data)[offsets[0] : offsets[-1]])
    ends = pa.py_buffer((offsets - offsets[0]) // 2)
    return pa.Array.from_buffers(pa.binary(), len(digits), [validity, ends, pa.py_buffer(decoded)], offset=0)


def _from_large_hex(text: pa.Array) -> pa.Array:
    """The same value by value, without a copy of the digits, which may be hundreds of MB."""
    digits = memoryview(text.buffers()[2])
    starts = np.frombuffer(text.buffers()[1], np.int32)[text.offset : text.offset + len(text) + 1].tolist()
    present = text.is_valid()
    parts = [
        _unhexlified(digits[start + 2 : end]) if here else b""
        for start, end, here in zip(starts, starts[1:], present.to_pylist(), strict=False)
    ]
    ends = pa.py_buffer(np.cumsum([0, *map(len, parts)]).astype(np.int32))
    data = pa.py_buffer(parts[0] if len(parts) == 1 else b"".join(parts))
    return pa.Array.from_buffers(pa.binary(), len(parts), [present.buffers()[1], ends, data])


def _unhexlified(digits: memoryview) -> bytes:
    """The bytes that these digits stand for."""
    if len(digits) % 2:
        raise ProtocolError("a bytea has an odd number of digits")
    try:
        return binascii.unhexlify(digits)
    except binascii.Error as error:
        raise ProtocolError("a bytea holds something else than hexadecimal digits") from error


def unescape(text: bytes) -> bytes:
    """The bytes that ``bytea_output = escape`` prints as ``text``.

    Raises:
        ProtocolError: a backslash stands alone.
    """
    parts: list[bytes] = []
    end = 0
    for match in _ESCAPED.finditer(text):
        if match.start() != end:
            break
        end = match.end()
        backslash, octal, plain = match.groups()
        parts.append(bytes([int(octal, 8)]) if octal else backslash or plain)
    if end != len(text):
        raise ProtocolError("a bytea is neither in hexadecimal nor in escape form")
    return b"".join(parts)
