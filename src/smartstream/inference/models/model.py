"""What a model is, whatever library runs it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from smartstream.errors import ModelFailed
from smartstream.inference.config import Feature

PREDICTION = "prediction"
PROBABILITY = "probability"
TYPES = {
    "int64": pa.int64(),
    "float64": pa.float64(),
    "float32": pa.float32(),
    "bool": pa.bool_(),
    "string": pa.string(),
}
CONTRIBUTIONS = pa.list_(
    pa.struct([pa.field("feature", pa.string()), pa.field("contribution", pa.float64())])
)


@dataclass(frozen=True, slots=True)
class Identity:
    """Which model made a prediction.

    Attributes:
        sha256: of the file's bytes; of a remote model, of its address and the version it reports.
    """

    name: str
    version: str
    sha256: str
    format: str


class Model(Protocol):
    """A loaded model.

    Attributes:
        inputs: the columns that it needs, in its order.
        outputs: the columns of its predictions.
    """

    @property
    def identity(self) -> Identity: ...
    @property
    def inputs(self) -> tuple[Feature, ...]: ...
    @property
    def outputs(self) -> pa.Schema: ...

    def predict(self, features: pa.Table) -> pa.Table:
        """Predict rows.

        Args:
            features: (n, at least ``inputs``); null only where an input is nullable.
        Returns:
            (n, ``outputs``), in the same order; what is not finite stays as it is.
        Raises:
            ModelFailed, ModelTimeout, ModelOutOfMemory, ModelUnavailable: see there.
        """

    def explain(self, features: pa.Table, k: int) -> pa.Array | None:
        """The ``k`` features with the largest contributions of each row; None where the model can't say."""

    def close(self) -> None:
        """Let go of processes and connections."""


def sample(inputs: tuple[Feature, ...]) -> pa.Table:
    """One row that the signature allows; a model shows with it which columns it gives."""
    columns = {}
    for one in inputs:
        value: Any = one.categories[0] if one.categories else ""
        if one.type != "string":
            value = max(0.0, one.minimum or 0.0)
            value = value if one.maximum is None else min(value, one.maximum)
        columns[one.name] = pa.array([value]).cast(TYPES[one.type], safe=False)
    return pa.table(columns)


def outputs_of(predict: Callable[[pa.Table], pa.Table], inputs: tuple[Feature, ...]) -> pa.Schema:
    """The columns of a model's predictions, as one row shows them.

    Raises:
        ModelFailed: it fails; where a text may be the reason, with a hint.
    """
    try:
        return predict(sample(inputs)).schema
    except ModelFailed as error:
        texts = [one.name for one in inputs if one.type == "string" and not one.categories]
        if not texts:
            raise
        hint = f"It was tried with an empty text: list `categories` of {', '.join(texts)} in `inputs`."
        raise ModelFailed(str(error), hint=hint) from error


def matrix(features: pa.Table, inputs: tuple[Feature, ...], dtype: Any = np.float64) -> npt.NDArray[Any]:
    """Features as (n, len(inputs)) values, a missing number as NaN.

    Args:
        dtype: a number, or ``object``: each value as Python has it, for texts beside numbers.
    """
    made = np.empty((features.num_rows, len(inputs)), dtype)
    for number, one in enumerate(inputs):
        column = features[one.name].combine_chunks()
        if column.type == pa.bool_():
            column = column.cast(pa.int8())
        if one.type != "string":
            column = column.cast(pa.float64())
        made[:, number] = column.to_numpy(zero_copy_only=False)
    return made


def predictions(values: npt.NDArray[Any], rows: int, what: str) -> pa.Table:
    """One value a row as the column ``prediction``; several as a list of numbers.

    Args:
        values: (rows,) or (rows, k); another shape is ModelFailed.
        what: whose they are, for messages.
    """
    values = np.asarray(values)
    if values.ndim == 0 or len(values) != rows:
        raise ModelFailed(f"{what} gave {len(values) if values.ndim else 1} predictions for {rows} rows")
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim == 1:
        return pa.table({PREDICTION: _column(values)})
    if values.ndim != 2:
        raise ModelFailed(f"{what} gave predictions of {values.ndim} dimensions")
    flat = pa.array(values.astype(np.float64).ravel())
    offsets = pa.array(np.arange(0, values.size + 1, values.shape[1], dtype=np.int32))
    return pa.table({PREDICTION: pa.ListArray.from_arrays(offsets, flat)})


def _column(values: npt.NDArray[Any]) -> pa.Array:
    """Texts, whole numbers, or numbers."""
    if values.dtype.kind in "OUS":
        return pa.array(values.tolist(), pa.string())
    kind = pa.int64() if np.issubdtype(values.dtype, np.integer) else pa.float64()
    return pa.array(values).cast(kind)


def top_contributions(values: npt.NDArray[Any], names: tuple[str, ...], k: int) -> pa.Array:
    """The ``k`` largest contributions by amount of each row, the largest first.

    Args:
        values: (n, len(names)).
    """
    k = min(k, len(names))
    order = np.argsort(-np.abs(values), axis=1, kind="stable")[:, :k]
    chosen = np.take_along_axis(values, order, axis=1)
    features = pc.take(pa.array(list(names)), pa.array(order.ravel()))
    fields = pa.StructArray.from_arrays(
        [features, pa.array(chosen.ravel().astype(np.float64))], names=["feature", "contribution"]
    )
    offsets = pa.array(np.arange(0, len(values) * k + 1, max(k, 1), dtype=np.int32))
    return pa.ListArray.from_arrays(offsets, fields).cast(CONTRIBUTIONS)
