"""pgoutput, protocol version 1: bytes in, blocks of rows out.

Pure: no socket, clock or driver.  Messages come many at a time in one buffer; rows
of one relation leave as text columns.  Python runs per relation, not per row.

Source: PostgreSQL manual, "Logical Replication Message Formats".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from smartstream.capture.tuples import Bytes, Ints, Mask, TextColumn, gather, walk
from smartstream.errors import ProtocolError
from smartstream.lsn import format_lsn

_BEGIN, _COMMIT, _ORIGIN, _RELATION, _TYPE, _INSERT, _UPDATE, _DELETE, _TRUNCATE, _MESSAGE = b"BCORYIUDTM"
_KINDS = np.zeros(256, np.bool_)
_KINDS[list(b"BCORYIUDTM")] = True
_NEW, _OLD, _KEY = b"NOK"
_FIXED = {_BEGIN: 21, _COMMIT: 26}  # lengths of these messages
POSTGRES_EPOCH_US = 946_684_800_000_000
_TIMESTAMP = pa.timestamp("us", tz="UTC")


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
        columns: one per relation column; for deletes, what the old tuple holds.
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
        blocks: rows; those of one table keep their order.
        end_lsn: behind the last commit seen, None without one.
        in_transaction: the last transaction is not over.
        change_count: rows in ``blocks``.
    """

    blocks: list[RowBlock] = field(default_factory=list)
    end_lsn: int | None = None
    in_transaction: bool = False
    change_count: int = 0


def split_at_last_commit(messages: Messages) -> tuple[Messages, Messages]:
    """Messages up to and with the last Commit, and those behind it."""
    data = np.frombuffer(messages.data, np.uint8)
    commits = np.flatnonzero(data[messages.starts] == _COMMIT)
    cut = int(commits[-1]) + 1 if len(commits) else 0
    return messages.slice(0, cut), messages.slice(cut, len(messages.starts))


@dataclass(frozen=True, slots=True)
class _Rows:
    """Row changes of a feed: for each its message, and its place in the order of changes."""

    index: Ints  # of the message
    kind: npt.NDArray[np.uint8]
    lsn: Ints
    ordinal: Ints
    ts: Ints
    xid: Ints

    def pick(self, mask: Mask | Ints) -> _Rows:
        """Some of them."""
        return _Rows(
            *(getattr(self, name)[mask] for name in ("index", "kind", "lsn", "ordinal", "ts", "xid"))
        )


class Parser:
    """Decodes one session's messages, fed in order, cut anywhere between messages.

    Transactions whose commit record lies before ``skip_before_lsn`` are dropped: the
    server sends again what it was not told to be durable.
    """

    def __init__(self, *, skip_before_lsn: int = 0) -> None:
        self._skip_before_lsn = skip_before_lsn
        self._relations: dict[int, Relation] = {}
        self._open = False
        self._transaction = (0, 0, 0)  # commit LSN, time, xid of the open one
        self._next_ordinal = 0

    @property
    def in_transaction(self) -> bool:
        """Whether the messages so far end inside a transaction."""
        return self._open

    def feed(self, messages: Messages) -> Decoded:
        """Decode messages.

        Raises:
            ProtocolError: they are not what pgoutput sends.
        """
        data = Bytes(messages.data)
        kinds = _kinds(data, messages)
        rows, end_lsn = self._transactions(data, messages, kinds)
        decoded = Decoded(end_lsn=end_lsn, in_transaction=self._open)
        for segment in self._segments(data, messages, kinds):
            inside = rows.pick((rows.index >= segment.start) & (rows.index < segment.stop))
            decoded.blocks.extend(self._blocks(data, messages, inside))
        decoded.change_count = sum(len(block.op) for block in decoded.blocks)
        return decoded

    def _transactions(
        self, data: Bytes, messages: Messages, kinds: npt.NDArray[np.uint8]
    ) -> tuple[_Rows, int | None]:
        """Give every row change its transaction and ordinal; follow Begin and Commit."""
        begins, commits = np.flatnonzero(kinds == _BEGIN), np.flatnonzero(kinds == _COMMIT)
        depth = int(self._open) + np.cumsum(kinds == _BEGIN) - np.cumsum(kinds == _COMMIT)
        if len(depth) and not ((depth == 0) | (depth == 1)).all():
            raise ProtocolError("Begin and Commit messages don't alternate")
        is_row = np.isin(kinds, (_INSERT, _UPDATE, _DELETE, _TRUNCATE))
        if (depth[is_row] != 1).any():
            raise ProtocolError("a row change stands outside of a transaction")
        number = np.cumsum(kinds == _BEGIN)  # 0: the transaction open before this feed
        at = messages.starts[begins]
        lsn = np.concatenate([[self._transaction[0]], data.int64(at + 1)])
        ts = np.concatenate([[self._transaction[1]], data.int64(at + 9) + POSTGRES_EPOCH_US])
        xid = np.concatenate([[self._transaction[2]], data.uint32(at + 17)])
        counted = np.cumsum(is_row)
        base = np.concatenate([[-self._next_ordinal], counted[begins]])
        index = np.flatnonzero(is_row)
        mine = number[index]
        ordinal = counted[index] - 1 - base[mine]
        rows = _Rows(index, kinds[index], lsn[mine], ordinal, ts[mine], xid[mine])
        self._transaction = (int(lsn[-1]), int(ts[-1]), int(xid[-1]))
        self._next_ordinal = int((counted[-1] if len(counted) else 0) - base[-1])
        self._open = bool(depth[-1]) if len(depth) else self._open
        end = int(data.int64(messages.starts[commits[-1:]] + 10)[0]) if len(commits) else None
        return rows.pick(rows.lsn >= self._skip_before_lsn), end

    def _segments(self, data: Bytes, messages: Messages, kinds: npt.NDArray[np.uint8]) -> Iterator[range]:
        """Stretches of messages in which no known relation changes its definition.

        The relations of a stretch are in ``self._relations`` while it is handled.
        """
        start = 0
        for index in np.flatnonzero(kinds == _RELATION).tolist():
            relation = _relation(data.data[messages.starts[index] : messages.ends[index]].tobytes())
            known = self._relations.get(relation.oid)
            if known is not None and known != relation:
                yield range(start, index)
                start = index
            self._relations[relation.oid] = relation
        yield range(start, len(kinds))

    def _blocks(self, data: Bytes, messages: Messages, rows: _Rows) -> Iterator[RowBlock]:
        """One block per relation; truncates in blocks of their own."""
        truncates = rows.kind == _TRUNCATE
        for row in np.flatnonzero(truncates).tolist():
            yield from self._truncate(data, messages, rows.pick(np.array([row])))
        rows = rows.pick(~truncates)
        starts, ends = messages.starts[rows.index], messages.ends[rows.index]
        _require(starts + 6 <= ends, "a row change is cut off")
        oids = data.uint32(starts + 1)
        for oid in np.unique(oids).tolist():
            relation = self._relations.get(oid)
            if relation is None:
                raise ProtocolError(f"a row change belongs to relation {oid}, which was not described")
            mine = oids == oid
            yield _block(data, relation, rows.pick(mine), starts[mine], ends[mine])

    def _truncate(self, data: Bytes, messages: Messages, row: _Rows) -> Iterator[RowBlock]:
        """The blocks of a Truncate message, one per relation."""
        index = int(row.index[0])
        body = data.data[messages.starts[index] : messages.ends[index]].tobytes()
        count = int.from_bytes(body[1:5], "big")
        if len(body) != 6 + 4 * count:
            raise ProtocolError("a Truncate message has the wrong length")
        for n in range(count):
            relation = self._relations.get(int.from_bytes(body[6 + 4 * n : 10 + 4 * n], "big"))
            if relation is None:
                raise ProtocolError("a Truncate names a relation which was not described")
            columns = [TextColumn(pa.nulls(1, pa.binary())) for _ in relation.columns]
            yield RowBlock(relation, pa.array(["t"]), *_order(row), columns)


def _kinds(data: Bytes, messages: Messages) -> npt.NDArray[np.uint8]:
    """The kind of each message, after checking that all lie within the buffer."""
    starts, ends = messages.starts, messages.ends
    _require((starts >= 0) & (starts < ends) & (ends <= len(data.data)), "a message is empty or cut off")
    _require(starts[1:] >= ends[:-1], "messages overlap")
    kinds = data.data[starts]
    unknown = ~_KINDS[kinds]
    if unknown.any():
        raise ProtocolError(f"a message is of unknown kind {int(kinds[np.flatnonzero(unknown)[0]]):#04x}")
    for kind, length in _FIXED.items():
        mine = kinds == kind
        _require(ends[mine] - starts[mine] == length, "a Begin or Commit message has the wrong length")
    return kinds


def _require(holds: Mask, what: str) -> None:
    """Raise ProtocolError unless all hold."""
    if not holds.all():
        raise ProtocolError(what)


def _order(rows: _Rows) -> tuple[pa.Array, pa.Array, pa.Array, pa.Array]:
    """Commit LSN, ordinal, commit time and xid as Arrow arrays."""
    return pa.array(rows.lsn), pa.array(rows.ordinal), pa.array(rows.ts).cast(_TIMESTAMP), pa.array(rows.xid)


def _block(data: Bytes, relation: Relation, rows: _Rows, starts: Ints, ends: Ints) -> RowBlock:
    """The rows of one relation."""
    try:
        return _decode_block(data, relation, rows, starts, ends)
    except ProtocolError as error:
        lsn_min, lsn_max = format_lsn(int(rows.lsn.min())), format_lsn(int(rows.lsn.max()))
        where = f"{relation.schema}.{relation.name}, transactions {lsn_min} to {lsn_max}"
        raise ProtocolError(f"{where}: {error}") from None


def _decode_block(data: Bytes, relation: Relation, rows: _Rows, starts: Ints, ends: Ints) -> RowBlock:
    """Find each row's tuples, walk them, gather their values."""
    marker = data.data[starts + 5]
    updates = rows.kind == _UPDATE
    old_first = updates & ((marker == _KEY) | (marker == _OLD))
    is_new = (marker == _NEW) & (rows.kind != _DELETE)
    is_key = ((marker == _KEY) | (marker == _OLD)) & (rows.kind == _DELETE)
    _require(is_new | is_key | old_first, "a row change has an unknown tuple marker")
    width = len(relation.columns)
    position = starts + 6
    old: dict[str, pa.Array] | None = None
    if old_first.any():
        which = np.flatnonzero(old_first)
        spans, behind = walk(data, position[which], ends[which], width)
        _require(behind < ends[which], "an update has no new row")
        _require(data.data[np.minimum(behind, data.last(1))] == _NEW, "an update has no new row")
        position = position.copy()
        position[which] = behind + 1
        old = {
            column.name: gather(data, span, which, len(starts)).values
            for column, span in zip(relation.columns, spans, strict=True)
            if column.is_key
        }
    spans, behind = walk(data, position, ends, width)
    _require(behind == ends, "a row change is followed by other bytes")
    columns = [gather(data, span) for span in spans]
    op = pa.array(["i", "u", "d"]).take(pa.array((updates * 1 + (rows.kind == _DELETE) * 2).astype(np.int8)))
    return RowBlock(relation, op, *_order(rows), columns, old, old_first if old is not None else None)


def _relation(body: bytes) -> Relation:
    """Decode a Relation message."""
    try:
        oid = int.from_bytes(body[1:5], "big")
        schema, at = _string(body, 5)
        name, at = _string(body, at)
        identity = chr(body[at])
        count = int.from_bytes(body[at + 1 : at + 3], "big")
        at += 3
        columns = []
        for _ in range(count):
            is_key = bool(body[at] & 1)
            column, at = _string(body, at + 1)
            type_oid = int.from_bytes(body[at : at + 4], "big")
            typmod = int.from_bytes(body[at + 4 : at + 8], "big", signed=True)
            at += 8
            columns.append(RelationColumn(column, type_oid, typmod, is_key))
    except (IndexError, ValueError) as error:
        raise ProtocolError("a Relation message is damaged") from error
    if at != len(body):
        raise ProtocolError("a Relation message has the wrong length")
    return Relation(oid, schema or "pg_catalog", name, identity, tuple(columns))


def _string(body: bytes, at: int) -> tuple[str, int]:
    """A zero-terminated string and the position behind it."""
    end = body.index(b"\0", at)
    return body[at:end].decode(), end + 1
