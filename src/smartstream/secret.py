"""Secrets: references in the settings that are resolved when they are used, and never shown.

With ``config`` the only reader of the environment.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from pydantic import PlainSerializer, PlainValidator, ValidationInfo, WithJsonSchema

from smartstream.errors import ConfigMissing

_REFERENCE = re.compile(r"\$\{(env|file):([^}]+)\}")


@dataclass(frozen=True, slots=True)
class Secret:
    """A text that is never shown; with references, they are resolved at each ``reveal``.

    Attributes:
        where: ``file:line`` of the setting, for messages.
        folder: what relative paths in ``${file:…}`` start from.
    """

    text: str = field(repr=False)
    where: str = field(default="", repr=False)
    folder: Path = field(default=Path(), repr=False)

    def __post_init__(self) -> None:
        if "${" in _REFERENCE.sub("", self.text):
            raise ValueError("not a reference that is known: write ${env:NAME} or ${file:PATH}")

    def reveal(self) -> str:
        """Return the secret.

        Raises:
            ConfigMissing: a variable is not set, a file cannot be read, or it is empty.
        """
        value = _REFERENCE.sub(self._resolve, self.text)
        if not value:
            raise self._missing("the value is empty")
        return value

    def get_secret_value(self) -> str:
        """As ``reveal``: pydantic's name for it."""
        return self.reveal()

    @property
    def is_reference(self) -> bool:
        """Whether the value stands elsewhere than in the settings."""
        return _REFERENCE.search(self.text) is not None

    def _resolve(self, match: re.Match[str]) -> str:
        """What one reference stands for."""
        kind, name = match.groups()
        if kind == "env":
            value = os.environ.get(name)
            if value is None:
                hint = f"export {name}=… before you start smartstream, or refer to a file: ${{file:PATH}}."
                raise self._missing(f"the environment variable {name} is not set", hint=hint)
            return value
        try:
            return (self.folder / Path(name).expanduser()).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "not UTF-8 text"
            hint = f"Put the value into the file {name} (relative to smartstream.yaml), mode 0600."
            raise self._missing(f"the file {name} cannot be read: {reason}", hint=hint) from error

    def _missing(self, reason: str, *, hint: str | None = None) -> ConfigMissing:
        """The error for a reference that leads nowhere."""
        return ConfigMissing(f"{self.where}: {reason}" if self.where else reason, hint=hint)


def _secret(value: object, info: ValidationInfo) -> Secret:
    """A Secret of a text; ``load`` has made those with references already."""
    if isinstance(value, Secret):
        return value
    if not isinstance(value, str):
        raise ValueError("expected text, or a reference like ${env:NAME}")
    return Secret(value, folder=folder_of(info) or Path())


def folder_of(info: ValidationInfo) -> Path | None:
    """The folder of the file that is being read."""
    return (info.context or {}).get("folder")


SecretText = Annotated[
    Secret,
    PlainValidator(_secret),
    PlainSerializer(lambda secret: "***", return_type=str),
    WithJsonSchema({"type": "string", "examples": ["${env:NAME}", "${file:PATH}"]}),
]
