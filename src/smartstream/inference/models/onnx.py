"""ONNX models, by onnxruntime."""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from smartstream.errors import ModelFailed, ModelMissing, SignatureMismatch
from smartstream.inference.config import Feature
from smartstream.inference.models.model import (
    PREDICTION,
    PROBABILITY,
    Identity,
    matrix,
    outputs_of,
    predictions,
    sample,
)
from smartstream.inference.models.signature import Declared, numbers_only

_OUTSIDE = "session.model_external_initializers_file_folder_path"
NAMES_KEY = "feature_names"
"""Key of a model's metadata: a JSON list of the columns of its matrix."""


@dataclass(frozen=True, slots=True)
class _Kind:
    """How the values of an input are passed.

    Attributes:
        feature: type of the feature that it is without a declaration.
        accepts: types that a declaration may have.
    """

    feature: str
    arrow: pa.DataType
    accepts: frozenset[str]


_NUMBERS = frozenset({"float64", "float32", "int64", "bool"})
_WHOLE = frozenset({"int64", "bool"})
_KINDS = {
    "tensor(float)": _Kind("float32", pa.float32(), _NUMBERS),
    "tensor(double)": _Kind("float64", pa.float64(), _NUMBERS),
    "tensor(int64)": _Kind("int64", pa.int64(), _WHOLE),
    "tensor(int32)": _Kind("int64", pa.int32(), _WHOLE),
    "tensor(int16)": _Kind("int64", pa.int16(), _WHOLE),
    "tensor(int8)": _Kind("int64", pa.int8(), _WHOLE),
    "tensor(bool)": _Kind("bool", pa.bool_(), frozenset({"bool"})),
    "tensor(string)": _Kind("string", pa.string(), frozenset({"string"})),
}


class OnnxModel:
    """A session: one input for each feature, or a single matrix of numbers for all."""

    def __init__(self, data: bytes, identity: Identity, declared: Declared, threads: int) -> None:
        try:
            import onnxruntime
        except ModuleNotFoundError as error:
            raise ModelMissing(f"model {identity.name} needs the package onnxruntime") from error
        onnxruntime.disable_telemetry_events()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = 4
        try:
            # Weights may lie in other files, which no hash covers: they are looked for where nothing is.
            with tempfile.TemporaryDirectory() as empty:
                options.add_session_config_entry(_OUTSIDE, empty)
                self._session: Any = onnxruntime.InferenceSession(
                    data, options, providers=["CPUExecutionProvider"]
                )
        except Exception as error:  # onnxruntime's own errors have no common base but this
            raise ModelMissing(
                f"model {identity.name} is no ONNX model that onnxruntime {onnxruntime.__version__} can load"
            ) from error
        self.identity, self._what = identity, f"model {identity.name}"
        self._nodes = {node.name: node for node in self._session.get_inputs()}
        self._kinds = {name: self._kind(node) for name, node in self._nodes.items()}
        self._matrix = self._matrix_width(declared) is not None
        self.inputs = self._inputs(declared)
        self._wanted = [node.name for node in self._session.get_outputs()]
        self.outputs = self._first()

    def predict(self, features: pa.Table) -> pa.Table:
        """See Model."""
        try:
            found = self._session.run(self._wanted, self._feed(features))
        except Exception as error:  # as above; its text may quote values
            raise ModelFailed(f"{self._what}: onnxruntime fails ({type(error).__name__})") from error
        return _table(dict(zip(self._wanted, found, strict=True)), features.num_rows, self._what)

    def explain(self, features: pa.Table, k: int) -> pa.Array | None:
        """ONNX graphs do not say."""
        return None

    def close(self) -> None:
        """Nothing is held but memory."""

    def _first(self) -> pa.Schema:
        """The columns of the predictions."""
        try:
            return outputs_of(self.predict, self.inputs)
        except ModelFailed as error:
            # An encoder may refuse the sample's texts; no row at all tells as much, but of dictionaries.
            if any(not node.type.startswith("tensor") for node in self._session.get_outputs()):
                raise
            try:
                return self.predict(sample(self.inputs).slice(0, 0)).schema
            except ModelFailed:
                raise error from None

    def _kind(self, node: Any) -> _Kind:
        """How an input's values are passed."""
        if node.type not in _KINDS or len(node.shape) not in (1, 2):
            raise SignatureMismatch(f"{self._what}: {node.name} is {node.type}, {len(node.shape)} axes")
        return _KINDS[node.type]

    def _matrix_width(self, declared: Declared) -> int | None:
        """Columns of the model's only input if it is a matrix; 0 where the model does not say."""
        if len(self._nodes) != 1:
            return None
        ((name, node),) = self._nodes.items()
        shape = list(node.shape)
        if len(shape) != 2:
            return None
        if shape[1] == 1 and [one.name for one in declared.features] in ([], [name]):
            return None
        return shape[1] if isinstance(shape[1], int) else 0

    def _inputs(self, declared: Declared) -> tuple[Feature, ...]:
        """What the model needs: as declared, checked against the graph; else what the graph says."""
        if self._matrix:
            inputs, width = declared.merged(self._named(), self._what), self._matrix_width(declared)
            if width and width != len(inputs):
                raise SignatureMismatch(f"{self._what} takes {width} columns, `inputs` lists {len(inputs)}")
            (kind,) = self._kinds.values()
            if kind.feature == "string":
                return inputs
            return numbers_only(inputs, self._what)
        own = tuple(_feature(name, kind) for name, kind in self._kinds.items())
        inputs = declared.merged(own, self._what)
        for one in inputs:
            kind = self._kinds[one.name]
            if one.type not in kind.accepts:
                raise SignatureMismatch(f"{self._what}: {one.name} is {kind.feature}, not {one.type}")
            if one.nullable and kind.feature in _WHOLE:
                raise SignatureMismatch(f"{self._what}: {one.name} is {kind.feature}, which can't be null")
        return inputs

    def _named(self) -> tuple[Feature, ...]:
        """The columns of the matrix, if the model's metadata name them."""
        text = self._session.get_modelmeta().custom_metadata_map.get(NAMES_KEY, "[]")
        try:
            names = json.loads(text)
        except ValueError as error:
            raise SignatureMismatch(f"{self._what}: {NAMES_KEY} of its metadata is no JSON list") from error
        (kind,) = self._kinds.values()
        return tuple(_feature(str(name), kind) for name in names)

    def _feed(self, features: pa.Table) -> dict[str, Any]:
        """The features as the session takes them."""
        if self._matrix:
            ((name, kind),) = self._kinds.items()
            dtype = object if kind.feature == "string" else kind.arrow.to_pandas_dtype()
            return {name: matrix(features, self.inputs, dtype)}
        feed = {}
        for one in self.inputs:
            node, kind = self._nodes[one.name], self._kinds[one.name]
            column = features[one.name].combine_chunks()
            if kind.feature == "string":
                values = column.fill_null("").to_numpy(zero_copy_only=False)
            else:  # a cast that checks: a number that does not fit is an error
                column = column.cast(pa.int8()) if column.type == pa.bool_() else column
                safe = kind.feature in _WHOLE
                values = column.cast(kind.arrow, safe=safe).to_numpy(zero_copy_only=False)
            feed[one.name] = values.reshape(-1, 1) if len(node.shape) == 2 else values
        return feed


def _feature(name: str, kind: _Kind) -> Feature:
    """An input as the model says it."""
    return Feature.model_validate({"name": name, "type": kind.feature})


def _table(found: dict[str, Any], rows: int, what: str) -> pa.Table:
    """The outputs as columns: a label and its probability, or the first one and others by name."""
    label, *others = found.values()
    scores = _scores(others) if np.asarray(label).dtype.kind in "OUSiu" else None
    columns: dict[str, pa.ChunkedArray] = {PREDICTION: predictions(label, rows, what).column(0)}
    if scores is None:
        for name, value in list(found.items())[1:]:
            columns[name] = predictions(value, rows, what).column(0)
        return pa.table(columns)
    # A single number beside the label is a score of its own kind, as outlier detectors have it.
    name = PROBABILITY if scores.ndim == 2 and scores.shape[1] > 1 else list(found)[1]
    if scores.ndim == 2 and scores.shape[1] == 2:
        scores = scores[:, 1]
    columns[name] = predictions(scores.astype(np.float64), rows, what).column(0)
    return pa.table(columns)


def _scores(others: list[Any]) -> Any:
    """Probabilities as (n, classes), as skl2onnx gives them; None where they are something else.

    They are a matrix; with ``zipmap`` one dictionary a row; with ``zipmap=columns`` an output a class.
    """
    if len(others) == 1 and isinstance(others[0], list) and others[0] and isinstance(others[0][0], dict):
        return np.array([list(row.values()) for row in others[0]], np.float64)
    arrays = [np.asarray(value) for value in others]
    if not arrays or any(array.dtype.kind != "f" for array in arrays):
        return None
    if len(arrays) == 1:
        return arrays[0]
    if all(array.ndim == 1 or array.shape[1:] == (1,) for array in arrays):
        return np.column_stack([array.reshape(-1) for array in arrays])
    return None
