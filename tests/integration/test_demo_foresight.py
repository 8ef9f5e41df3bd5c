"""The demo shows what its models put first, where that comes from, and has a reason to score again."""

from __future__ import annotations

import io
import re
import sys
from itertools import zip_longest
from pathlib import Path

import duckdb
import onnxruntime
import psycopg
import pyarrow as pa
import pytest
from rich.console import Console

from smartstream.config import Settings
from smartstream.demo import company, foresight, run
from smartstream.demo.display import Display, command
from smartstream.demo.foresight import Score, first, raise_pay, told
from smartstream.demo.predictions import MODELS_FOLDER
from smartstream.demo.run import write_settings
from smartstream.inference.config import ModelSettings
from smartstream.query import open_lake
from smartstream.trusted.catalog import open_catalog
from tests.running_pipeline import running, wait_until

SHA = "e5a4" * 16


@pytest.fixture
def lake() -> duckdb.DuckDBPyConnection:
    """Nine people of one department, with a prediction each; the last two are even."""
    connection = duckdb.connect()
    connection.execute("CREATE SCHEMA analytics")
    connection.execute(
        "CREATE TABLE departments AS SELECT 1 AS id, 'Sales' AS name, 50000::decimal(10,2) AS reference_pay"
    )
    connection.execute(
        "CREATE TABLE employees AS SELECT n::int AS id, 'Employee ' || n AS name, 1 AS department_id,"
        " 3 AS grade, 45000.5::decimal(10,2) AS salary,"
        " CASE WHEN n = 8 THEN NULL ELSE 3.25::real END AS rating FROM range(1, 10) t(n)"
    )
    for model in ("attrition", "salary_anomaly"):
        connection.execute(
            f"CREATE TABLE analytics.{model} AS SELECT n::int AS employee_id,"
            f" least(n, 8) / 10.0::double AS prediction,"
            f" '{{\"employees\": [\"a table\", ' || 700 + n || ']}}' AS _source_snapshots,"
            f" 416 AS _lsn, '{SHA}' AS _model_sha256 FROM range(1, 10) t(n)"
        )
    return connection


@pytest.mark.parametrize("model", ["attrition", "salary_anomaly"])
def test_the_highest_come_first_with_the_lineage_of_the_first(
    lake: duckdb.DuckDBPyConnection, model: str
) -> None:
    found = first(lake, model)
    assert found.employees == [8, 9, 7, 6, 5]
    assert found.columns[0] == "employee"
    assert [row[-1] for row in found.rows] == ["0.8", "0.8", "0.7", "0.6", "0.5"]
    assert found.lineage is not None
    assert (found.lineage.snapshot_id, found.lineage.lsn, found.lineage.sha256) == (708, 416, SHA)


def test_a_lake_without_predictions_shows_none(lake: duckdb.DuckDBPyConnection) -> None:
    lake.execute("DELETE FROM analytics.attrition")
    found = first(lake, "attrition")
    assert found.rows == () and found.lineage is None and found.employees == []


def test_the_display_says_how_to_ask_for_more(lake: duckdb.DuckDBPyConnection) -> None:
    display = Display()
    display.console = Console(file=io.StringIO(), width=120)
    display.show_first(first(lake, "attrition"), Path("a project"))
    assert isinstance(display.console.file, io.StringIO)
    shown = display.console.file.getvalue()
    assert "Employee 8" in shown and "Employee 4" not in shown
    assert f"trusted snapshot 708, source LSN 0/1A0, model {SHA[:12]}." in shown
    assert "cd 'a project' && " in shown and "smartstream why analytics.attrition 8" in shown
    assert "risk" in shown


def test_a_command_is_told_so_that_the_shell_finds_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "smartstream"
    program.touch(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert command() == "smartstream"
    program.unlink()
    assert Path(command()).parent == Path(sys.executable).parent


def test_a_model_is_told_with_its_baseline() -> None:
    assert "never saw (baseline 0.50: the ratio of those who left" in told("attrition")
    assert told("salary_anomaly").startswith("average precision 0.9")


def test_a_raise_is_one_transaction_over_two_tables(database: str) -> None:
    company.create(database, 50)
    statement = "SELECT sum(salary) FROM employees WHERE id IN (3, 9)"
    with psycopg.connect(database, autocommit=True) as connection:
        (before,) = connection.execute(statement).fetchone() or (0,)
        lsn = raise_pay(database, [3, 9])
        (after,) = connection.execute(statement).fetchone() or (0,)
        assert float(after) == pytest.approx(float(before) * 1.2, abs=0.02)
        assert connection.execute("SELECT count(*) FROM salaries").fetchone() == (52,)
        reached = connection.execute("SELECT pg_current_wal_insert_lsn() - '0/0' > %s", (lsn,)).fetchone()
        assert reached == (True,)


def stand_in(settings: Settings, calls: list[tuple[str, str, int]]) -> Score:
    """Scores everybody, whatever the mode, and counts what has changed since the last time."""

    def score(model: ModelSettings, mode: str) -> int:
        with open_lake(settings) as lake:
            query = (MODELS_FOLDER / f"{model.name}.sql").read_text()
            features = lake.sql(query).order("employee_id").to_arrow_table()
        session = onnxruntime.InferenceSession(MODELS_FOLDER / f"{model.name}.onnx")
        inputs = {
            one.name: features[one.name].to_numpy().astype(float).reshape(-1, 1) for one in model.inputs
        }
        output = pa.table(
            {
                "employee_id": features["employee_id"],
                "prediction": session.run(None, inputs)[0][:, 0].astype(float),
                "_source_snapshots": ['{"employees": ["a table", 7]}'] * len(features),
                "_lsn": pa.array([416] * len(features), pa.int64()),
                "_model_sha256": [model.sha256] * len(features),
            }
        )
        catalog = open_catalog(settings.lake)
        table = catalog.create_table_if_not_exists(("analytics", model.name), output.schema)
        before = table.scan().to_arrow()["prediction"].to_pylist()
        table.overwrite(output) if before else table.append(output)
        changed = sum(a != b for a, b in zip_longest(before, output["prediction"].to_pylist()))
        calls.append((model.name, mode, changed))
        return changed

    return score


def test_the_demo_scores_everybody_then_those_who_got_a_raise(database: str, tmp_path: Path) -> None:
    company.create(database, 2000)
    settings = write_settings(tmp_path, database)
    calls: list[tuple[str, str, int]] = []
    score = stand_in(settings, calls)
    display = Display()
    display.console = Console(file=io.StringIO(), width=200)
    with running(settings.model_copy(update={"models": ()})) as pipeline:  # as the demo does
        wait_until(pipeline.ready)
        found = {name: best for name, (best, _) in run._foresee(settings, display, score).items()}
        run._score_again(
            settings,
            display,
            score,
            found["attrition"],
            lambda lsn: wait_until(lambda: pipeline.progress().applied_lsn >= lsn),
        )
    (_, _, everybody), (_, _, as_many), again = calls
    assert 1500 < everybody == as_many < 2000, "those who have left are not scored"
    assert again == ("attrition", "incremental", 5)
    risks = [float(row[-1]) for row in found["attrition"].rows]
    assert risks == sorted(risks, reverse=True) and risks[0] > 0.5
    assert isinstance(display.console.file, io.StringIO)
    shown = display.console.file.getvalue()
    was, now = re.search(r"was at (\d\.\d+) and is at (\d\.\d+)", shown).groups()  # type: ignore[union-attr]
    assert float(now) < float(was) - 0.1
    for question in foresight.QUESTIONS.values():
        assert question in shown
