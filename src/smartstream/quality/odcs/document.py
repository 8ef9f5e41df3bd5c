"""A data contract as a file says it: the parts of ODCS v3.1.0 that concern tables."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

from smartstream import yaml_file
from smartstream.errors import ConfigError, ContractInvalid

API_VERSION = "v3.1.0"


class _Part(BaseModel):
    """A part of the standard; what is of no concern here is passed over."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)


class Property(_Part):
    """A column."""

    name: str = Field(min_length=1)
    logical_type: str | None = Field(default=None, alias="logicalType")
    physical_type: str | None = Field(default=None, alias="physicalType")
    options: Mapping[str, Any] = Field(default={}, alias="logicalTypeOptions")
    required: bool = False
    unique: bool = False
    primary_key: bool = Field(default=False, alias="primaryKey")
    primary_key_position: int = Field(default=-1, alias="primaryKeyPosition")
    quality: tuple[Mapping[str, Any], ...] = ()


class SchemaObject(_Part):
    """A table."""

    name: str = Field(min_length=1)
    properties: tuple[Property, ...] = ()
    quality: tuple[Mapping[str, Any], ...] = ()
    custom: tuple[Mapping[str, Any], ...] = Field(default=(), alias="customProperties")

    @field_validator("properties")
    @classmethod
    def _one_of_a_name(cls, value: tuple[Property, ...]) -> tuple[Property, ...]:
        """A name stands for one column."""
        names = [one.name for one in value]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two properties are called {name}")
        return value

    def custom_value(self, name: str) -> Any:
        """What a custom property says; None when it is not there."""
        return next((one.get("value") for one in self.custom if one.get("property") == name), None)

    @property
    def table_id(self) -> str:
        """``schema.name`` of the source table; without a word about it, the one of ``public``."""
        said = self.custom_value("sourceTable")
        if isinstance(said, str) and re.fullmatch(r"[^.]+\..+", said):
            return said
        return self.name if "." in self.name else f"public.{self.name}"

    @property
    def key(self) -> tuple[str, ...]:
        """The primary key's columns, in key order."""
        columns = [one for one in self.properties if one.primary_key]
        return tuple(one.name for one in sorted(columns, key=lambda one: one.primary_key_position))


class Contract(_Part):
    """A whole contract."""

    api_version: str = Field(alias="apiVersion", pattern=r"^v3\.\d+\.\d+$")
    kind: str = Field(pattern=r"^DataContract$")
    id: str = Field(min_length=1)
    version: str = Field(min_length=1)
    status: str = Field(min_length=1)
    name: str | None = None
    objects: tuple[SchemaObject, ...] = Field(default=(), alias="schema")

    @field_validator("objects")
    @classmethod
    def _one_of_a_name(cls, value: tuple[SchemaObject, ...]) -> tuple[SchemaObject, ...]:
        """A name stands for one table."""
        names = [one.table_id for one in value]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two schemas describe {name}")
        return value


def read_contract(path: Path) -> Contract:
    """Read a contract of ODCS v3.

    Raises:
        ContractInvalid: there is no such file, or it is none; one line ``file:line: …`` each.
    """
    try:
        document = yaml_file.read(path)
        return yaml_file.validate(document.data, Contract, document, {})
    except ConfigError as error:
        raise ContractInvalid(str(error)) from error
