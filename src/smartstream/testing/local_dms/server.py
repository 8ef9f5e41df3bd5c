"""DMS's API on a port of this machine."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from smartstream.testing.local_dms.api import LocalDms
from smartstream.testing.local_dms.resources import Refused

REQUEST_BYTES_MAX = 1 << 20
POLL_SECONDS = 0.05  # Between looks whether to end.


@contextmanager
def serve(dms: LocalDms, port: int = 0) -> Iterator[str]:
    """Yield the address at which it answers until the block ends; then its tasks have stopped, too.

    Args:
        port: of 127.0.0.1; 0 is any that is free.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            text = self.rfile.read(min(int(self.headers["Content-Length"]), REQUEST_BYTES_MAX))
            operation = self.headers.get("X-Amz-Target", "").rpartition(".")[2]
            try:
                status, body = 200, dms.answer(operation, json.loads(text))
            except Refused as refusal:
                status, body = 400, {"__type": refusal.code, "message": str(refusal)}
            except Exception as error:
                status = 500
                body = {"__type": "InternalFailure", "message": f"{type(error).__name__}: {error}"}
            self._send(status, json.dumps(body).encode())

        def _send(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "application/x-amz-json-1.1")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    thread = threading.Thread(
        target=server.serve_forever, args=(POLL_SECONDS,), name="local-dms", daemon=True
    )
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(timeout=5)
        dms.close()
