"""pgoutput messages written by hand, for tests of the decoder."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from smartstream.capture.pgoutput import Messages

UNCHANGED = object()
Row = Sequence[object]


def begin(lsn: int, xid: int = 7, ts: int = 0) -> bytes:
    return b"B" + struct.pack("!qqi", lsn, ts, xid)


def commit(lsn: int, end: int | None = None) -> bytes:
    return b"C\0" + struct.pack("!qqq", lsn, end or lsn + 8, 0)


def relation(oid: int, name: str, columns: Sequence[tuple[str, int, bool]], identity: str = "d") -> bytes:
    body = b"R" + struct.pack("!I", oid) + b"public\0" + name.encode() + b"\0" + identity.encode()
    body += struct.pack("!H", len(columns))
    for column, type_oid, is_key in columns:
        body += bytes([is_key]) + column.encode() + b"\0" + struct.pack("!Ii", type_oid, -1)
    return body


def tuple_data(row: Row) -> bytes:
    body = struct.pack("!H", len(row))
    for value in row:
        if value is None:
            body += b"n"
        elif value is UNCHANGED:
            body += b"u"
        else:
            assert isinstance(value, str)
            body += b"t" + struct.pack("!I", len(value.encode())) + value.encode()
    return body


def insert(oid: int, row: Row) -> bytes:
    return b"I" + struct.pack("!I", oid) + b"N" + tuple_data(row)


def update(oid: int, row: Row, old: Row | None = None, kind: bytes = b"K") -> bytes:
    before = b"" if old is None else kind + tuple_data(old)
    return b"U" + struct.pack("!I", oid) + before + b"N" + tuple_data(row)


def delete(oid: int, old: Row, kind: bytes = b"K") -> bytes:
    return b"D" + struct.pack("!I", oid) + kind + tuple_data(old)


def truncate(*oids: int) -> bytes:
    return b"T" + struct.pack("!IB", len(oids), 0) + b"".join(struct.pack("!I", oid) for oid in oids)


def messages(parts: Sequence[bytes]) -> Messages:
    ends = np.cumsum([len(part) for part in parts]).astype(np.int64)
    starts = ends - np.array([len(part) for part in parts], np.int64)
    return Messages(pa.py_buffer(b"".join(parts)), starts, ends)
