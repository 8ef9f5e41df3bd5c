"""Settings: what smartstream.yaml may say, with defaults; with ``secret`` the only reader of the environment.

``load`` reads a file and blames the line of what is wrong; tests and programs
build ``Settings.model_validate({...})``.  Secrets are references (``${env:NAME}``,
``${file:PATH}``) that are resolved when they are used, and never shown.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from smartstream import yaml_file
from smartstream.errors import ConfigInvalid
from smartstream.inference.config import ModelSettings, repeated
from smartstream.quality.config import QualitySettings
from smartstream.rules_config import Place, TableRules, matching, merged
from smartstream.secret import Secret, SecretText, folder_of
from smartstream.units import GIB, KIB, MIB, parse_duration, parse_size

FILE_NAME = "smartstream.yaml"

Seconds = Annotated[
    float,
    BeforeValidator(parse_duration),
    WithJsonSchema({"type": ["string", "number"], "examples": ["30s"]}),
]
Bytes = Annotated[
    int, BeforeValidator(parse_size), WithJsonSchema({"type": ["string", "integer"], "examples": ["64MiB"]})
]


class _Model(BaseModel):
    """What all settings have in common: frozen, and nothing unknown."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class Slot(_Model):
    """The replication slot on the source."""

    name: str = Field(
        default="smartstream", pattern=r"^[a-z0-9_]{1,63}$", description="its name; one SmartStream each"
    )
    max_retained: Bytes = Field(
        default=5 * GIB,
        ge=MIB,
        description="WAL that the slot may hold back before `status` and `doctor` warn",
    )
    failover: bool = Field(
        default=True,
        description="create it so that standbys can keep a copy (PostgreSQL 17 or later, "
        "`sync_replication_slots`): after a promotion the pipeline goes on from the new primary",
    )


class Source(_Model):
    """The PostgreSQL database to follow."""

    url: SecretText = Field(
        description="connection URL, `postgresql://user:password@host:5432/database`; refer to it with "
        "`${env:NAME}` or `${file:PATH}`"
    )
    publication: str = Field(
        default="smartstream", min_length=1, max_length=63, description="publication to create and keep"
    )
    manage_publication: bool = Field(
        default=True,
        description="create the publication and keep it so that it sends every change of the captured "
        "tables; `false`: it is yours, and what it sends, with its row filters and column lists, is captured",
    )
    slot: Slot = Slot()
    heartbeat: Seconds = Field(
        default=2.0,
        ge=0.1,
        description="how often to record how far the slot is read while no captured table changes",
    )
    discover_every: Seconds = Field(
        default=10.0, ge=0.1, description="how often to look for new tables and columns"
    )
    connect_timeout: Seconds = Field(
        default=10.0, ge=1, le=600, description="how long to wait for the server to answer"
    )
    silence_max: Seconds = Field(
        default=60.0,
        ge=1,
        le=3600,
        description="a connection on which the server is silent for longer, though asked, is given up "
        "and opened anew",
    )

    @property
    def dsn(self) -> str:
        """The connection URL, with its password; ConfigMissing when a reference leads nowhere."""
        return self.url.reveal()


class Catalog(_Model):
    """The Iceberg catalog."""

    type: Literal["sqlite", "glue", "rest"] = Field(default="sqlite", description="kind of catalog")
    uri_secret: SecretText | None = Field(
        default=None, alias="uri", description="where it is; for sqlite, `<warehouse>/catalog.db` by default"
    )
    property_secrets: dict[str, SecretText] = Field(
        default={}, alias="properties", description="further properties of the pyiceberg catalog"
    )

    @property
    def uri(self) -> str | None:
        """Where it is, resolved."""
        return self.uri_secret.reveal() if self.uri_secret else None

    @property
    def properties(self) -> dict[str, str]:
        """Further properties, resolved."""
        return {name: value.reveal() for name, value in self.property_secrets.items()}


class S3Options(_Model):
    """How to reach an `s3://` warehouse; what is left out comes from the AWS defaults."""

    endpoint: str | None = Field(default=None, description="URL of an S3-compatible store")
    region: str | None = Field(default=None, description="region of the bucket")
    access_key_id: SecretText | None = Field(default=None, description="key id, by reference")
    secret_access_key: SecretText | None = Field(default=None, description="secret key, by reference")


class Lake(_Model):
    """Where the lake lies."""

    warehouse: str = Field(
        default="./lake",
        min_length=1,
        validate_default=True,
        description="a folder (relative to smartstream.yaml) or `s3://bucket/prefix`",
    )
    catalog: Catalog = Catalog()
    s3: S3Options = S3Options()

    @field_validator("warehouse")
    @classmethod
    def _absolute(cls, value: str, info: ValidationInfo) -> str:
        """A relative folder starts from the file's."""
        scheme, mark, _ = value.partition("://")
        if mark:
            if scheme != "s3":
                raise ValueError("expected a folder or s3://bucket/prefix")
            return value
        path, folder = Path(value).expanduser(), folder_of(info)
        return str(folder / path) if folder else str(path)


class Flush(_Model):
    """When changes become durable and visible."""

    every: Seconds = Field(default=1.0, ge=0.01, le=3600, description="after this time at the latest")
    bytes: Bytes = Field(default=64 * MIB, ge=KIB, description="or after this much of the stream")


class Defaults(_Model):
    """Rules for all tables."""

    flush: Flush = Flush()


class Limits(_Model):
    """Bounds on memory and work."""

    memory_bytes: Bytes = Field(
        default=512 * MIB,
        ge=MIB,
        description="changes held in memory; a larger transaction goes through in pieces",
    )
    copy_workers: int = Field(default=2, ge=1, le=64, description="tables' chunks copied at the same time")
    copy_chunk_bytes: Bytes = Field(
        default=64 * MIB, ge=8 * KIB, description="pages of a table that one chunk reads"
    )
    catchup_backlog_bytes: Bytes = Field(
        default=16 * MIB,
        ge=0,
        description="with more WAL than this to read, read it in bulk instead of streaming",
    )
    duckdb_memory: Bytes = Field(default=256 * MIB, ge=16 * MIB, description="memory of a query or a merge")
    queue_bytes: Bytes = Field(
        default=128 * MIB, ge=KIB, description="durable changes kept in memory for the applier"
    )
    threads: int = Field(default=2, ge=1, le=256, description="threads of a query or a merge")


class Maintenance(_Model):
    """Compaction, snapshot expiry and file collection of the trusted tables."""

    every: Seconds = Field(default=30.0, ge=0.1, description="how often to look")
    small_files_max: int = Field(default=16, ge=2, description="compact a table with this many small files")
    deleted_ratio_max: float = Field(
        default=0.25, gt=0, lt=1, description="compact files with more deleted rows than this"
    )
    target_file_bytes: Bytes = Field(default=128 * MIB, ge=64 * KIB, description="size of compacted files")
    snapshots_max: int = Field(default=50, ge=1, description="Iceberg snapshots to keep")
    grace: Seconds = Field(
        default=900.0, ge=0, description="age at which files that no snapshot names are deleted"
    )


class DmsSettings(_Model):
    """What the transform function on AWS takes DMS's records for."""

    before_image: Literal["auto", "optional", "required"] = Field(
        default="auto",
        description="an update without a before-image kept its key (`optional`), or is put into the "
        "quarantine because it may have changed it (`required`); `auto`: `optional` if Terraform made "
        "DMS's task, which writes the old key wherever there is one, otherwise `required`",
    )


class Settings(_Model):
    """Everything that smartstream.yaml says."""

    version: Literal[1] = Field(default=1, description="version of this format")
    name: str = Field(
        default="smartstream",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$",
        description="name of this pipeline, for displays",
    )
    source: Source
    lake: Lake = Lake()
    defaults: Defaults = Defaults()
    tables: dict[str, TableRules] = Field(
        default={"public.*": TableRules()},
        min_length=1,
        description="which tables, by `schema.table` with `*` as wildcard, and their rules; the most "
        "specific pattern says whether, and adds its rules to those of the others",
    )
    limits: Limits = Limits()
    maintenance: Maintenance = Maintenance()
    quality: QualitySettings = QualitySettings()
    models: tuple[ModelSettings, ...] = Field(default=(), description="models to score with")
    dms: DmsSettings = DmsSettings()
    _path: Path | None = PrivateAttr(None)
    _lines: dict[str, str] = PrivateAttr({})

    @property
    def path(self) -> Path | None:
        """The file that these settings come from."""
        return self._path

    @model_validator(mode="before")
    @classmethod
    def _lake_in_folder(cls, value: object) -> object:
        """The default warehouse, too, starts from the file's folder."""
        return {"lake": {}, **value} if isinstance(value, dict) else value

    @field_validator("tables", mode="before")
    @classmethod
    def _empty_rules(cls, value: object) -> object:
        """``public.*:`` without anything after it means no rules."""
        if not isinstance(value, dict):
            return value
        return {pattern: {} if rules is None else rules for pattern, rules in value.items()}

    @field_validator("tables")
    @classmethod
    def _patterns(cls, value: dict[str, TableRules]) -> dict[str, TableRules]:
        """Patterns name the schema too."""
        for pattern in value:
            if not re.fullmatch(r".+\..+", pattern, re.DOTALL):  # PostgreSQL allows dots in both names
                raise ValueError(f"{pattern!r} is not schema.table: did you mean 'public.{pattern}'?")
        return value

    @field_validator("models")
    @classmethod
    def _models_differ(cls, value: tuple[ModelSettings, ...]) -> tuple[ModelSettings, ...]:
        """Two models never share a name or a table."""
        if twice := repeated(value):
            raise ValueError(f"more than one model is called or writes to {', '.join(twice)}")
        return value

    @model_validator(mode="after")
    def _keep_places(self, info: ValidationInfo) -> Settings:
        """Remember the file, and where in it each rule stands."""
        context = info.context or {}
        self._path = context.get("path")
        find = context["document"].where if "document" in context else None
        self._lines = {pattern: find(("tables", pattern)) for pattern in self.tables} if find else {}
        for pattern, rules in self.tables.items():
            for part, items in (("clean", rules.clean), ("quality", rules.quality)):
                for number, rule in enumerate(items):
                    loc, text = ("tables", pattern, part, number), f"tables.{pattern}.{part}[{number}]"
                    rule.stands_at(Place(text, find, loc, context.get("folder")))
        return self

    def place(self, pattern: str) -> str:
        """A pattern of ``tables`` and, if it stands in a file, where: ``public.* (file:line)``."""
        line = self._lines.get(pattern)
        return f"{pattern} ({line})" if line else pattern

    def secrets(self) -> list[Secret]:
        """Every secret that is set."""
        lake = self.lake
        found = [self.source.url, lake.catalog.uri_secret, *lake.catalog.property_secrets.values()]
        found += [lake.s3.access_key_id, lake.s3.secret_access_key]
        found += [secret for rules in self.tables.values() for secret in rules.secrets()]
        found += [model.token for model in self.models]
        return [secret for secret in found if secret]


def load(path: Path | str) -> Settings:
    """Read ``path``; references to secrets are checked for their form only.

    Raises:
        ConfigMissing: there is no such file.
        ConfigInvalid: an unknown key, a wrong type or value; one line ``file:line: …`` each.
    """
    file = Path(path)
    document = yaml_file.read(file)
    folder = file.absolute().parent

    def refer(text: str, where: str) -> Any:
        try:
            return Secret(text, where, folder) if "${" in text else text
        except ValueError as error:
            raise ConfigInvalid(f"{where}: {error}") from error

    context = {"folder": folder, "path": file.absolute(), "document": document}
    return yaml_file.validate(document.map_text(refer), Settings, document, context)


def matches(settings: Settings, table_id: str) -> bool:
    """Whether the configuration wants the table ``schema.name``.

    Of the patterns that match, the most specific one counts; no pattern: not wanted.
    """
    found = matching(settings.tables, table_id)
    return bool(found) and not found[-1].exclude


def rules_of(settings: Settings, table_id: str) -> TableRules:
    """Return the rules of the table ``schema.name``: of every pattern that matches it, see ``merged``."""
    return merged(matching(settings.tables, table_id))
