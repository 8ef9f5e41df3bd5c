"""Small models of every kind on disk, and a server that answers as it is told."""

from __future__ import annotations

import http.server
import json
import ssl
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from smartstream.inference.config import ModelSettings

NAMES = ("age", "pay", "score")
Answer = tuple[int, bytes]


def settings(uri: str, **more: Any) -> ModelSettings:
    """A model's configuration."""
    given = {"name": "risk", "uri": uri, "features": "risk.sql", "key": ["id"], **more}
    return ModelSettings.model_validate(given)


def listed(*names: str, **more: Any) -> list[dict[str, Any]]:
    """Declared inputs."""
    return [{"name": name, **more} for name in names]


def people(seed: str, count: int = 300) -> pa.Table:
    """Features of some people."""
    rng = np.random.default_rng(list(seed.encode()))
    return pa.table({name: rng.normal(size=count) for name in NAMES})


def target(rows: pa.Table) -> np.ndarray:
    """What the models learn."""
    return (rows["age"].to_numpy() + 2 * rows["pay"].to_numpy() > 0).astype(np.int64)


def as_matrix(rows: pa.Table) -> np.ndarray:
    """The rows as scikit-learn takes them."""
    return np.column_stack([rows[name].to_numpy() for name in NAMES])


def lightgbm_file(rows: pa.Table, folder: Path, ending: str = "txt") -> tuple[str, Any]:
    """A file's name, and what the library itself predicts."""
    import lightgbm

    data = lightgbm.Dataset(as_matrix(rows), target(rows), feature_name=list(NAMES))
    booster = lightgbm.train({"objective": "binary", "verbosity": -1, "num_threads": 1}, data, 5)
    booster.save_model(str(folder / f"m.{ending}"))
    return f"m.{ending}", booster.predict(as_matrix(rows))


def xgboost_file(rows: pa.Table, folder: Path, ending: str = "ubj") -> tuple[str, Any]:
    """See ``lightgbm_file``."""
    import xgboost

    data = xgboost.DMatrix(as_matrix(rows), target(rows), feature_names=list(NAMES))
    booster = xgboost.train({"objective": "binary:logistic", "nthread": 1}, data, 5)
    booster.save_model(folder / f"m.{ending}")
    return f"m.{ending}", booster.predict(data)


def logistic(rows: pa.Table) -> Any:
    """A fitted pipeline of scikit-learn."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), LogisticRegression()).fit(as_matrix(rows), target(rows))


def onnx_file(rows: pa.Table, folder: Path, zipmap: bool | str = False) -> tuple[str, Any]:
    """See ``lightgbm_file``."""
    from skl2onnx import to_onnx

    fitted = logistic(rows)
    made = to_onnx(fitted, as_matrix(rows)[:1].astype(np.float32), options={"zipmap": zipmap})
    (folder / "m.onnx").write_bytes(made.SerializeToString())
    return "m.onnx", fitted.predict_proba(as_matrix(rows))[:, 1]


def skops_file(rows: pa.Table, folder: Path) -> tuple[str, Any]:
    """See ``lightgbm_file``."""
    import skops.io

    fitted = logistic(rows)
    skops.io.dump(fitted, folder / "m.skops")
    return "m.skops", fitted.predict_proba(as_matrix(rows))[:, 1]


def probabilities(found: pa.Table) -> np.ndarray:
    """Of the positive class."""
    name = "probability" if "probability" in found.column_names else "prediction"
    values: np.ndarray = found[name].to_numpy()
    return values


class Stub:
    """A server on 127.0.0.1.

    ``answer`` gives status and body of a request (its path, its body); what it has been asked is kept.
    """

    def __init__(self, answer: Callable[[str, bytes], Answer]) -> None:
        self.answer = answer
        self.tokens: list[str | None] = []
        self.paths: list[str] = []
        self.headers: dict[str, str] = {}
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def _reply(self) -> None:
                outer.tokens.append(self.headers.get("Authorization"))
                outer.paths.append(self.path)
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                status, content = outer.answer(self.path, body)
                self.send_response(status)
                for name, value in outer.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = _reply

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def secure(self, context: ssl.SSLContext) -> None:
        """Speak TLS from now on."""
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.url = self.url.replace("http://", "https://")

    def stop(self) -> None:
        """End it."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def as_json(content: Any, status: int = 200) -> Answer:
    """An answer of JSON."""
    return status, json.dumps(content).encode()
