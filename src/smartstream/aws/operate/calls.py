"""The way to AWS: one session, every call through it, every refusal as a typed error."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    NoCredentialsError,
    NoRegionError,
    PartialCredentialsError,
    ProfileNotFound,
    SSOTokenLoadError,
    TokenRetrievalError,
    UnauthorizedSSOTokenError,
)

from smartstream.errors import (
    AwsRefused,
    AwsRightMissing,
    AwsUnavailable,
    CredentialsUnusable,
    SmartStreamError,
)

ATTEMPTS_MAX = 8
CONNECT_SECONDS = 10
READ_SECONDS = 60

_NO_CREDENTIALS = (
    CredentialRetrievalError,
    NoCredentialsError,
    PartialCredentialsError,
    ProfileNotFound,
    SSOTokenLoadError,
    TokenRetrievalError,
    UnauthorizedSSOTokenError,
)
_DENIED = {
    "AccessDenied",
    "AccessDeniedException",
    "AccessDeniedFault",
    "AuthorizationError",
    "AuthorizationErrorException",
    "Forbidden",
    "403",
    "KMSAccessDeniedFault",
    "NotAuthorized",
    "UnauthorizedOperation",
}
_EXPIRED = {
    "ExpiredToken",
    "ExpiredTokenException",
    "InvalidAccessKeyId",
    "InvalidClientTokenId",
    "InvalidSignatureException",
    "RequestExpired",
    "SignatureDoesNotMatch",
    "UnrecognizedClientException",
}
_BUSY = {
    "InternalError",
    "InternalFailure",
    "InternalServerError",
    "InternalServiceError",
    "PriorRequestNotComplete",
    "RequestLimitExceeded",
    "ServiceUnavailable",
    "ServiceUnavailableException",
    "SlowDown",
    "Throttling",
    "ThrottlingException",
    "TooManyRequestsException",
}
_NOT_AUTHORIZED = re.compile(
    r"not authorized to perform:? (?P<action>[\w-]+:\w+)(?: on resource:? (?P<resource>\S+))?", re.IGNORECASE
)
# Where the right of an operation is not called as the operation.
_ACTIONS = {
    "s3:ListObjectsV2": "s3:ListBucket",
    "s3:ListObjectVersions": "s3:ListBucketVersions",
    "s3:DeleteObjects": "s3:DeleteObjectVersion",
    "s3:HeadObject": "s3:GetObject",
    "lambda:Invoke": "lambda:InvokeFunction",
    "sqs:DeleteMessageBatch": "sqs:DeleteMessage",
    "sqs:SendMessageBatch": "sqs:SendMessage",
}
_TRY_LATER = "Try again in a minute."


class Aws:
    """Calls of AWS with one set of credentials.

    ``ask`` reads; ``change`` is kept from happening in a dry run and written down in
    ``planned`` instead, as ``service:Operation resource``.
    """

    def __init__(self, session: Any, *, is_dry: bool = False) -> None:
        self._session, self.is_dry = session, is_dry
        self._clients: dict[str, Any] = {}
        self.planned: list[str] = []

    @staticmethod
    def connect(*, profile: str | None, region: str | None, is_dry: bool = False) -> Aws:
        """Return the calls of a profile, or of what environment and roles give; asks nothing yet.

        Raises:
            CredentialsUnusable: there is no such profile.
        """
        try:
            session = boto3.session.Session(profile_name=profile, region_name=region)
        except ProfileNotFound as error:
            raise CredentialsUnusable(f"there is no profile {profile} in AWS's configuration") from error
        return Aws(session, is_dry=is_dry)

    @property
    def session(self) -> Any:
        """The session, for libraries that make calls of their own."""
        return self._session

    def ask(self, service: str, operation: str, resource: str, /, **arguments: Any) -> Any:
        """Make a call that changes nothing, and return its answer.

        Args:
            operation: as boto3 names the method.
            resource: what it is about, for messages: an ARN, or a name.
        Raises:
            AwsRightMissing, CredentialsUnusable, AwsUnavailable, AwsRefused: as AWS answers.
        """
        try:
            return getattr(self.client(service), operation)(**arguments)
        except (BotoCoreError, ClientError) as error:
            raise self.error(error, service, operation, resource) from error

    def change(self, service: str, operation: str, resource: str, /, **arguments: Any) -> Any:
        """Make a call that changes something; in a dry run write it down and return {}; errors as ``ask``."""
        if self.is_dry:
            call = f"{self._action(service, operation)} {resource}"
            if not self.planned or self.planned[-1] != call:  # of many alike in a row, one
                self.planned.append(call)
            return {}
        return self.ask(service, operation, resource, **arguments)

    def pages(
        self, service: str, operation: str, resource: str, key: str, /, **arguments: Any
    ) -> Iterator[Any]:
        """Yield what stands under ``key`` in each page of a listing.  Errors as ``ask``."""
        try:
            for page in self.client(service).get_paginator(operation).paginate(**arguments):
                yield from page.get(key, ())
        except (BotoCoreError, ClientError) as error:
            raise self.error(error, service, operation, resource) from error

    def client(self, service: str) -> Any:
        """Return the client of a service, made once.

        Raises:
            CredentialsUnusable: no region is known.
        """
        if service not in self._clients:
            config = Config(
                # boto3 waits and tries again when it is throttled.
                retries={"mode": "standard", "max_attempts": ATTEMPTS_MAX},
                connect_timeout=CONNECT_SECONDS,
                read_timeout=READ_SECONDS,
            )
            try:
                self._clients[service] = self._session.client(service, config=config)
            except NoRegionError as error:
                raise CredentialsUnusable("no region is known", hint="Name one with --region.") from error
            except _NO_CREDENTIALS as error:
                raise _no_credentials(error) from error
        return self._clients[service]

    def error(
        self, error: BotoCoreError | ClientError, service: str, operation: str, resource: str
    ) -> SmartStreamError:
        """Return our error for one of botocore's; its message may hold names and ARNs, never a secret."""
        action = self._action(service, operation)
        if isinstance(error, ClientError):
            return _refusal(error, action, resource)
        if isinstance(error, _NO_CREDENTIALS):
            return _no_credentials(error)
        return AwsUnavailable(f"{action} on {resource}: {type(error).__name__}", hint=_TRY_LATER)

    def _action(self, service: str, operation: str) -> str:
        """``service:Operation`` as policies name it."""
        known = self.client(service).meta.method_to_api_mapping
        action = f"{service}:{known.get(operation, operation)}"
        return _ACTIONS.get(action, action)


def code_of(error: BaseException | None) -> str:
    """Return AWS's code of the error behind one of ours, empty for none."""
    cause = error.__cause__ if error is not None else None
    return str(cause.response.get("Error", {}).get("Code", "")) if isinstance(cause, ClientError) else ""


def _refusal(error: ClientError, action: str, resource: str) -> SmartStreamError:
    """What AWS means by an error answer."""
    said = error.response.get("Error", {})
    code, message = str(said.get("Code", "")), " ".join(str(said.get("Message", "")).split())
    found = _NOT_AUTHORIZED.search(message)
    if found or code in _DENIED:
        needed = found["action"] if found else action
        on = ((found["resource"] if found else None) or resource).rstrip(".,")
        explicit = " An explicit deny is in force: a policy forbids it." if "explicit deny" in message else ""
        hint = f'Add "{needed}" on {on} to a policy of the role or user that you work as.{explicit}'
        return AwsRightMissing(f"AWS refuses {needed} on {on}", hint=hint)
    if code in _EXPIRED:
        return CredentialsUnusable(f"AWS does not accept the credentials: {code}")
    if code in _BUSY:
        return AwsUnavailable(
            f"{action} on {resource}: {code}, also after {ATTEMPTS_MAX} attempts", hint=_TRY_LATER
        )
    return AwsRefused(f"{action} on {resource}: {code}: {message}")


def _no_credentials(error: BotoCoreError) -> CredentialsUnusable:
    """Credentials that are not there, or not whole."""
    return CredentialsUnusable(f"there are no credentials for AWS that can be used: {type(error).__name__}")
