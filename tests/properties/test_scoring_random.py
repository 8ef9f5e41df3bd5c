"""Scoring only what changed gives what scoring everything gives, whatever has changed."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from smartstream.trusted.maintenance import maintain
from tests.model_lake import FEATURES, TABLES, ModelLake, doubling_model, model


@pytest.mark.parametrize("features", FEATURES)
def test_incremental_equals_full(features: str, seed: str, tmp_path: Path) -> None:
    rng = random.Random(f"{seed}/{features}")
    doubling_model(tmp_path / "double.onnx")
    (tmp_path / "f.sql").write_text(FEATURES[features])
    lake = ModelLake(
        tmp_path, rng, [model("some", "f.sql", keep="both"), model("every", "f.sql", mode="full")]
    )
    for name in TABLES:
        lake.change(name, 30)
    unchanged = incremental = 0
    for _ in range(8):
        report = lake.run("some")
        unchanged += report.rows_unchanged
        incremental += report.rows_read
        lake.run("every")
        good = {key: value for key, (value, stale) in lake.predictions("some").items() if not stale}
        everything = {key: value for key, (value, stale) in lake.predictions("every").items() if not stale}
        assert good == everything
        held = {row["id"] for row in lake.read("some_quarantine")}
        assert held == {row["id"] for row in lake.read("every_quarantine")}
        last: dict[int, dict[str, object]] = {}
        for row in sorted(lake.read("some_history"), key=lambda row: str(row["_predicted_at"])):
            last[row["id"]] = row
        open_rows = {key: row["prediction"] for key, row in last.items() if row["_closed_at"] is None}
        assert {key: open_rows.get(key) for key in good} == good
        for name in rng.sample(list(TABLES), rng.randint(0, 2)):
            lake.change(name, rng.randint(1, 3))
        if rng.random() < 0.3:
            maintain(lake.tables[rng.choice(list(TABLES))], lake.settings, lambda: lake.now)
    assert incremental > 0
