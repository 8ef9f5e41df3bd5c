"""A model's file or folder: fetched once, hashed, and these very bytes loaded."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from smartstream.errors import ModelHashMismatch, ModelMissing, ModelNotAllowed
from smartstream.inference.models.places import FILE_BYTES_MAX, Place, too_large

_ENDINGS = {
    "onnx": "onnx",
    "ubj": "xgboost",
    "xgb": "xgboost",
    "skops": "skops",
    "lgb": "lightgbm",
    "lightgbm": "lightgbm",
}
# What MLflow calls the file of a model in its folder.
_IN_FOLDERS = {"model.onnx", "model.lgb", "model.txt", "model.xgb", "model.ubj", "model.json", "model.skops"}
_PICKLE = b"\x80"
_PICKLE_ENDINGS = {"pkl", "pickle", "joblib"}


@dataclass(frozen=True, slots=True)
class Artifact:
    """The bytes of a model's file and their hash."""

    name: str
    data: bytes
    sha256: str


@dataclass(frozen=True, slots=True)
class Folder:
    """The files of a folder by their names, and the hash of all of them."""

    files: Mapping[str, bytes]
    sha256: str


def fetch(place: Place, uri: str, *, what: str, sha256: str | None) -> Artifact:
    """Read a model's file; of a folder that MLflow wrote, the file in it that is the model.

    Args:
        uri: the address as configured; names the file.
        what: whose it is, for messages.
        sha256: what its hash must be; None: anything.
    Raises:
        ModelMissing: there is no such file, or it is larger than FILE_BYTES_MAX.
        ModelHashMismatch: it is another file.
        ModelUnavailable: who keeps it does not answer.
    """
    name, inside = uri.partition("?")[0].rsplit("/", 1)[-1], ""
    if names := place.names():
        chosen = [one for one in names if PurePosixPath(one).name in _IN_FOLDERS]
        if len(chosen) != 1:
            raise ModelMissing(
                f"{what}: the folder {uri} holds {len(chosen)} files that could be the model",
                hint="Name the file itself; what only MLflow can load needs `format: mlflow_pyfunc`.",
            )
        name = inside = chosen[0]
    data = place.read(inside)
    found = hashlib.sha256(data).hexdigest()
    _check(found, sha256, what, uri)
    return Artifact(name, data, found)


def fetch_folder(place: Place, uri: str, *, what: str, sha256: str | None) -> Folder:
    """Read a folder; raises as ``fetch``."""
    files: dict[str, bytes] = {}
    size = 0
    for name in place.names() or ():
        files[name] = place.read(name)
        size += len(files[name])
        if size > FILE_BYTES_MAX:
            raise too_large(what, uri)
    if not files:
        raise ModelMissing(f"{what}: {uri} is no folder with files")
    found = folder_hash(files)
    _check(found, sha256, what, uri)
    return Folder(files, found)


def folder_hash(files: Mapping[str, bytes]) -> str:
    """SHA-256 of a folder: of a line ``hash  name`` for each file, by name, as ``sha256sum`` prints them."""
    lines = (f"{hashlib.sha256(files[name]).hexdigest()}  {name}\n" for name in sorted(files))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def format_of(artifact: Artifact, what: str) -> str:
    """The kind of a file by its ending, where that is not enough by its content.

    Raises:
        ModelNotAllowed: it is a pickle, which may run anything.
        ModelMissing: it can't be told.
    """
    ending = artifact.name.rsplit(".", 1)[-1].lower()
    if ending in _PICKLE_ENDINGS or artifact.data.startswith(_PICKLE):
        raise ModelNotAllowed(
            f"{what}: {artifact.name} is a pickle, which is never loaded: it can run any code",
            hint="Export the model to ONNX, or save it with skops.",
        )
    if ending in _ENDINGS:
        return _ENDINGS[ending]
    if artifact.data.startswith(b"tree\n"):
        return "lightgbm"
    if ending == "json" and _is_xgboost(artifact.data):
        return "xgboost"
    raise ModelMissing(f"{what}: what kind of model {artifact.name} is can't be told: say it as `format`")


def _is_xgboost(data: bytes) -> bool:
    """Whether a JSON file is a model of XGBoost."""
    try:
        content = json.loads(data)
    except ValueError:
        return False
    return isinstance(content, dict) and "learner" in content


def _check(found: str, wanted: str | None, what: str, uri: str) -> None:
    """Make sure that these are the bytes that were reviewed."""
    if wanted is not None and found != wanted:
        raise ModelHashMismatch(f"{what}: {uri} has the hash {found}, not {wanted}")
