"""scikit-learn's own objects, saved by skops: only types that the configuration trusts are loaded."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from smartstream.errors import ModelFailed, ModelMissing, ModelNotAllowed
from smartstream.inference.config import Feature
from smartstream.inference.models.model import (
    PROBABILITY,
    Identity,
    matrix,
    outputs_of,
    predictions,
)
from smartstream.inference.models.signature import Declared


class SkopsModel:
    """An estimator that takes a matrix, of numbers or with texts."""

    def __init__(self, data: bytes, identity: Identity, declared: Declared, trusted: tuple[str, ...]) -> None:
        try:
            import skops.io
        except ModuleNotFoundError as error:
            raise ModelMissing(f"model {identity.name} needs the package skops") from error
        self.identity, self._what = identity, f"model {identity.name}"
        try:
            unknown = skops.io.get_untrusted_types(data=data)
        except Exception as error:  # whatever a file that is none makes of the reader
            raise ModelMissing(f"{self._what} is no skops file") from error
        if left := sorted(set(unknown) - set(trusted)):
            raise ModelNotAllowed(f"{self._what} holds types that `trusted_types` lacks: {', '.join(left)}")
        try:
            self._estimator = skops.io.loads(data, trusted=list(unknown))
        except Exception as error:  # of another version, or made to break the reader
            raise ModelMissing(f"{self._what} can't be loaded: {type(error).__name__}") from error
        if not hasattr(self._estimator, "predict"):
            raise ModelMissing(f"{self._what} is a {type(self._estimator).__name__}, which predicts nothing")
        self.inputs = declared.merged(_named(self._estimator), self._what)
        self._dtype = object if any(one.type == "string" for one in self.inputs) else np.float64
        self.outputs = outputs_of(self.predict, self.inputs)

    def predict(self, features: pa.Table) -> pa.Table:
        """See Model."""
        values, rows = matrix(features, self.inputs, self._dtype), features.num_rows
        try:
            label = np.asarray(self._estimator.predict(values))
            has_scores = hasattr(self._estimator, "predict_proba")
            scores = np.asarray(self._estimator.predict_proba(values)) if has_scores else None
        except Exception as error:  # an estimator may raise anything
            raise ModelFailed(f"{self._what}: {type(error).__name__}") from error
        made = predictions(label, rows, self._what)
        if scores is None:
            return made
        if scores.ndim == 2 and scores.shape[1] == 2:
            scores = scores[:, 1]
        return made.append_column(PROBABILITY, predictions(scores, rows, self._what).column(0))

    def explain(self, features: pa.Table, k: int) -> pa.Array | None:
        """scikit-learn has no contributions."""
        return None

    def close(self) -> None:
        """Nothing is held but memory."""


def _named(estimator: object) -> tuple[Feature, ...]:
    """The names that the estimator was fitted with, if any."""
    names = getattr(estimator, "feature_names_in_", ())
    return tuple(Feature(name=str(name)) for name in names)
