"""Requests to a server that may be busy: with a deadline, tried again, and nothing followed elsewhere."""

from __future__ import annotations

import contextlib
import http.client
import ipaddress
import json
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from threading import Event
from typing import Any
from urllib.parse import urlsplit

from smartstream.errors import ModelFailed, ModelMissing, ModelNotAllowed, ModelTimeout, ModelUnavailable
from smartstream.secret import Secret

ATTEMPTS_MAX = 4
FIRST_WAIT_S = 0.2
ANSWER_BYTES_MAX = 256 << 20
_PIECE = 1 << 20
_NOT_NOW = {408, 425, 429, 502, 503, 504}
_REFUSED = {401, 403}


class _Passing(Exception):
    """What another attempt may not meet."""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect would carry the token to another server."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        """Never."""


@dataclass(frozen=True, slots=True)
class Peer:
    """The other side of requests.

    Attributes:
        what: whose requests they are, for messages.
        token: sent as bearer token.
        timeout_s: of one request with all its attempts.
    """

    what: str
    token: Secret | None
    timeout_s: float

    def json(self, url: str, body: bytes | None = None) -> dict[str, Any]:
        """Ask for a JSON object; as ``get``, ModelFailed also when the answer is none."""
        data = self.get(url, body, {"Content-Type": "application/json", "Accept": "application/json"})
        try:
            content = json.loads(data)
        except ValueError as error:
            raise ModelFailed(f"{self.what}: the answer of {_shown(url)} is not JSON") from error
        if not isinstance(content, dict):
            raise ModelFailed(f"{self.what}: the answer of {_shown(url)} is no JSON object")
        return content

    def get(
        self,
        url: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        bytes_max: int = ANSWER_BYTES_MAX,
    ) -> bytes:
        """The body of an answer; with ``body`` it is a POST, which may be done more than once.

        Raises:
            ModelMissing: 404.
            ModelTimeout: no answer in ``timeout_s``.
            ModelUnavailable: no server, one whose certificate is not trusted, or one that
                refuses; after ATTEMPTS_MAX attempts where waiting can help.
            ModelFailed: any other answer, or one larger than ``bytes_max``.
            ModelNotAllowed: the token would go over the network in clear.
        """
        request = urllib.request.Request(url, data=body, headers=dict(headers or {}))
        if self.token:
            self._check_private(url)
            request.add_unredirected_header("Authorization", f"Bearer {self.token.reveal()}")
        deadline = time.monotonic() + self.timeout_s
        for attempt in range(ATTEMPTS_MAX):
            try:
                return self._once(request, deadline, bytes_max)
            except _Passing as error:
                wait_s = FIRST_WAIT_S * 2**attempt
                if attempt == ATTEMPTS_MAX - 1 or time.monotonic() + wait_s > deadline:
                    raise ModelUnavailable(str(error)) from error
                Event().wait(wait_s)
        raise AssertionError("the last attempt returns or raises")

    def _once(self, request: urllib.request.Request, deadline: float, bytes_max: int) -> bytes:
        """One attempt."""
        shown = _shown(request.full_url)
        context = ssl.create_default_context()
        opener = urllib.request.build_opener(_NoRedirect, urllib.request.HTTPSHandler(context=context))
        try:
            with contextlib.closing(opener.open(request, timeout=self._left(deadline, shown))) as answer:
                return self._body(answer, deadline, bytes_max, shown)
        except urllib.error.HTTPError as error:
            error.close()
            raise self._status(error.code, shown) from error
        except TimeoutError as error:
            raise self._late(shown) from error
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", error)
            if isinstance(reason, TimeoutError):
                raise self._late(shown) from error
            if isinstance(reason, ssl.SSLCertVerificationError):
                raise ModelUnavailable(f"{self.what}: the certificate of {shown} is not trusted") from error
            raise _Passing(f"{self.what}: {shown}: {type(reason).__name__}") from error

    def _body(self, answer: Any, deadline: float, bytes_max: int, shown: str) -> bytes:
        """Read an answer piece by piece: a slow one does not outlive the deadline."""
        data = bytearray()
        while piece := answer.read1(_PIECE):
            data += piece
            if len(data) > bytes_max:
                raise ModelFailed(f"{self.what}: the answer of {shown} is larger than {bytes_max >> 20} MiB")
            self._left(deadline, shown)
        return bytes(data)

    def _left(self, deadline: float, shown: str) -> float:
        """Seconds until the deadline, or an error."""
        left = deadline - time.monotonic()
        if left <= 0:
            raise self._late(shown)
        return left

    def _late(self, shown: str) -> ModelTimeout:
        """The error for an answer that did not come in time."""
        return ModelTimeout(f"{self.what}: {shown} took longer than {self.timeout_s:g} s")

    def _status(self, code: int, shown: str) -> Exception:
        """The error for a status that is no success."""
        if code == 404:
            return ModelMissing(f"{self.what}: there is no {shown}")
        if code in _NOT_NOW:
            return _Passing(f"{self.what}: {shown} answers {code}")
        if code in _REFUSED:
            hint = "Check `token` of the model and what it may do."
            return ModelUnavailable(f"{self.what}: {shown} refuses: {code}", hint=hint)
        return ModelFailed(f"{self.what}: {shown} answers {code}")

    def _check_private(self, url: str) -> None:
        """Make sure that nobody on the way reads the token."""
        parts = urlsplit(url)
        if parts.scheme != "https" and not _is_loopback(parts.hostname or ""):
            raise ModelNotAllowed(
                f"{self.what}: a token is sent over https only, not to {_shown(url)}",
                hint="Give the address with https://.",
            )


def _is_loopback(host: str) -> bool:
    """Whether a host is this machine."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name
        return False


def _shown(url: str) -> str:
    """An address without what may be secret in it."""
    parts = urlsplit(url)
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{parts.hostname}{port}{parts.path}"
