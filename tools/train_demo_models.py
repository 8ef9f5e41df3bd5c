"""Train the demo's two models on its own sample data and write them beside their feature queries.

    .venv/bin/python tools/train_demo_models.py

Needs scikit-learn and skl2onnx, which the demo itself does not. The same libraries give the
same bytes each time: the data is drawn from hashes, the split follows from the key, one
thread adds up, and what was learned is rounded before it is written.

Both models are linear, as the formulas are that drew the data; boosted trees and an
isolation forest were tried and did no better on the held-out rows.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import sys
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import psycopg
import pyarrow as pa
from onnx import TensorProto, helper, numpy_helper
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType
from sklearn.impute import SimpleImputer
from sklearn.linear_model import HuberRegressor, LogisticRegression
from sklearn.metrics import average_precision_score, log_loss, roc_auc_score
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from smartstream.capture.catalog import discover
from smartstream.capture.connect import adbc_connect, connect
from smartstream.capture.values import from_snapshot, snapshot_expression
from smartstream.config import Settings
from smartstream.demo import company
from smartstream.demo.predictions import MODELS_FOLDER, PREDICTION
from smartstream.query.duckdb import engine
from smartstream.sql_text import quoted
from smartstream.testing.postgres import PostgresServer
from smartstream.transform.rows import trusted_rows

EMPLOYEES = 30_000
TABLES = ("departments", "employees", "salaries", "attendance")
OPSET = {"": 17, "ai.onnx.ml": 3}
DIGITS = 5  # of what is learned; more would differ from one processor to the next
LIBRARIES = ("numpy", "onnx", "scikit-learn", "skl2onnx")
MAD_TO_DEVIATION = 1.4826  # of a normal distribution


@dataclass(frozen=True, slots=True)
class Sample:
    """Rows of a feature query with what became of them.

    Attributes:
        features: one row a person, sorted by key; the key comes first.
        outcome: (n,) whether the person left, or is paid by mistake.
        held_out: (n,) rows that no training sees, about a fifth.
    """

    features: pa.Table
    outcome: np.ndarray
    held_out: np.ndarray

    @property
    def names(self) -> list[str]:
        """The inputs, without the key."""
        return list(self.features.column_names[1:])

    def columns(self, *names: str) -> np.ndarray:
        """(n, len(names)) float64; null is NaN."""
        return np.column_stack([self.features[name].to_numpy().astype(float) for name in names])


def read_samples(url: str) -> dict[str, Sample]:
    """Run both feature queries over the company's tables, typed as the lake has them."""
    settings = Settings.model_validate({"source": {"url": url}, "lake": {"warehouse": "lake"}})
    tables = trusted_tables(settings)
    employees = tables["employees"]
    left = employees.filter(employees["left_on"].is_valid())["id"].to_numpy()
    # The features are those of the day when the outcome was not known: all were still there.
    here = pa.array(np.ones(len(employees), dtype=bool))
    tables["employees"] = employees.drop_columns("active").append_column("active", here)
    with psycopg.connect(url) as connection:
        statement = f"SELECT n FROM generate_series(1, {EMPLOYEES}) n WHERE {company.MISPAID}"
        mispaid = np.array([n for (n,) in connection.execute(statement.encode())])
    connection = engine(settings.limits)
    for name, table in tables.items():
        connection.register(name, table)
    samples = {}
    for name, keys in (("attrition", left), ("salary_anomaly", mispaid)):
        query = (MODELS_FOLDER / f"{name}.sql").read_text(encoding="utf-8")
        features = connection.sql(query).order("employee_id").to_arrow_table()
        ids = features["employee_id"].to_numpy()
        held_out = np.array([zlib.crc32(str(key).encode()) % 5 == 0 for key in ids])
        samples[name] = Sample(features, np.isin(ids, keys), held_out)
    return samples


def trusted_tables(settings: Settings) -> dict[str, pa.Table]:
    """The tables as a snapshot copy brings them into the lake."""
    with connect(settings.source) as connection:
        found = {schema.name: schema for schema in discover(connection, lambda _: True).tables}
    tables = {}
    with adbc_connect(settings.source) as connection, connection.cursor() as cursor:
        for name in TABLES:
            schema = found[name]
            columns = ", ".join(snapshot_expression(column) for column in schema.columns)
            cursor.execute(f"SELECT {columns} FROM {quoted(schema.schema)}.{quoted(name)}")
            tables[name] = trusted_rows(from_snapshot(cursor.fetch_arrow_table(), schema, 0), schema)
    return tables


def train_attrition(sample: Sample) -> tuple[onnx.ModelProto, dict[str, Any]]:
    """A logistic regression; its baseline says the same ratio of everybody."""
    x, y, seen = sample.columns(*sample.names), sample.outcome, ~sample.held_out
    pipeline = _fit(LogisticRegression(tol=1e-8, max_iter=1000), x[seen], y[seen])
    chance = pipeline.predict_proba(x[~seen])[:, 1]
    base = np.full(len(chance), y[seen].mean())
    metrics = {
        "metric": "ROC AUC",
        "model": {"roc_auc": roc_auc_score(y[~seen], chance), "log_loss": log_loss(y[~seen], chance)},
        "baseline": {"roc_auc": 0.5, "log_loss": log_loss(y[~seen], base)},
        "baseline_is": "the ratio of those who left, for everybody",
    }
    return _attrition_graph(pipeline, sample.names), metrics


def train_salary_anomaly(sample: Sample) -> tuple[onnx.ModelProto, dict[str, Any]]:
    """How far a salary is from what the rest earn; its baseline is its distance from the mean.

    Nobody tells the regression which salaries are mistakes; it bears them (Huber's loss).
    """
    inputs = [name for name in sample.names if name != "salary"]
    x, y, seen = sample.columns(*inputs), sample.outcome[sample.held_out], ~sample.held_out
    x[:, inputs.index("reference_pay")] = np.log(x[:, inputs.index("reference_pay")])
    salary = sample.columns("salary")[:, 0]
    pipeline = _fit(HuberRegressor(tol=1e-8, max_iter=1000), x[seen], np.log(salary[seen]))
    away = np.abs(np.log(salary) - pipeline.predict(x))
    deviation = float(np.round(MAD_TO_DEVIATION * np.median(away[seen]), DIGITS))
    plain = np.abs(salary - salary[seen].mean()) / salary[seen].std()
    metrics = {
        "metric": "average precision",
        "model": _ranking(y, away[~seen] / deviation),
        "baseline": _ranking(y, plain[~seen]),
        "baseline_is": "the z-score of the salary alone",
    }
    return _anomaly_graph(pipeline, inputs, deviation), metrics


def _ranking(y: np.ndarray, score: np.ndarray) -> dict[str, Any]:
    """How well a score puts what is true first; k is how many there are."""
    k = int(y.sum())
    top = np.argsort(-score, kind="stable")[:k]
    return {
        "average_precision": average_precision_score(y, score),
        "precision_at_k": float(y[top].mean()),
        "k": k,
    }


def _fit(estimator: Any, x: np.ndarray, y: np.ndarray) -> Pipeline:
    """Fit it after filling in nulls and scaling; round all that was learned."""
    pipeline = make_pipeline(SimpleImputer(strategy="median"), StandardScaler(), estimator).fit(x, y)
    imputer, scaler, _ = (step for _, step in pipeline.steps)
    for step, name in (
        (imputer, "statistics_"),
        (scaler, "mean_"),
        (scaler, "scale_"),
        (estimator, "coef_"),
        (estimator, "intercept_"),
    ):
        setattr(step, name, np.round(getattr(step, name), DIGITS))
    return pipeline


def _converted(pipeline: Pipeline, count: int) -> onnx.ModelProto:
    """The pipeline in ONNX, from one matrix ``features``."""
    options = {"zipmap": False} if hasattr(pipeline, "predict_proba") else None
    matrix = [("features", FloatTensorType([None, count]))]
    return to_onnx(
        pipeline, initial_types=matrix, target_opset=OPSET, options=options, name="demo", naming="demo"
    )


def _attrition_graph(pipeline: Pipeline, inputs: list[str]) -> onnx.ModelProto:
    """Named inputs, and the second class's probability as the only output."""
    model = _converted(pipeline, len(inputs))
    model.graph.initializer.append(numpy_helper.from_array(np.array([1], dtype=np.int64), "left"))
    last = [helper.make_node("Gather", ["probabilities", "left"], [PREDICTION], axis=1)]
    return _named(model, inputs, _matrix(inputs), last)


def _anomaly_graph(pipeline: Pipeline, inputs: list[str], deviation: float) -> onnx.ModelProto:
    """Named inputs; out comes how many deviations the salary is from what is usual."""
    model = _converted(pipeline, len(inputs))
    model.graph.initializer.append(
        numpy_helper.from_array(np.array([deviation], dtype=np.float32), "deviation")
    )
    logs = [helper.make_node("Log", [name], [f"log_{name}"]) for name in ("reference_pay", "salary")]
    matrix = _matrix([f"log_{name}" if name == "reference_pay" else name for name in inputs])
    last = [
        helper.make_node("Cast", ["log_salary"], ["is"], to=TensorProto.FLOAT),
        helper.make_node("Sub", ["is", model.graph.output[0].name], ["away"]),
        helper.make_node("Abs", ["away"], ["distance"]),
        helper.make_node("Div", ["distance", "deviation"], [PREDICTION]),
    ]
    return _named(model, ["salary", *inputs], [*logs, *matrix], last)


def _matrix(columns: list[str]) -> list[onnx.NodeProto]:
    """Columns beside each other, in the precision that the pipeline has."""
    return [
        helper.make_node("Concat", columns, ["columns"], axis=1),
        helper.make_node("Cast", ["columns"], ["features"], to=TensorProto.FLOAT),
    ]


def _named(
    model: onnx.ModelProto,
    inputs: list[str],
    first: list[onnx.NodeProto],
    last: list[onnx.NodeProto],
) -> onnx.ModelProto:
    """The model between nodes that take named columns (n, 1) and give one column (n, 1)."""
    nodes = [*first, *model.graph.node, *last]
    columns = [helper.make_tensor_value_info(name, TensorProto.DOUBLE, [None, 1]) for name in inputs]
    result = [helper.make_tensor_value_info(PREDICTION, TensorProto.FLOAT, [None, 1])]
    for field, values in (("node", nodes), ("input", columns), ("output", result)):
        copies = list(values)
        model.graph.ClearField(field)
        getattr(model.graph, field).extend(copies)
    onnx.checker.check_model(model, full_check=True)
    return model


def train(url: str, folder: Path) -> dict[str, Any]:
    """Train both models from a company's database; write them and ``metrics.json``; return the metrics."""
    written: dict[str, Any] = {"trained_with": {name: importlib.metadata.version(name) for name in LIBRARIES}}
    with threadpool_limits(1):
        samples = read_samples(url)
        for name, teach in (("attrition", train_attrition), ("salary_anomaly", train_salary_anomaly)):
            model, metrics = teach(samples[name])
            content = model.SerializeToString(deterministic=True)
            (folder / f"{name}.onnx").write_bytes(content)
            counts = {
                "rows": len(samples[name].outcome),
                "rows_held_out": int(samples[name].held_out.sum()),
                "rows_true": int(samples[name].outcome.sum()),
            }
            written[name] = {"sha256": hashlib.sha256(content).hexdigest(), **counts, **_rounded(metrics)}
    text = json.dumps(written, indent=2) + "\n"
    (folder / "metrics.json").write_text(text, encoding="utf-8")
    return written


def _rounded(value: Any) -> Any:
    """Numbers to four digits after the point, however deep."""
    if isinstance(value, dict):
        return {name: _rounded(one) for name, one in value.items()}
    return round(float(value), 4) if isinstance(value, float) else value


def main() -> None:
    """Train from a server of its own and say how good the models are."""
    with PostgresServer.start() as server:
        company.create(server.url, EMPLOYEES)
        metrics = train(server.url, MODELS_FOLDER)
    sys.stdout.write(json.dumps(metrics, indent=2) + "\n")


if __name__ == "__main__":
    main()
