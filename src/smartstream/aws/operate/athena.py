"""Questions to Athena, in the stack's workgroup."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from smartstream.aws.operate.calls import Aws
from smartstream.aws.operate.stack import StackOutputs
from smartstream.aws.operate.waiting import Patience
from smartstream.errors import AthenaFailed

EVERY_S = 0.5
_OVER = {"SUCCEEDED", "FAILED", "CANCELLED"}


@dataclass(frozen=True, slots=True)
class Answer:
    """The result of a query.

    Attributes:
        columns: names in order; empty for a statement without a result.
        rows: texts in the columns' order, None for null; read page by page, once.
        scanned_bytes: what AWS bills.
        engine_ms: how long Athena worked on it.
    """

    query_id: str
    columns: tuple[str, ...]
    rows: Iterator[tuple[str | None, ...]]
    scanned_bytes: int
    engine_ms: int


def ask(
    aws: Aws, stack: StackOutputs, statement: str, patience: Patience, *, zone: str = "trusted"
) -> Answer:
    """Run a statement, wait for its end, and return its result.

    Whatever ends the wait early, Ctrl-C among it, cancels the query.

    Args:
        zone: whose database names without one are looked up in.
    Raises:
        AthenaFailed: Athena refuses the statement, or it was cancelled; Athena's reason is in the message.
        AwsTooSlow: it takes too long; it has been cancelled.
    """
    workgroup = stack.text("athena_workgroup")
    databases = stack.mapping("glue_databases")
    if zone not in databases:
        raise AthenaFailed(f"there is no zone {zone}", hint=f"Zones are {', '.join(sorted(databases))}.")
    started = aws.change(
        "athena",
        "start_query_execution",
        f"workgroup {workgroup}",
        QueryString=statement,
        WorkGroup=workgroup,
        QueryExecutionContext={"Database": databases[zone]},
    )
    if aws.is_dry:
        return Answer("", (), iter(()), 0, 0)
    query_id = str(started["QueryExecutionId"])
    try:
        done: dict[str, Any] = patience.until("the query", lambda: _ended(aws, query_id))
    except BaseException:
        aws.change("athena", "stop_query_execution", query_id, QueryExecutionId=query_id)
        raise
    status = done["Status"]
    if status["State"] != "SUCCEEDED":
        reason = status.get("StateChangeReason") or status["State"].lower()
        raise AthenaFailed(f"Athena: {' '.join(str(reason).split())}")
    statistics = done.get("Statistics", {})
    columns, rows = _result(aws, query_id, is_select=done.get("StatementType", "DML") == "DML")
    return Answer(
        query_id,
        columns,
        rows,
        int(statistics.get("DataScannedInBytes") or 0),
        int(statistics.get("EngineExecutionTimeInMillis") or 0),
    )


def _ended(aws: Aws, query_id: str) -> tuple[dict[str, Any] | None, str]:
    """The query's description once it has ended."""
    found = aws.ask("athena", "get_query_execution", query_id, QueryExecutionId=query_id)["QueryExecution"]
    state = str(found["Status"]["State"])
    return (found if state in _OVER else None), state.lower()


def _result(
    aws: Aws, query_id: str, *, is_select: bool
) -> tuple[tuple[str, ...], Iterator[tuple[str | None, ...]]]:
    """Names of the columns, and the rows; a SELECT's first row repeats the names."""
    first = aws.ask("athena", "get_query_results", query_id, QueryExecutionId=query_id)
    described = first["ResultSet"].get("ResultSetMetadata", {}).get("ColumnInfo", ())
    names = tuple(str(one["Name"]) for one in described)
    return names, _rows(aws, query_id, first, names, is_select=is_select)


def _rows(
    aws: Aws, query_id: str, first: dict[str, Any], names: tuple[str, ...], *, is_select: bool
) -> Iterator[tuple[str | None, ...]]:
    """All rows, page by page."""
    page, is_first = first, True
    while True:
        rows = [
            tuple(cell.get("VarCharValue") for cell in row.get("Data", ()))
            for row in page["ResultSet"]["Rows"]
        ]
        if is_first and is_select and rows and rows[0] == names:
            rows = rows[1:]
        yield from rows
        token, is_first = page.get("NextToken"), False
        if not token:
            return
        page = aws.ask("athena", "get_query_results", query_id, QueryExecutionId=query_id, NextToken=token)
