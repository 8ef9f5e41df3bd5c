"""Models behind an endpoint of SageMaker; rows go as JSON or CSV."""

from __future__ import annotations

import hashlib
import io
import json
from typing import Any
from urllib.parse import parse_qs

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv

from smartstream.config import S3Options
from smartstream.errors import (
    InferenceError,
    ModelFailed,
    ModelMissing,
    ModelTimeout,
    ModelUnavailable,
    SignatureMismatch,
)
from smartstream.inference.config import ModelSettings
from smartstream.inference.models.model import PREDICTION, Identity, outputs_of, predictions
from smartstream.inference.models.signature import Declared

SCHEME = "sagemaker:"
BODY_BYTES_MAX = 5 << 20
"""SageMaker takes 6 MB; a chunk that is larger goes in halves."""
ATTEMPTS_MAX = 4
_CONTENT = {"json": "application/json", "csv": "text/csv"}
_MISSING = ("could not find", "not found")
_LABEL = "predicted_label"


class SageMakerModel:
    """``sagemaker:endpoint``, or ``sagemaker:endpoint?content=csv`` for containers that read CSV only.

    As JSON a request is ``{"instances": [[…], …]}`` and an answer ``{"predictions": […]}``; as
    CSV both are lines without a header.  Columns go in the order of ``inputs``.
    """

    def __init__(
        self, settings: ModelSettings, uri: str, version: str | None, declared: Declared, s3: S3Options | None
    ) -> None:
        self._endpoint, _, query = uri.removeprefix(SCHEME).partition("?")
        self._content = (parse_qs(query).get("content") or ["json"])[0]
        self._what, self._timeout_s = f"model {settings.name}", settings.timeout
        if not self._endpoint or self._content not in _CONTENT:
            raise ModelMissing(f"{self._what}: {uri} is not sagemaker:endpoint, with ?content=json or csv")
        self._client = self._connect(s3)
        self.inputs = declared.merged((), self._what)
        if any(one.nullable for one in self.inputs) and self._content == "json":
            raise SignatureMismatch(f"{self._what}: JSON has no missing numbers: no input may be nullable")
        self._variant = ""
        self.outputs = outputs_of(self.predict, self.inputs)
        # Which variant answers is all that an endpoint tells of its version.
        reported = self._variant or "unknown"
        digest = hashlib.sha256(f"{SCHEME}{self._endpoint}\n{reported}".encode()).hexdigest()
        self.identity = Identity(settings.name, version or reported, digest, "sagemaker")

    def predict(self, features: pa.Table) -> pa.Table:
        """See Model."""
        rows = features.select([one.name for one in self.inputs])
        body = _csv(rows) if self._content == "csv" else _json(rows)
        if len(body) > BODY_BYTES_MAX and rows.num_rows > 1:
            half = rows.num_rows // 2
            return pa.concat_tables([self.predict(rows.slice(0, half)), self.predict(rows.slice(half))])
        answer = self._invoke(body)
        try:
            read = _read_csv if self._content == "csv" else _read_json
            return read(answer, rows.num_rows, self._what)
        except (ValueError, KeyError, TypeError, pa.ArrowInvalid) as error:
            raise ModelFailed(f"{self._what}: the answer is not what SageMaker's containers give") from error

    def explain(self, features: pa.Table, k: int) -> pa.Array | None:
        """Endpoints do not say."""
        return None

    def close(self) -> None:
        """Let go of connections."""
        self._client.close()

    def _connect(self, s3: S3Options | None) -> Any:
        """A client; credentials are those of the environment or role."""
        try:
            import boto3
            import botocore.config
            import botocore.exceptions
        except ModuleNotFoundError as error:
            hint = "pip install 'smartstream[aws]'"
            raise ModelMissing(f"{self._what} needs the package {error.name}", hint=hint) from error
        config = botocore.config.Config(
            retries={"mode": "standard", "total_max_attempts": ATTEMPTS_MAX},
            read_timeout=self._timeout_s,
            connect_timeout=min(10.0, self._timeout_s),
        )
        try:
            region = s3.region if s3 else None
            return boto3.client("sagemaker-runtime", region_name=region, config=config)
        except botocore.exceptions.BotoCoreError as error:
            raise ModelUnavailable(f"{self._what}: AWS can't be asked: {type(error).__name__}") from error

    def _invoke(self, body: bytes) -> bytes:
        """One request."""
        import botocore.exceptions

        kind = _CONTENT[self._content]
        try:
            answer = self._client.invoke_endpoint(
                EndpointName=self._endpoint, ContentType=kind, Accept=kind, Body=body
            )
            self._variant = str(answer.get("InvokedProductionVariant") or self._variant)
            data: bytes = answer["Body"].read()
            return data
        except botocore.exceptions.ClientError as error:
            raise self._refused(error) from error
        except (botocore.exceptions.ReadTimeoutError, botocore.exceptions.ConnectTimeoutError) as error:
            raise ModelTimeout(f"{self._what} took longer than {self._timeout_s:g} s") from error
        except botocore.exceptions.BotoCoreError as error:
            raise ModelUnavailable(f"{self._what}: {self._endpoint}: {type(error).__name__}") from error

    def _refused(self, error: Any) -> InferenceError:
        """Our error for an answer that is none; its text may quote rows, so only its code is shown."""
        facts = error.response.get("Error", {})
        code, text = str(facts.get("Code")), str(facts.get("Message")).lower()
        if code == "ValidationError" and any(words in text for words in _MISSING):
            return ModelMissing(f"{self._what}: there is no endpoint {self._endpoint}")
        if code in ("ModelError", "ValidationError", "ValidationException"):
            return ModelFailed(f"{self._what}: {self._endpoint} answers {code}")
        return ModelUnavailable(f"{self._what}: {self._endpoint} answers {code}")


def _csv(rows: pa.Table) -> bytes:
    """Rows as lines, without a header; null is empty."""
    sink = io.BytesIO()
    pa_csv.write_csv(rows, sink, pa_csv.WriteOptions(include_header=False, quoting_style="needed"))
    return sink.getvalue()


def _json(rows: pa.Table) -> bytes:
    """Rows as lists of values."""
    columns = [column.to_pylist() for column in rows.columns]
    return json.dumps({"instances": list(zip(*columns, strict=True))}).encode()


def _read_csv(answer: bytes, rows: int, what: str) -> pa.Table:
    """Numbers, as many for each row; lines and commas part them alike, as containers differ in it."""
    texts = answer.decode().replace("\n", ",").split(",")
    values = np.array([text for text in map(str.strip, texts) if text], np.float64)
    if not len(values) or len(values) % rows:
        raise ModelFailed(f"{what} gave {len(values)} numbers for {rows} rows")
    return predictions(values.reshape(rows, -1), rows, what)


def _read_json(answer: bytes, rows: int, what: str) -> pa.Table:
    """A value or a list for each row, or objects: the label first, else their first value."""
    found = json.loads(answer)["predictions"]
    if not isinstance(found, list) or not found or not isinstance(found[0], dict):
        return predictions(np.asarray(found), rows, what)
    names = list(found[0])
    first = _LABEL if _LABEL in names else names[0]
    columns = {}
    for name in [first, *(name for name in names if name != first)]:
        values = np.asarray([one[name] for one in found])
        columns[PREDICTION if name == first else name] = predictions(values, rows, what).column(0)
    return pa.table(columns)
