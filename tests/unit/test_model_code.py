"""Models that are code run apart from us: within limits, without our secrets, and tell no row values."""

from __future__ import annotations

import hashlib
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from smartstream.errors import (
    InferenceError,
    ModelFailed,
    ModelHashMismatch,
    ModelMissing,
    ModelNotAllowed,
    ModelOutOfMemory,
    ModelTimeout,
    SignatureMismatch,
)
from smartstream.inference.models import open_model
from smartstream.inference.models.artifact import folder_hash
from smartstream.inference.models.model import Model
from tests.model_setup import NAMES, listed, people, settings

HEAD = "import pyarrow as pa\nimport pyarrow.compute as pc\n"


class Code:
    """Models that are code, in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.open_models: list[Model] = []

    def open(self, body: str, **more: Any) -> Model:
        """The function ``run`` of a file with this text."""
        source = HEAD + body
        (self.folder / "models").mkdir(exist_ok=True)
        (self.folder / "models" / "scoring.py").write_text(source)
        sha256 = hashlib.sha256(source.encode()).hexdigest()
        chosen = {"inputs": listed(*NAMES), "allow_code": True, "sha256": sha256, **more}
        model = open_model(settings("python:models.scoring:run", **chosen), folder=self.folder)
        self.open_models.append(model)
        return model


@pytest.fixture
def code(tmp_path: Path) -> Iterator[Code]:
    """Where code is; its processes end with the test."""
    found = Code(tmp_path)
    yield found
    for model in found.open_models:
        model.close()


@pytest.fixture
def rows(seed: str) -> pa.Table:
    """Features of some people."""
    return people(seed)


def test_code_runs_without_our_environment_whatever_it_prints(
    code: Code, rows: pa.Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_PASSWORD", "secret")
    model = code.open(
        "import os, sys\nprint('hello')\ndef run(t):\n    print(t)\n"
        "    print('x' * 300_000, file=sys.stderr)\n"
        "    assert 'SOME_PASSWORD' not in os.environ and not sys.stdin.read()\n"
        "    return pc.add(t['age'], t['pay'])\n"
    )
    for _ in range(3):
        found = model.predict(rows)["prediction"].to_numpy()
        assert np.array_equal(found, rows["age"].to_numpy() + rows["pay"].to_numpy())
    assert model.predict(rows.slice(0, 0)).schema == model.outputs


def test_code_may_give_columns_of_its_own_and_numpy_arrays(code: Code, rows: pa.Table) -> None:
    model = code.open("def run(t):\n    return pa.table({'prediction': t['age'], 'why': ['x'] * len(t)})\n")
    assert model.outputs.names == ["prediction", "why"] and model.predict(rows).num_rows == len(rows)
    model = code.open("import numpy as np\ndef run(t):\n    return np.ones((len(t), 2))\n")
    assert model.predict(rows.slice(0, 2))["prediction"].to_pylist() == [[1.0, 1.0]] * 2


LARGE = "bytearray(8 << 30)"
BUFFER = "pa.allocate_buffer(8 << 30)"
CASES: list[tuple[str, dict[str, Any], type[InferenceError], str]] = [
    ("def run(t):\n    raise ValueError(t)\n", {}, ModelFailed, "ValueError at line 4 of model.py$"),
    ("raise SystemExit(3)\n", {}, ModelFailed, "SystemExit at line 3"),
    ("import no_such_package\n", {}, ModelFailed, "no module no_such_package"),
    ("def run(t):\n    return 3\n", {}, ModelFailed, "returned int"),
    ("def run(t):\n    return t.slice(0, 0)\n", {}, ModelFailed, "0 predictions for 1 rows"),
    ("def run(t):\n    return t.select([])\n", {}, ModelFailed, "no columns|0 predictions"),
    ("import os\ndef run(t):\n    os._exit(3)\n", {}, ModelFailed, "exit code 3"),
    ("import os\ndef run(t):\n    os.abort()\n", {}, ModelFailed, "SIGABRT, at line 5 of model.py"),
    ("def other(t):\n    return t\n", {}, ModelFailed, "AttributeError"),
    ("def run(t):\n    while True: pass\n", {"timeout": 1.5}, ModelTimeout, "1.5 s"),
    ("while True: pass\n", {"timeout": 1.5}, ModelTimeout, "1.5 s"),
    (f"def run(t):\n    return {LARGE}\n", {}, ModelOutOfMemory, "2048 MiB"),
    (f"def run(t):\n    return {BUFFER}\n", {}, ModelOutOfMemory, "2048 MiB"),
    (f"made = {LARGE}\n", {}, ModelOutOfMemory, "2048 MiB"),
]


@pytest.mark.parametrize(("body", "more", "error", "says"), CASES)
def test_code_that_misbehaves_is_told_from_others(
    body: str, more: dict[str, Any], error: type[InferenceError], says: str, code: Code
) -> None:
    with pytest.raises(error, match=says):
        code.open(body, **more)


def test_an_error_tells_no_values_of_rows(code: Code) -> None:
    body = "import sys\ndef run(t):\n    if t['age'][0].as_py() == 0: return t['age']\n"
    body += "    print('canary', t, file=sys.stderr)\n    raise RuntimeError(f'canary {t}')\n"
    model = code.open(body)
    with pytest.raises(ModelFailed) as caught:
        model.predict(pa.table({name: [123456.5] for name in NAMES}))
    assert "canary" not in str(caught.value) and "123456" not in str(caught.value)
    with pytest.raises(ModelFailed, match="has ended"):
        model.predict(pa.table({name: [0.0] for name in NAMES}))


def test_what_late_code_has_started_ends_with_it(code: Code, tmp_path: Path) -> None:
    body = "import subprocess, time\nchild = subprocess.Popen(['sleep', '600'])\n"
    body += f"open({str(tmp_path / 'pid')!r}, 'w').write(str(child.pid))\ndef run(t):\n    time.sleep(600)\n"
    with pytest.raises(ModelTimeout):
        code.open(body, timeout=1.5)
    child = int((tmp_path / "pid").read_text())
    deadline = time.monotonic() + 10
    while _is_running(child) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _is_running(child)


def _is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except FileNotFoundError:
        return False


def test_other_columns_or_types_than_before_are_a_failure(code: Code) -> None:
    for wrong, says in (("pa.table({'b': t['age']})", "columns"), ("pa.array(['x'] * len(t))", "types")):
        model = code.open(f"def run(t):\n    return t['age'] if t['age'][0].as_py() == 0 else {wrong}\n")
        with pytest.raises(ModelFailed, match=f"other {says} than before"):
            model.predict(pa.table({name: [1.0] for name in NAMES}))


def test_not_finite_predictions_are_given_as_they_are(code: Code) -> None:
    model = code.open("def run(t):\n    return pc.divide(t['age'], t['pay'])\n")
    found = model.predict(pa.table({"age": [1.0, 0.0], "pay": [0.0, 0.0], "score": [0.0, 0.0]}))
    assert np.array_equal(found["prediction"].to_numpy(), [np.inf, np.nan], equal_nan=True)


def test_code_that_was_changed_does_not_run(code: Code) -> None:
    with pytest.raises(ModelHashMismatch):
        code.open("def run(t):\n    return t['age']\n", sha256="0" * 64)


def test_code_must_be_allowed_and_pinned(code: Code) -> None:
    with pytest.raises(ValueError, match="allow_code"):
        settings("python:scoring:run", inputs=listed(*NAMES))
    source = HEAD + "def run(t):\n    return t['age']\n"
    (code.folder / "rival.py").write_text(source)
    rival = {"uri": "python:rival:run", "sha256": hashlib.sha256(source.encode()).hexdigest()}
    chosen = settings("m.onnx", inputs=listed(*NAMES), challenger=rival)
    with pytest.raises(ModelNotAllowed, match="allow_code"):
        open_model(chosen, folder=code.folder, challenger=True)
    chosen = settings("m.onnx", inputs=listed(*NAMES), allow_code=True, challenger={"uri": rival["uri"]})
    with pytest.raises(ModelNotAllowed, match="sha256"):
        open_model(chosen, folder=code.folder, challenger=True)


@pytest.mark.parametrize("uri", ["python:nothing:run", "python:x", "python:../x:run", "python:a.b:c d"])
def test_an_address_that_names_no_function_is_said(uri: str, tmp_path: Path) -> None:
    chosen = settings(uri, inputs=listed(*NAMES), allow_code=True, sha256="0" * 64)
    with pytest.raises(ModelMissing, match="risk"):
        open_model(chosen, folder=tmp_path)


def test_code_without_declared_inputs_is_refused(code: Code) -> None:
    with pytest.raises(SignatureMismatch, match="inputs"):
        code.open("def run(t):\n    return t['age']\n", inputs=[])


def mlflow_folder(folder: Path) -> str:
    """A folder as MLflow writes it, and its hash."""
    files = {"MLmodel": b"flavors: {}\n", "data/model.pkl": b"\x80\x04N."}
    for name, data in files.items():
        (folder / "saved" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "saved" / name).write_bytes(data)
    return folder_hash(files)


def test_mlflow_that_is_not_installed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [path for path in sys.path if not os.path.exists(f"{path}/mlflow")])
    chosen = {"format": "mlflow_pyfunc", "allow_code": True, "inputs": listed(*NAMES)}
    with pytest.raises(ModelMissing, match="package mlflow") as caught:
        open_model(settings("saved", sha256=mlflow_folder(tmp_path), **chosen), folder=tmp_path)
    assert "pip install mlflow" in caught.value.hint
    with pytest.raises(ModelHashMismatch):
        open_model(settings("saved", sha256="0" * 64, **chosen), folder=tmp_path)


def test_a_folder_is_given_to_mlflow_as_it_was_hashed(
    tmp_path: Path, rows: pa.Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With stand-ins for mlflow and pandas, which are not among the packages of the tests."""
    fakes = tmp_path / "packages"
    (fakes / "mlflow").mkdir(parents=True)
    (fakes / "mlflow" / "__init__.py").touch()
    (fakes / "pandas.py").touch()
    (fakes / "mlflow" / "pyfunc.py").write_text(
        "import os\nclass Model:\n    def predict(self, t):\n        return t['age']\n"
        "def load_model(folder):\n"
        "    assert sorted(os.listdir(folder)) == ['MLmodel', 'data']\n    raise KeyError('canary')\n"
    )
    monkeypatch.syspath_prepend(str(fakes))
    chosen = {"format": "mlflow_pyfunc", "allow_code": True, "inputs": listed(*NAMES)}
    with pytest.raises(ModelFailed, match=r"KeyError at line 7 of pyfunc.py"):
        open_model(settings("saved", sha256=mlflow_folder(tmp_path), **chosen), folder=tmp_path)
