"""Every kind of file predicts what its own library predicts, whatever the chunks."""

from __future__ import annotations

import hashlib
import pickle
import random
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from smartstream.errors import (
    InferenceError,
    ModelHashMismatch,
    ModelMissing,
    ModelNotAllowed,
    SignatureMismatch,
)
from smartstream.inference.models import open_model
from tests.model_setup import (
    NAMES,
    as_matrix,
    lightgbm_file,
    listed,
    logistic,
    onnx_file,
    people,
    probabilities,
    settings,
    skops_file,
    target,
    xgboost_file,
)

KINDS = {
    "lightgbm": lightgbm_file,
    "xgboost ubj": xgboost_file,
    "xgboost json": lambda rows, folder: xgboost_file(rows, folder, "json"),
    "onnx": onnx_file,
    "onnx with zipmap": lambda rows, folder: onnx_file(rows, folder, zipmap=True),
    "onnx with columns": lambda rows, folder: onnx_file(rows, folder, zipmap="columns"),
    "skops": skops_file,
}


@pytest.fixture
def rows(seed: str) -> pa.Table:
    """Features of some people."""
    return people(seed)


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_predicts_what_its_library_does_in_any_chunks(
    kind: str, rows: pa.Table, seed: str, tmp_path: Path
) -> None:
    uri, wanted = KINDS[kind](rows, tmp_path)
    more = {} if "gb" in kind else {"inputs": listed(*NAMES)}
    model = open_model(settings(uri, **more), folder=tmp_path)
    assert [one.name for one in model.inputs] == list(NAMES)
    whole = model.predict(rows)
    assert whole.schema == model.outputs
    assert np.allclose(probabilities(whole), wanted, atol=1e-5)
    rng, first, pieces = random.Random(seed), 0, []
    while first < len(rows):
        count = rng.randint(1, 97)
        pieces.append(model.predict(rows.slice(first, count)))
        first += count
    again = pa.concat_tables(pieces)
    if "gb" in kind:
        assert again.combine_chunks().equals(whole.combine_chunks())
    else:  # a product of matrices may round its last bit otherwise for another number of rows
        assert np.allclose(probabilities(again), probabilities(whole), rtol=1e-6, atol=1e-7)
        assert again["prediction"].equals(whole["prediction"])
    assert model.identity.sha256 == hashlib.sha256((tmp_path / uri).read_bytes()).hexdigest()
    assert model.identity.version == model.identity.sha256[:12]


@pytest.mark.parametrize("kind", KINDS)
def test_the_number_of_threads_changes_no_prediction(kind: str, rows: pa.Table, tmp_path: Path) -> None:
    uri, _ = KINDS[kind](rows, tmp_path)
    chosen = settings(uri, inputs=listed(*NAMES, nullable="gb" in kind))
    one, four = (open_model(chosen, folder=tmp_path, threads=count).predict(rows) for count in (1, 4))
    assert one.equals(four)


@pytest.mark.parametrize("kind", ["lightgbm", "xgboost ubj"])
def test_trees_say_which_features_counted_most(kind: str, rows: pa.Table, tmp_path: Path) -> None:
    uri, wanted = KINDS[kind](rows, tmp_path)
    model = open_model(settings(uri), folder=tmp_path)
    two, all_of_them = model.explain(rows, 2), model.explain(rows, 9)
    assert two is not None and all_of_them is not None and len(two) == len(rows)
    for few, every in zip(two.to_pylist(), all_of_them.to_pylist(), strict=True):
        assert few == every[:2] and {one["feature"] for one in every} == set(NAMES)
        amounts = [abs(one["contribution"]) for one in every]
        assert amounts == sorted(amounts, reverse=True)
    # Contributions and their common base add up to the log-odds of the prediction.
    sums = np.array([sum(one["contribution"] for one in every) for every in all_of_them.to_pylist()])
    odds = np.log(wanted / (1 - np.asarray(wanted, np.float64)))
    assert np.allclose(odds - sums, (odds - sums)[0], atol=1e-4)


def test_several_classes_are_a_list_and_are_not_explained(rows: pa.Table, tmp_path: Path) -> None:
    import lightgbm

    data = lightgbm.Dataset(as_matrix(rows), target(rows) + (rows["score"].to_numpy() > 1))
    parameters = {"objective": "multiclass", "num_class": 3, "verbosity": -1, "num_threads": 1}
    booster = lightgbm.train(parameters, data, 3)
    booster.save_model(str(tmp_path / "m.txt"))
    model = open_model(settings("m.txt"), folder=tmp_path)
    assert [one.name for one in model.inputs] == ["Column_0", "Column_1", "Column_2"]
    named = rows.rename_columns([one.name for one in model.inputs])
    found = model.predict(named)["prediction"]
    assert found.type == pa.list_(pa.float64())
    assert np.allclose(np.array(found.to_pylist()), booster.predict(as_matrix(rows)))
    assert model.explain(named, 2) is None


def test_trees_take_null_for_missing_and_categories_by_their_codes(tmp_path: Path, seed: str) -> None:
    import xgboost

    rng = np.random.default_rng(list(seed.encode()))
    values = np.column_stack([rng.normal(size=200), rng.integers(0, 5, 200), rng.integers(0, 9, 200)])
    values[::7, 0] = np.nan
    types = {"feature_names": ["pay", "grade", "years"], "feature_types": ["float", "c", "int"]}
    data = xgboost.DMatrix(values, values[:, 1] > 2, enable_categorical=True, **types)
    booster = xgboost.train({"objective": "binary:logistic", "nthread": 1}, data, 4)
    booster.save_model(tmp_path / "m.json")
    model = open_model(settings("m.json"), folder=tmp_path)
    assert [one.type for one in model.inputs] == ["float64", "int64", "int64"]
    assert all(one.nullable for one in model.inputs)
    rows = pa.table(
        {
            "pay": pa.array(values[:, 0], from_pandas=True),
            "grade": pa.array(values[:, 1].astype(np.int64)),
            "years": pa.array(values[:, 2].astype(np.int64)),
        }
    )
    assert rows["pay"].null_count > 0
    assert np.array_equal(probabilities(model.predict(rows)), booster.predict(data).astype(np.float64))


@pytest.mark.parametrize("estimator", ["regression", "texts as labels", "several classes", "anomalies"])
def test_scikit_learn_and_its_export_agree(estimator: str, rows: pa.Table, tmp_path: Path) -> None:
    from skl2onnx import to_onnx
    from sklearn.ensemble import IsolationForest, RandomForestClassifier, RandomForestRegressor
    from sklearn.linear_model import LogisticRegression

    values = as_matrix(rows).astype(np.float32)
    texts, three = np.where(target(rows) == 1, "leaves", "stays"), target(rows) + (values[:, 2] > 1)
    options, opset = {"zipmap": False}, {"": 18, "ai.onnx.ml": 3}
    made: dict[str, tuple[Any, Any]] = {
        "regression": (RandomForestRegressor(8, random_state=1), values[:, 1]),
        "texts as labels": (LogisticRegression(), texts),
        "several classes": (RandomForestClassifier(8, random_state=1), three),
        "anomalies": (IsolationForest(n_estimators=20, random_state=1), None),
    }
    fitted = made[estimator][0].fit(values, made[estimator][1])
    chosen = {"options": options} if hasattr(fitted, "predict_proba") else {}
    exported = to_onnx(fitted, values[:1], target_opset=opset, **chosen)
    (tmp_path / "m.onnx").write_bytes(exported.SerializeToString())
    model = open_model(settings("m.onnx", inputs=listed(*NAMES)), folder=tmp_path)
    found = model.predict(rows)
    wanted = fitted.predict(values)
    if estimator == "regression":
        assert found.column_names == ["prediction"]
        assert np.allclose(found["prediction"].to_numpy(), wanted, atol=1e-5)
        return
    assert found["prediction"].to_pylist() == wanted.tolist()
    if estimator == "anomalies":
        assert np.allclose(found["scores"].to_numpy(), fitted.decision_function(values), atol=1e-5)
        return
    scores = fitted.predict_proba(values)
    got = np.array(found["probability"].to_pylist())
    assert np.allclose(got, scores[:, 1] if scores.shape[1] == 2 else scores, atol=1e-5)


def test_a_pipeline_of_typed_columns_takes_each_by_its_name(rows: pa.Table, tmp_path: Path) -> None:
    from skl2onnx import convert_sklearn
    from skl2onnx.common.data_types import FloatTensorType, Int64TensorType, StringTensorType
    from sklearn.compose import ColumnTransformer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    grades = np.where(rows["score"].to_numpy() > 0, "senior", "junior")
    years = (rows["age"].to_numpy() * 10).astype(np.int64)
    values = np.column_stack([rows["pay"].to_numpy().astype(object), years.astype(object), grades])
    parts = [("numbers", StandardScaler(), [0, 1]), ("texts", OneHotEncoder(), [2])]
    fitted = make_pipeline(ColumnTransformer(parts), LogisticRegression()).fit(values, target(rows))
    types = [
        ("pay", FloatTensorType([None, 1])),
        ("years", Int64TensorType([None, 1])),
        ("grade", StringTensorType([None, 1])),
    ]
    exported = convert_sklearn(fitted, initial_types=types, options={"zipmap": False})
    (tmp_path / "m.onnx").write_bytes(exported.SerializeToString())
    model = open_model(settings("m.onnx"), folder=tmp_path)
    named = [("pay", "float32"), ("years", "int64"), ("grade", "string")]
    assert [(one.name, one.type) for one in model.inputs] == named
    table = pa.table({"grade": grades, "years": years, "pay": rows["pay"]})
    wanted = fitted.predict_proba(values)[:, 1]
    assert np.allclose(probabilities(model.predict(table)), wanted, atol=1e-5)


def one_step(kind: int, *, names: str | None = None, outside: bool = False) -> bytes:
    """An ONNX model that gives its input back, (n, 2) or one column."""
    import onnx
    from onnx import helper

    width = 2 if names else 1
    value = helper.make_tensor_value_info("x", kind, [None, width])
    output = helper.make_tensor_value_info("y", kind, [None, 200 if outside else width])
    weights = []
    nodes = [helper.make_node("Identity", ["x"], ["y"])]
    if outside:
        weight = helper.make_tensor("w", onnx.TensorProto.FLOAT, [200], [1.0] * 200)
        weight.ClearField("float_data")
        weight.data_location = onnx.TensorProto.EXTERNAL
        weight.external_data.add(key="location", value="w.bin")
        weights, nodes = [weight], [helper.make_node("Add", ["x", "w"], ["y"])]
    graph = helper.make_graph(nodes, "g", [value], [output], weights)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=10)
    if names:
        helper.set_model_props(made, {"feature_names": names})
    return made.SerializeToString()


def test_the_metadata_of_a_model_may_name_the_columns_of_its_matrix(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(one_step(11, names='["age", "pay"]'))
    model = open_model(settings("m.onnx"), folder=tmp_path)
    found = model.predict(pa.table({"pay": [2.0], "age": [1.0]}))
    assert found["prediction"].to_pylist() == [[1.0, 2.0]]
    with pytest.raises(SignatureMismatch, match="lacks pay"):
        open_model(settings("m.onnx", inputs=listed("age", "years")), folder=tmp_path)


def test_weights_outside_of_the_hashed_file_are_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import onnxruntime

    (tmp_path / "m.onnx").write_bytes(one_step(1, outside=True))
    (tmp_path / "w.bin").write_bytes(np.full(200, 5, np.float32).tobytes())
    monkeypatch.chdir(tmp_path)
    bare = onnxruntime.InferenceSession((tmp_path / "m.onnx").read_bytes())
    assert bare.run(None, {"x": np.zeros((1, 1), np.float32)})[0][0, 0] == 5  # what must not happen
    with pytest.raises(ModelMissing, match="can load"):
        open_model(settings("m.onnx"), folder=tmp_path)


@pytest.mark.parametrize(
    ("kind", "declared", "says"),
    [
        (7, {"type": "float64"}, "is int64, not float64"),
        (7, {"type": "int64", "nullable": True}, "can't be null"),
        (8, {"type": "int64"}, "is string, not int64"),
        (1, {"type": "string"}, "is float32, not string"),
    ],
)
def test_inputs_that_would_be_changed_silently_are_refused(
    kind: int, declared: dict[str, Any], says: str, tmp_path: Path
) -> None:
    (tmp_path / "m.onnx").write_bytes(one_step(kind))
    with pytest.raises(SignatureMismatch, match=says):
        open_model(settings("m.onnx", inputs=listed("x", **declared)), folder=tmp_path)


@pytest.mark.parametrize(
    ("more", "error"),
    [
        ({"sha256": "0" * 64}, ModelHashMismatch),
        ({"inputs": listed("age", "pay")}, SignatureMismatch),
        ({"inputs": listed(*NAMES, type="string")}, SignatureMismatch),
        ({}, SignatureMismatch),  # a matrix has no names
        ({"inputs": listed(*NAMES), "format": "lightgbm"}, ModelMissing),
        ({"inputs": listed(*NAMES), "format": "xgboost"}, ModelMissing),
        ({"inputs": listed(*NAMES), "format": "skops"}, ModelMissing),
    ],
)
def test_the_wrong_file_is_refused(
    more: dict[str, Any], error: type[InferenceError], rows: pa.Table, tmp_path: Path
) -> None:
    uri, _ = onnx_file(rows, tmp_path)
    with pytest.raises(error, match="risk"):
        open_model(settings(uri, **more), folder=tmp_path)


@pytest.mark.parametrize("uri", ["none.onnx", "what.bin", "empty", "gs://bucket/m.onnx", "m.json"])
def test_what_is_no_model_is_said(uri: str, tmp_path: Path) -> None:
    (tmp_path / "what.bin").write_bytes(b"what")
    (tmp_path / "m.json").write_text('{"a": 1}')
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelMissing, match="risk"):
        open_model(settings(uri), folder=tmp_path)


class Hostile:
    """A pickle that runs code when it is loaded."""

    def __reduce__(self) -> Any:
        return exec, ("import pathlib; pathlib.Path('was-run').touch()",)


@pytest.mark.parametrize("name", ["m.pkl", "m.joblib", "m.bin", "m.skops", "m.onnx", "m.ubj", "m.txt"])
def test_a_pickle_is_never_loaded(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_bytes(pickle.dumps(Hostile()))
    with pytest.raises(ModelNotAllowed, match="pickle"):
        open_model(settings(name, inputs=listed(*NAMES)), folder=tmp_path)
    for kind in ("skops", "onnx", "xgboost", "lightgbm"):
        with pytest.raises(ModelMissing):
            open_model(settings(name, inputs=listed(*NAMES), format=kind), folder=tmp_path)
    assert not (tmp_path / "was-run").exists()


def _doubled(values: Any) -> Any:
    return values * 2


def test_types_that_nobody_trusts_are_refused(rows: pa.Table, tmp_path: Path) -> None:
    import skops.io
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer

    skops.io.dump(make_pipeline(FunctionTransformer(_doubled), logistic(rows)), tmp_path / "m.skops")
    with pytest.raises(ModelNotAllowed, match="_doubled"):
        open_model(settings("m.skops", inputs=listed(*NAMES)), folder=tmp_path)
    trusted = [f"{__name__}._doubled"]
    model = open_model(settings("m.skops", inputs=listed(*NAMES), trusted_types=trusted), folder=tmp_path)
    assert model.predict(rows).num_rows == len(rows)


@pytest.mark.parametrize(
    ("package", "kind"),
    [("onnxruntime", "onnx"), ("lightgbm", "lightgbm"), ("xgboost", "xgboost"), ("skops.io", "skops")],
)
def test_a_package_that_is_not_installed_is_named(
    package: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "m").write_bytes(b"anything")
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ModelMissing, match=f"package {package.partition('.')[0]}") as caught:
        open_model(settings("m", format=kind), folder=tmp_path)
    assert "smartstream[models]" in caught.value.hint


def test_a_challenger_may_be_of_another_kind_and_take_fewer_columns(rows: pa.Table, tmp_path: Path) -> None:
    onnx_file(rows, tmp_path)
    few, name = rows.select(["pay", "age"]), "challenger.onnx"
    (tmp_path / name).write_bytes(one_step(11, names='["pay", "age"]'))
    chosen = settings("m.onnx", inputs=listed(*NAMES), challenger={"uri": name, "version": "next"})
    assert len(open_model(chosen, folder=tmp_path).inputs) == 3
    model = open_model(chosen, folder=tmp_path, challenger=True)
    assert [one.name for one in model.inputs] == ["pay", "age"] and model.identity.version == "next"
    assert model.predict(few).num_rows == len(rows)
    with pytest.raises(ModelMissing, match="no challenger"):
        open_model(settings("m.onnx"), folder=tmp_path, challenger=True)
