"""Any bytes give rows or ProtocolError, and the rows that a byte-by-byte decoder gives."""

from __future__ import annotations

import random
import struct
from collections.abc import Sequence
from typing import Any

import pytest

from smartstream.capture.pgoutput import Parser, RowBlock
from smartstream.errors import ProtocolError
from tests.pgoutput_encoder import (
    UNCHANGED,
    Row,
    begin,
    commit,
    delete,
    insert,
    messages,
    relation,
    truncate,
    update,
)

STREAM = [
    relation(1, "a", [("id", 23, True), ("x", 25, False)]),
    begin(10),
    insert(1, ["1", "hello"]),
    update(1, ["1", None], old=["2", None]),
    truncate(1),
    delete(1, ["1", None]),
    commit(10),
]


@pytest.mark.parametrize("seed", range(400))
def test_damage_anywhere_is_rows_or_a_protocol_error(seed: int) -> None:
    rng = random.Random(seed)
    stream = [bytearray(part) for part in STREAM]
    for _ in range(rng.randint(1, 4)):
        part = rng.choice(stream)
        if rng.random() < 0.3 and len(part) > 1:
            del part[rng.randrange(len(part)) :]
        elif part:
            part[rng.randrange(len(part))] = rng.choice([0, 1, 255, rng.randrange(256), *b"ntubKON"])
    if rng.random() < 0.2:
        rng.shuffle(stream)
    parser = Parser()
    try:
        parser.feed(messages([bytes(part) for part in stream if part]))
    except ProtocolError:
        return  # refused, with a reason: that is right


@pytest.mark.parametrize("seed", range(100))
def test_noise_is_refused(seed: int) -> None:
    rng = random.Random(seed)
    parts = [rng.choice(b"BCRIUDT").to_bytes(1, "big") + rng.randbytes(rng.randint(0, 40)) for _ in range(4)]
    with pytest.raises(ProtocolError):
        Parser().feed(messages(parts))


# A decoder that reads one byte after the other: slow, plain, and written apart from the product.

LEFT_OUT = "(unchanged)"


class Refused(Exception):
    """What the reference says to streams that are not pgoutput."""


class _Reader:
    def __init__(self, body: bytes) -> None:
        self.body, self.at = body, 0

    def take(self, count: int) -> bytes:
        part = self.body[self.at : self.at + count]
        if len(part) != count:
            raise Refused
        self.at += count
        return part

    def number(self, form: str) -> int:
        return int(struct.unpack("!" + form, self.take(struct.calcsize("!" + form)))[0])

    def text(self) -> str:
        end = self.body.find(b"\0", self.at)
        if end < 0:
            raise Refused
        try:
            return self.take(end + 1 - self.at)[:-1].decode()
        except UnicodeDecodeError:
            raise Refused from None

    def row(self, width: int) -> list[Any]:
        if self.number("H") != width:
            raise Refused
        values: list[Any] = []
        for _ in range(width):
            kind = self.take(1)
            if kind == b"t":
                values.append(self.take(self.number("I")))
            elif kind in (b"n", b"u"):
                values.append(None if kind == b"n" else LEFT_OUT)
            else:
                raise Refused
        return values


def reference_decode(stream: Sequence[bytes]) -> list[tuple[Any, ...]]:
    """(table, op, LSN, ordinal, values, old key values or None) of each change, in stream order."""
    relations: dict[int, tuple[str, list[bool]]] = {}
    found: list[tuple[Any, ...]] = []
    lsn: int | None = None
    ordinal = 0
    for body in stream:
        reader = _Reader(body)
        kind = reader.take(1)
        if kind == b"B":
            begun, ts, _ = reader.number("q"), reader.number("q"), reader.number("i")
            if lsn is not None or begun < 0 or abs(ts) >= 1 << 62:
                raise Refused
            lsn, ordinal = begun, 0
        elif kind == b"C":
            reader.take(1)
            if reader.number("q") != lsn or reader.number("q") < (lsn or 0):
                raise Refused
            reader.take(8)
            lsn = None
        elif kind == b"R":
            oid, columns = _relation(reader)
            relations[oid] = columns
        elif kind in (b"I", b"U", b"D", b"T"):
            if lsn is None:
                raise Refused
            found += [
                (table, op, lsn, ordinal, *rest) for table, op, *rest in _change(kind, reader, relations)
            ]
            ordinal += 1
        elif kind in (b"O", b"Y", b"M"):
            reader.take({b"O": 9, b"Y": 6, b"M": 14}[kind])
            reader.at = len(body)
        else:
            raise Refused
        if reader.at != len(body):
            raise Refused
    return found


def _relation(reader: _Reader) -> tuple[int, tuple[str, list[bool]]]:
    oid, schema, name = reader.number("I"), reader.text(), reader.text()
    if reader.take(1) not in (b"d", b"n", b"f", b"i"):
        raise Refused
    keys = []
    for _ in range(reader.number("H")):
        keys.append(bool(reader.number("B") & 1))
        reader.text()
        reader.take(8)
    return oid, (f"{schema or 'pg_catalog'}.{name}", keys)


def _change(
    kind: bytes, reader: _Reader, relations: dict[int, tuple[str, list[bool]]]
) -> list[tuple[Any, ...]]:
    if kind == b"T":
        count, _ = reader.number("I"), reader.number("B")
        if len(reader.body) != 6 + 4 * count:
            raise Refused
        oids = [reader.number("I") for _ in range(count)]
        if not set(oids) <= relations.keys():
            raise Refused
        return [(relations[o][0], "t", [None] * len(relations[o][1]), None) for o in oids]
    oid = reader.number("I")
    if oid not in relations:
        raise Refused
    table, keys = relations[oid]
    marker = reader.take(1)
    old = None
    if kind == b"U" and marker in (b"K", b"O"):
        old = reader.row(len(keys))
        marker = reader.take(1)
    if marker not in ((b"K", b"O") if kind == b"D" else (b"N",)):
        raise Refused
    values = reader.row(len(keys))
    if old is not None:
        pairs = zip(values, old, strict=True)
        values = [o if v == LEFT_OUT and isinstance(o, bytes) else v for v, o in pairs]
        old = [o if isinstance(o, bytes) else None for o, key in zip(old, keys, strict=True) if key]
    return [(table, kind.decode().lower(), values, old)]


TEXTS = ("", "1", "žluť 😀", "x" * 300, "n", "u\0t", "t\0\0\0\1")


def a_row(rng: random.Random, width: int, *, toast: bool = False) -> Row:
    choices: list[object] = [None, *TEXTS, *([UNCHANGED] * 2 if toast else [])]
    return [rng.choice(choices) for _ in range(width)]


def a_relation(rng: random.Random, oid: int) -> tuple[bytes, int]:
    width = rng.randint(1, 5)
    columns = [(f"c{n}", 25, n == 0 or rng.random() < 0.3) for n in range(width)]
    return relation(oid, f"t{oid}", columns, rng.choice("df")), width


def a_change(rng: random.Random, oid: int, width: int) -> bytes:
    kind = rng.random()
    if kind < 0.4:
        return insert(oid, a_row(rng, width))
    if kind < 0.8:
        old = a_row(rng, width, toast=rng.random() < 0.1) if rng.random() < 0.4 else None
        return update(oid, a_row(rng, width, toast=True), old, rng.choice((b"K", b"O")))
    return delete(oid, a_row(rng, width)) if kind < 0.95 else truncate(oid)


def a_stream(rng: random.Random) -> list[bytes]:
    """Several tables, some of them redefined on the way, in a few transactions."""
    widths: dict[int, int] = {}
    stream: list[bytes] = []
    for lsn in range(10, 10 * rng.randint(2, 6), 10):
        stream.append(begin(lsn, xid=lsn))
        for _ in range(rng.randint(0, 30)):
            oid = rng.randint(1, 4)
            if oid not in widths or rng.random() < 0.05:
                definition, widths[oid] = a_relation(rng, oid)
                stream.append(definition)
            stream.append(a_change(rng, oid, widths[oid]))
        stream.append(commit(lsn))
    return stream


def rows(block: RowBlock) -> list[tuple[object, ...]]:
    values = [
        [LEFT_OUT if u else v for v, u in zip(c.values.to_pylist(), mask, strict=True)]
        for c in block.columns
        for mask in [c.unchanged if c.unchanged is not None else [False] * len(block.op)]
    ]
    old = [a.to_pylist() for a in block.old.values()] if block.old is not None else []
    has_old = block.has_old if block.has_old is not None else [False] * len(block.op)
    table = f"{block.relation.schema}.{block.relation.name}"
    return [
        (
            table,
            block.op[n].as_py(),
            block.commit_lsn[n].as_py(),
            block.ordinal[n].as_py(),
            [column[n] for column in values],
            [column[n] for column in old] if has_old[n] else None,
        )
        for n in range(len(block.op))
    ]


def decode(stream: list[bytes], cuts: list[int]) -> list[tuple[object, ...]]:
    parser, found = Parser(), []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        for block in parser.feed(messages(stream[start:end])).blocks:
            found += rows(block)
    return found


def sorted_rows(found: list[tuple[object, ...]]) -> list[tuple[object, ...]]:
    return sorted(found, key=lambda row: (row[2], row[3], row[0]))


@pytest.mark.parametrize("seed", range(150))
def test_streams_decode_as_the_reference_does_wherever_they_are_cut(seed: int) -> None:
    rng = random.Random(seed)
    stream = a_stream(rng)
    cuts = sorted(rng.sample(range(len(stream) + 1), min(3, len(stream))))
    found = decode(stream, cuts)
    assert sorted_rows(found) == sorted_rows(reference_decode(stream)), f"seed {seed}"
    for table in {row[0] for row in found}:
        order = [row[2:4] for row in found if row[0] == table]
        assert order == sorted(order), f"seed {seed}: {table} is not in stream order"


@pytest.mark.parametrize("seed", range(400))
def test_damaged_streams_are_refused_or_read_alike(seed: int) -> None:
    rng = random.Random(seed)
    stream = [bytearray(part) for part in a_stream(rng)]
    for _ in range(rng.randint(1, 3)):
        part = rng.choice(stream)
        if rng.random() < 0.3 and len(part) > 1:
            del part[rng.randrange(len(part)) :]
        elif part:
            part[rng.randrange(len(part))] = rng.choice([0, 1, 255, rng.randrange(256), *b"ntubKON"])
    damaged = [bytes(part) for part in stream if part]
    try:
        expected = sorted_rows(reference_decode(damaged))
    except Refused:
        with pytest.raises(ProtocolError):
            decode(damaged, [])
        return
    assert sorted_rows(decode(damaged, [])) == expected, f"seed {seed}"
