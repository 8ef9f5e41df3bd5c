"""Source against lake, table by table, at one LSN."""

from __future__ import annotations

import difflib
import itertools
import queue
import secrets
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial

from smartstream.capture import slot
from smartstream.capture.catalog import Discovery, KeylessTable
from smartstream.capture.connect import connect
from smartstream.capture.names import clashes, in_log
from smartstream.capture.published import condition, discover
from smartstream.config import Settings, matches
from smartstream.errors import RuleError, SchemaFrozen, SourceError, VerifyError
from smartstream.lsn import format_lsn
from smartstream.quality.contracted import rules_under_contract
from smartstream.query.duckdb import engine
from smartstream.schema import TableSchema
from smartstream.verify.canonical import FoundRow, Search, Sums
from smartstream.verify.difference import added, differing_keys, search_of, total
from smartstream.verify.judge import Judge
from smartstream.verify.lake import LakeReader
from smartstream.verify.report import DifferingKey, Report, TableReport
from smartstream.verify.ruled import PendingRuled, compare_ruled
from smartstream.verify.ruled_source import RuledSource
from smartstream.verify.source import (
    Chunk,
    Session,
    SourceSnapshot,
    chunk_rows,
    chunk_sums,
    chunks,
    lock,
    texts_of,
)


def _now() -> datetime:
    """The wall clock, in UTC."""
    return datetime.now(UTC)


def verify(
    settings: Settings,
    tables: Sequence[str] | None = None,
    rows: bool = False,
    wait_seconds: float = 30.0,
    *,
    clock: Callable[[], datetime] = _now,
) -> Report:
    """Compare every row of the source with the lake, by counts and checksums.

    The source is read as of one exact LSN, the lake as of the same: so this is exact
    while both change.  Where no pipeline runs and the lake is behind, it is compared as
    it is; a difference then says so.  Reads every row of both sides.

    Args:
        tables: ``schema.table`` or the names in the lake; all captured ones if None.
        rows: find up to 20 keys that differ, per table.
        wait_seconds: for older transactions to end, and again for the lake.
    Raises:
        VerifyError: an unknown table, or the source never comes to a common position.
        SourceError, LakeError: as either side answers.
    """
    name = f"smartstream_verify_{secrets.token_hex(6)}"
    with ExitStack() as held:
        plain = held.enter_context(closing(connect(settings.source)))
        snapshot = held.enter_context(SourceSnapshot(settings.source, slot=name, wait_seconds=wait_seconds))
        first = held.enter_context(closing(snapshot.session()))
        found = discover(first, settings.source, partial(matches, settings))
        lake = LakeReader(settings, clock=clock)
        held.callback(lake.close)
        found = _chosen(_apart(found, lake), tables)
        lock(first, found.tables)
        source = _SourceSums(snapshot, settings, held)
        pending: dict[str, _Pending] = {}
        for schema in found.tables:
            try:
                judge = _judge(settings, schema, lake, snapshot.lsn)
            except SchemaFrozen as error:
                pending[schema.id] = _Frozen(str(error))
                continue
            where = condition(first, settings.source, schema)
            pending[schema.id] = source.start(schema, chunks(first, schema, where), judge)
        read = partial(slot.inspect, plain, settings.source.slot.name)
        if read() is not None:  # without a slot there is no pipeline to wait for
            active = partial(_active, read)
            lake.wait(snapshot.lsn, found.tables, wait_seconds=wait_seconds, active=active)
        comparison = _Comparison(snapshot.lsn, lake, source, plain, rows)
        reports = tuple(comparison.table(schema, pending[schema.id]) for schema in found.tables)
        ok = all(report.equal for report in reports)
        lake_lsn = min(snapshot.lsn, lake.state.durable_lsn)
        return Report(ok, snapshot.lsn, lake_lsn, reports, tuple(table.id for table in found.keyless))


class _SourceSums:
    """Reads chunks of the source in a few sessions of one snapshot."""

    def __init__(self, snapshot: SourceSnapshot, settings: Settings, held: ExitStack) -> None:
        self._snapshot, self._settings = snapshot, settings
        self._spilling = held.enter_context(closing(engine(settings.limits)))
        threads = settings.limits.threads
        self._sessions: queue.SimpleQueue[Session] = queue.SimpleQueue()
        for _ in range(threads):
            self._sessions.put(held.enter_context(closing(snapshot.session())))
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="smartstream-verify")
        held.callback(self._pool.shutdown, wait=True, cancel_futures=True)

    def start(
        self, schema: TableSchema, parts: Sequence[Chunk], judge: Judge | None
    ) -> _PendingTable | PendingRuled:
        """Begin to sum up a table; with rules, what they make of it."""
        if judge is not None:
            ruled = RuledSource(self._settings, self._snapshot, judge, self._spilling)
            return PendingRuled(judge, ruled, parts, [self._pool.submit(ruled.sums, part) for part in parts])
        return _PendingTable(schema, parts, [self._pool.submit(self._sum, part, schema) for part in parts])

    def rows(self, table: _PendingTable, search: Search) -> list[FoundRow]:
        """The rows to look at for differences."""
        session = self._sessions.get()
        try:
            parts = [
                chunk_rows(session, chunk, table.schema, search, utf8=self._snapshot.utf8)
                for chunk in table.chunks
            ]
            return list(itertools.chain.from_iterable(parts))
        finally:
            self._sessions.put(session)

    def _sum(self, chunk: Chunk, schema: TableSchema) -> Sums:
        """One chunk."""
        session = self._sessions.get()
        try:
            return chunk_sums(session, chunk, schema, utf8=self._snapshot.utf8)
        finally:
            self._sessions.put(session)


@dataclass(frozen=True, slots=True)
class _PendingTable:
    """A table of the source that is being summed up."""

    schema: TableSchema
    chunks: Sequence[Chunk]
    parts: Sequence[Future[Sums]]

    def sums(self) -> Sums:
        """Wait for all chunks, and add them up."""
        return added(part.result() for part in self.parts)


@dataclass(frozen=True, slots=True)
class _Frozen:
    """A table whose contract does not allow what the source has made of it."""

    reason: str


_Pending = _PendingTable | PendingRuled | _Frozen


@dataclass(frozen=True, slots=True)
class _Comparison:
    """Everything that comparing a table needs."""

    lsn: int
    lake: LakeReader
    source: _SourceSums
    plain: Session
    rows: bool

    def table(self, schema: TableSchema, pending: _Pending) -> TableReport:
        """Compare one table."""
        if isinstance(pending, _Frozen):
            return TableReport(schema.id, None, None, False, reason=pending.reason)
        if isinstance(pending, PendingRuled):
            return self._ruled(schema, pending)
        try:
            in_lake = self.lake.table(schema, self.lsn, partial(texts_of, self.plain))
            lake_sums = self.lake.sums(in_lake)
        except (VerifyError, SourceError) as error:
            count, checksum = total(pending.sums())
            return TableReport(schema.id, count, None, False, checksum, reason=self._reason(str(error)))
        source_sums = pending.sums()
        source_rows, source_checksum = total(source_sums)
        lake_rows, lake_checksum = total(lake_sums)
        equal = source_sums == lake_sums
        differing: tuple[DifferingKey, ...] = ()
        if not equal and self.rows:
            search = search_of(source_sums, lake_sums)
            ours, theirs = self.source.rows(pending, search), self.lake.rows(in_lake, search)
            differing = differing_keys(schema.key, ours, theirs)
        return TableReport(
            table=schema.id,
            source_rows=source_rows,
            lake_rows=lake_rows,
            equal=equal,
            source_checksum=source_checksum,
            lake_checksum=lake_checksum,
            pending_changes=in_lake.pending_changes,
            reason=None if equal else self._behind(),
            differing=differing,
        )

    def _ruled(self, schema: TableSchema, pending: PendingRuled) -> TableReport:
        """Compare one table with rules."""
        try:
            report = compare_ruled(pending, self.lake, self.lsn, rows=self.rows)
        except (VerifyError, SourceError, RuleError) as error:
            return TableReport(schema.id, None, None, False, reason=self._reason(str(error)))
        return report if report.equal else replace(report, reason=self._behind())

    def _reason(self, what: str) -> str:
        """Why a table could not be compared."""
        return "; ".join(filter(None, [what, self._behind()]))

    def _behind(self) -> str | None:
        """Why a difference need not be an error."""
        behind = self.lsn - self.lake.state.durable_lsn
        if behind <= 0:
            return None
        return (
            f"the lake is behind: it holds changes up to {format_lsn(self.lake.state.durable_lsn)}, "
            f"{behind:,} bytes of WAL less than the source; run `smartstream run --once`"
        )


def _chosen(found: Discovery, names: Sequence[str] | None) -> Discovery:
    """The tables that were asked for."""
    if names is None:
        return found
    known = {schema.lake_name: schema for schema in found.tables}
    known |= {schema.id: schema for schema in found.tables}  # a table of public may be called a.b, too
    for name in names:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            raise VerifyError(
                f"there is no captured table {name}",
                hint=f"Did you mean {close[0]}?" if close else "`smartstream tables` lists them.",
            )
    wanted = {known[name].id for name in names}
    return Discovery(tuple(schema for schema in found.tables if schema.id in wanted), ())


def _apart(found: Discovery, lake: LakeReader) -> Discovery:
    """The tables without those that are left out because the lake has another one of their name."""
    settled = in_log(lake.state.tables.values())
    taken = {clash.table.oid: clash.reason for clash in clashes(found.tables, settled)}
    tables = tuple(schema for schema in found.tables if schema.oid not in taken)
    others = [
        KeylessTable(schema.oid, schema.id, taken[schema.oid])
        for schema in found.tables
        if schema.oid in taken
    ]
    return Discovery(tables, (*found.keyless, *others))


def _judge(settings: Settings, schema: TableSchema, lake: LakeReader, lsn: int) -> Judge | None:
    """The rules of a table under its contract, None without any."""
    state = lake.state.tables.get(schema.id)
    rules = rules_under_contract(settings, schema, state, seen_lsn=lsn)
    return Judge(rules, schema) if rules else None


def _active(read: Callable[[], slot.SlotInfo | None]) -> bool:
    """Whether somebody reads the slot."""
    info = read()
    return info is not None and info.active
