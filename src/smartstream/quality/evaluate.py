"""Measure trusted tables and hold the numbers against what they must be."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from smartstream.errors import ConfigInvalid, QualityStop
from smartstream.quality.config import Metric, Named, OnFail, QualityCheck, named
from smartstream.quality.lake import OpenTable, QualityLake
from smartstream.quality.metrics import count_sql, duplicates_sql, orphans_sql
from smartstream.quality.results import Result, earlier_rows
from smartstream.quality.threshold import holds, threshold_text
from smartstream.schema import TableSchema
from smartstream.sql_text import literal

DAYS_OF_MEAN = 7.0


@dataclass(frozen=True, slots=True)
class _Measured:
    """A number, or why there is none.

    Attributes:
        fine: there is no number, and that is no failure.
    """

    value: float | None
    rows: int
    reason: str | None = None
    fine: bool = False


def evaluate(
    lake: QualityLake, checks: Mapping[str, Sequence[QualityCheck]], clock: Callable[[], datetime]
) -> list[Result]:
    """Measure every check of every table.

    One scan of a table counts all its null, missing and invalid values; duplicates and
    foreign keys take a query each.  Checks that send rows to the quarantine count the rows
    that are there because of them.  A check that can't be measured has failed.

    Args:
        checks: ``schema.name`` → its checks.  A table that is not in the lake yet is left out.
        clock: UTC now; all results of a call bear the same moment.
    Raises:
        LakeError: the lake cannot be read.
    """
    now = clock()
    found = []
    for table_id, of_table in checks.items():
        table = lake.trusted(lake_name(lake, table_id))
        if table is not None and table.snapshot_id is not None and of_table:
            found.extend(_Turn(lake, table_id, table, now).results(of_table))
    return found


def lake_name(lake: QualityLake, table_id: str) -> str:
    """The name of the source table ``schema.name`` in the lake; both parts may have dots of their own."""
    parts = table_id.split(".")
    splits = [(".".join(parts[:count]), ".".join(parts[count:])) for count in range(1, len(parts))]
    names = [TableSchema(0, schema, name, (), ()).lake_name for schema, name in splits]
    for name in names[1:]:
        table = lake.trusted(name)
        if table is not None and table.schema.id == table_id:
            return name
    return names[0]


def stop_of(results: Sequence[Result]) -> QualityStop | None:
    """The error to raise when a check failed whose ``on_fail`` is stop; None if none did."""
    failed = [result for result in results if not result.passed and result.on_fail == OnFail.STOP]
    if not failed:
        return None
    named_checks = ", ".join(f"{one.check_id} of {one.table} ({one.threshold})" for one in failed)
    return QualityStop(f"quality checks failed that stop the pipeline: {named_checks}")


class _Turn:
    """The measurement of one table."""

    def __init__(self, lake: QualityLake, table_id: str, table: OpenTable, now: datetime) -> None:
        self._lake, self._id, self._table, self._now = lake, table_id, table, now

    def results(self, checks: Sequence[QualityCheck]) -> list[Result]:
        """One result for each check."""
        all_named = named(checks)
        scanned = self._scan(all_named)
        held = self._held(all_named)
        return [self._result(one, self._measured(one, scanned, held)) for one in all_named]

    def _scan(self, checks: Sequence[Named]) -> dict[str, float | str | None]:
        """The numbers that one scan gives, or what is wrong with the check; "" is the row count."""
        expressions, found = {"": "count(*)"}, dict[str, float | str | None]()
        for name, check in checks:
            if check.metric in (Metric.DUPLICATE_VALUES, Metric.FOREIGN_KEY):
                continue
            try:
                expressions[name] = count_sql(check, self._table.types)
            except ConfigInvalid as error:
                found[name] = str(error)
        sql = f"SELECT {', '.join(expressions.values())} FROM {self._table.relation}"
        return found | dict(zip(expressions, self._lake.rows(sql)[0], strict=True))

    def _held(self, checks: Sequence[Named]) -> dict[str, int]:
        """Rows in the quarantine because of each check that sends some there; "" is all of them."""
        names = [name for name, check in checks if check.on_fail in (OnFail.QUARANTINE, OnFail.DROP)]
        table = self._lake.quarantine(self._table.schema.lake_name) if names else None
        if table is None or table.snapshot_id is None or "_violations" not in table.types:
            return dict.fromkeys(["", *names], 0)
        rules = "json_extract_string(_violations, '$[*].rule')"
        counts = [f"count(*) FILTER (WHERE list_contains({rules}, {literal(name)}))" for name in names]
        sql = f"SELECT {', '.join(['count(*)', *counts])} FROM {table.relation}"
        return dict(zip(["", *names], self._lake.rows(sql)[0], strict=True))

    def _measured(
        self, one: Named, scanned: Mapping[str, float | str | None], held: Mapping[str, int]
    ) -> _Measured:
        """The number of one check."""
        name, check = one
        rows = int(scanned[""] or 0)
        if check.metric in (Metric.DUPLICATE_VALUES, Metric.FOREIGN_KEY):
            return self._queried(check, rows)
        number = scanned[name]
        if isinstance(number, str):
            return _Measured(None, rows, number)
        if check.metric is Metric.FRESHNESS:
            return self._age(check, number, rows)
        if check.metric is Metric.VOLUME:
            return self._volume(check, rows)
        if name in held:
            rows += held[""]
            number = (number or 0) + held[name]
        return _Measured(_in_unit(check, number or 0, rows), rows)

    def _queried(self, check: QualityCheck, rows: int) -> _Measured:
        """Duplicates and foreign keys: a query of their own."""
        table = self._table
        try:
            if check.metric is Metric.DUPLICATE_VALUES:
                sql = duplicates_sql(check, table.types, table.relation)
            else:
                other = self._lake.trusted(lake_name(self._lake, str(check.arguments.table)))
                if other is None:
                    return _Measured(None, rows, f"there is no trusted table {check.arguments.table}")
                key = other.schema.key
                sql = orphans_sql(check, table.types, table.relation, other.relation, other.types, key)
        except ConfigInvalid as error:
            return _Measured(None, rows, str(error))
        return _Measured(_in_unit(check, self._lake.rows(sql)[0][0], rows), rows)

    def _age(self, check: QualityCheck, latest: float | None, rows: int) -> _Measured:
        """Seconds since the latest time in a column, or since rows last changed."""
        if check.column is None and self._table.applied_at is not None:
            latest = self._table.applied_at.timestamp()
        if latest is None:
            return _Measured(None, rows, "there is no time to measure from")
        return _Measured(self._now.timestamp() - latest, rows)

    def _volume(self, check: QualityCheck, rows: int) -> _Measured:
        """Rows now, as a ratio of those before."""
        since = None
        if check.arguments.against == "mean":
            since = self._now - timedelta(days=check.arguments.days or DAYS_OF_MEAN)
        mean = earlier_rows(self._lake, self._id, check.metric, before=self._now, since=since)
        if mean is None:
            return _Measured(None, rows, "there is no earlier measurement", fine=True)
        if not mean:
            return _Measured(None, rows, "the table was empty before", fine=True)
        return _Measured(rows / mean, rows)

    def _result(self, one: Named, measured: _Measured) -> Result:
        """The number, judged."""
        name, check = one
        bounds = check.bounds
        passed = measured.fine
        if measured.value is not None:
            passed = holds(check.operator, bounds, measured.value)
        return Result(
            table=self._id,
            check_id=name,
            metric=check.metric,
            column=", ".join(check.names) or None,
            value=measured.value,
            threshold=threshold_text(check.operator, bounds),
            unit=check.measured_in,
            passed=passed,
            severity=check.severity,
            on_fail=check.on_fail,
            reason=measured.reason,
            rows_checked=measured.rows,
            snapshot_id=self._table.snapshot_id,
            lsn=self._table.position.lsn,
            checked_at=self._now,
            rules_version=self._table.position.rules,
        )


def _in_unit(check: QualityCheck, count: float, rows: int) -> float:
    """A count of rows in the check's unit."""
    if check.unit == "rows":
        return float(count)
    return 100.0 * count / rows if rows else 0.0
