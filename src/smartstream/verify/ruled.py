"""A table with rules: the source's rows after the same rules against trusted table and quarantine.

Good rows must be in the trusted table, all others in the quarantine, each as it should
be there: so every key of the source is in exactly one of the two.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace

from smartstream.errors import VerifyError
from smartstream.schema import TableSchema
from smartstream.verify.canonical import FoundRow, Search
from smartstream.verify.difference import DIFFERING_MAX, added, differing_keys, search_of, total
from smartstream.verify.judge import Judge
from smartstream.verify.lake import LakeReader
from smartstream.verify.report import DifferingKey, TableReport
from smartstream.verify.ruled_lake import RuledLake, RuledTable
from smartstream.verify.ruled_rows import Places
from smartstream.verify.ruled_source import RuledSource
from smartstream.verify.source import Chunk

LOOKS_MAX = 3
"""A person's request changes the two tables in two commits at one position: between them, look again."""
IN_QUARANTINE = {
    "missing": "not held",
    "extra": "held",
    "different": "held otherwise",
    "repeated": "repeated",
}


@dataclass(frozen=True, slots=True)
class PendingRuled:
    """A table with rules whose source is being read."""

    judge: Judge
    source: RuledSource
    chunks: Sequence[Chunk]
    parts: Sequence[Future[Places]]

    @property
    def schema(self) -> TableSchema:
        """The source's table."""
        return self.judge.source

    def places(self) -> Places:
        """Wait for all chunks; where each row must be, summed up."""
        parts = [part.result() for part in self.parts]
        return Places.total([*parts, self.source.settled()])


def compare_ruled(pending: PendingRuled, lake: LakeReader, lsn: int, *, rows: bool) -> TableReport:
    """Compare one table with rules.

    Args:
        rows: find keys that differ.
    Raises:
        VerifyError: the lake does not have it, or nobody can say how it must be.
        RuleStop, HookFailed: a rule does not let the source's rows be judged.
        SourceError: the source does not answer.
    """
    rules = pending.judge.rules
    if rules.dedupe is not None and rules.on_bad_update == "keep_previous_marked":
        raise VerifyError("which duplicate stays depends on rows of the past, which the source has no longer")
    ours = pending.places()
    reader = RuledLake(lake, pending.judge, lsn)
    table = reader.table()
    theirs = _sums(reader, table)
    for _ in range(LOOKS_MAX - 1):
        if ours == theirs:
            break
        again = reader.table()
        if again.snapshots == table.snapshots:
            break
        table, theirs = again, _sums(reader, again)
    report = _report(pending.schema, ours, theirs, table)
    if report.equal or not rows:
        return report
    return replace(report, differing=_differing(pending, reader, table, ours, theirs))


def _sums(reader: RuledLake, table: RuledTable) -> Places:
    """The lake's side, summed up."""
    return Places(reader.rows.sums(table.good), reader.rows.sums(table.held))


def _report(schema: TableSchema, ours: Places, theirs: Places, table: RuledTable) -> TableReport:
    """What the sums say."""
    source_rows, source_checksum = total(added([ours.good, ours.held]))
    _, lake_checksum = total(added([theirs.good, theirs.held]))
    return TableReport(
        table=schema.id,
        source_rows=source_rows,
        lake_rows=total(theirs.good)[0],
        held_rows=total(theirs.held)[0],
        equal=ours == theirs,
        source_checksum=source_checksum,
        lake_checksum=lake_checksum,
        pending_changes=table.pending_changes,
    )


def _differing(
    pending: PendingRuled, reader: RuledLake, table: RuledTable, ours: Places, theirs: Places
) -> tuple[DifferingKey, ...]:
    """A sample of keys that are not where, or not as, they must be."""
    good, held = search_of(ours.good, theirs.good), search_of(ours.held, theirs.held)
    parts = [pending.source.rows(chunk, good, held) for chunk in pending.chunks]
    names = pending.schema.key
    in_good = differing_keys(
        names, [row for part in parts for row in part[0]], _rows(reader, table.good, good)
    )
    in_held = differing_keys(
        names, [row for part in parts for row in part[1]], _rows(reader, table.held, held)
    )
    found = [*in_good, *(replace(one, kind=IN_QUARANTINE[one.kind]) for one in in_held)]
    return tuple(found[:DIFFERING_MAX])


def _rows(reader: RuledLake, hashed: str, search: Search) -> list[FoundRow]:
    """The lake's rows to look at."""
    return reader.rows.search(hashed, search)
