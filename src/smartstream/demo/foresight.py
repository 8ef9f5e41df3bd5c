"""What the demo's models say of the company: who may leave, whose salary looks like a mistake.

The walk: ``first`` asks the lake for the predictions that a model puts first, with where they
come from; ``told`` says how good it is; ``raise_pay`` gives a reason to score again.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import duckdb
import psycopg

from smartstream.demo.predictions import PREDICTION, metrics
from smartstream.inference.config import ModelSettings
from smartstream.sql_text import quoted

FIRST = 5
"""Rows shown of each model."""

_LINEAGE = "p._source_snapshots, p._lsn, p._model_sha256"
_PEOPLE = (
    "{} p JOIN employees e ON e.id = p.employee_id JOIN departments d ON d.id = e.department_id"
    " ORDER BY p.{} DESC, p.employee_id LIMIT {}"
)
_SHOWN = {
    "attrition": "p.employee_id AS employee, e.name, d.name AS department, e.grade, e.salary,"
    " round(CAST(e.rating AS double), 1) AS rating, round(p.{}, 3) AS risk",
    "salary_anomaly": "p.employee_id AS employee, e.name, d.name AS department, e.grade, e.salary,"
    " d.reference_pay, round(p.{}, 1) AS deviations",
}
QUESTIONS = {
    "attrition": "Who is most likely to leave?",
    "salary_anomaly": "Whose salary looks like a mistake?",
}


class Score(Protocol):
    """Runs a model over the lake; returns how many rows it scored."""

    def __call__(self, model: ModelSettings, mode: Literal["full", "incremental"]) -> int: ...


@dataclass(frozen=True, slots=True)
class Lineage:
    """Where a prediction comes from.

    Attributes:
        snapshot_id: Iceberg snapshot of the trusted employees that was read.
        lsn: of the source, up to which the features know it.
        sha256: of the model's file.
    """

    snapshot_id: int
    lsn: int
    sha256: str


@dataclass(frozen=True, slots=True)
class First:
    """The rows that a model puts first.

    Attributes:
        columns: names of what each row shows; the first is the employee's number, the last the score.
        rows: best first, as text.
        lineage: of the first row; None when there is no row.
    """

    model: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    lineage: Lineage | None

    @property
    def employees(self) -> list[int]:
        """Numbers of the employees shown."""
        return [int(row[0]) for row in self.rows]


def first(lake: duckdb.DuckDBPyConnection, model: str, count: int = FIRST) -> First:
    """Return the ``count`` highest predictions of a model, with who they are about."""
    shown = _SHOWN[model].format(PREDICTION)
    people = _PEOPLE.format(f"analytics.{model}", PREDICTION, count)
    answer = lake.execute(f"SELECT {shown}, {_LINEAGE} FROM {people}")
    columns = tuple(str(column[0]) for column in answer.description or ())[:-3]
    rows: Sequence[tuple[Any, ...]] = answer.fetchall()
    return First(
        model,
        columns,
        tuple(tuple(str(value) for value in row[:-3]) for row in rows),
        _lineage(*rows[0][-3:]) if rows else None,
    )


def _lineage(snapshots: str, lsn: int, sha256: str) -> Lineage:
    """The snapshots are those of every table that was read: name → identity of the table, snapshot."""
    _, snapshot_id = json.loads(snapshots)["employees"]
    return Lineage(snapshot_id, lsn, sha256)


def score_of(lake: duckdb.DuckDBPyConnection, model: str, employee: int) -> float:
    """Return the prediction about one employee."""
    column, table = quoted(PREDICTION), f"analytics.{quoted(model)}"
    row = lake.execute(f"SELECT {column} FROM {table} WHERE employee_id = ?", [employee]).fetchone()
    assert row is not None, "who is active has a prediction"
    return float(row[0])


def told(model: str) -> str:
    """How good a model is on people whom its training did not see, beside its baseline, in a sentence."""
    one = metrics()[model]
    name = str(one["metric"]).lower().replace(" ", "_")
    return (
        f"{one['metric']} {one['model'][name]:.2f} on {one['rows_held_out']:,} people it never saw"
        f" (baseline {one['baseline'][name]:.2f}: {one['baseline_is']})"
    )


def raise_pay(url: str, employees: Sequence[int]) -> int:
    """Raise some salaries by a fifth, in one transaction; return an LSN that it lies beyond."""
    with psycopg.connect(url) as connection:
        connection.execute(
            "UPDATE employees SET salary = least(salary * 1.2, 9999999) WHERE id = ANY(%s)",
            (list(employees),),
        )
        connection.execute(
            """INSERT INTO salaries SELECT id, '2026-03-01', salary, 'raise' FROM employees WHERE id = ANY(%s)
               ON CONFLICT (employee_id, valid_from) DO UPDATE SET amount = excluded.amount""",
            (list(employees),),
        )
        row = connection.execute("SELECT pg_current_wal_insert_lsn() - '0/0'").fetchone()
    assert row is not None
    return int(row[0])
