"""Models behind HTTP that speak the Open Inference Protocol (KServe v2, Triton, MLServer)."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np
import pyarrow as pa
from pydantic import ValidationError

from smartstream.errors import ModelFailed, SignatureMismatch
from smartstream.inference.config import Feature, ModelSettings
from smartstream.inference.models.model import PREDICTION, Identity, matrix, outputs_of, predictions
from smartstream.inference.models.peer import Peer
from smartstream.inference.models.signature import Declared, numbers_only

_TYPES = {"int64": "INT64", "float64": "FP64", "float32": "FP32", "bool": "BOOL", "string": "BYTES"}
_FEATURES = {
    **dict.fromkeys(("INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32"), "int64"),
    "FP64": "float64",
    "FP32": "float32",
    "BOOL": "bool",
    "BYTES": "string",
}


class KserveModel:
    """A model at ``https://host/v2/models/name``, or one version of it (``…/versions/3``).

    Each feature is an input of its own, (rows, 1); or all are the columns of the model's only
    input, when its metadata say that this is a matrix.
    """

    def __init__(self, uri: str, settings: ModelSettings, version: str | None, declared: Declared) -> None:
        self._uri, self._what = uri.rstrip("/"), f"model {settings.name}"
        self._peer = Peer(self._what, settings.token, settings.timeout)
        facts = self._peer.json(self._uri)
        reported = ",".join(map(str, facts.get("versions") or ())) or "unknown"
        digest = hashlib.sha256(f"{self._uri}\n{reported}".encode()).hexdigest()
        self.identity = Identity(settings.name, version or reported, digest, "kserve")
        self._tensor = _matrix_of(facts)
        own = () if self._tensor else self._own(facts)
        self.inputs = declared.merged(own, self._what)
        if self._tensor:
            numbers_only(self.inputs, self._what)
        self.outputs = outputs_of(self.predict, self.inputs)

    def predict(self, features: pa.Table) -> pa.Table:
        """See Model."""
        body = json.dumps({"inputs": self._tensors(features)}).encode()
        answer = self._peer.json(f"{self._uri}/infer", body)
        outputs = answer.get("outputs")
        if not isinstance(outputs, list) or not outputs:
            raise ModelFailed(f"{self._what}: the answer has no outputs")
        columns = {}
        for number, output in enumerate(outputs):
            column = self._column(output, features.num_rows)
            columns[PREDICTION if number == 0 else str(output.get("name", f"output_{number}"))] = column
        return pa.table(columns)

    def explain(self, features: pa.Table, k: int) -> pa.Array | None:
        """The protocol has no contributions."""
        return None

    def close(self) -> None:
        """Each request has a connection of its own."""

    def _own(self, facts: dict[str, Any]) -> tuple[Feature, ...]:
        """What the model's metadata say that it takes."""
        try:
            return tuple(
                Feature.model_validate({"name": one["name"], "type": _FEATURES[one["datatype"]]})
                for one in facts.get("inputs") or ()
            )
        except (KeyError, TypeError, ValidationError) as error:
            raise SignatureMismatch(f"{self._what}: its metadata name inputs of unknown types") from error

    def _tensors(self, features: pa.Table) -> list[dict[str, Any]]:
        """The features as inputs of the protocol; null stays null."""
        rows = features.num_rows
        if self._tensor:
            name, datatype = self._tensor
            flat = matrix(features, self.inputs).ravel()
            data = pa.array(flat, from_pandas=True).to_pylist()
            return [{"name": name, "shape": [rows, len(self.inputs)], "datatype": datatype, "data": data}]
        return [
            {
                "name": one.name,
                "shape": [rows, 1],
                "datatype": _TYPES[one.type],
                "data": features[one.name].to_pylist(),
            }
            for one in self.inputs
        ]

    def _column(self, output: Any, rows: int) -> pa.ChunkedArray:
        """One output."""
        try:
            kind = str(output["datatype"])
            shape, data = [int(size) for size in output["shape"]], output["data"]
            dtype = {"BYTES": object, "BOOL": np.bool_}.get(kind, np.float64 if "FP" in kind else np.int64)
            return predictions(np.asarray(data, dtype).reshape(shape), rows, self._what).column(0)
        except (KeyError, TypeError, ValueError, OverflowError, pa.ArrowInvalid) as error:
            raise ModelFailed(f"{self._what}: an output is not as the protocol says") from error


def _matrix_of(facts: dict[str, Any]) -> tuple[str, str] | None:
    """Name and type of the model's only input, if that has several columns and takes numbers with a point."""
    inputs = facts.get("inputs")
    if not isinstance(inputs, list) or len(inputs) != 1 or not isinstance(inputs[0], dict):
        return None
    shape, datatype = inputs[0].get("shape"), inputs[0].get("datatype")
    if not isinstance(shape, list) or len(shape) != 2 or shape[1] == 1 or datatype not in ("FP32", "FP64"):
        return None
    return str(inputs[0].get("name")), datatype
