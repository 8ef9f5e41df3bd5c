"""``analytics.model_runs``: one row for each run of a model, failed ones too."""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any

import pyarrow as pa

from smartstream.errors import CommitConflict
from smartstream.schema import TRUSTED_LSN, TableSchema
from smartstream.transform.shape import made_column
from smartstream.trusted.catalog import ANALYTICS, LakeCatalog
from smartstream.trusted.engine import Engine
from smartstream.trusted.plan import find_table
from smartstream.trusted.position import Position
from smartstream.trusted.table import TrustedTable

OK, FAILED, UNCHANGED = "ok", "failed", "unchanged"
TABLE = "model_runs"
ATTEMPTS_MAX = 5

_TEXT, _INT, _TIME = pa.string(), pa.int64(), pa.timestamp("us", tz="UTC")
_COLUMNS = {
    "model": _TEXT,
    "run_id": _TEXT,
    "started_at": _TIME,
    "ended_at": _TIME,
    "scheduled_for": _TIME,
    "status": _TEXT,
    "mode": _TEXT,
    "version": _TEXT,
    "sha256": _TEXT,
    "rows_read": _INT,
    "rows_scored": _INT,
    "rows_unchanged": _INT,
    "rows_removed": _INT,
    "rows_quarantined": _INT,
    "watermark": _TEXT,
    "lsn": _INT,
    "drifted": _TEXT,
    "error": _TEXT,
    "message": _TEXT,
}
RUNS_SCHEMA = TableSchema(
    oid=0,
    schema="public",
    name=TABLE,
    columns=tuple(made_column(name, kind) for name, kind in _COLUMNS.items()),
    key=("model", "run_id", "started_at"),
)


@dataclass(frozen=True, slots=True)
class RunReport:
    """One run.

    Attributes:
        run_id: of model, query and input range: the same input gives the same.
        status: ok, failed, or unchanged when there was nothing new to score.
        mode: full, or incremental.
        rows_read: features that were computed.
        rows_unchanged: of these, equal to those of the prediction that is there.
        rows_removed: predictions whose key is gone.
        rows_quarantined: keys whose features or prediction could not be used.
        watermark: table → identity and snapshot, as JSON.
        lsn: the source's position up to which the tables were complete.
        drifted: columns that drifted, with ``, `` between them; None: none, or not measured.
        error: of a failed run.
        message: of a failed run, or what went wrong once the predictions of a good one were there.
    """

    model: str
    run_id: str
    started_at: datetime
    ended_at: datetime
    scheduled_for: datetime | None
    status: str
    mode: str
    version: str
    sha256: str
    rows_read: int = 0
    rows_scored: int = 0
    rows_unchanged: int = 0
    rows_removed: int = 0
    rows_quarantined: int = 0
    watermark: str = "{}"
    lsn: int = 0
    drifted: str | None = None
    error: str | None = None
    message: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        moments = ("started_at", "ended_at", "scheduled_for")
        found = asdict(self)
        return found | {name: found[name].isoformat() if found[name] else None for name in moments}

    def to_json(self) -> str:
        """One line."""
        return json.dumps(self.to_dict())

    @staticmethod
    def from_json(text: str) -> RunReport:
        """Inverse of ``to_json``."""
        found = json.loads(text)
        moments = ("started_at", "ended_at", "scheduled_for")
        return RunReport(
            **found | {name: datetime.fromisoformat(found[name]) if found[name] else None for name in moments}
        )


def record(catalog: LakeCatalog, report: RunReport, engine: Engine) -> None:
    """Add a run; beside runs of other models that end at the same moment."""
    notes = ((_recorded(report.model), _mark(report)),) if report.status == OK else ()
    rows = [{**asdict(report), TRUSTED_LSN: report.lsn}]
    append_rows(catalog, RUNS_SCHEMA, rows, engine, notes=notes)


def record_missing(catalog: LakeCatalog, note: str, engine: Engine) -> None:
    """Record the run that wrote the latest predictions, if its process ended before that.

    Args:
        note: the run as its predictions' commit tells it; empty: there is none.
    """
    if not note:
        return
    report = RunReport.from_json(note)
    table = find_table(catalog, ANALYTICS, TABLE)
    notes = dict(Position.from_properties(table.properties).notes) if table is not None else {}
    if notes.get(_recorded(report.model)) == _mark(report):
        return
    report = replace(report, message="recorded later: it ended with its predictions written, before this row")
    rows = [{**asdict(report), TRUSTED_LSN: report.lsn}]
    mark = ((_recorded(report.model), _mark(report)),)
    # A commit with an unknown outcome may have been recorded as a failure.
    append_rows(catalog, RUNS_SCHEMA, rows, engine, notes=mark, instead=True)


def _recorded(model: str) -> str:
    """The note of ``model_runs`` that says which good run of a model it held last."""
    return f"recorded.{model}"


def _mark(report: RunReport) -> str:
    """One run; its id alone comes again when the same input is scored again."""
    return f"{report.run_id} {report.started_at.isoformat()}"


def append_rows(
    catalog: LakeCatalog,
    schema: TableSchema,
    rows: list[dict[str, Any]] | pa.Table,
    engine: Engine,
    *,
    notes: tuple[tuple[str, str], ...] = (),
    instead: bool = False,
) -> None:
    """Add rows to a table of analytics that several models share.

    Args:
        notes: that are committed with them.
        instead: rows of the same keys go.
    """
    made = rows if isinstance(rows, pa.Table) else pa.Table.from_pylist(rows, schema.trusted_schema())
    for attempt in range(1, ATTEMPTS_MAX + 1):
        table = TrustedTable.open(catalog, schema, namespace=ANALYTICS, engine=engine)
        table.evolve(schema)
        held = table.position
        # A writer's own number, so that another one's commit is never taken for ours.
        position = Position(held.lsn, held.seq + 1, 1, rules=secrets.token_hex(8), notes=notes)
        gone = table.locate(made.select(schema.key)) if instead else None
        try:
            table.commit(add=table.write(made), delete=gone, position=position)
            return
        except CommitConflict:
            if attempt == ATTEMPTS_MAX:
                raise


def runs_of(catalog: LakeCatalog, model: str | None = None) -> list[RunReport]:
    """The runs that are recorded, the latest first."""
    table = find_table(catalog, ANALYTICS, TABLE)
    if table is None:
        return []
    rows = table.scan().to_arrow().select(list(_COLUMNS)).to_pylist()
    found = [RunReport(**row) for row in rows if model is None or row["model"] == model]
    return sorted(found, key=lambda run: run.started_at, reverse=True)


def drift_of(catalog: LakeCatalog, model: str, since: datetime | None = None) -> list[dict[str, Any]]:
    """What was measured of a model: of its last run that was compared, or of all since a moment.

    Returns:
        rows of ``analytics.model_drift``, the latest run first, columns in order of their names.
    """
    table = find_table(catalog, ANALYTICS, "model_drift")
    if table is None:
        return []
    found = table.scan().to_arrow().drop_columns([TRUSTED_LSN]).to_pylist()
    rows = [row for row in found if row["model"] == model]
    if not rows:
        return []
    latest = max(row["measured_at"] for row in rows)
    first = latest if since is None else since
    chosen = [row for row in rows if row["measured_at"] >= first]
    return sorted(chosen, key=lambda row: (-row["measured_at"].timestamp(), row["side"], row["column"]))


def stale_since(runs: Sequence[RunReport]) -> datetime | None:
    """When the predictions of a model ceased to follow its tables: at the first failed run since a good one.

    Rows are not marked for this: a million of them would be written to say one thing.

    Args:
        runs: of one model, the latest first; see ``runs_of``.
    Returns:
        None while the last run has ended well, and before the first.
    """
    since = None
    for run in runs:
        if run.status != FAILED:
            break
        since = run.started_at
    return since
