"""S3 on 127.0.0.1, with the atomic conditional writes of the real one, and its failures on order."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from typing import Any

import boto3
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

from smartstream.config import Lake, S3Options

_BUCKETS = itertools.count(1)


class _Quiet(WSGIRequestHandler):
    def log(self, *_: Any) -> None:
        """Say nothing."""


class S3Emulator:
    """moto behind one lock: alone it looks and writes in two steps, so that two writers may both win.

    ``lost_answers`` PUTs are carried out and never answered; ``refusal`` (status, code)
    is what every PUT is answered with instead of being carried out; ``page_size`` cuts listings.
    """

    def __init__(self) -> None:
        self.lost_answers = 0
        self.refusal: tuple[str, str] | None = None
        self.page_size: int | None = None
        self._app, self._lock = DomainDispatcherApplication(create_backend_app), threading.Lock()
        self._server = make_server("127.0.0.1", 0, self._answer, threaded=True, request_handler=_Quiet)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.port}"

    def _answer(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        writes = environ["REQUEST_METHOD"] == "PUT"
        if writes and self.refusal:
            status, code = self.refusal
            start_response(status, [("Content-Type", "application/xml")])
            return [f"<Error><Code>{code}</Code><Message>no</Message></Error>".encode()]
        if self.page_size and "list-type=2" in environ["QUERY_STRING"]:
            environ["QUERY_STRING"] += f"&max-keys={self.page_size}"
        with self._lock:
            body = list(self._app(environ, start_response))
        if writes and self.lost_answers:
            self.lost_answers -= 1
            raise ConnectionResetError  # the server then says nothing and keeps the line open
        return body

    def client(self) -> Any:
        """A client of its own."""
        return boto3.client(
            "s3",
            endpoint_url=self.url,
            region_name="us-east-1",
            aws_access_key_id="testing",
            aws_secret_access_key="testing",
        )

    def lake(self, prefix: str = "some/prefix") -> Lake:
        """A warehouse in a fresh bucket."""
        bucket = f"lake-{next(_BUCKETS)}"
        self.client().create_bucket(Bucket=bucket)
        return self.lake_in(f"s3://{bucket}/{prefix}")

    def lake_in(self, warehouse: str) -> Lake:
        """A warehouse as said."""
        options = {"access_key_id": "testing", "secret_access_key": "testing"}
        s3 = S3Options.model_validate({"endpoint": self.url, "region": "us-east-1", **options})
        return Lake(warehouse=warehouse, s3=s3)

    def stop(self) -> None:
        """End the server."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
