"""pgoutput, protocol version 1: bytes in, blocks of rows out.

Pure: no socket, clock or driver.  Messages come many at a time in one buffer; rows
of one relation leave as text columns.  Python runs per relation, not per row.

Source: PostgreSQL manual, "Logical Replication Message Formats".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from smartstream.capture.tuples import (
    BadTuple,
    Bytes,
    Ints,
    Kinds,
    Mask,
    Rows,
    TextColumn,
    find_values,
    gather,
    scatter,
)
from smartstream.errors import ProtocolError
from smartstream.lsn import format_lsn

_BEGIN, _COMMIT, _RELATION, _TRUNCATE = b"BCRT"
_ROWS = list(b"IUDT")
_IDENTITIES = frozenset("dnfi")
_FIXED = {_BEGIN: 21, _COMMIT: 26}  # lengths of these messages
_SHORTEST = np.full(256, -1, np.int64)  # message of each kind; -1: there is no such kind
_SHORTEST[list(b"BCORYIUDTM")] = (21, 26, 10, 10, 7, 8, 8, 8, 6, 15)
POSTGRES_EPOCH_US = 946_684_800_000_000
_TS_MAX = 1 << 62  # no clock shows that; beyond it, arithmetic would wrap
_TIMESTAMP = pa.timestamp("us", tz="UTC")
_PIECE_BYTES = 256 << 20
_MESSAGE_BYTES_MAX = (1 << 31) - 1  # Arrow's offsets; PostgreSQL's own limit is 1 GiB


@dataclass(frozen=True, slots=True)
class Messages:
    """(n,) pgoutput messages, message i being ``data[starts[i]:ends[i]]``, in order."""

    data: pa.Buffer
    starts: Ints
    ends: Ints

    def slice(self, begin: int, end: int) -> Messages:
        """Messages ``begin`` to ``end``, without copying."""
        return Messages(self.data, self.starts[begin:end], self.ends[begin:end])


@dataclass(frozen=True, slots=True)
class RelationColumn:
    """A column as a Relation message describes it; ``is_key``: part of the replica identity."""

    name: str
    type_oid: int
    typmod: int
    is_key: bool


@dataclass(frozen=True, slots=True)
class Relation:
    """A table as a Relation message describes it."""

    oid: int
    schema: str
    name: str
    replica_identity: str  # d default, n nothing, f full, i index
    columns: tuple[RelationColumn, ...]


@dataclass(frozen=True, slots=True)
class RowBlock:
    """(n,) changes of one relation, in stream order.

    Attributes:
        op: string: i, u, d or t (truncate: all columns null).
        commit_lsn, ordinal, xid: int64; ordinal counts from 0 in each transaction.
        commit_ts: timestamp[us, UTC].
        columns: one per relation column; for deletes, what the old tuple holds.  A value
            that an update left out but its old tuple holds is taken from there.
        old: for updates that bring an old tuple, its replica identity columns by name,
            (n,) each; None when no row has one.
        has_old: (n,) the rows with an old tuple.
    """

    relation: Relation
    op: pa.Array
    commit_lsn: pa.Array
    ordinal: pa.Array
    commit_ts: pa.Array
    xid: pa.Array
    columns: list[TextColumn]
    old: dict[str, pa.Array] | None = None
    has_old: Mask | None = None


@dataclass(slots=True)
class Decoded:
    """What one ``feed`` gave.

    Attributes:
        blocks: rows; those of one table are in stream order.
        relations: new ones and new definitions of known ones, in stream order.
        end_lsn: behind the last commit seen, None without one.
        commit_ts_max: of the transactions in ``blocks``, µs since 1970; None without any.
        in_transaction: the last transaction is not over.
        change_count: rows in ``blocks``.
        skipped_count: row and truncate messages that were dropped (``skip_before_lsn``).
    """

    blocks: list[RowBlock] = field(default_factory=list)
    relations: list[Relation] = field(default_factory=list)
    end_lsn: int | None = None
    commit_ts_max: int | None = None
    in_transaction: bool = False
    change_count: int = 0
    skipped_count: int = 0


def split_at_last_commit(messages: Messages) -> tuple[Messages, Messages]:
    """Messages up to and with the last Commit, and those behind it."""
    data = np.frombuffer(messages.data, np.uint8)
    commits = np.flatnonzero(data[messages.starts] == _COMMIT)
    cut = int(commits[-1]) + 1 if len(commits) else 0
    return messages.slice(0, cut), messages.slice(cut, len(messages.starts))


class Parser:
    """Decodes one session's messages, fed in order, cut anywhere between messages.

    Transactions whose commit record lies before ``skip_before_lsn`` are dropped: the
    server sends again what it was not told to be durable.  After a ProtocolError the
    parser is of no more use.
    """

    def __init__(self, *, skip_before_lsn: int = 0) -> None:
        self._skip_before_lsn = skip_before_lsn
        self._relations: dict[int, Relation] = {}
        self._open = False
        self._transaction = (0, 0, 0)  # commit LSN, time, xid of the last one
        self._next_ordinal = 0

    @property
    def in_transaction(self) -> bool:
        """Whether the messages so far end inside a transaction."""
        return self._open

    def feed(self, messages: Messages) -> Decoded:
        """Decode messages.

        Raises:
            ProtocolError: they are not what pgoutput sends; it names the kind of message
                and the LSN of its transaction, as far as they are known.
        """
        decoded = Decoded()
        for piece in _pieces(messages):
            self._feed(piece, decoded)
        decoded.in_transaction = self._open
        decoded.change_count = sum(len(block.op) for block in decoded.blocks)
        return decoded

    def _feed(self, messages: Messages, decoded: Decoded) -> None:
        """Decode messages of a buffer that Arrow's offsets can address."""
        data, position = Bytes(messages.data), self._position()
        kinds = self._kinds(data, messages)
        rows = self._transactions(data, messages, kinds, decoded)
        start = 0
        # Rows on both sides of a new definition, or of a truncate, don't share a block.
        for index in np.flatnonzero((kinds == _RELATION) | (kinds == _TRUNCATE)).tolist():
            body = data.data[messages.starts[index] : messages.ends[index]].tobytes()
            relation = _decode_relation(body, position) if kinds[index] == _RELATION else None
            known = self._relations.get(relation.oid) if relation is not None else None
            if relation is None or known not in (None, relation):
                decoded.blocks.extend(self._blocks(data, messages, rows.between(start, index)))
                start = index + 1
            if relation is None:
                decoded.blocks.extend(self._truncates(body, rows.between(index, index + 1)))
            elif known != relation:
                self._relations[relation.oid] = relation
                decoded.relations.append(relation)
        decoded.blocks.extend(self._blocks(data, messages, rows.between(start, len(kinds))))

    def _kinds(self, data: Bytes, messages: Messages) -> Kinds:
        """The kind of each message, after checking that all lie within the buffer."""
        starts, ends = messages.starts, messages.ends
        inside = (starts >= 0) & (starts < ends) & (ends <= len(data.data))
        self._require(inside, "A message is empty or cut off")
        self._require(starts[1:] >= ends[:-1], "Messages overlap")
        kinds: Kinds = data.data[starts]
        shortest = _SHORTEST[kinds]
        if (shortest < 0).any():
            kind = int(kinds[np.flatnonzero(shortest < 0)[0]])
            raise ProtocolError(f"A message is of unknown kind {kind:#04x}, {self._position()}")
        for kind, length in _FIXED.items():
            mine = kinds == kind
            self._require(ends[mine] - starts[mine] == length, f"A message {chr(kind)} has the wrong length")
        short = np.flatnonzero(ends - starts < shortest)
        if len(short):
            raise ProtocolError(f"A message {chr(kinds[short[0]])} is cut off, {self._position()}")
        return kinds

    def _transactions(self, data: Bytes, messages: Messages, kinds: Kinds, decoded: Decoded) -> Rows:
        """Give every row change its transaction and ordinal; follow Begin and Commit."""
        is_begin, is_commit, is_row = kinds == _BEGIN, kinds == _COMMIT, np.isin(kinds, _ROWS)
        depth = int(self._open) + np.cumsum(is_begin) - np.cumsum(is_commit)
        self._require((depth == 0) | (depth == 1), "Begin and Commit messages don't alternate")
        self._require(depth[is_row] == 1, "A row change stands outside of a transaction")
        lsn, ts, xid = self._begins(data, messages.starts[is_begin])
        number = np.cumsum(is_begin)  # of each message's transaction; 0: the one open before this feed
        self._commits(data, messages.starts[is_commit], lsn[number[is_commit]], decoded)
        index = np.flatnonzero(is_row)
        counted = np.concatenate([[0], np.cumsum(is_row)])  # row changes before each message
        base = np.concatenate([[-self._next_ordinal], counted[:-1][is_begin]])
        mine = number[index]
        ordinal = np.arange(len(index)) - base[mine]
        rows = Rows(index, kinds[index], lsn[mine], ordinal, ts[mine], xid[mine])
        self._transaction = (int(lsn[-1]), int(ts[-1]), int(xid[-1]))
        self._next_ordinal = int(counted[-1] - base[-1])
        self._open = bool(depth[-1]) if len(depth) else self._open
        return self._skip(rows, decoded)

    def _begins(self, data: Bytes, at: Ints) -> tuple[Ints, Ints, Ints]:
        """Commit LSN, time and xid of the transactions that begin, behind those of the last one."""
        lsn, ts, xid = data.int64(at + 1), data.int64(at + 9), data.uint32(at + 17)
        self._require(lsn >= 0, "A Begin message has an impossible LSN")
        self._require((ts > -_TS_MAX) & (ts < _TS_MAX), "A Begin message has an impossible time")
        last_lsn, last_ts, last_xid = self._transaction
        return (
            np.concatenate([[last_lsn], lsn]),
            np.concatenate([[last_ts], ts + POSTGRES_EPOCH_US]),
            np.concatenate([[last_xid], xid]),
        )

    def _commits(self, data: Bytes, at: Ints, begun: Ints, decoded: Decoded) -> None:
        """Check each Commit against its Begin and note how far the stream has come."""
        if not len(at):
            return
        self._require(data.int64(at + 2) == begun, "A Commit message has not the LSN of its Begin")
        end_lsn = data.int64(at + 10)
        self._require(end_lsn >= begun, "A Commit message ends before it begins")
        decoded.end_lsn = int(end_lsn[-1])

    def _skip(self, rows: Rows, decoded: Decoded) -> Rows:
        """Drop the rows of transactions that are durable already."""
        wanted = rows.lsn >= self._skip_before_lsn
        if not wanted.all():
            rows = rows.pick(wanted)
            decoded.skipped_count += int(len(wanted) - len(rows.lsn))
        if len(rows.ts):
            latest = int(rows.ts.max())
            before = decoded.commit_ts_max
            decoded.commit_ts_max = latest if before is None else max(latest, before)
        return rows

    def _blocks(self, data: Bytes, messages: Messages, rows: Rows) -> Iterator[RowBlock]:
        """One block per relation, in the order of their first rows; no truncates among them."""
        if not len(rows.index):
            return
        starts, ends = messages.starts[rows.index], messages.ends[rows.index]
        oids = data.uint32(starts + 1)
        if (oids == oids[0]).all():
            yield _decode_block(data, self._described(int(oids[0]), rows), rows, starts, ends)
            return
        order = np.argsort(oids, kind="stable")
        groups = np.split(order, np.flatnonzero(np.diff(oids[order])) + 1)
        for group in sorted(groups, key=lambda group: int(group[0])):
            some = rows.pick(group)
            relation = self._described(int(oids[group[0]]), some)
            yield _decode_block(data, relation, some, starts[group], ends[group])

    def _truncates(self, body: bytes, row: Rows) -> Iterator[RowBlock]:
        """The blocks of a Truncate message, one per relation; none if it is skipped."""
        if not len(row.index):
            return
        count = int.from_bytes(body[1:5], "big")
        if len(body) != 6 + 4 * count:
            raise ProtocolError(f"A {row.name(0)} has the wrong length")
        for at in range(6, len(body), 4):
            relation = self._described(int.from_bytes(body[at : at + 4], "big"), row)
            columns = [TextColumn(pa.nulls(1, pa.binary())) for _ in relation.columns]
            yield RowBlock(relation, *_order(row), columns)

    def _described(self, oid: int, rows: Rows) -> Relation:
        """The relation that rows belong to."""
        relation = self._relations.get(oid)
        if relation is None:
            raise ProtocolError(f"A {rows.name(0)} names relation {oid}, which was not described")
        return relation

    def _position(self) -> str:
        """Where in the stream the messages at hand begin, for errors."""
        lsn = self._transaction[0]
        return (
            f"in or after the transaction at {format_lsn(lsn)}"
            if lsn
            else "in the first messages of a session"
        )

    def _require(self, holds: Mask, what: str) -> None:
        """Raise ProtocolError unless all hold."""
        if not holds.all():
            raise ProtocolError(f"{what}, {self._position()}")


def _pieces(messages: Messages) -> Iterator[Messages]:
    """Consecutive messages in buffers of about _PIECE_BYTES: Arrow's offsets end at 2 GiB."""
    size = messages.data.size
    if size <= _PIECE_BYTES:
        yield messages
        return
    begin, count = 0, len(messages.starts)
    while begin < count:
        base = int(messages.starts[begin])
        end = max(begin + 1, int(np.searchsorted(messages.ends, base + _PIECE_BYTES, side="right")))
        length = int(messages.ends[end - 1]) - base
        if not (base >= 0 and 0 < length <= _MESSAGE_BYTES_MAX and base + length <= size):
            raise ProtocolError(
                f"Messages at byte {base} of a buffer of {size} bytes are empty, cut off or too long"
            )
        piece = messages.slice(begin, end)
        yield Messages(messages.data.slice(base, length), piece.starts - base, piece.ends - base)
        begin = end


def _decode_block(data: Bytes, relation: Relation, rows: Rows, starts: Ints, ends: Ints) -> RowBlock:
    """Decode the rows of one relation."""
    try:
        spans, old_spans, with_old = find_values(data, len(relation.columns), rows.kind, starts, ends)
    except BadTuple as bad:
        where = f"{relation.schema}.{relation.name}: the {rows.name(bad.row)}"
        raise ProtocolError(f"{where} is damaged: {bad}") from None
    columns = [gather(data, span) for span in spans]
    if not len(with_old):
        return RowBlock(relation, *_order(rows), columns)
    has_old = np.zeros(len(starts), np.bool_)
    has_old[with_old] = True
    old = {
        column.name: scatter(data, span, with_old, len(starts))
        for column, span in zip(relation.columns, old_spans, strict=True)
        if column.is_key
    }
    return RowBlock(relation, *_order(rows), columns, old, has_old)


def _order(rows: Rows) -> tuple[pa.Array, pa.Array, pa.Array, pa.Array, pa.Array]:
    """Op, commit LSN, ordinal, commit time and xid as Arrow arrays."""
    letters = rows.kind | 0x20  # in ASCII, the op is its message's letter in lower case
    offsets = np.arange(len(letters) + 1, dtype=np.int32)
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(letters)]
    op = pa.Array.from_buffers(pa.string(), len(letters), buffers)
    stamps = pa.array(rows.ts).cast(_TIMESTAMP)
    return op, pa.array(rows.lsn), pa.array(rows.ordinal), stamps, pa.array(rows.xid)


def _decode_relation(body: bytes, position: str) -> Relation:
    """Decode a Relation message that stands at ``position`` in the stream."""
    try:
        oid = int.from_bytes(body[1:5], "big")
        schema, at = _string(body, 5)
        name, at = _string(body, at)
        identity = chr(body[at])
        count = int.from_bytes(body[at + 1 : at + 3], "big")
        columns, at = _columns(body, at + 3, count)
    except (IndexError, ValueError) as error:
        raise ProtocolError(f"A Relation message is damaged, {position}") from error
    if at != len(body):
        raise ProtocolError(f"A Relation message has the wrong length, {position}")
    if identity not in _IDENTITIES:
        raise ProtocolError(f"A Relation message has an unknown replica identity, {position}")
    return Relation(oid, schema or "pg_catalog", name, identity, columns)


def _columns(body: bytes, at: int, count: int) -> tuple[tuple[RelationColumn, ...], int]:
    """The columns and the position behind them."""
    columns = []
    for _ in range(count):
        is_key = bool(body[at] & 1)
        name, at = _string(body, at + 1)
        type_oid = int.from_bytes(body[at : at + 4], "big")
        typmod = int.from_bytes(body[at + 4 : at + 8], "big", signed=True)
        columns.append(RelationColumn(name, type_oid, typmod, is_key))
        at += 8
    return tuple(columns), at


def _string(body: bytes, at: int) -> tuple[str, int]:
    """A zero-terminated string and the position behind it."""
    end = body.index(b"\0", at)
    return body[at:end].decode(), end + 1
