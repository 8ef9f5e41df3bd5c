"""Results of quality checks, and the table ``analytics.trusted_quality`` that keeps them."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import pyarrow as pa

from smartstream.lsn import format_lsn
from smartstream.quality.lake import RESULTS_TABLE, QualityLake
from smartstream.schema import Column, Kind, PgType, TableSchema
from smartstream.sql_text import quoted
from smartstream.trusted.catalog import ANALYTICS, open_catalog
from smartstream.trusted.engine import Engine
from smartstream.trusted.position import Position
from smartstream.trusted.table import TrustedTable

PRUNED_MAX = 100_000
"""Old results deleted at once."""

_INT8, _TEXT = PgType("bigint", Kind.INT8), PgType("text", Kind.TEXT)
_COLUMNS: tuple[tuple[str, PgType], ...] = (
    ("table", _TEXT),
    ("check_id", _TEXT),
    ("metric", _TEXT),
    ("column", _TEXT),
    ("value", PgType("double precision", Kind.FLOAT8)),
    ("threshold", _TEXT),
    ("unit", _TEXT),
    ("passed", PgType("boolean", Kind.BOOL)),
    ("severity", _TEXT),
    ("on_fail", _TEXT),
    ("reason", _TEXT),
    ("rows_checked", _INT8),
    ("snapshot_id", _INT8),
    ("lsn", _INT8),
    ("checked_at", PgType("timestamp with time zone", Kind.TIMESTAMPTZ)),
    ("rules_version", _TEXT),
)
RESULTS_SCHEMA = TableSchema(
    oid=0,
    schema="public",
    name=RESULTS_TABLE,
    columns=tuple(Column(name, number, kind) for number, (name, kind) in enumerate(_COLUMNS, start=1)),
    key=("table", "check_id", "checked_at"),
)


@dataclass(frozen=True, slots=True)
class Result:
    """One check, measured once.

    Attributes:
        table: ``schema.name``.
        column: the column; several with ``, `` between them; None for the whole table.
        value: None when it can't be measured; ``reason`` says why.
        reason: constant words, without values of rows; None when it passed.
        rows_checked: live rows, those in the quarantine included if the check sends some there.
        snapshot_id, lsn: what was measured.
    """

    table: str
    check_id: str
    metric: str
    column: str | None
    value: float | None
    threshold: str
    unit: str
    passed: bool
    severity: str
    on_fail: str
    reason: str | None
    rows_checked: int
    snapshot_id: int | None
    lsn: int
    checked_at: datetime
    rules_version: str

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "lsn": format_lsn(self.lsn), "checked_at": self.checked_at.isoformat()}


class ResultsTable:
    """``analytics.trusted_quality``, open for the one process that measures.

    It is kept like a trusted table, so ``trusted.maintain`` keeps it small as well: ``table``.
    """

    def __init__(self, table: TrustedTable) -> None:
        self.table = table
        self._writer = uuid.uuid4().hex

    @staticmethod
    def open(settings: Any, engine: Engine | None = None) -> ResultsTable:
        """Open the table, creating it when there is none.

        Raises:
            LakeError: as the catalog and the store report.
        """
        catalog = open_catalog(settings.lake)
        table = TrustedTable.open(catalog, RESULTS_SCHEMA, namespace=ANALYTICS, engine=engine)
        table.evolve(RESULTS_SCHEMA)
        return ResultsTable(table)

    def append(self, results: Sequence[Result], *, old: pa.Table | None = None) -> None:
        """Make results visible, and take ``old`` ones away, in one commit.

        Args:
            old: keys of results; see ``older_than``.
        Raises:
            CommitConflict: another process writes results as well.
        """
        if not results:
            return
        rows = pa.Table.from_pylist(
            [{**asdict(result), "_lsn": result.lsn} for result in results],
            schema=RESULTS_SCHEMA.trusted_schema(),
        )
        held = self.table.position
        position = Position(
            lsn=max([held.lsn, *(result.lsn for result in results)]),
            seq=held.seq + 1,
            generation=1,
            rules=self._writer,  # so that another writer's commit is never taken for this one
        )
        gone = self.table.locate(old) if old is not None and old.num_rows else None
        self.table.commit(add=self.table.write(rows), delete=gone, position=position)


def older_than(lake: QualityLake, before: datetime) -> pa.Table:
    """The keys of results from before a moment, a bounded number of them."""
    kind = pa.schema([RESULTS_SCHEMA.arrow_schema().field(name) for name in RESULTS_SCHEMA.key])
    table = lake.results()
    if table is None:
        return kind.empty_table()
    names = ", ".join(quoted(name) for name in RESULTS_SCHEMA.key)
    sql = f"SELECT DISTINCT {names} FROM {table.relation} WHERE checked_at < ? LIMIT {PRUNED_MAX}"
    return lake.arrow(sql, [before]).cast(kind)


def latest(lake: QualityLake) -> list[Result]:
    """What the last measurement of each table found, by table and check."""
    table = lake.results()
    if table is None:
        return []
    names = ", ".join(quoted(name) for name, _ in _COLUMNS)
    sql = (
        f"SELECT {names} FROM {table.relation} "
        'QUALIFY checked_at = max(checked_at) OVER (PARTITION BY "table") ORDER BY "table", check_id'
    )
    return [Result(*row) for row in lake.rows(sql)]


def earlier_rows(
    lake: QualityLake, table_id: str, metric: str, *, before: datetime, since: datetime | None = None
) -> float | None:
    """How many rows a table had when a metric of it was measured: the last time, or the mean of all since.

    None when it was never measured, or not since then.
    """
    table = lake.results()
    if table is None:
        return None
    times = (
        f'SELECT DISTINCT checked_at, rows_checked FROM {table.relation} WHERE "table" = $1 AND metric = $2 '
        "AND checked_at < $3 AND ($4::TIMESTAMPTZ IS NULL OR checked_at >= $4::TIMESTAMPTZ)"
    )
    if since is None:
        times += " ORDER BY checked_at DESC LIMIT 1"
    ((mean,),) = lake.rows(
        f"SELECT avg(rows_checked)::DOUBLE FROM ({times})", [table_id, metric, before, since]
    )
    return None if mean is None else float(mean)
