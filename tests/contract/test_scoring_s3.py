"""Scoring in S3 with Glue's catalog: the same runs as in a folder, and leases instead of file locks."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from smartstream.config import Lake
from smartstream.errors import ModelBusy
from smartstream.inference.compare import compare
from smartstream.inference.leases import Leases
from smartstream.raw.store import open_store
from tests.contract.s3_emulator import S3Emulator
from tests.model_lake import FEATURES, TABLES, ModelLake, doubling_model, model


@pytest.fixture(scope="module")
def aws() -> Iterator[S3Emulator]:
    """S3 and Glue on 127.0.0.1."""
    emulator = S3Emulator()
    yield emulator
    emulator.stop()


@pytest.fixture
def lake(aws: S3Emulator, tmp_path: Path, seed: str) -> ModelLake:
    """A project whose lake lies in a bucket."""
    made = aws.lake("lake/")
    bucket = made.warehouse.removeprefix("s3://").partition("/")[0]
    properties = {
        "glue.endpoint": aws.url,
        "glue.region": "us-east-1",
        "glue.access-key-id": "testing",
        "glue.secret-access-key": "testing",
        "database_prefix": f"{bucket}_".replace("-", "_"),
    }
    catalog = {"type": "glue", "properties": properties}
    doubling_model(tmp_path / "double.onnx")
    doubling_model(tmp_path / "triple.onnx", factor=3.0)
    (tmp_path / "f.sql").write_text(FEATURES["grouped"])
    models = [
        model("m", "f.sql", keep="both", challenger={"uri": "triple.onnx"}),
        model("every", "f.sql", mode="full"),
    ]
    there = Lake.model_validate({**made.model_dump(), "catalog": catalog, "s3": made.s3})
    return ModelLake(tmp_path, random.Random(seed), models, there)


def test_incremental_equals_full(lake: ModelLake) -> None:
    for name in TABLES:
        lake.change(name, 30)
    for _ in range(2):
        lake.run("m")
        lake.run("every")
        good = {key: value for key, (value, stale) in lake.predictions("m").items() if not stale}
        assert good == {key: value for key, (value, stale) in lake.predictions("every").items() if not stale}
        lake.change("days", 2)
    assert lake.run("m").rows_read < 8
    assert compare(lake.settings, lake.settings.models[0], catalog=lake.catalog).rows_both > 0


def test_a_lease_keeps_a_second_run_out(lake: ModelLake) -> None:
    lake.change("people", 5)
    lake.change("days", 5)
    leases = Leases(open_store(lake.settings.lake), clock=lambda: lake.now, lease_s=3600)
    with leases.hold("m"), pytest.raises(ModelBusy):
        lake.run("m")
    assert lake.run("m").status == "ok"
