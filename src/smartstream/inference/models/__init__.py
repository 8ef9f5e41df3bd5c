"""Load a model and predict: one file for each kind, the same few methods for all (``model``)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from smartstream.config import S3Options
from smartstream.errors import ModelMissing
from smartstream.inference.config import ModelSettings
from smartstream.inference.models import code, registry, sagemaker
from smartstream.inference.models.artifact import fetch, fetch_folder, format_of
from smartstream.inference.models.kserve import KserveModel
from smartstream.inference.models.model import Identity, Model
from smartstream.inference.models.onnx import OnnxModel
from smartstream.inference.models.peer import Peer
from smartstream.inference.models.places import DiskPlace, Place, S3Place, disk_path
from smartstream.inference.models.signature import Declared, as_inputs, bad_rows, check_inputs
from smartstream.inference.models.sklearn import SkopsModel
from smartstream.inference.models.trees import LightGbmModel, XgBoostModel

__all__ = ["Identity", "Model", "as_inputs", "bad_rows", "check_inputs", "open_model"]

THREADS = 2
PYFUNC = "mlflow_pyfunc"


@dataclass(frozen=True, slots=True)
class _Wanted:
    """Which model to load, and how."""

    settings: ModelSettings
    uri: str
    sha256: str | None
    version: str | None
    format: str
    declared: Declared
    folder: Path | None
    s3: S3Options | None
    threads: int

    @property
    def what(self) -> str:
        """Whose errors these are."""
        return f"model {self.settings.name}"


_File = Callable[[bytes, Identity, _Wanted], Model]
# A file's kind and who loads it.
_FILES: dict[str, _File] = {
    "onnx": lambda data, identity, wanted: OnnxModel(data, identity, wanted.declared, wanted.threads),
    "lightgbm": lambda data, identity, wanted: LightGbmModel(data, identity, wanted.declared, wanted.threads),
    "xgboost": lambda data, identity, wanted: XgBoostModel(data, identity, wanted.declared, wanted.threads),
    "skops": lambda data, identity, wanted: SkopsModel(
        data, identity, wanted.declared, wanted.settings.trusted_types
    ),
}


def open_model(
    settings: ModelSettings,
    *,
    folder: Path | None,
    s3: S3Options | None = None,
    challenger: bool = False,
    threads: int = THREADS,
) -> Model:
    """Load the model of ``settings``, or its challenger; one row is predicted to see what comes out.

    The bytes that are loaded are the bytes that were hashed.

    Args:
        folder: of smartstream.yaml, from which relative paths start.
        threads: that a prediction may use.
    Raises:
        ModelMissing, ModelHashMismatch, ModelNotAllowed, SignatureMismatch, ModelFailed,
        ModelTimeout, ModelOutOfMemory, ModelUnavailable: see there.
    """
    wanted = _wanted(settings, folder, s3, challenger, threads)
    uri = wanted.uri
    if uri.startswith(code.SCHEME):
        code.check_allowed(settings, uri, wanted.sha256)
        found = code.function_of(uri, wanted.what, wanted.sha256, folder)
        return code.CodeModel(found, settings, wanted.version, wanted.declared)
    if uri.startswith(("http://", "https://")):
        return KserveModel(uri, settings, wanted.version, wanted.declared)
    if uri.startswith(sagemaker.SCHEME):
        return sagemaker.SageMakerModel(settings, uri, wanted.version, wanted.declared, s3)
    if wanted.format == PYFUNC:
        code.check_allowed(settings, uri, wanted.sha256)
    place, version = _place(wanted)
    version = wanted.version or version
    if wanted.format == PYFUNC:
        artifacts = fetch_folder(place, uri, what=wanted.what, sha256=wanted.sha256)
        return code.CodeModel(code.pyfunc_of(artifacts, wanted.what), settings, version, wanted.declared)
    return _from_file(place, version, wanted)


def _wanted(
    settings: ModelSettings, folder: Path | None, s3: S3Options | None, challenger: bool, threads: int
) -> _Wanted:
    """The model that is asked for.  A challenger may be of another kind and take other columns."""
    rival = settings.challenger
    if not challenger:
        return _Wanted(
            settings,
            settings.uri,
            settings.sha256,
            settings.version,
            settings.format,
            Declared(settings.inputs),
            folder,
            s3,
            threads,
        )
    if rival is None:
        raise ModelMissing(f"model {settings.name} has no challenger")
    kind = PYFUNC if settings.format == PYFUNC else "auto"
    declared = Declared(settings.inputs, exact=False)
    return _Wanted(settings, rival.uri, rival.sha256, rival.version, kind, declared, folder, s3, threads)


def _place(wanted: _Wanted) -> tuple[Place, str | None]:
    """Where the model lies, and the version that a registry gives it."""
    uri, what = wanted.uri, wanted.what
    if uri.startswith(registry.SCHEME):
        peer = Peer(what, wanted.settings.token, wanted.settings.timeout)
        found = registry.find_registered(uri, peer, wanted.s3)
        return found.place, found.version
    if uri.startswith("s3://"):
        return S3Place(uri, what, wanted.s3), None
    scheme, mark, _ = uri.partition("://")
    if mark and scheme != "file":
        raise ModelMissing(f"{what}: {scheme}:// is no address that models come from")
    return DiskPlace(disk_path(uri, wanted.folder), what), None


def _from_file(place: Place, version: str | None, wanted: _Wanted) -> Model:
    """A model from its file."""
    artifact = fetch(place, wanted.uri, what=wanted.what, sha256=wanted.sha256)
    kind = format_of(artifact, wanted.what) if wanted.format == "auto" else wanted.format
    identity = Identity(wanted.settings.name, version or artifact.sha256[:12], artifact.sha256, kind)
    return _FILES[kind](artifact.data, identity, wanted)
