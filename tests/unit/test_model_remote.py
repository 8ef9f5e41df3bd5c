"""Models behind a server: what is sent, what is tried again, and what each failure is called."""

from __future__ import annotations

import datetime
import ipaddress
import json
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from smartstream.config import S3Options
from smartstream.errors import (
    InferenceError,
    ModelFailed,
    ModelMissing,
    ModelNotAllowed,
    ModelTimeout,
    ModelUnavailable,
    SignatureMismatch,
)
from smartstream.inference.models import open_model, peer, sagemaker
from tests.model_setup import NAMES, Answer, Stub, as_json, listed, people, settings

PATH = "/v2/models/risk"
FACTS = {"name": "risk", "versions": ["7"], "inputs": [{"name": "age", "datatype": "FP64", "shape": [-1, 1]}]}


@pytest.fixture
def stub() -> Iterator[Callable[[Callable[[str, bytes], Answer]], Stub]]:
    """Start servers that end with the test."""
    running: list[Stub] = []

    def start(answer: Callable[[str, bytes], Answer]) -> Stub:
        running.append(Stub(answer))
        return running[-1]

    yield start
    for one in running:
        one.stop()


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits between attempts are short."""
    monkeypatch.setattr(peer, "FIRST_WAIT_S", 0.01)


def twice_the_age(path: str, body: bytes) -> Answer:
    """The Open Inference Protocol."""
    if path == PATH:
        return as_json(FACTS)
    ages = json.loads(body)["inputs"][0]["data"]
    output = {"name": "y", "datatype": "FP64", "shape": [len(ages), 1], "data": [2 * age for age in ages]}
    sure = {"name": "sure", "datatype": "BYTES", "shape": [len(ages)], "data": ["yes"] * len(ages)}
    return as_json({"outputs": [output, sure]})


def test_a_remote_model_is_asked(stub: Any, seed: str) -> None:
    server = stub(twice_the_age)
    model = open_model(settings(f"{server.url}{PATH}", token="a token"), folder=None)
    assert model.identity.version == "7" and model.identity.format == "kserve"
    assert [(one.name, one.type) for one in model.inputs] == [("age", "float64")]
    rows = people(seed)
    found = model.predict(rows)
    assert found.column_names == ["prediction", "sure"] and found.schema == model.outputs
    assert np.array_equal(found["prediction"].to_numpy(), 2 * rows["age"].to_numpy())
    assert set(server.tokens) == {"Bearer a token"}


def test_columns_go_as_a_matrix_where_the_model_takes_one(stub: Any, seed: str) -> None:
    def answer(path: str, body: bytes) -> Answer:
        if path == PATH:
            return as_json({"inputs": [{"name": "input-0", "datatype": "FP32", "shape": [-1, 3]}]})
        (one,) = json.loads(body)["inputs"]
        assert one["name"] == "input-0" and one["datatype"] == "FP32"
        sums = np.array(one["data"]).reshape(one["shape"]).sum(axis=1).tolist()
        return as_json({"outputs": [{"datatype": "FP32", "shape": [len(sums)], "data": sums}]})

    model = open_model(settings(stub(answer).url + PATH, inputs=listed(*NAMES)), folder=None)
    rows = people(seed, 20)
    wanted = sum(rows[name].to_numpy() for name in NAMES)
    assert np.allclose(model.predict(rows)["prediction"].to_numpy(), wanted)


@pytest.mark.usefixtures("soon")
@pytest.mark.parametrize(
    ("status", "content", "error"),
    [
        (404, None, ModelMissing),
        (503, None, ModelUnavailable),
        (401, None, ModelUnavailable),
        (500, None, ModelFailed),
        (422, None, ModelFailed),
        (200, [1], ModelFailed),
        (200, {"outputs": []}, ModelFailed),
        (200, {"outputs": [{"datatype": "FP64", "shape": [9], "data": [1.0]}]}, ModelFailed),
        (200, {"outputs": [{"datatype": "FP64", "shape": [2], "data": [1.0, 2.0]}]}, ModelFailed),
        (200, {"outputs": [{"datatype": "FP64", "shape": [1], "data": ["x"]}]}, ModelFailed),
        (200, {"outputs": [7]}, ModelFailed),
    ],
)
def test_a_remote_model_that_fails_says_how(
    status: int, content: Any, error: type[InferenceError], stub: Any
) -> None:
    server = stub(twice_the_age)
    model = open_model(settings(server.url + PATH), folder=None)
    server.answer = lambda path, body: as_json(content, status)
    with pytest.raises(error, match="risk"):
        model.predict(pa.table({"age": [1.0]}))


@pytest.mark.usefixtures("soon")
def test_a_server_that_is_busy_is_asked_again_but_not_for_ever(stub: Any) -> None:
    left = [0]

    def answer(path: str, body: bytes) -> Answer:
        left[0] -= 1
        return (503, b"") if left[0] >= 0 else twice_the_age(path, body)

    server = stub(answer)
    model = open_model(settings(server.url + PATH), folder=None)
    left[0] = peer.ATTEMPTS_MAX - 1
    assert model.predict(pa.table({"age": [1.0]}))["prediction"].to_pylist() == [2.0]
    left[0], server.paths[:] = peer.ATTEMPTS_MAX, []
    with pytest.raises(ModelUnavailable, match="503"):
        model.predict(pa.table({"age": [1.0]}))
    assert len(server.paths) == peer.ATTEMPTS_MAX


def test_a_slow_server_is_given_up(stub: Any) -> None:
    late = threading.Event()
    server = stub(twice_the_age)
    model = open_model(settings(server.url + PATH, timeout=0.3), folder=None)

    def answer(path: str, body: bytes) -> Answer:
        late.wait(5)
        return 200, b"{}"

    server.answer = answer
    before = time.monotonic()
    with pytest.raises(ModelTimeout, match=r"0.3 s"):
        model.predict(pa.table({"age": [1.0]}))
    assert time.monotonic() - before < 3
    late.set()


def test_a_redirect_is_not_followed_with_the_token(stub: Any) -> None:
    other = stub(twice_the_age)
    server = stub(lambda path, body: (307, b""))
    server.headers["Location"] = f"{other.url}{PATH}"
    with pytest.raises(ModelFailed, match="307"):
        open_model(settings(server.url + PATH, token="a token"), folder=None)
    assert other.tokens == []


@pytest.mark.usefixtures("soon")
def test_nobody_at_the_address_is_said() -> None:
    with pytest.raises(ModelUnavailable, match="risk"):
        open_model(settings(f"http://127.0.0.1:9{PATH}"), folder=None)


def test_a_token_is_not_sent_in_clear_to_another_machine() -> None:
    with pytest.raises(ModelNotAllowed, match="https") as caught:
        open_model(settings("http://models.example/v2/models/risk", token="canary"), folder=None)
    assert "canary" not in str(caught.value)


def certificate(folder: Path) -> Path:
    """A certificate for 127.0.0.1 that nobody trusts, with its key."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    start = datetime.datetime(2020, 1, 1)
    made = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    made = made.not_valid_before(start).not_valid_after(start.replace(year=2090))
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    made = made.add_extension(x509.SubjectAlternativeName([address]), critical=False)
    made = made.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    pem = made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    pem += key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    (folder / "server.pem").write_bytes(pem)
    return folder / "server.pem"


def test_the_certificate_of_a_server_is_checked(
    stub: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, pem = stub(twice_the_age), certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    server.secure(context)
    with pytest.raises(ModelUnavailable, match="not trusted"):
        open_model(settings(server.url + PATH), folder=None)
    monkeypatch.setenv("SSL_CERT_FILE", str(pem))
    assert open_model(settings(server.url + PATH, token="a token"), folder=None).identity.version == "7"


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch, stub: Any) -> Stub:
    """An endpoint of SageMaker on 127.0.0.1 that adds up each row."""

    def answer(path: str, body: bytes) -> Answer:
        rows = json.loads(body)["instances"]
        return as_json({"predictions": [sum(row) for row in rows]})

    server: Stub = stub(answer)
    server.headers["x-Amzn-Invoked-Production-Variant"] = "blue"
    monkeypatch.setenv("AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME", server.url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setattr(sagemaker, "ATTEMPTS_MAX", 1)
    return server


S3 = S3Options(region="eu-central-1")


def test_an_endpoint_of_sagemaker_is_asked_in_pieces(
    aws: Stub, seed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sagemaker, "BODY_BYTES_MAX", 2000)
    model = open_model(settings("sagemaker:risk", inputs=listed(*NAMES)), folder=None, s3=S3)
    assert model.identity.version == "blue" and model.identity.format == "sagemaker"
    rows = people(seed)
    aws.paths.clear()
    found = model.predict(rows)
    wanted = sum(rows[name].to_numpy() for name in NAMES)
    assert np.allclose(found["prediction"].to_numpy(), wanted) and len(aws.paths) > 4
    assert set(aws.paths) == {"/endpoints/risk/invocations"}
    model.close()


def test_an_endpoint_may_take_csv_with_missing_values(aws: Stub) -> None:
    bodies: list[bytes] = []

    def answer(path: str, body: bytes) -> Answer:
        bodies.append(body)
        return 200, b"0.25,0.75\n" * body.count(b"\n")

    aws.answer = answer
    inputs = [*listed("age", nullable=True), *listed("grade", type="string")]
    model = open_model(settings("sagemaker:risk?content=csv", inputs=inputs), folder=None, s3=S3)
    found = model.predict(pa.table({"grade": ['a,"b', "c"], "age": [None, 1.5]}))
    assert bodies[-1] == b',"a,""b"\n1.5,"c"\n'
    assert found["prediction"].to_pylist() == [[0.25, 0.75]] * 2


def test_answers_with_labels_become_columns(aws: Stub) -> None:
    aws.answer = lambda path, body: as_json({"predictions": [{"score": 0.5, "predicted_label": 1}]})
    model = open_model(settings("sagemaker:risk", inputs=listed("age")), folder=None, s3=S3)
    found = model.predict(pa.table({"age": [1.0]}))
    assert found.to_pylist() == [{"prediction": 1, "score": 0.5}]


@pytest.mark.parametrize(
    ("status", "code", "message", "error"),
    [
        (400, "ValidationError", "Endpoint risk of account 1 not found.", ModelMissing),
        (424, "ModelError", "canary", ModelFailed),
        (503, "ServiceUnavailable", "canary", ModelUnavailable),
        (403, "AccessDeniedException", "canary", ModelUnavailable),
        (200, "", "no JSON", ModelFailed),
    ],
)
def test_an_endpoint_that_fails_says_how_without_its_text(
    status: int, code: str, message: str, error: type[InferenceError], aws: Stub
) -> None:
    aws.headers["x-amzn-ErrorType"] = code
    aws.answer = lambda path, body: as_json({"message": message, "Message": message}, status)
    with pytest.raises(error, match="risk") as caught:
        open_model(settings("sagemaker:risk", inputs=listed("age")), folder=None, s3=S3)
    assert "canary" not in str(caught.value)


def test_what_an_endpoint_can_not_take_is_refused(aws: Stub) -> None:
    with pytest.raises(ModelMissing, match="content"):
        open_model(settings("sagemaker:risk?content=xml", inputs=listed("age")), folder=None, s3=S3)
    with pytest.raises(SignatureMismatch, match="inputs"):
        open_model(settings("sagemaker:risk"), folder=None, s3=S3)
    with pytest.raises(SignatureMismatch, match="nullable"):
        open_model(settings("sagemaker:risk", inputs=listed("age", nullable=True)), folder=None, s3=S3)
