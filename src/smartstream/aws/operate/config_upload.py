"""What the functions are told: smartstream.yaml and the files it names, in ``config/`` of the lake."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from pydantic import BaseModel

from smartstream.aws.operate.calls import Aws
from smartstream.aws.operate.stack import StackOutputs
from smartstream.config import FILE_NAME, load
from smartstream.errors import ConfigInvalid
from smartstream.schema import TableSchema
from smartstream.secret import Secret

PREFIX = "config/"
DEFINITIONS_PREFIX = f"{PREFIX}tables/"
FILE_BYTES_MAX = 512 << 20
_DIGEST = "sha256"


@dataclass(frozen=True, slots=True)
class Uploaded:
    """One file in the lake; ``is_new`` says whether it was not there, or another."""

    key: str
    size_bytes: int
    is_new: bool


def files_of(folder: Path) -> list[Path]:
    """Return smartstream.yaml in ``folder`` and the files that it names, after checking it.

    Files of secrets, ``${file:…}``, are never among them.

    Raises:
        ConfigMissing: there is no smartstream.yaml.
        ConfigInvalid: it is wrong, holds a password itself, or names a file outside its folder.
    """
    settings = load(folder / FILE_NAME)
    root = folder.resolve()
    if plain := [secret for secret in settings.secrets() if _shows(secret)]:
        where = ", ".join(sorted({secret.where or FILE_NAME for secret in plain}))
        raise ConfigInvalid(
            f"{where}: a secret stands in the file, which would be copied into the lake",
            hint="Refer to it with ${env:NAME} or ${file:PATH}.",
        )
    found = {root / FILE_NAME}
    for text in _texts(settings):
        path = _named(root, text)
        if path is not None:
            found.add(path)
    return sorted(found)


def upload(aws: Aws, stack: StackOutputs, folder: Path) -> list[Uploaded]:
    """Check the configuration in ``folder``, and put what has changed of it into the lake.

    Removes nothing.  Errors as ``files_of``.
    """
    root = folder.resolve()
    done = []
    for path in files_of(folder):
        body = path.read_bytes()
        done.append(_put(aws, stack, f"{PREFIX}{path.relative_to(root).as_posix()}", body))
    return done


def put_definitions(aws: Aws, stack: StackOutputs, schemas: Iterable[TableSchema]) -> list[Uploaded]:
    """Put what the source's tables look like where the transform function looks for it."""
    return [
        _put(aws, stack, f"{DEFINITIONS_PREFIX}{quote(one.id, safe='._')}.json", one.to_json().encode())
        for one in schemas
    ]


def _put(aws: Aws, stack: StackOutputs, key: str, body: bytes) -> Uploaded:
    """Put one object, unless the same is there."""
    arn = f"arn:aws:s3:::{stack.bucket}/{key}"
    digest = hashlib.sha256(body).hexdigest()
    listed = aws.ask("s3", "list_objects_v2", arn, Bucket=stack.bucket, Prefix=key, MaxKeys=1)
    present = any(one["Key"] == key and one["Size"] == len(body) for one in listed.get("Contents", ()))
    if present:
        head = aws.ask("s3", "head_object", arn, Bucket=stack.bucket, Key=key)
        if head.get("Metadata", {}).get(_DIGEST) == digest:
            return Uploaded(key, len(body), False)
    aws.change("s3", "put_object", arn, Bucket=stack.bucket, Key=key, Body=body, Metadata={_DIGEST: digest})
    return Uploaded(key, len(body), True)


def _shows(secret: Secret) -> bool:
    """Whether the file itself holds a secret; a URL without a password is none."""
    text = secret.text
    if secret.is_reference:
        return False
    return "@" in text.partition("://")[2] or "password=" in text or "://" not in text


def _texts(value: Any) -> Iterator[str]:
    """Every text in the settings, but no secret."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from _texts(getattr(value, name))
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _texts(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _texts(inner)


def _named(root: Path, text: str) -> Path | None:
    """The file that a text of the settings names; None where it names none."""
    name = text.partition(":")[0] if text.partition(":")[0].endswith(".py") else text
    if not name or "\n" in name or "\0" in name or len(name) > 1000 or "://" in name:
        return None
    path = root / name
    if path.suffix == "" or not path.is_file():
        return None
    if not path.resolve().is_relative_to(root):
        raise ConfigInvalid(
            f"{FILE_NAME} names {name}, which lies outside its folder",
            hint="Copy it beside smartstream.yaml.",
        )
    if path.stat().st_size > FILE_BYTES_MAX:
        raise ConfigInvalid(f"{name} is larger than {FILE_BYTES_MAX >> 20} MiB", hint="Name it by s3://.")
    return path.resolve()
