"""A model's file is read once, from wherever it lies, and the bytes that were hashed are loaded."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pyarrow as pa
import pytest

from smartstream.errors import (
    ConfigMissing,
    ModelFailed,
    ModelHashMismatch,
    ModelMissing,
    ModelNotAllowed,
    ModelUnavailable,
)
from smartstream.inference.models import artifact, open_model, peer, places
from smartstream.inference.models.places import DiskPlace
from smartstream.raw import s3_store
from tests.contract.s3_emulator import S3Emulator
from tests.model_setup import Answer, Stub, as_json, lightgbm_file, people, probabilities, settings


@pytest.fixture(scope="module")
def s3() -> Iterator[S3Emulator]:
    """One emulator for this file."""
    emulator = S3Emulator()
    yield emulator
    emulator.stop()


@pytest.fixture
def rows(seed: str) -> pa.Table:
    """Features of some people."""
    return people(seed)


def test_addresses_of_files_start_from_the_folder(rows: pa.Table, tmp_path: Path) -> None:
    uri, _ = lightgbm_file(rows, tmp_path)
    whole = tmp_path / uri
    for one in (uri, f"./{uri}", str(whole), f"file://{whole}"):
        assert open_model(settings(one), folder=tmp_path).identity.format == "lightgbm"
    with pytest.raises(ModelMissing):
        open_model(settings(uri), folder=tmp_path / "elsewhere")


def test_the_bytes_that_were_hashed_are_loaded_though_the_file_is_replaced(
    rows: pa.Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri, wanted = lightgbm_file(rows, tmp_path)
    sha256 = hashlib.sha256((tmp_path / uri).read_bytes()).hexdigest()
    reads = []
    read = DiskPlace.read

    def read_then_replace(self: DiskPlace, name: str = "") -> bytes:
        data = read(self, name)
        reads.append(name)
        (tmp_path / uri).write_bytes(b"something else")
        return data

    monkeypatch.setattr(DiskPlace, "read", read_then_replace)
    model = open_model(settings(uri, sha256=sha256), folder=tmp_path)
    assert len(reads) == 1 and np.array_equal(probabilities(model.predict(rows)), wanted)
    with pytest.raises(ModelHashMismatch, match="not " + sha256):
        open_model(settings(uri, sha256=sha256), folder=tmp_path)


def test_a_file_that_is_too_large_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "FILE_BYTES_MAX", 10)
    (tmp_path / "m.onnx").write_bytes(b"x" * 10)
    assert len(DiskPlace(tmp_path / "m.onnx", "model").read()) == 10
    (tmp_path / "m.onnx").write_bytes(b"x" * 11)
    with pytest.raises(ModelMissing, match="larger than"):
        open_model(settings("m.onnx"), folder=tmp_path)


def test_a_folder_that_mlflow_wrote_has_one_model_in_it(rows: pa.Table, tmp_path: Path) -> None:
    uri, _ = lightgbm_file(rows, tmp_path)
    (tmp_path / "saved").mkdir()
    os.rename(tmp_path / uri, tmp_path / "saved" / "model.lgb")
    (tmp_path / "saved" / "MLmodel").write_text("flavors: {}\n")
    model = open_model(settings("saved"), folder=tmp_path)
    data = (tmp_path / "saved" / "model.lgb").read_bytes()
    assert model.identity.sha256 == hashlib.sha256(data).hexdigest()
    (tmp_path / "saved" / "model.onnx").touch()
    with pytest.raises(ModelMissing, match="2 files"):
        open_model(settings("saved"), folder=tmp_path)


def test_the_hash_of_a_folder_counts_names_and_content() -> None:
    files = {"a": b"1", "b/c": b"2"}
    lines = "".join(f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in files.items())
    assert artifact.folder_hash(files) == hashlib.sha256(lines.encode()).hexdigest()
    others = ({"a": b"2", "b/c": b"1"}, {"a": b"1", "b/d": b"2"}, {"a": b"1"})
    assert len({artifact.folder_hash(one) for one in (files, *others)}) == 4


def test_models_come_from_s3(s3: S3Emulator, rows: pa.Table, tmp_path: Path) -> None:
    uri, wanted = lightgbm_file(rows, tmp_path)
    lake, data = s3.lake("models"), (tmp_path / uri).read_bytes()
    bucket = lake.warehouse.split("/")[2]
    for key in ("models/risk/m.txt", "models/saved/model.lgb", "models/saved/MLmodel"):
        s3.client().put_object(Bucket=bucket, Key=key, Body=data)
    for address in (f"{lake.warehouse}/risk/m.txt", f"{lake.warehouse}/saved"):
        model = open_model(settings(address), folder=None, s3=lake.s3)
        assert np.array_equal(probabilities(model.predict(rows)), wanted)
    with pytest.raises(ModelMissing, match=r"there is no s3://"):
        open_model(settings(f"{lake.warehouse}/none.txt"), folder=None, s3=lake.s3)
    with pytest.raises(ModelMissing, match="NoSuchBucket"):
        open_model(settings("s3://no-such-bucket-here/m.txt"), folder=None, s3=lake.s3)


def test_s3_that_does_not_answer_is_said(s3: S3Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3_store, "_ATTEMPTS_MAX", 1)
    gone = s3.lake().s3.model_copy(update={"endpoint": "http://127.0.0.1:9"})
    with pytest.raises(ModelUnavailable, match="risk"):
        open_model(settings("s3://some/m.txt"), folder=None, s3=gone)


class Registry:
    """What a tracking server of MLflow answers."""

    def __init__(self) -> None:
        self.address = ""
        self.files: dict[str, bytes] = {}
        self.server = Stub(self._answer)

    def _answer(self, path: str, body: bytes) -> Answer:
        url = urlsplit(path)
        asked = {name: values[0] for name, values in parse_qs(url.query).items()}
        if url.path.endswith("/registered-models/alias"):
            if asked != {"name": "team/risk", "alias": "champion"}:
                return as_json({"error_code": "RESOURCE_DOES_NOT_EXIST"}, 404)
            return as_json(
                {"model_version": {"name": asked["name"], "version": "12", "source": "models:/m-1"}}
            )
        if url.path.endswith("/model-versions/get-download-uri"):
            assert asked == {"name": "team/risk", "version": "12"}
            return as_json({"artifact_uri": self.address})
        assert "/mlflow-artifacts/artifacts" in url.path
        below = url.path.partition("/mlflow-artifacts/artifacts")[2].strip("/")
        if below:
            return (200, self.files[below]) if below in self.files else (404, b"")
        folder = asked["path"].strip("/") + "/"
        names = {name.removeprefix(folder) for name in self.files if name.startswith(folder)}
        first = sorted({(name.split("/")[0], "/" in name) for name in names})
        return as_json({"files": [{"path": name, "is_dir": is_dir} for name, is_dir in first]})


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    """A registry with the model team/risk@champion."""
    monkeypatch.setattr(peer, "FIRST_WAIT_S", 0.01)
    found = Registry()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", found.server.url)
    yield found
    found.server.stop()


URI = "mlflow:team/risk@champion"


@pytest.mark.parametrize("where", ["server", "server by name", "disk", "s3"])
def test_an_alias_leads_to_the_file_of_its_version(
    where: str, registry: Registry, s3: S3Emulator, rows: pa.Table, tmp_path: Path
) -> None:
    uri, wanted = lightgbm_file(rows, tmp_path)
    data, lake = (tmp_path / uri).read_bytes(), s3.lake()
    bucket = lake.warehouse.split("/")[2]
    if where == "disk":
        registry.address = f"file://{tmp_path / uri}"
    elif where == "s3":
        s3.client().put_object(Bucket=bucket, Key="a/m.txt", Body=data)
        registry.address = f"s3://{bucket}/a/m.txt"
    else:
        host = "//its.own.name:5000" if "name" in where else ""
        registry.address = f"mlflow-artifacts:{host}/1/models/m-1/artifacts"
        root = "1/models/m-1/artifacts"
        registry.files = {f"{root}/MLmodel": b"", f"{root}/model.lgb": data, f"{root}/data/other": b""}
    if where == "disk":
        os.rename(tmp_path / uri, tmp_path / "model.lgb")
        registry.address = f"file://{tmp_path}"
    if where == "s3":
        s3.client().put_object(Bucket=bucket, Key="a/b/model.lgb", Body=data)
        registry.address = f"s3://{bucket}/a/b"
    model = open_model(settings(URI, token="a token"), folder=None, s3=lake.s3)
    assert model.identity.version == "12"
    assert model.identity.sha256 == hashlib.sha256(data).hexdigest()
    assert np.array_equal(probabilities(model.predict(rows)), wanted)
    assert set(registry.server.tokens) == {"Bearer a token"}


def test_the_address_of_the_registry_may_stand_in_the_uri(
    registry: Registry, tmp_path: Path, rows: pa.Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    with pytest.raises(ConfigMissing, match="MLFLOW_TRACKING_URI"):
        open_model(settings(URI), folder=None)
    uri, _ = lightgbm_file(rows, tmp_path)
    os.rename(tmp_path / uri, tmp_path / "model.lgb")
    registry.address = str(tmp_path)
    assert open_model(settings(f"{URI}?registry={registry.server.url}/"), folder=None).inputs


@pytest.mark.parametrize(
    ("uri", "address", "error"),
    [
        ("mlflow:team/risk@other", "", ModelMissing),
        ("mlflow:team/risk", "", ModelMissing),
        (URI, "dbfs:/a/b", ModelMissing),
        (URI, "mlflow-artifacts:/nothing", ModelMissing),
        (f"{URI}?registry=ftp://x", "", ModelMissing),
    ],
)
def test_what_a_registry_lacks_is_said(
    uri: str, address: str, error: type[Exception], registry: Registry
) -> None:
    registry.address = address
    with pytest.raises(error, match="risk"):
        open_model(settings(uri), folder=None)


def test_a_registered_pickle_is_not_loaded_and_names_do_not_lead_out(registry: Registry) -> None:
    registry.address = "mlflow-artifacts:/a"
    registry.files = {"a/model.pkl": b"\x80\x04N.", "a/MLmodel": b""}
    with pytest.raises(ModelMissing, match="0 files that could be the model") as caught:
        open_model(settings(URI), folder=None)
    assert "mlflow_pyfunc" in caught.value.hint
    rival: dict[str, Any] = {"format": "mlflow_pyfunc", "allow_code": True, "sha256": "0" * 64}
    with pytest.raises(ModelHashMismatch):
        open_model(settings(URI, **rival), folder=None)
    chosen = settings("m.onnx", format="onnx", challenger={"uri": f"{URI}"})
    with pytest.raises(ModelMissing):
        open_model(chosen, folder=None, challenger=True)
    for name in ("../x", "/x", "a/../../x", "..\\x"):
        with pytest.raises(ModelMissing, match="lead out"):
            places.bounded([name], "model")


def test_a_registry_that_answers_nonsense_is_said(registry: Registry) -> None:
    registry.server.answer = lambda path, body: as_json({"model_version": {}})
    with pytest.raises(ModelFailed, match="which version"):
        open_model(settings(URI), folder=None)
    registry.server.answer = lambda path, body: (503, b"")
    with pytest.raises(ModelUnavailable, match="503"):
        open_model(settings(URI), folder=None)


def test_a_pickle_on_disk_is_told_from_a_model(tmp_path: Path) -> None:
    (tmp_path / "m.pkl").write_bytes(b"\x80\x04N.")
    with pytest.raises(ModelNotAllowed, match="pickle"):
        open_model(settings("m.pkl"), folder=tmp_path)
