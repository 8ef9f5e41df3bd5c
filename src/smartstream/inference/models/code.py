"""Models that are code: a Python function, or a folder that MLflow has written."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from smartstream.errors import ModelFailed, ModelMissing, ModelNotAllowed
from smartstream.inference.config import ModelSettings
from smartstream.inference.models.artifact import Folder, fetch
from smartstream.inference.models.model import Identity, outputs_of
from smartstream.inference.models.places import DiskPlace
from smartstream.inference.models.process import WorkerProcess
from smartstream.inference.models.signature import Declared
from smartstream.inference.models.worker import from_bytes, to_bytes

SCHEME = "python:"
_FILE = "model.py"


@dataclass(frozen=True, slots=True)
class Code:
    """Code whose hash has been checked.

    Attributes:
        files: by their names; nothing else of the project is in reach.
        order: how to load them; see ``worker``.
        format: of the model's identity.
    """

    files: Mapping[str, bytes] = field(repr=False)
    order: Mapping[str, Any]
    sha256: str
    format: str


def check_allowed(settings: ModelSettings, uri: str, sha256: str | None) -> None:
    """Make sure that the configuration allows this code.

    Raises:
        ModelNotAllowed: it does not, or does not say which code.
    """
    if not (settings.allow_code and sha256):
        raise ModelNotAllowed(
            f"model {settings.name}: {uri} is code: it needs `allow_code: true` and `sha256`"
        )


def function_of(uri: str, what: str, sha256: str | None, folder: Path | None) -> Code:
    """Read ``python:module:function``: ``scoring.risk`` is the file scoring/risk.py beside smartstream.yaml.

    The file alone runs: what it imports must be installed.

    Raises:
        ModelMissing: no such file, or the address has another form.
        ModelHashMismatch: it is not the code that was reviewed.
    """
    _, module, function = [*uri.split(":"), "", ""][:3]
    if not function.isidentifier() or not all(part.isidentifier() for part in module.split(".")):
        raise ModelMissing(f"{what}: {uri} is not python:module:function")
    path = (folder or Path()) / Path(*module.split(".")).with_suffix(".py")
    if path.is_dir():
        raise ModelMissing(f"{what}: {path} is a folder")
    found = fetch(DiskPlace(path, what), path.name, what=what, sha256=sha256)
    order = {"kind": "python", "file": _FILE, "function": function}
    return Code({_FILE: found.data}, order, found.sha256, "python")


def pyfunc_of(folder: Folder, what: str) -> Code:
    """A folder with an ``MLmodel`` file, which the package mlflow loads.

    Raises:
        ModelMissing: mlflow is not installed, or it is no such folder.
    """
    if lacking := [name for name in ("mlflow", "pandas") if importlib.util.find_spec(name) is None]:
        hint = "pip install mlflow, in a version that reads the model; SmartStream does not bring it."
        raise ModelMissing(f"{what} needs the package {lacking[0]}", hint=hint)
    if "MLmodel" not in folder.files:
        raise ModelMissing(f"{what}: its folder has no file MLmodel")
    return Code(folder.files, {"kind": "mlflow"}, folder.sha256, "mlflow_pyfunc")


class CodeModel:
    """A function from table to table in another process, which ends with the model or when it is late."""

    def __init__(self, code: Code, settings: ModelSettings, version: str | None, declared: Declared) -> None:
        self._what = f"model {settings.name}"
        self.identity = Identity(settings.name, version or code.sha256[:12], code.sha256, code.format)
        self.inputs = declared.merged((), self._what)
        self._worker = WorkerProcess(
            self._what, code.files, code.order, memory=settings.memory, timeout_s=settings.timeout
        )
        self.outputs: pa.Schema | None = None
        try:
            self.outputs = outputs_of(self.predict, self.inputs)
        except BaseException:
            self.close()
            raise

    def predict(self, features: pa.Table) -> pa.Table:
        """See Model."""
        wanted = features.select([one.name for one in self.inputs])
        answer = self._worker.ask(to_bytes(wanted))
        try:
            found = from_bytes(answer)
        except pa.ArrowInvalid as error:
            raise ModelFailed(f"{self._what}: its answer is no table") from error
        if found.num_rows != features.num_rows:
            raise ModelFailed(f"{self._what} gave {found.num_rows} predictions for {features.num_rows} rows")
        if not found.num_columns or len(set(found.column_names)) != found.num_columns:
            raise ModelFailed(f"{self._what} gave no columns, or two of one name")
        return found if self.outputs is None else self._alike(found, self.outputs)

    def explain(self, features: pa.Table, k: int) -> pa.Array | None:
        """Code has no contributions; it may give them as columns of its own."""
        return None

    def close(self) -> None:
        """End the process."""
        self._worker.close()

    def _alike(self, found: pa.Table, schema: pa.Schema) -> pa.Table:
        """Predictions in the columns and types of the first ones."""
        if found.column_names != schema.names:
            raise ModelFailed(f"{self._what} gave other columns than before")
        try:
            return found.cast(schema)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, ValueError) as error:
            raise ModelFailed(f"{self._what} gave other types than before") from error
