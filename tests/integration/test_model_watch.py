"""What comes after the predictions' commit: drift, and the run's record, also when they fail at first."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from smartstream.errors import StoreUnavailable
from smartstream.inference import watch
from smartstream.inference.runs import runs_of, stale_since
from tests.model_lake import FEATURES, ModelLake, doubling_model, model

KILLED = """
import os, random, signal, sys
from pathlib import Path
from smartstream.inference import score
from tests.model_lake import ModelLake, model

def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

if sys.argv[2] == "measured":
    score.record = die
else:
    score.watch.Watch.is_due = die
ModelLake(Path(sys.argv[1]), random.Random(1), [model("m", "f.sql")]).run("m")
"""


@pytest.fixture
def lake(tmp_path: Path, seed: str) -> ModelLake:
    """A thousand people, and a model that has not run."""
    doubling_model(tmp_path / "double.onnx")
    (tmp_path / "f.sql").write_text(FEATURES["plain"])
    made = ModelLake(tmp_path, random.Random(seed), [model("m", "f.sql")])
    put(made, {key: 1 + key % 30 for key in range(1, 1000)})
    return made


def put(lake: ModelLake, pay: dict[int, int]) -> None:
    """Let some people have this pay."""
    lake.rows["people"] |= {(key,): (1, value) for key, value in pay.items()}
    lake.lsn += 1
    lake.commit("people", {(key,) for key in pay})


def fail(*_: object, **__: object) -> None:
    raise StoreUnavailable("no space is left")


def killed(lake: ModelLake, folder: Path, moment: str) -> None:
    """A run in a process of its own that is killed after the predictions' commit."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    found = subprocess.run([sys.executable, "-c", KILLED, str(folder), moment], env=environment, check=False)
    assert found.returncode == -9
    lake.now += timedelta(minutes=1)  # as the killed run's own clock


def test_a_run_that_cannot_be_measured_has_succeeded(
    lake: ModelLake, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(watch, "append_rows", fail)
        report = lake.run("m")
    assert (report.status, report.drifted, report.error) == ("ok", None, None)
    assert report.message == "drift is not known: StoreUnavailable: no space is left"
    assert runs_of(lake.catalog, "m") == [report]
    assert stale_since([report]) is None
    assert "model_not_watched" in [getattr(one, "event", "") for one in caplog.records]
    assert len(lake.predictions("m")) == 999
    assert lake.run("m").status == "unchanged"
    assert [row["rows"] for row in lake.read("model_profile")] == [999], "measured by the next run"
    lake.run("m")
    assert len(lake.read("model_profile")) == 1, "and once"


def test_drift_that_takes_too_long_leaves_the_run_as_it_is(
    lake: ModelLake, monkeypatch: pytest.MonkeyPatch
) -> None:
    def endless(self: watch.Watch, *_: object) -> None:
        self._connection.sql(
            "SELECT sum(a.range + b.range) FROM range(10000000) a, range(100000) b"
        ).fetchall()

    def due(self: watch.Watch, **_: object) -> bool:
        self._settings.__dict__["timeout"] = 0.3  # from here on: the predictions are committed
        return True

    monkeypatch.setattr(watch.Watch, "is_due", due)
    monkeypatch.setattr(watch.Watch, "measure", endless)
    report = lake.run("m")
    assert report.status == "ok" and "ModelTimeout" in (report.message or "")


def test_changed_keys_alone_are_neither_baseline_nor_compared(
    lake: ModelLake, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(watch, "append_rows", fail)
        lake.run("m")
    put(lake, dict.fromkeys(range(1, 9), 50))
    report = lake.run("m")
    assert (report.rows_scored, report.drifted) == (8, None)
    (row,) = lake.read("model_profile")
    assert (row["rows"], row["is_baseline"]) == (999, True), "of all keys, though eight were scored"
    put(lake, dict.fromkeys(range(1, 300), 55))
    assert lake.run("m").drifted is None
    assert len(lake.read("model_profile")) == 1, "not yet due"
    lake.now += timedelta(days=1)
    put(lake, {1: 56})
    report = lake.run("m")
    assert (report.rows_scored, report.drifted) == (1, "pay")
    (row,) = lake.read("model_drift")
    assert row["rows"] == 999


@pytest.mark.parametrize("moment", ["predictions", "measured"])
def test_a_run_killed_before_it_is_recorded_is_recorded_by_the_next(
    moment: str, lake: ModelLake, tmp_path: Path
) -> None:
    killed(lake, tmp_path, moment)
    assert len(lake.predictions("m")) == 999 and runs_of(lake.catalog) == []
    assert lake.run("m").status == "unchanged"
    (run,) = runs_of(lake.catalog)
    assert (run.status, run.rows_scored, run.mode) == ("ok", 999, "incremental")
    assert run.message is not None and run.message.startswith("recorded later")
    assert {row["_run_id"] for row in lake.read("m")} == {run.run_id}
    lake.run("m")
    put(lake, {1: 2})
    last = lake.run("m")
    assert runs_of(lake.catalog) == [last, run], "each once"
    assert [row["rows"] for row in lake.read("model_profile")] == [999]
