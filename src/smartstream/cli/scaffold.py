"""What ``init`` writes: the file, the secret, .gitignore."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from smartstream.capture.catalog import Discovery, discover
from smartstream.capture.connect import connect
from smartstream.config import FILE_NAME, Settings
from smartstream.errors import ConfigInvalid, LakeNotWritable

SECRET = Path(".secrets") / "source_url"


def scaffold(directory: Path, url: str) -> Discovery:
    """Look at the database, then write the folder; returns the tables found.

    Nothing is written when the database does not answer, and nothing overwritten.

    Raises:
        ConfigInvalid: the folder has a configuration already, or ``url`` is no URL.
        LakeNotWritable: the folder cannot be written.
        SourceError: the database does not answer, or refuses.
    """
    for name in (Path(FILE_NAME), SECRET):
        if (directory / name).exists():
            raise ConfigInvalid(
                f"{directory / name} exists already",
                hint=f"Name another folder, or edit the file and run `smartstream -C {directory} validate`.",
            )
    if "${" in url or not url:
        raise ConfigInvalid(
            "--from is not a connection URL",
            hint="Write postgresql://user:password@host:5432/database, with %-escapes in the password.",
        )
    settings = Settings.model_validate({"source": {"url": url}})
    with connect(settings.source) as connection:
        found = discover(connection, lambda _: True)
    ids = [table.id for table in found.tables] + [table.id for table in found.keyless]
    try:
        _write(directory, url, _yaml(_name(directory), ids))
    except OSError as error:
        raise LakeNotWritable(f"cannot write to {directory}: {error.strerror}") from error
    return found


def _write(directory: Path, url: str, text: str) -> None:
    """The files; the secret is readable by its owner only, from its first moment."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / SECRET).parent.mkdir(mode=0o700, exist_ok=True)
    descriptor = os.open(directory / SECRET, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(url + "\n")
    _add_ignores(directory / ".gitignore", [".secrets/", "lake/"])
    with (directory / FILE_NAME).open("x", encoding="utf-8") as file:
        file.write(text)


def _add_ignores(path: Path, wanted: Sequence[str]) -> None:
    """Lines for git; what is there already stays."""
    present = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    missing = [line for line in wanted if line not in present]
    path.write_text("".join(f"{line}\n" for line in (*present, *missing)), encoding="utf-8")


def _name(directory: Path) -> str:
    """The folder's name, as far as it can name a pipeline."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", directory.resolve().name).strip("-_")[:60] or "smartstream"


def _yaml(name: str, ids: Sequence[str]) -> str:
    """The commented file."""
    schemas = sorted({table.split(".")[0] for table in ids} - {"public"})
    patterns = [f"  {_key(f'{schema}.*')}: {{}}" for schema in schemas]
    if "public" in {table.split(".")[0] for table in ids} or not schemas:
        patterns = ["  public.*: {}", *(f"  # {line.strip()}" for line in patterns)]
    return _TEMPLATE.format(name=name, secret=SECRET.as_posix(), tables="\n".join(patterns))


def _key(text: str) -> str:
    """A YAML key, quoted where it must be."""
    return text if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*\.\*", text) else '"' + text.replace('"', '\\"') + '"'


_TEMPLATE = """\
# SmartStream: which database to follow, and where the lake lies.
# Every setting with its default: docs/configuration.md. Check this file with `smartstream validate`.
version: 1
name: {name}

source:
  # The connection URL stands in a file that only you can read (and that git ignores).
  # From the environment instead: url: "${{env:SMARTSTREAM_SOURCE_URL}}"
  url: "${{file:{secret}}}"
  publication: smartstream
  slot:
    name: smartstream # one SmartStream per slot
    max_retained: 5GiB # warn when the source must keep more WAL than this for us

lake:
  warehouse: ./lake # or s3://bucket/prefix, with a catalog of type glue or rest

defaults:
  flush:
    every: 1s # changes are durable and visible after this time
    bytes: 64MiB # or after this much

# Which tables: schema.table with * as wildcard; the most specific pattern counts.
tables:
{tables}
  # public.audit_log: {{exclude: true}}
"""
