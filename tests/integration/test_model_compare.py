"""A champion beside its challenger: how far they agree, and what promoting means."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from smartstream.errors import ModelMissing
from smartstream.inference.compare import compare, promotion
from smartstream.inference.config import ModelSettings
from tests.model_lake import FEATURES, ModelLake, doubling_model, model


def people(lake: ModelLake, pay: dict[int, int | None]) -> None:
    """Let the table of people be these."""
    touched = set(lake.rows["people"]) | {(key,) for key in pay}
    lake.rows["people"] = {(key,): (1, value) for key, value in pay.items()}
    lake.lsn += 1
    lake.commit("people", touched)


@pytest.fixture
def lake(tmp_path: Path, seed: str) -> ModelLake:
    doubling_model(tmp_path / "double.onnx")
    doubling_model(tmp_path / "triple.onnx", factor=3.0)
    (tmp_path / "f.sql").write_text(FEATURES["plain"])
    challenger = {"uri": "triple.onnx", "version": "new"}
    return ModelLake(
        tmp_path, random.Random(seed), [model("m", "f.sql", challenger=challenger, version="old")]
    )


def test_differences_are_measured_over_the_keys_that_both_have(lake: ModelLake) -> None:
    people(lake, {1: 10, 2: 20, 3: 60})
    lake.run("m")
    found = compare(lake.settings, lake.settings.models[0], catalog=lake.catalog)
    assert (found.champion, found.challenger) == ("old", "new")
    assert (found.rows_both, found.rows_champion_only, found.rows_challenger_only) == (3, 0, 0)
    (column,) = found.columns
    assert (column.column, column.agreement) == ("prediction", 0)
    assert (column.champion_mean, column.challenger_mean) == (60, 90)
    assert (column.difference_mean, column.difference_abs_max) == (30, 60)
    assert column.correlation == pytest.approx(1)
    assert found.to_dict()["columns"][0]["difference_abs_mean"] == 30


def test_stale_predictions_do_not_count(lake: ModelLake) -> None:
    people(lake, {1: 10, 2: 20})
    lake.run("m")
    people(lake, {1: 10, 2: None})
    lake.run("m")
    assert compare(lake.settings, lake.settings.models[0], catalog=lake.catalog).rows_both == 1


def test_without_predictions_there_is_nothing_to_compare(lake: ModelLake) -> None:
    with pytest.raises(ModelMissing, match="champion"):
        compare(lake.settings, lake.settings.models[0], catalog=lake.catalog)


def test_promoting_puts_the_challenger_in_the_place_of_the_model(lake: ModelLake) -> None:
    (one,) = lake.settings.models
    assert promotion(one) == {"uri": "triple.onnx", "sha256": None, "version": "new", "challenger": None}
    changed = one.model_dump(exclude_none=True) | promotion(one)
    assert ModelSettings.model_validate(changed).challenger is None
    with pytest.raises(ModelMissing, match="no challenger"):
        promotion(ModelSettings.model_validate(changed))
