"""Runs that end in the middle, take too long or meet what nobody foresaw: what is there afterwards."""

from __future__ import annotations

import random
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import pytest

from smartstream.errors import CommitConflict, ModelTimeout, SignatureMismatch
from smartstream.inference.predict import Predictor
from smartstream.inference.runs import runs_of, stale_since
from tests.model_lake import FEATURES, ModelLake, doubling_model, model

CHALLENGER = {"uri": "triple.onnx", "version": "new"}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    doubling_model(tmp_path / "double.onnx")
    doubling_model(tmp_path / "triple.onnx", factor=3.0)
    (tmp_path / "f.sql").write_text(FEATURES["plain"])
    return tmp_path


def put(lake: ModelLake, pay: dict[int, int | None]) -> None:
    """Let the table of people be these."""
    touched = {(key,) for key in pay} | set(lake.rows["people"])
    old = lake.rows["people"]
    new = {(key,): (1, value) for key, value in pay.items()}
    touched = {key for key in touched if old.get(key) != new.get(key)}
    lake.rows["people"] = new
    lake.lsn += 1
    lake.commit("people", touched)


class Cut(Exception):
    """The process ends here."""


def cut_before_the_last_commit(lake: ModelLake, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that writes every table but the last one."""
    commit = Predictor._commit

    def cut(self: Predictor, *arguments: Any) -> None:
        if self._latest.table.name == "m":
            raise Cut
        commit(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Predictor, "_commit", cut)
        with pytest.raises(Cut):
            lake.run("m")


@pytest.mark.parametrize("moves_on", [False, True], ids=["same input", "input moves on"])
def test_a_run_cut_off_between_its_tables_is_as_if_it_had_not_been(
    moves_on: bool, project: Path, seed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = ModelLake(project, random.Random(seed), [model("m", "f.sql", keep="both", challenger=CHALLENGER)])
    first = {key: key for key in range(1, 40)}
    put(lake, first)
    lake.run("m")
    put(lake, first | {1: 50, 2: None, 3: 30, 70: 10, 71: None})
    cut_before_the_last_commit(lake, monkeypatch)
    assert lake.predictions("m")[1] == (2.0, False)
    if moves_on:  # and back: rows that came and went are nowhere to be seen
        put(lake, first | {3: 31})
    again = lake.run("m")
    expected = {key: (2.0 * pay, False) for key, pay in first.items()} | {3: (62.0, False)}
    if not moves_on:
        expected |= {1: (100.0, False), 2: (4.0, True), 3: (60.0, False), 70: (20.0, False)}
    assert lake.predictions("m") == expected
    assert {k: v * 1.5 for k, (v, stale) in expected.items() if not stale} == {
        k: v for k, (v, stale) in lake.predictions("m_challenger").items() if not stale
    }
    assert {row["id"] for row in lake.read("m_quarantine")} == (set() if moves_on else {2, 71})
    runs = [row["_run_id"] for row in lake.read("m_history")]
    assert set(runs) == {run.run_id for run in runs_of(lake.catalog) if run.status == "ok"}
    assert runs.count(again.run_id) == again.rows_scored


class NoLocks:
    """What keeps nobody out."""

    def hold(self, name: str) -> AbstractContextManager[None]:
        return nullcontext()


def test_of_two_runs_past_the_lock_one_commits(
    project: Path, seed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = ModelLake(project, random.Random(seed), [model("m", "f.sql", keep="both")])
    put(lake, {1: 5, 2: 6})
    commit, inner = Predictor._commit, []

    def overtaken(self: Predictor, *arguments: Any) -> None:
        if not inner:
            inner.append(None)
            put(lake, {1: 7, 2: 6, 3: 8})
            inner.append(lake.run("m", locks=NoLocks()))
        commit(self, *arguments)

    monkeypatch.setattr(Predictor, "_commit", overtaken)
    with pytest.raises(CommitConflict):
        lake.run("m", locks=NoLocks())
    assert lake.predictions("m") == {1: (14.0, False), 2: (12.0, False), 3: (16.0, False)}
    put(lake, {1: 9})
    lake.run("m")
    assert lake.predictions("m") == {1: (18.0, False)}
    assert len({(row["id"], row["_run_id"]) for row in lake.read("m_history")}) == len(lake.read("m_history"))


def test_predictions_are_stale_since_the_first_run_that_failed(project: Path, seed: str) -> None:
    lake = ModelLake(project, random.Random(seed), [model("m", "f.sql")])
    assert stale_since(runs_of(lake.catalog, "m")) is None
    put(lake, {1: 5})
    lake.run("m")
    assert stale_since(runs_of(lake.catalog, "m")) is None
    (project / "f.sql").write_text("SELECT id FROM people")
    moments = []
    for pay in (6, 7):
        put(lake, {1: pay})
        with pytest.raises(SignatureMismatch):
            lake.run("m")
        moments.append(lake.now)
    assert stale_since(runs_of(lake.catalog, "m")) == moments[0]
    (project / "f.sql").write_text(FEATURES["plain"])
    lake.run("m")
    assert stale_since(runs_of(lake.catalog, "m")) is None


def test_a_run_that_takes_too_long_is_ended(project: Path, seed: str) -> None:
    lake = ModelLake(
        project, random.Random(seed), [model("m", "f.sql"), model("slow", "f.sql", timeout=1e-6)]
    )
    put(lake, {1: 5})
    with pytest.raises(ModelTimeout, match="slow"):
        lake.run("slow")
    assert (runs_of(lake.catalog)[0].status, runs_of(lake.catalog)[0].error) == ("failed", "ModelTimeout")
    assert lake.run("m").status == "ok"


def test_an_error_that_nobody_foresaw_is_recorded_without_its_text(
    project: Path, seed: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    lake = ModelLake(project, random.Random(seed), [model("m", "f.sql")])
    put(lake, {1: 5})

    def fail(*_: object) -> None:
        raise ValueError("canary value")

    monkeypatch.setattr(Predictor, "_chunk", fail)
    with pytest.raises(ValueError, match="canary"):
        lake.run("m")
    run = runs_of(lake.catalog)[0]
    assert (run.status, run.error) == ("failed", "ValueError")
    assert run.message is not None and "canary" not in run.message
    assert "canary" not in caplog.text
    assert any(getattr(one, "event", "") == "model_failed" for one in caplog.records)


def test_closed_predictions_outlive_a_full_run(project: Path, seed: str) -> None:
    lake = ModelLake(project, random.Random(seed), [model("m", "f.sql", on_delete="close")])
    put(lake, {1: 5, 2: 6})
    lake.run("m")
    put(lake, {2: 6})
    gone = lake.run("m").started_at
    put(lake, {2: 7})
    lake.run("m", mode="full")
    assert {row["id"]: row["_closed_at"] for row in lake.read("m")} == {1: gone, 2: None}
    put(lake, {1: 8, 2: 7})
    lake.run("m", mode="full")
    assert {row["id"]: row["_closed_at"] for row in lake.read("m")} == {1: None, 2: None}


def test_a_key_of_two_columns_in_letters_of_their_own(project: Path, seed: str) -> None:
    (project / "days.sql").write_text(
        'SELECT d.person AS "Who", d.day AS "Day", d.hours + coalesce(p.pay, 0) AS pay '
        "FROM days d LEFT JOIN people p ON p.id = d.person"
    )
    lake = ModelLake(project, random.Random(seed), [model("m", "days.sql", key=["Who", "Day"], keep="both")])
    lake.change("days", 30)
    lake.change("people", 8)
    for _ in range(6):
        lake.run("m")
        people, days = lake.rows["people"], lake.rows["days"]
        pay = {key: (row[0], (people.get(key[:1]) or (0, 0))[1] or 0) for key, row in days.items()}
        good = {key: 2.0 * (hours + more) for key, (hours, more) in pay.items() if hours is not None}
        good = {key: value for key, value in good.items() if value <= 120}
        found = {(r["Who"], r["Day"]): r["prediction"] for r in lake.read("m") if r["_stale"] is None}
        assert found == good
        lake.change(lake.rng.choice(["days", "people"]), 2)
