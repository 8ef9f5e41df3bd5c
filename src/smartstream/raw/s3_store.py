"""An S3 bucket, or a prefix in one, as a store."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

import boto3
import botocore.config
import botocore.exceptions
import pyarrow.fs as pafs

from smartstream.config import Lake
from smartstream.errors import LakeError, LakeNotWritable, StoreUnavailable
from smartstream.raw.store import AlreadyExists, NotFound, StoredObject

_SPOOL_BYTES = 64 << 20
_REFUSED = {"AccessDenied", "AllAccessDisabled", "InvalidAccessKeyId", "SignatureDoesNotMatch", "NoSuchBucket"}
_TAKEN = {"PreconditionFailed", "ConditionalRequestConflict", "412", "409"}


class S3Store:
    """Objects in S3; see Store.  put-if-absent is S3's ``If-None-Match: *``."""

    def __init__(self, client: Any, bucket: str, prefix: str, filesystem: pafs.FileSystem) -> None:
        self._client, self._bucket, self._filesystem = client, bucket, filesystem
        self._prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""

    @staticmethod
    def open(lake: Lake) -> S3Store:
        """The store of an ``s3://bucket/prefix`` warehouse."""
        bucket, _, prefix = lake.warehouse.removeprefix("s3://").partition("/")
        key = lake.s3.access_key_id.get() if lake.s3.access_key_id else None
        secret = lake.s3.secret_access_key.get() if lake.s3.secret_access_key else None
        client = boto3.client(
            "s3",
            endpoint_url=lake.s3.endpoint,
            region_name=lake.s3.region,
            aws_access_key_id=key,
            aws_secret_access_key=secret,
            config=botocore.config.Config(
                retries={"mode": "standard", "total_max_attempts": 5}, connect_timeout=10, read_timeout=60
            ),
        )
        options = {"access_key": key, "secret_key": secret, "region": lake.s3.region}
        if lake.s3.endpoint:
            scheme, _, host = lake.s3.endpoint.rpartition("://")
            options |= {"endpoint_override": host, "scheme": scheme or "https"}
        given = {name: value for name, value in options.items() if value}
        return S3Store(client, bucket, prefix, pafs.S3FileSystem(**given))

    def put(self, key: str, data: bytes, *, if_absent: bool = False) -> None:
        """See Store."""
        condition = {"IfNoneMatch": "*"} if if_absent else {}
        with _errors(key):
            self._client.put_object(Bucket=self._bucket, Key=self._prefix + key, Body=data, **condition)

    @contextmanager
    def create(self, key: str) -> Iterator[BinaryIO]:
        """See Store; spooled, then uploaded in parts when it is large."""
        with tempfile.SpooledTemporaryFile(max_size=_SPOOL_BYTES) as file:
            yield file  # type: ignore[misc]
            file.seek(0)
            with _errors(key):
                self._client.upload_fileobj(file, self._bucket, self._prefix + key)

    def get(self, key: str) -> bytes:
        """See Store."""
        with _errors(key):
            data: bytes = self._client.get_object(Bucket=self._bucket, Key=self._prefix + key)["Body"].read()
            return data

    def list(self, prefix: str, *, after: str | None = None) -> Iterator[StoredObject]:
        """See Store."""
        arguments = {"Bucket": self._bucket, "Prefix": self._prefix + prefix}
        if after is not None:
            arguments["StartAfter"] = self._prefix + after
        with _errors(prefix):
            for page in self._client.get_paginator("list_objects_v2").paginate(**arguments):
                for found in page.get("Contents", ()):
                    key = found["Key"][len(self._prefix) :]
                    yield StoredObject(key, found["Size"], found["LastModified"])

    def delete(self, key: str) -> None:
        """See Store."""
        with _errors(key):
            self._client.delete_object(Bucket=self._bucket, Key=self._prefix + key)

    def path(self, key: str) -> str:
        """See Store."""
        return f"{self._bucket}/{self._prefix}{key}"

    @property
    def filesystem(self) -> pafs.FileSystem:
        """See Store."""
        return self._filesystem


@contextmanager
def _errors(key: str) -> Iterator[None]:
    """S3's errors as ours."""
    try:
        yield
    except botocore.exceptions.ClientError as error:
        raise _mapped(error, key) from error
    except botocore.exceptions.NoCredentialsError as error:
        raise LakeNotWritable(f"{key}: no AWS credentials were found") from error
    except (botocore.exceptions.BotoCoreError, OSError) as error:
        raise StoreUnavailable(f"{key}: {type(error).__name__}") from error


def _mapped(error: botocore.exceptions.ClientError, key: str) -> Exception:
    """Our exception for an answer of S3."""
    code = str(error.response.get("Error", {}).get("Code", ""))
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    if code in _TAKEN:
        return AlreadyExists(key)
    if code in ("NoSuchKey", "404"):
        return NotFound(key)
    if code in _REFUSED or status == 403:
        return LakeNotWritable(f"{key}: S3 refuses: {code}")
    if status >= 500 or code in ("SlowDown", "RequestTimeout"):
        return StoreUnavailable(f"{key}: S3 answers {code}")
    return LakeError(f"{key}: S3 answers {code}")
