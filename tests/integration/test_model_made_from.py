"""Which predictions a row has a part in: ``why TABLE KEY`` from the row's side."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from smartstream.cli import main
from smartstream.errors import ExitCode
from smartstream.inference.made_from import SHOWN_MAX, MadeFrom, made_from
from smartstream.query import why
from tests.model_lake import FEATURES, ModelLake, doubling_model, model

MODELS = [model("own", "plain.sql"), model("team", "joined.sql"), model("any", "together.sql")]


@pytest.fixture
def lake(tmp_path: Path, seed: str) -> ModelLake:
    """Twelve people of team 1 and one of team 2, scored."""
    doubling_model(tmp_path / "double.onnx")
    for name, sql in FEATURES.items():
        (tmp_path / f"{name}.sql").write_text(sql)
    made = ModelLake(tmp_path, random.Random(seed), MODELS)
    made.rows["people"] = {(key,): (1 if key < 13 else 2, key) for key in range(1, 14)}
    made.rows["teams"] = {(1,): (None, 5), (2,): (None, 6)}
    made.lsn += 1
    for name, rows in made.rows.items():
        made.commit(name, {*rows, *([(99, 1)] if name == "days" else [])})
    for one in MODELS:
        made.run(one["name"])
    return made


def told(lake: ModelLake, table: str, key: str) -> dict[str, MadeFrom]:
    return {one.model: one for one in made_from(lake.settings, table, key)}


def test_a_row_leads_to_the_predictions_made_from_it(lake: ModelLake) -> None:
    found = told(lake, "public.people", "3")
    (own,) = found["own"].predictions
    (row,) = [row for row in lake.read("own") if row["id"] == 3]
    assert (own["key"], own["values"], own["run_id"]) == ({"id": "3"}, {"prediction": 6.0}, row["_run_id"])
    assert found["own"].count == 1 and found["team"].predictions[0]["values"] == {"prediction": 16.0}
    assert found["any"].unknown is not None, "an average over the team, of which no key can be told apart"


def test_a_row_of_a_joined_table_leads_to_all_of_its_predictions(lake: ModelLake) -> None:
    found = told(lake, "public.teams", "1")
    assert list(found) == ["team"], "the others do not read it"
    assert (found["team"].count, len(found["team"].predictions)) == (12, SHOWN_MAX)
    assert [one["key"]["id"] for one in told(lake, "public.teams", "id=2")["team"].predictions] == ["13"]
    assert told(lake, "public.teams", "77")["team"].count == 0


def test_a_model_that_cannot_run_is_told_beside_the_others(lake: ModelLake) -> None:
    assert lake.settings._path is not None
    (lake.settings._path.parent / "plain.sql").unlink()
    found = told(lake, "public.people", "3")
    assert found["own"].unknown is not None and found["team"].count == 1


def test_why_shows_them(
    lake: ModelLake, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert lake.settings._path is not None
    folder = lake.settings._path.parent
    with (folder / "smartstream.yaml").open("w") as file:
        source: dict[str, Any] = {"url": "postgresql://unused"}
        YAML().dump(
            {"source": source, "lake": {"warehouse": str(folder / "lake")}, "models": MODELS[:2]}, file
        )
    monkeypatch.setattr(why, "why", lambda *_: why.Why("public.teams", []))
    assert main(["-C", str(folder), "why", "teams", "1"]) == ExitCode.OK
    out = capsys.readouterr().out
    assert "analytics.team: 12 predictions from this row, the first 10" in out
    assert "id=1: prediction = 12.0; run " in out
    assert main(["-C", str(folder), "why", "teams", "2", "--json"]) == ExitCode.OK
    (found,) = json.loads(capsys.readouterr().out)["predictions"]
    assert (found["table"], found["count"]) == ("analytics.team", 1)
