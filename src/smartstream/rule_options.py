"""Options of rules: what may stand below the name of each (docs/transform.md)."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    WithJsonSchema,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core.core_schema import CoreSchema, no_info_before_validator_function

from smartstream.secret import SecretText

VALUES_MAX = 10_000
TEXT_MAX = 10_000


def _listed(value: object) -> object:
    """One thing stands for a list of it."""
    return value if isinstance(value, list | tuple) else [value]


def _text(value: object) -> object:
    """A value of the file as text, as one would write it in SQL."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat(" ") if isinstance(value, datetime.datetime) else value.isoformat()
    return value


@dataclass(frozen=True, slots=True)
class ShortFor:
    """A rule whose options may all be left out: ``mask: phone`` stands for ``mask: {column: phone}``."""

    name: str

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Validate the short form as the long one."""
        return no_info_before_validator_function(self._long, handler(source))

    def __get_pydantic_json_schema__(
        self, core: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """Either form, for editors."""
        return {"anyOf": [handler(core), {"type": ["string", "array"], "items": {"type": "string"}}]}

    def _long(self, value: object) -> object:
        """The long form."""
        return {self.name: value} if isinstance(value, str | list | tuple) else value


_SCALAR_TYPES = ["string", "number", "boolean"]
Name = Annotated[str, Field(min_length=1, max_length=63)]
Names = Annotated[
    tuple[Name, ...],
    BeforeValidator(_listed),
    Field(min_length=1, max_length=1600),
    WithJsonSchema({"type": ["string", "array"], "items": {"type": "string"}}),
]
Scalar = Annotated[
    str, BeforeValidator(_text), Field(max_length=TEXT_MAX), WithJsonSchema({"type": _SCALAR_TYPES})
]
Scalars = Annotated[
    tuple[Scalar, ...],
    BeforeValidator(_listed),
    Field(min_length=1, max_length=VALUES_MAX),
    WithJsonSchema({"type": [*_SCALAR_TYPES, "array"], "items": {"type": _SCALAR_TYPES}}),
]
Text = Annotated[str, Field(max_length=TEXT_MAX)]


class Model(BaseModel):
    """Frozen, and nothing unknown."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class Replace(Model):
    """Replace what a regular expression finds."""

    column: Names = Field(description="text columns")
    pattern: Text = Field(min_length=1, description="regular expression (RE2)")
    with_text: Text = Field(default="", alias="with", description=r"what to put there; `\1` is a group")
    first_only: bool = Field(default=False, description="only what is found first")


class ParseTimestamp(Model):
    """Make a timestamp in UTC of a text, a number, or a timestamp without time zone."""

    column: Names = Field(description="columns of text, whole numbers, decimals, dates or timestamps")
    formats: Annotated[
        tuple[Text, ...],
        BeforeValidator(_listed),
        WithJsonSchema({"type": ["string", "array"], "items": {"type": "string"}}),
    ] = Field(
        default=("iso",),
        min_length=1,
        max_length=32,
        description="tried in order: `iso`, `epoch_s`, `epoch_ms`, `epoch_us`, or a pattern like "
        "`%d.%m.%Y %H:%M`",
    )
    zone: Text = Field(default="UTC", description="time zone of values that name none: `Europe/Berlin`")
    gap: Literal["reject", "shift"] = Field(
        default="reject", description="a time that a clock skips in spring: break the rule, or move it on"
    )
    fold: Literal["reject", "earlier", "later"] = Field(
        default="reject", description="a time that a clock shows twice in autumn"
    )


class Dedupe(Model):
    """Of the rows with the same business key keep one."""

    key: Names = Field(description="columns that should be unique, as `clean` leaves them")
    keep: Literal["first", "last"] = Field(default="last", description="in the order of `by`")
    by: Name | None = Field(default=None, description="column to order by; the source's key without it")


class Mask(Model):
    """Hide a text but for its ends."""

    column: Names = Field(description="text columns")
    keep_first: int = Field(default=0, ge=0, le=1000, description="characters left at the beginning")
    keep_last: int = Field(default=0, ge=0, le=1000, description="characters left at the end")
    with_text: Text = Field(default="***", alias="with", description="what stands for the hidden part")


class Keyed(Model):
    """Put a keyed digest in place of a value."""

    column: Names = Field(description="columns of any type but lists")
    key: SecretText = Field(description="secret key, 16 bytes at least: `${env:NAME}` or `${file:PATH}`")
    version: int = Field(
        default=1, ge=1, le=999, description="raise it when the key changes; it stands in the result"
    )


class Compute(Model):
    """Add a column."""

    column: Name = Field(description="its name")
    sql: Text = Field(min_length=1, description="DuckDB expression over the row's columns")
    replace: bool = Field(default=False, description="put it in place of the column of that name")


class Hook(Model):
    """Call a Python function with an Arrow table."""

    call: Annotated[str, Field(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")] = Field(
        description="`module:function`"
    )
    column: Names | None = Field(default=None, description="columns to pass besides the key; all without it")
    returns: dict[Name, Text] = Field(
        default={}, description="columns that it adds, or whose type it changes, with their types"
    )


class Range(Model):
    """A value must lie between two others."""

    column: Names = Field(description="columns")
    least: Scalar | None = Field(default=None, alias="min", description="the least that is good")
    most: Scalar | None = Field(default=None, alias="max", description="the greatest that is good")

    @model_validator(mode="after")
    def _bounded(self) -> Range:
        """At least one end is given."""
        if self.least is None and self.most is None:
            raise ValueError("expected min, max or both")
        return self


class OneOf(Model):
    """A value must be one of a list."""

    column: Names = Field(description="columns")
    values: Scalars = Field(description="all that is good")


class Matches(Model):
    """A text must match a regular expression, as a whole."""

    column: Names = Field(description="text columns")
    pattern: Text = Field(min_length=1, description="regular expression (RE2)")
