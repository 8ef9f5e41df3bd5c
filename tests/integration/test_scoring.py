"""One run of a model: what it writes, what it leaves alone, what it says when it can't."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from smartstream.errors import (
    FeaturesInvalid,
    InferenceError,
    ModelBusy,
    ModelHashMismatch,
    ModelMissing,
    SignatureMismatch,
)
from smartstream.inference.runs import runs_of
from tests.model_lake import FEATURES, TABLES, ModelLake, doubling_model, model


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with a model and the plain query."""
    doubling_model(tmp_path / "double.onnx")
    (tmp_path / "f.sql").write_text(FEATURES["plain"])
    return tmp_path


def lake_of(project: Path, seed: str, *models: dict[str, Any], rows: int = 20) -> ModelLake:
    """A lake with some rows in each table."""
    lake = ModelLake(project, random.Random(seed), list(models))
    for name in TABLES:
        lake.change(name, rows)
    return lake


def put(lake: ModelLake, rows: dict[int, tuple[int | None, ...]]) -> None:
    """Let the table of people be these."""
    touched = set(lake.rows["people"]) | {(key,) for key in rows}
    lake.rows["people"] = {(key,): values for key, values in rows.items()}
    lake.lsn += 1
    lake.commit("people", touched)


def test_a_second_run_of_the_same_input_changes_nothing(project: Path, seed: str) -> None:
    lake = lake_of(project, seed, model("m", "f.sql", keep="both"))
    first = lake.run("m")
    assert first.status == "ok" and first.rows_scored > 0
    tables = ["m", "m_history", "model_runs", "m_quarantine", "model_profile"]
    before = {name: lake.read(name) for name in tables}
    assert lake.run("m").status == "unchanged"
    assert lake.run("m", mode="full").status == "unchanged"
    assert {name: lake.read(name) for name in tables} == before


def test_a_prediction_says_where_it_comes_from(project: Path, seed: str) -> None:
    lake = lake_of(project, seed, model("m", "f.sql"))
    report = lake.run("m")
    row = lake.read("m")[0]
    snapshot = lake.catalog.load_table(("trusted", "people")).current_snapshot()
    assert snapshot is not None
    assert json.loads(row["_source_snapshots"])["people"][1] == snapshot.snapshot_id
    assert row["_run_id"] == report.run_id and row["_lsn"] == report.lsn > 0
    assert row["_model_sha256"] == report.sha256 and len(report.sha256) == 64
    (run,) = runs_of(lake.catalog, "m")
    assert run == report


@pytest.mark.parametrize("on_delete", ["remove", "close"])
def test_a_key_that_is_gone_has_no_prediction(on_delete: str, project: Path, seed: str) -> None:
    lake = lake_of(project, seed, model("m", "f.sql", on_delete=on_delete, keep="both"))
    put(lake, {1: (1, 5), 2: (1, 6)})
    lake.run("m")
    put(lake, {2: (1, 6)})
    report = lake.run("m")
    assert (report.rows_scored, report.rows_unchanged, report.rows_removed) == (0, 1, 1)
    found = {row["id"]: row["_closed_at"] for row in lake.read("m")}
    assert set(found) == ({2} if on_delete == "remove" else {1, 2})
    assert found.get(1) == (None if on_delete == "remove" else report.started_at)
    closed = [row for row in lake.read("m_history") if row["_closed_at"] is not None]
    assert [row["id"] for row in closed] == [1]
    put(lake, {1: (1, 5), 2: (1, 6)})
    assert lake.run("m").rows_scored == 1
    assert all(row["_closed_at"] is None for row in lake.read("m"))


def test_bad_features_keep_the_previous_prediction_marked(project: Path, seed: str) -> None:
    lake = lake_of(project, seed, model("m", "f.sql"))
    put(lake, {1: (1, 5), 2: (1, 6)})
    lake.run("m")
    put(lake, {1: (1, None), 2: (1, 6), 3: (1, 77)})
    report = lake.run("m")
    assert (report.rows_scored, report.rows_quarantined) == (0, 2)
    assert {r["id"]: (r["prediction"], r["_stale"]) for r in lake.read("m")} == {
        1: (10.0, "pay is null"),
        2: (12.0, None),
    }
    reasons = {row["id"]: row["_reason"] for row in lake.read("m_quarantine")}
    assert reasons == {1: "pay is null", 3: "pay is too large"}
    put(lake, {1: (1, 5), 2: (1, 6)})
    lake.run("m")
    assert lake.read("m_quarantine") == [] and lake.predictions("m") == {1: (10.0, False), 2: (12.0, False)}


def test_a_changed_model_scores_everything_again(project: Path, seed: str) -> None:
    lake = lake_of(project, seed, model("m", "f.sql"))
    put(lake, {1: (1, 5), 2: (1, 6)})
    lake.run("m")
    doubling_model(project / "double.onnx", factor=3.0)
    assert lake.run("m").rows_scored == 2
    assert lake.predictions("m") == {1: (15.0, False), 2: (18.0, False)}
    (project / "f.sql").write_text("SELECT id, pay + 1 AS pay FROM people")
    lake.run("m")
    assert lake.predictions("m") == {1: (18.0, False), 2: (21.0, False)}


def test_a_challenger_is_scored_beside_the_champion(project: Path, seed: str) -> None:
    doubling_model(project / "triple.onnx", factor=3.0)
    lake = lake_of(project, seed, model("m", "f.sql", challenger={"uri": "triple.onnx"}))
    put(lake, {1: (1, 5)})
    lake.run("m")
    assert lake.predictions("m") == {1: (10.0, False)}
    assert lake.predictions("m_challenger") == {1: (15.0, False)}
    put(lake, {1: (1, 6)})
    lake.run("m")
    assert lake.predictions("m_challenger") == {1: (18.0, False)}


@pytest.mark.parametrize(
    ("sql", "more", "error", "says"),
    [
        (None, {}, FeaturesInvalid, "cannot read"),
        ("SELEKT 1", {}, FeaturesInvalid, "f.sql"),
        ("SELECT 1; SELECT 2", {}, FeaturesInvalid, "one SELECT"),
        ("DELETE FROM people", {}, FeaturesInvalid, "one SELECT"),
        ("SELECT id, pay FROM nobody", {}, FeaturesInvalid, "no trusted table nobody"),
        ("SELECT id, wage AS pay FROM people", {}, FeaturesInvalid, "wage"),
        ("SELECT pay FROM people", {}, FeaturesInvalid, "id, its key"),
        ("SELECT team AS id, pay FROM people", {}, FeaturesInvalid, "key"),
        ("SELECT id, pay, now() AS t FROM people", {}, FeaturesInvalid, "current_timestamp|now"),
        ("SELECT id, random() AS pay FROM people", {}, FeaturesInvalid, "random"),
        ("SELECT * FROM read_csv('/etc/passwd')", {}, FeaturesInvalid, "read_csv|not a table"),
        ("SELECT id, pay FROM analytics.m", {}, FeaturesInvalid, "trusted tables only"),
        ("SELECT id, pay::VARCHAR AS pay FROM people", {}, SignatureMismatch, "pay"),
        ("SELECT id, team FROM people", {}, SignatureMismatch, "pay is missing"),
        (FEATURES["plain"], {"sha256": "0" * 64}, ModelHashMismatch, "hash"),
        (FEATURES["plain"], {"uri": "none.onnx"}, ModelMissing, "none.onnx"),
    ],
)
def test_what_is_wrong_is_said_recorded_and_leaves_the_predictions(
    sql: str | None, more: dict[str, Any], error: type[InferenceError], says: str, project: Path, seed: str
) -> None:
    lake = lake_of(project, seed, model("m", "f.sql"))
    put(lake, {1: (1, 5), 2: (1, 6)})
    lake.run("m")
    wrong = ModelLake(project, random.Random(seed), [model("m", "f.sql", **more)])
    path = project / "f.sql"
    path.unlink() if sql is None else path.write_text(sql)
    with pytest.raises(error, match=says):
        wrong.run("m")
    last = runs_of(lake.catalog, "m")[0]
    assert (last.status, last.error) == ("failed", error.__name__)
    assert lake.predictions("m") == {1: (10.0, False), 2: (12.0, False)}


def test_two_runs_of_a_model_exclude_each_other(project: Path, seed: str) -> None:
    from smartstream.inference.locks import FileLocks

    lake = lake_of(project, seed, model("m", "f.sql"))
    folder = Path(lake.settings.lake.warehouse) / "control" / "models"
    with FileLocks(folder).hold("m"), pytest.raises(ModelBusy):
        lake.run("m")
    assert lake.run("m").status == "ok"


KILLED = """
import random, sys
from pathlib import Path
from tests.model_lake import ModelLake, model
lake = ModelLake(Path(sys.argv[1]), random.Random(1), [model("m", "f.sql", keep="both", chunk_rows=50)])
print("ready", flush=True)
lake.run("m")
print("done", flush=True)
"""


def test_a_killed_run_is_done_again_and_gives_the_same(project: Path, seed: str) -> None:
    rng = random.Random(seed)
    lake = lake_of(project, seed, model("m", "f.sql", keep="both"), model("other", "f.sql"))
    for round_number in range(4):
        changed = {key: (1, rng.randint(1, 60)) for key in range(1, 2000) if rng.random() < 0.8}
        put(lake, changed)
        process = subprocess.Popen(
            [sys.executable, "-c", KILLED, str(project)],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        assert process.stdout is not None and process.stdout.readline() == b"ready\n"
        time.sleep(rng.uniform(0, 0.8))
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        lake.run("m")
        lake.run("other", mode="full")
        assert lake.predictions("m") == lake.predictions("other"), f"round {round_number}"
        assert lake.predictions("m") == {key: (2.0 * pay, False) for key, (_, pay) in changed.items()}


def test_drift_is_noticed_and_kept(project: Path, seed: str) -> None:
    rng = random.Random(seed)
    lake = lake_of(project, seed, model("m", "f.sql"))
    put(lake, {key: (1, rng.randint(1, 30)) for key in range(1, 1000)})
    assert lake.run("m", mode="full").drifted is None
    put(lake, {key: (1, rng.randint(1, 30)) for key in range(1, 1000)})
    assert lake.run("m", mode="full").drifted is None
    put(lake, {key: (1, rng.randint(25, 60)) for key in range(1, 1000)})
    assert lake.run("m", mode="full").drifted == "pay"
    last = max(lake.read("model_drift"), key=lambda row: row["measured_at"])
    assert last["column"] == "pay" and last["passed"] is False and last["psi"] > 0.25
