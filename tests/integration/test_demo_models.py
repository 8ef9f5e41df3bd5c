"""The demo's models: made again they are the same, better than a guess, and true to their signature."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import duckdb
import numpy as np
import onnxruntime
import psycopg
import pyarrow as pa
import pytest
import sqlglot
from sqlglot import expressions
from tools import train_demo_models as training

from smartstream.config import Settings
from smartstream.demo import company
from smartstream.demo.predictions import MODELS_FOLDER, install, metrics, model_settings
from smartstream.demo.workload import Workload
from smartstream.inference.config import ModelSettings
from smartstream.query.duckdb import engine
from smartstream.testing.postgres import PostgresServer

NAMES = ("attrition", "salary_anomaly")
SETTINGS = {one["name"]: ModelSettings.model_validate(one) for one in model_settings()}


def predict(path: Path, features: pa.Table) -> np.ndarray:
    """What a model says of rows, (n,)."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    inputs = {
        one.name: features[one.name].to_numpy().astype(float).reshape(-1, 1) for one in session.get_inputs()
    }
    return session.run(None, inputs)[0][:, 0]


@pytest.fixture(scope="module")
def retrained(
    postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SimpleNamespace]:
    """Both models made again from a company of the size they were made from."""
    folder = tmp_path_factory.mktemp("models")
    with psycopg.connect(postgres.url, autocommit=True) as admin:
        admin.execute("CREATE DATABASE training")
        url = postgres.url_of("training")
        company.create(url, training.EMPLOYEES)
        yield SimpleNamespace(
            folder=folder, url=url, metrics=training.train(url, folder), samples=training.read_samples(url)
        )
        admin.execute("DROP DATABASE training WITH (FORCE)")


@pytest.mark.parametrize("name", NAMES)
def test_training_again_gives_the_model_that_is_shipped(retrained: SimpleNamespace, name: str) -> None:
    """The same bytes; with other versions of the libraries, the same predictions."""
    shipped, again = MODELS_FOLDER / f"{name}.onnx", retrained.folder / f"{name}.onnx"
    if metrics()["trained_with"] == retrained.metrics["trained_with"]:
        assert again.read_bytes() == shipped.read_bytes()
        assert retrained.metrics == metrics()
    features = retrained.samples[name].features
    np.testing.assert_allclose(predict(again, features), predict(shipped, features), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_the_shipped_file_is_the_one_that_is_pinned(name: str) -> None:
    content = (MODELS_FOLDER / f"{name}.onnx").read_bytes()
    assert SETTINGS[name].sha256 == hashlib.sha256(content).hexdigest()
    assert len(content) < 200 * 1024


def test_the_models_beat_their_baselines_on_rows_they_did_not_see(retrained: SimpleNamespace) -> None:
    """As told, and as measured once more from what the shipped file answers."""
    for name, measure in (("attrition", "roc_auc"), ("salary_anomaly", "average_precision")):
        told, sample = metrics()[name], retrained.samples[name]
        assert told["model"][measure] > told["baseline"][measure] + 0.2
        score = predict(MODELS_FOLDER / f"{name}.onnx", sample.features)[sample.held_out]
        truth = sample.outcome[sample.held_out]
        scorer = training.roc_auc_score if measure == "roc_auc" else training.average_precision_score
        assert scorer(truth, score) == pytest.approx(told["model"][measure], abs=1e-3)
    told = metrics()["attrition"]
    assert told["model"]["log_loss"] < told["baseline"]["log_loss"] - 0.05
    chance = predict(MODELS_FOLDER / "attrition.onnx", retrained.samples["attrition"].features)
    assert chance.min() >= 0 and chance.max() <= 1
    assert chance.mean() == pytest.approx(retrained.samples["attrition"].outcome.mean(), abs=0.01)


@pytest.mark.parametrize("name", NAMES)
def test_the_signature_is_that_of_model_and_query(retrained: SimpleNamespace, name: str) -> None:
    settings, sample = SETTINGS[name], retrained.samples[name]
    session = onnxruntime.InferenceSession(MODELS_FOLDER / f"{name}.onnx")
    assert [one.name for one in session.get_inputs()] == [one.name for one in settings.inputs]
    assert sample.features.column_names == [*settings.key, *(one.name for one in settings.inputs)]
    assert sample.features["employee_id"].to_pylist() == list(range(1, training.EMPLOYEES + 1))
    for one in settings.inputs:
        column = sample.features[one.name]
        assert column.type == pa.float64()
        assert one.nullable or not column.null_count, one.name
        values = column.drop_null().to_numpy()
        assert one.minimum is not None and one.maximum is not None
        assert one.minimum <= values.min() and values.max() <= one.maximum, one.name
    assert sample.features["rating"].null_count, "the model learned what to do without a rating"


@pytest.mark.parametrize("name", NAMES)
def test_the_query_is_plain_sql_that_athena_knows_too(name: str) -> None:
    text = (MODELS_FOLDER / f"{name}.sql").read_text()
    tree = sqlglot.parse_one(text, read="athena", error_level=sqlglot.ErrorLevel.RAISE)
    assert not list(tree.find_all(expressions.Anonymous)), "functions that only one of them has"
    duck = sqlglot.parse_one(text, read="duckdb")
    assert {table.name for table in tree.find_all(expressions.Table)} == {
        table.name for table in duck.find_all(expressions.Table)
    }
    banned = (expressions.CurrentDate, expressions.CurrentTimestamp, expressions.Rand)
    assert not list(tree.find_all(*banned)), "the same rows give the same features, whenever"
    assert "left_on" not in {column.name for column in tree.find_all(expressions.Column)}


def test_features_do_not_depend_on_the_order_of_the_rows(seed: str) -> None:
    """A sum of doubles would; then a person whose row never changed would be scored again."""
    rng = np.random.default_rng(int.from_bytes(hashlib.sha256(seed.encode()).digest()[:8], "big"))
    count = 3000
    days = {
        "employee_id": pa.array(rng.integers(1, 20, count), pa.int32()),
        "day": pa.array(np.arange(count), pa.int32()).cast(pa.date32()),
        "hours": pa.array(rng.integers(0, 1200, count) / 100),
    }
    found = []
    for _ in range(2):
        connection = _small_company()
        connection.register("attendance", pa.table(days).take(rng.permutation(count)))
        query = (MODELS_FOLDER / "attrition.sql").read_text()
        found.append(connection.sql(query).order("employee_id").fetchall())
    assert found[0] == found[1]
    assert len(found[0]) == 18


def _small_company() -> duckdb.DuckDBPyConnection:
    """Nineteen people, one of whom has left."""
    connection = engine(SimpleNamespace(duckdb_memory=1 << 30, threads=2))
    connection.execute(
        "CREATE TABLE departments AS SELECT 1 AS id, 50000::decimal(10,2) AS reference_pay,"
        " DATE '2026-03-20' AS reviewed"
    )
    connection.execute(
        "CREATE TABLE employees AS SELECT n::int AS id, 1 AS department_id, 60000::decimal(10,2) AS salary,"
        " 4::smallint AS grade, 3.5::real AS rating, TIMESTAMPTZ '2020-01-01 00:00+00' AS hired,"
        " 'contract' AS employment, n != 7 AS active FROM range(1, 20) t(n)"
    )
    connection.execute(
        "CREATE TABLE salaries AS SELECT n::int AS employee_id, DATE '2024-01-01' AS valid_from"
        " FROM range(1, 20) t(n)"
    )
    return connection


@pytest.mark.parametrize("name", NAMES)
def test_after_work_in_the_company_the_query_still_keeps_its_promises(database: str, name: str) -> None:
    """People were hired, left and got raises; a column was added, another renamed."""
    company.create(database, 1000)
    Workload(database, rows=1000, rate=100_000).run(threading.Event(), 1.5)
    settings = Settings.model_validate({"source": {"url": database}, "lake": {"warehouse": "lake"}})
    tables = training.trusted_tables(settings)
    assert "job_title" in tables["employees"].column_names
    connection = engine(settings.limits)
    for table, rows in tables.items():
        connection.register(table, rows)
    features = connection.sql((MODELS_FOLDER / f"{name}.sql").read_text()).to_arrow_table()
    active = connection.sql("SELECT id FROM employees WHERE active ORDER BY 1").fetchall()
    assert sorted(features["employee_id"].to_pylist()) == [number for (number,) in active]
    for one in SETTINGS[name].inputs:
        column = features[one.name]
        assert one.nullable or not column.null_count, one.name
        values = column.drop_null().to_numpy()
        assert one.minimum is not None and one.maximum is not None
        assert one.minimum <= values.min() and values.max() <= one.maximum, one.name
    assert np.isfinite(predict(MODELS_FOLDER / f"{name}.onnx", features)).all()


def test_the_models_say_what_one_would_expect() -> None:
    person = {
        "tenure_years": [4.0, 4.0, 4.0],
        "pay_ratio": [1.2, 0.7, 1.2],
        "grade": [4.0, 4.0, 4.0],
        "rating": [4.5, 4.5, None],
        "hours_a_day": [8.0, 8.0, 9.5],
        "years_same_pay": [0.5, 0.5, 0.5],
        "on_contract": [0.0, 0.0, 0.0],
    }
    content, underpaid, overworked = predict(MODELS_FOLDER / "attrition.onnx", pa.table(person))
    assert content < 0.15 < min(underpaid, overworked)
    pay = {
        "salary": [58_000.0, 5_800.0, 90_000.0],
        "reference_pay": [50_000.0] * 3,
        "grade": [4.0] * 3,
        "rating": [None, 3.0, 3.0],
        "tenure_years": [2.0] * 3,
    }
    table = pa.table({name: pa.array(values, pa.float64()) for name, values in pay.items()})
    usual, missing_digit, high = predict(MODELS_FOLDER / "salary_anomaly.onnx", table)
    assert usual < 2 < 4 < high < missing_digit


def test_a_project_gets_what_its_settings_name(tmp_path: Path) -> None:
    install(tmp_path)
    for one in SETTINGS.values():
        assert (tmp_path / one.uri).is_file()
        assert (tmp_path / one.features).is_file()
