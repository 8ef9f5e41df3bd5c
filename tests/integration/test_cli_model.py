"""`smartstream model`, as a person would use it: looking at models, trying, running, comparing."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ruamel.yaml import YAML

from smartstream.errors import ExitCode
from tests.integration.command_line import Shop
from tests.model_lake import FEATURES, ModelLake, doubling_model, model

SOURCE = {"url": "postgresql://nobody@127.0.0.1:1/none"}
CHALLENGER = {"uri": "triple.onnx", "version": "new"}
DRIFT = {"rows_min": 1}


class Project(Shop):
    """A folder with trusted tables and a model of them."""

    def __init__(self, folder: Path, seed: str, capsys: pytest.CaptureFixture[str]) -> None:
        super().__init__(folder, SOURCE["url"], capsys)
        doubling_model(folder / "double.onnx")
        doubling_model(folder / "triple.onnx", factor=3.0)
        (folder / "pay.sql").write_text(FEATURES["plain"])
        self.lake = ModelLake(folder, random.Random(seed), [])
        self.people({1: 10, 2: 20, 3: None, 4: 40})
        self.write()

    def people(self, pay: dict[int, int | None]) -> None:
        """The people that there are."""
        touched = set(self.lake.rows["people"]) | {(key,) for key in pay}
        self.lake.rows["people"] = {(key,): (1, value) for key, value in pay.items()}
        self.lake.lsn += 1
        self.lake.commit("people", touched)

    def write(self, **more: Any) -> None:
        """The configuration, with other settings of the model."""
        about = {"version": "old", "challenger": CHALLENGER, "drift": DRIFT, "features": "pay.sql", **more}
        models = [model("pay", **about)]
        with (self.folder / "smartstream.yaml").open("w") as file:
            YAML().dump({"source": SOURCE, "limits": {"threads": 1}, "models": models}, file)


@pytest.fixture
def project(tmp_path: Path, seed: str, capsys: pytest.CaptureFixture[str]) -> Project:
    return Project(tmp_path, seed, capsys)


def test_a_model_is_tried_before_it_runs(project: Project) -> None:
    code, out, _ = project.say("model", "test", "pay")
    assert code == ExitCode.OK
    assert "version old; 4 rows, tables as of 0/1" in out
    assert "→ prediction" in out and "80" in out and "null" in out
    found = project.ask("model", "test", "pay", "--rows", "3")["rows"]
    assert [row["features"] for row in found] == [
        {"id": n, "pay": p} for n, p in ((1, 10), (2, 20), (3, None))
    ]
    assert [row["prediction"]["prediction"] for row in found] == [20.0, 40.0, None]
    assert found[2]["reason"] is not None and found[0]["reason"] is None
    assert [row["features"]["id"] for row in project.ask("model", "test", "pay", "--key", "4")["rows"]] == [4]
    assert project.ask("model", "test", "pay", "--key", "5")["rows"] == []
    assert "its key is id; 2 values are given" in project.refusal(
        "model", "test", "pay", "--key", "4", "--key", "5"
    )
    assert project.ask("model", "runs", "pay")["runs"] == [], "trying leaves nothing"


def test_a_run_is_told_and_kept(project: Project) -> None:
    assert project.ask("model", "ls")["models"] == [{"model": "pay", "status": "never run", "last_run": None}]
    code, out, _ = project.say("model", "run", "pay")
    assert code == ExitCode.OK
    assert "pay: ok, incremental; 3 rows scored, 0 unchanged, 0 removed, 1 in quarantine" in out
    assert project.ask("model", "run", "pay")["status"] == "unchanged"
    project.people({1: 12})
    assert project.ask("model", "run", "pay", "--full")["rows_scored"] == 1
    runs = project.ask("model", "runs", "pay")["runs"]
    assert [run["mode"] for run in runs] == ["full", "incremental"]
    code, out, _ = project.say("model", "ls")
    assert "by hand" in out and "old" in out and "ok" in out


def test_a_failed_run_says_since_when_predictions_are_stale(project: Project) -> None:
    project.ask("model", "run", "pay")
    (project.folder / "double.onnx").write_bytes(b"broken")
    project.people({1: 11})
    message = project.refusal("model", "run", "pay")
    assert "no ONNX model" in message
    assert project.ask("model", "ls")["models"][0]["status"].startswith("stale since ")
    _, out, _ = project.say("model", "runs", "pay")
    assert "failed" in out and "no ONNX model" in out


def test_drift_is_shown_beside_its_limits(project: Project) -> None:
    assert "nothing was compared yet" in project.say("model", "drift", "pay")[1]
    project.people({n: n % 5 + 1 for n in range(1, 300)})
    project.ask("model", "run", "pay")
    assert project.ask("model", "drift", "pay")["drift"] == [], "the first run is the baseline"
    project.people({n: n % 5 + 50 for n in range(1, 300)})
    assert project.ask("model", "run", "pay", "--full")["drifted"] == "pay"
    (row,) = project.ask("model", "drift", "pay")["drift"]
    assert (row["column"], row["passed"]) == ("pay", False)
    assert row["psi"] > 0.25
    project.people({n: n % 5 + 1 for n in range(1, 300)})
    project.ask("model", "run", "pay", "--full")
    (row,) = project.ask("model", "drift", "pay")["drift"]
    assert row["passed"], "the last run alone"
    assert [one["passed"] for one in project.ask("model", "drift", "pay", "--since", "1h")["drift"]] == [
        True,
        False,
    ]
    code, out, _ = project.say("model", "drift", "pay")
    assert code == ExitCode.OK and "limits: psi 0.25" in out and "yes" in out


def test_a_challenger_is_compared_and_promoted(project: Project) -> None:
    project.ask("model", "run", "pay")
    found = project.ask("model", "compare", "pay")
    assert (found["champion"], found["challenger"], found["rows_both"]) == ("old", "new", 3)
    code, out, _ = project.say("model", "compare", "pay")
    assert code == ExitCode.OK and "champion old, challenger new: 3 keys of both" in out
    _, out, _ = project.say("model", "promote", "pay")
    assert "uri: triple.onnx" in out and "challenger: take it out" in out


def test_a_training_set_needs_the_past_of_the_source(project: Project) -> None:
    labels = project.folder / "labels.parquet"
    pq.write_table(pa.table({"id": [1]}), labels)
    message = project.refusal(
        "model", "dataset", "pay", "--labels", str(labels), "--as-of-column", "at", "--to", "set.parquet"
    )
    assert "pay.sql: the lake knows no past of a table people" in message
    assert not (project.folder / "set.parquet").exists()


def test_an_unknown_name_is_guessed(project: Project) -> None:
    for command in (["run"], ["runs"], ["test"], ["drift"], ["compare"], ["promote"]):
        assert "Did you mean pay?" in project.refusal("model", *command, "pey")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"uri": "gone.onnx"}, "gone.onnx"),
        ({"sha256": "0" * 64}, "has the hash"),
        ({"inputs": [{"name": "age"}]}, "age"),
        ({"features": "none.sql"}, "none.sql"),
        ({"key": ["person"]}, "person"),
    ],
)
def test_what_could_not_run_is_found_before_it_runs(
    project: Project, change: dict[str, Any], said: str
) -> None:
    assert project.say("validate")[0] == ExitCode.OK
    project.write(**change)
    assert said in project.refusal("validate")
    checks = json.loads(project.say("doctor", "--json")[1])["checks"]
    (found,) = [one for one in checks if one["name"] == "model pay"]
    assert found["status"] == "fail" and said in found["found"] and found["fix"]


def test_a_schedule_that_is_none_is_blamed_on_its_line(project: Project) -> None:
    project.write(schedule="rate(1 hour)")
    assert project.say("validate")[0] == ExitCode.OK
    project.write(schedule="rate(1 hours)")
    file = project.folder / "smartstream.yaml"
    line = next(n for n, text in enumerate(file.read_text().splitlines(), 1) if "schedule" in text)
    assert f"smartstream.yaml:{line}: models.0.schedule: rate is" in project.refusal("validate")
    project.write(schedule="rate(1 hour)", zone="Europe/Berln")
    assert "models.0.zone: zone is" in project.refusal("validate")


def test_a_model_of_tables_that_are_still_to_come_is_valid_with_a_note(project: Project) -> None:
    (project.folder / "pay.sql").write_text("SELECT id, pay FROM contractors")
    found = project.ask("validate")
    assert "model pay: no trusted table contractors yet: its inputs are not checked" in found["warnings"]
    checks = json.loads(project.say("doctor", "--json")[1])["checks"]
    assert [one["status"] for one in checks if one["name"] == "model pay"] == ["warn"]
