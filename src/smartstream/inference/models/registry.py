"""Models by name and alias: what an MLflow registry says where their files lie."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, urlencode

from smartstream.config import S3Options
from smartstream.errors import ModelFailed, ModelMissing
from smartstream.inference.models.peer import Peer
from smartstream.inference.models.places import DiskPlace, MlflowPlace, Place, S3Place, disk_path
from smartstream.secret import Secret

SCHEME = "mlflow:"
_SERVER = Secret("${env:MLFLOW_TRACKING_URI}", "uri of a model in MLflow")


@dataclass(frozen=True, slots=True)
class Registered:
    """A version of a registered model.

    Attributes:
        version: as the registry counts.
    """

    place: Place
    version: str


def find_registered(uri: str, peer: Peer, s3: S3Options | None) -> Registered:
    """Resolve ``mlflow:name@alias``.

    The server is ``?registry=https://…`` at the end of ``uri``, else the environment's
    MLFLOW_TRACKING_URI.

    Raises:
        ModelMissing: no such model or alias, or its files lie where SmartStream does not read.
        ConfigMissing: there is no address of a server.
        ModelUnavailable, ModelTimeout, ModelFailed: the server; see ``Peer.get``.
    """
    named, _, query = uri.removeprefix(SCHEME).partition("?")
    name, _, alias = named.rpartition("@")
    if not name or not alias:
        raise ModelMissing(f"{peer.what}: {uri} is not mlflow:name@alias")
    server = (parse_qs(query).get("registry") or [_SERVER.reveal()])[0].rstrip("/")
    if not server.startswith(("http://", "https://")):
        raise ModelMissing(f"{peer.what}: the address of the MLflow server is not http:// or https://")
    api = f"{server}/api/2.0/mlflow"
    asked = urlencode({"name": name, "alias": alias})
    found = peer.json(f"{api}/registered-models/alias?{asked}").get("model_version") or {}
    version = str(found.get("version") or "")
    if not version:
        raise ModelFailed(f"{peer.what}: the registry does not say which version {name}@{alias} is")
    asked = urlencode({"name": name, "version": version})
    address = peer.json(f"{api}/model-versions/get-download-uri?{asked}").get("artifact_uri")
    return Registered(_place(str(address or found.get("source") or ""), server, peer, s3), version)


def _place(address: str, server: str, peer: Peer, s3: S3Options | None) -> Place:
    """Where an artifact lies."""
    scheme = address.partition(":")[0] if ":" in address else "file"
    if scheme == "s3":
        return S3Place(address, peer.what, s3)
    if scheme == "mlflow-artifacts":
        rest = address.removeprefix("mlflow-artifacts:")
        # Written mlflow-artifacts:/path or with the server's own name: mlflow-artifacts://host:port/path.
        path = rest.removeprefix("//").partition("/")[2] if rest.startswith("//") else rest
        return MlflowPlace(peer, server, path.strip("/"))
    if scheme == "file" and Path(path_text := address.removeprefix("file://")).is_absolute():
        return DiskPlace(disk_path(path_text, None), peer.what)
    raise ModelMissing(
        f"{peer.what}: the registry names files in {scheme!r}",
        hint="SmartStream reads models from folders, S3 and the artifacts of the MLflow server.",
    )
