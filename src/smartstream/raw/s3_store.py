"""An S3 bucket, or a prefix in one, as a store."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any, BinaryIO

import boto3
import boto3.exceptions
import boto3.s3.transfer
import botocore.config
import botocore.exceptions
import pyarrow.fs as pafs

from smartstream.config import Lake
from smartstream.errors import LakeError, LakeNotWritable, StoreUnavailable
from smartstream.raw.store import AlreadyExists, NotFound, StoredObject

_PART_BYTES = 32 << 20
_CONNECT_TIMEOUT_S, _READ_TIMEOUT_S = 10, 60
_ATTEMPTS_MAX = 5
_REFUSED = {"InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken"}
_MISDIRECTED = {"NoSuchBucket", "PermanentRedirect", "AuthorizationHeaderMalformed", "InvalidBucketName"}
_NOT_NOW = {"SlowDown", "RequestTimeout", "Throttling", "ThrottlingException", "OperationAborted"}
_UNCONFIGURED = (
    botocore.exceptions.NoCredentialsError,
    botocore.exceptions.PartialCredentialsError,
    botocore.exceptions.NoRegionError,
    botocore.exceptions.ParamValidationError,
)


class S3Store:
    """Objects in S3; see Store.  put-if-absent is S3's ``If-None-Match: *``."""

    def __init__(self, client: Any, bucket: str, prefix: str, filesystem: pafs.FileSystem) -> None:
        self._client, self._bucket, self._filesystem = client, bucket, filesystem
        self._prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        # Parts only where one request would be large: an object put whole leaves nothing behind.
        self._transfer = boto3.s3.transfer.TransferConfig(
            multipart_threshold=2 * _PART_BYTES, multipart_chunksize=_PART_BYTES, max_concurrency=4
        )

    @staticmethod
    def open(lake: Lake) -> S3Store:
        """The store of an ``s3://bucket/prefix`` warehouse; asks nothing of the network."""
        bucket, _, prefix = lake.warehouse.removeprefix("s3://").partition("/")
        key = lake.s3.access_key_id.reveal() if lake.s3.access_key_id else None
        secret = lake.s3.secret_access_key.reveal() if lake.s3.secret_access_key else None
        with _errors(lake.warehouse):
            client = boto3.client(
                "s3",
                endpoint_url=lake.s3.endpoint,
                region_name=lake.s3.region,
                aws_access_key_id=key,
                aws_secret_access_key=secret,
                config=botocore.config.Config(
                    retries={"mode": "standard", "total_max_attempts": _ATTEMPTS_MAX},
                    connect_timeout=_CONNECT_TIMEOUT_S,
                    read_timeout=_READ_TIMEOUT_S,
                ),
            )
        options = {"access_key": key, "secret_key": secret, "region": client.meta.region_name}
        if lake.s3.endpoint:
            scheme, _, host = lake.s3.endpoint.rstrip("/").rpartition("://")
            options |= {"endpoint_override": host, "scheme": scheme or "https"}
        given = {name: value for name, value in options.items() if value}
        filesystem = pafs.S3FileSystem(
            **given, connect_timeout=_CONNECT_TIMEOUT_S, request_timeout=_READ_TIMEOUT_S
        )
        return S3Store(client, bucket, prefix, filesystem)

    def put(self, key: str, data: bytes, *, if_absent: bool = False) -> None:
        """See Store."""
        condition = {"IfNoneMatch": "*"} if if_absent else {}
        with _errors(key):
            self._client.put_object(Bucket=self._bucket, Key=self._prefix + key, Body=data, **condition)

    @contextmanager
    def create(self, key: str) -> Iterator[BinaryIO]:
        """See Store; held in memory until it is whole, then uploaded."""
        file = io.BytesIO()
        yield file
        file.seek(0)
        with _errors(key):
            self._client.upload_fileobj(file, self._bucket, self._prefix + key, Config=self._transfer)

    def get(self, key: str) -> bytes:
        """See Store."""
        with _errors(key):
            data: bytes = self._client.get_object(Bucket=self._bucket, Key=self._prefix + key)["Body"].read()
            return data

    def list(self, prefix: str, *, after: str | None = None) -> Iterator[StoredObject]:
        """See Store."""
        arguments = {"Prefix": self._prefix + prefix}
        if after is not None:
            arguments["StartAfter"] = self._prefix + after
        for found in self._pages("list_objects_v2", "Contents", arguments):
            key = found["Key"][len(self._prefix) :]
            yield StoredObject(key, found["Size"], found["LastModified"])

    def delete(self, key: str) -> None:
        """See Store."""
        with _errors(key):
            self._client.delete_object(Bucket=self._bucket, Key=self._prefix + key)

    def discard_unfinished(self, prefix: str, *, before: datetime) -> int:
        """See Store: uploads in parts that were never completed."""
        count = 0
        for upload in self._pages("list_multipart_uploads", "Uploads", {"Prefix": self._prefix + prefix}):
            if upload["Initiated"] >= before:
                continue
            with _errors(upload["Key"]):
                self._client.abort_multipart_upload(
                    Bucket=self._bucket, Key=upload["Key"], UploadId=upload["UploadId"]
                )
            count += 1
        return count

    def path(self, key: str) -> str:
        """See Store."""
        return f"{self._bucket}/{self._prefix}{key}"

    @property
    def filesystem(self) -> pafs.FileSystem:
        """See Store."""
        return self._filesystem

    def _pages(self, operation: str, part: str, arguments: dict[str, str]) -> Iterator[dict[str, Any]]:
        """The items of a paged listing."""
        with _errors(arguments["Prefix"]):
            for page in self._client.get_paginator(operation).paginate(Bucket=self._bucket, **arguments):
                yield from page.get(part, ())


@contextmanager
def _errors(key: str) -> Iterator[None]:
    """S3's errors as ours."""
    try:
        yield
    except botocore.exceptions.ClientError as error:
        raise _mapped(error, key) from error
    except _UNCONFIGURED as error:
        raise LakeNotWritable(f"{key}: S3 can't be asked: {type(error).__name__}") from error
    except (botocore.exceptions.BotoCoreError, boto3.exceptions.Boto3Error, OSError) as error:
        raise StoreUnavailable(f"{key}: S3 does not answer: {type(error).__name__}") from error


def _mapped(error: botocore.exceptions.ClientError, key: str) -> Exception:
    """Our exception for an answer of S3."""
    code = str(error.response.get("Error", {}).get("Code", ""))
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    if status == 412:
        return AlreadyExists(key)
    if code == "NoSuchKey":
        return NotFound(key)
    if code in _REFUSED or code in _MISDIRECTED or status in (301, 403):
        return LakeNotWritable(f"{key}: S3 refuses: {code}")
    # 409 says that another request for this key is under way: nothing is decided yet.
    if status in (409, 429) or status >= 500 or code in _NOT_NOW:
        return StoreUnavailable(f"{key}: S3 answers {code}")
    return LakeError(f"{key}: S3 answers {code}")
