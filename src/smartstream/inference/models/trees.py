"""Gradient boosted trees in their libraries' own formats: LightGBM text, XGBoost JSON and UBJ."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from smartstream.errors import ModelFailed, ModelMissing
from smartstream.inference.config import Feature
from smartstream.inference.models.model import Identity, matrix, outputs_of, predictions, top_contributions
from smartstream.inference.models.signature import Declared, numbers_only

_Array = npt.NDArray[Any]


class _Trees:
    """What both libraries have in common: a matrix in, numbers out.  Trees take null as missing."""

    def __init__(self, identity: Identity, own: tuple[Feature, ...], declared: Declared) -> None:
        self.identity, self._what = identity, f"model {identity.name}"
        self.inputs = numbers_only(declared.merged(own, self._what), self._what)
        self.outputs = outputs_of(self.predict, self.inputs)

    def predict(self, features: pa.Table) -> pa.Table:
        """See Model."""
        return predictions(self._ask(self._predict, features), features.num_rows, self._what)

    def explain(self, features: pa.Table, k: int) -> pa.Array | None:
        """Shapley values, as the libraries compute them; not for several classes."""
        found = self._ask(self._contributions, features)
        if found.ndim != 2 or found.shape[1] != len(self.inputs) + 1:
            return None
        return top_contributions(found[:, :-1], tuple(one.name for one in self.inputs), k)

    def close(self) -> None:
        """Nothing is held but memory."""

    def _ask(self, method: Callable[[_Array], Any], features: pa.Table) -> _Array:
        """What the library answers."""
        try:
            return np.asarray(method(matrix(features, self.inputs)))
        except Exception as error:  # the libraries' errors have no common base
            raise ModelFailed(f"{self._what}: {type(error).__name__}") from error

    def _predict(self, values: _Array) -> Any:
        raise NotImplementedError

    def _contributions(self, values: _Array) -> Any:
        raise NotImplementedError


class LightGbmModel(_Trees):
    """A booster saved as text."""

    def __init__(self, data: bytes, identity: Identity, declared: Declared, threads: int) -> None:
        try:
            import lightgbm
        except ModuleNotFoundError as error:
            raise ModelMissing(f"model {identity.name} needs the package lightgbm") from error
        try:
            self._booster = lightgbm.Booster(model_str=data.decode())
        except (lightgbm.basic.LightGBMError, UnicodeDecodeError, ValueError) as error:
            raise ModelMissing(f"model {identity.name} is no LightGBM model") from error
        self._threads = threads
        own = tuple(Feature(name=name, nullable=True) for name in self._booster.feature_name())
        super().__init__(identity, own, declared)

    def _predict(self, values: _Array) -> Any:
        return self._booster.predict(values, num_threads=self._threads)

    def _contributions(self, values: _Array) -> Any:
        return self._booster.predict(values, pred_contrib=True, num_threads=self._threads)


class XgBoostModel(_Trees):
    """A booster saved as JSON or UBJ."""

    def __init__(self, data: bytes, identity: Identity, declared: Declared, threads: int) -> None:
        try:
            import xgboost
        except ModuleNotFoundError as error:
            raise ModelMissing(f"model {identity.name} needs the package xgboost-cpu") from error
        self._library, self._threads = xgboost, threads
        self._booster = xgboost.Booster({"nthread": threads})
        try:
            self._booster.load_model(bytearray(data))
        except (xgboost.core.XGBoostError, ValueError) as error:
            raise ModelMissing(f"model {identity.name} is no XGBoost model") from error
        names, kinds = self._booster.feature_names or [], self._booster.feature_types or []
        # "int", "i" (0 or 1) and "c" (the code of a category) are whole numbers.
        types = ["int64" if kind in ("int", "i", "c") else "float64" for kind in kinds or ["q"] * len(names)]
        own = tuple(
            Feature.model_validate({"name": name, "type": kind, "nullable": True})
            for name, kind in zip(names, types, strict=True)
        )
        super().__init__(identity, own, declared)

    def _matrix(self, values: _Array) -> Any:
        names, kinds = self._booster.feature_names, self._booster.feature_types
        return self._library.DMatrix(
            values,
            feature_names=names,
            feature_types=kinds,
            enable_categorical="c" in (kinds or ()),
            nthread=self._threads,
        )

    def _predict(self, values: _Array) -> Any:
        return self._booster.predict(self._matrix(values))

    def _contributions(self, values: _Array) -> Any:
        return self._booster.predict(self._matrix(values), pred_contribs=True)
