"""Rules: what ``clean``, ``quality`` and ``on_bad_update`` of a table may say (docs/transform.md).

A rule is a mapping with one key that names it, and options beside that key:
``{trim: [email], if_present: true}``.  Whether it fits a table is found out by
``transform.rules.compile_rules``; here is only what can be known without one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    Discriminator,
    Field,
    PrivateAttr,
    Tag,
    field_validator,
    model_validator,
)

from smartstream.quality.config import Checks, QualityCheck, SchemaContract, check_names_differ
from smartstream.rule_options import (
    Compute,
    Dedupe,
    Hook,
    Keyed,
    Mask,
    Matches,
    Model,
    Name,
    Names,
    OneOf,
    ParseTimestamp,
    Range,
    Replace,
    Scalar,
    Scalars,
    ShortFor,
    Text,
)
from smartstream.secret import Secret

RULES_MAX = 200

OnFail = Literal["quarantine", "drop", "warn", "stop"]
OnBadUpdate = Literal["remove", "keep_previous_marked", "null_value"]
Unrepresentable = Literal["null_and_flag", "clamp", "quarantine"]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a rule stands: for messages, and for what lies beside the file."""

    text: str = "the rules"
    find: Callable[[Sequence[str | int]], str] | None = None
    loc: tuple[str | int, ...] = ()
    folder: Path | None = None

    def where(self, *inner: str | int) -> str:
        """``file:line`` of the rule, or of something in it."""
        return self.find((*self.loc, *inner)) if self.find else self.text


class _Rule(Model):
    """What every rule has: a key that names it, and options."""

    name: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9_.-]{1,63}$",
        description="name in violations and results; made of rule and column without it",
    )
    if_present: bool = Field(
        default=False, description="leave the rule out where a table lacks its column, instead of refusing"
    )
    _place: Place = PrivateAttr(default=Place())

    @model_validator(mode="after")
    def _one_rule(self) -> _Rule:
        """Exactly one rule is given."""
        given = [name for name in self.kinds() if getattr(self, name) is not None]
        if len(given) != 1:
            found = f"found {' and '.join(given)}" if given else "found none"
            raise ValueError(f"expected one rule, {found}; known: {', '.join(self.kinds())}")
        return self

    @classmethod
    def kinds(cls) -> list[str]:
        """The rules there are, by the key that names them."""
        return [name for name in cls.model_fields if name not in _OPTIONS]

    @property
    def kind(self) -> str:
        """The key that names the rule."""
        return next(name for name in self.kinds() if getattr(self, name) is not None)

    @property
    def body(self) -> Any:
        """What stands after that key."""
        return getattr(self, self.kind)

    @property
    def place(self) -> Place:
        """Where the rule stands."""
        return self._place

    def stands_at(self, place: Place) -> None:
        """Remember where the rule stands."""
        self._place = place


_OPTIONS = {"name", "if_present", "on_fail"}


class CleanRule(_Rule):
    """One rule of `clean`."""

    trim: Names | None = Field(default=None, description="remove white space at both ends")
    lower: Names | None = Field(default=None, description="make letters small")
    upper: Names | None = Field(default=None, description="make letters capital")
    replace: Replace | None = Field(default=None, description="replace what a regular expression finds")
    null_if: dict[Name, Scalars] | None = Field(default=None, description="values that mean null")
    parse_timestamp: ParseTimestamp | None = Field(default=None, description="make a timestamp in UTC")
    cast: dict[Name, Text] | None = Field(default=None, description="change the type, without loss")
    default: dict[Name, Scalar] | None = Field(default=None, description="put a value in place of null")
    required: Names | None = Field(default=None, description="must not be null")
    dedupe: Dedupe | None = Field(default=None, description="keep one row of each business key")
    mask: Annotated[Mask, ShortFor("column")] | None = Field(
        default=None, description="hide a text but for its ends"
    )
    hash: Keyed | None = Field(default=None, description="put an HMAC-SHA256 in place of a value")
    tokenise: Keyed | None = Field(default=None, description="put a short token in place of a value")
    drop: Names | None = Field(default=None, description="leave columns out")
    compute: Compute | None = Field(default=None, description="add a column: a SQL expression")
    hook: Annotated[Hook, ShortFor("call")] | None = Field(default=None, description="call a Python function")
    on_fail: OnFail = Field(
        default="quarantine", description="what happens to a row that the rule can't take"
    )


class CheckRule(_Rule):
    """One check of `quality` that each row passes or fails by itself."""

    not_null: Names | None = Field(default=None, description="must not be null")
    range: Range | None = Field(default=None, description="must lie between two values")
    one_of: OneOf | None = Field(default=None, description="must be one of a list")
    matches: Matches | None = Field(default=None, description="must match a regular expression")
    check: Text | None = Field(
        default=None, min_length=1, description="a SQL condition that must not be false"
    )
    on_fail: OnFail = Field(default="quarantine", description="what happens to a row that fails")


def _sort_of_check(value: object) -> str:
    """A check of ``quality`` is a metric, or one of rows."""
    if isinstance(value, QualityCheck):
        return "<metric>"
    return "<metric>" if isinstance(value, dict) and "metric" in value else "<row>"


QualityItem = Annotated[
    Annotated[CheckRule, Tag("<row>")] | Annotated[QualityCheck, Tag("<metric>")],
    Discriminator(_sort_of_check),
]


class TableRules(Model):
    """Rules for the tables that a pattern matches."""

    exclude: bool = Field(default=False, description="leave these tables out")
    inherit: bool = Field(
        default=True, description="add to the rules of more general patterns, instead of replacing them"
    )
    clean: Annotated[tuple[CleanRule, ...], Field(max_length=RULES_MAX)] = Field(
        default=(), description="rules that rows go through, in order; see transform.md"
    )
    quality: Annotated[tuple[QualityItem, ...], Field(max_length=RULES_MAX)] = Field(
        default=(), description="checks of what `clean` leaves; see transform.md and quality.md"
    )
    on_bad_update: OnBadUpdate = Field(
        default="remove",
        description="when an update breaks a rule: take the row out of the trusted table, keep what it was, "
        "marked, or put null in place of the bad values, marked",
    )
    unrepresentable: Unrepresentable = Field(
        default="null_and_flag",
        description="a value that its type in the lake can't hold (infinity, NaN in a numeric, the year "
        "10000): make it null and keep its text in `_untyped`, put the nearest value in its place, or hold "
        "the row back",
    )
    allow_code: bool = Field(default=False, description="let the rule `hook` call Python functions")
    contract: SchemaContract = SchemaContract()

    @field_validator("quality")
    @classmethod
    def _names_differ(cls, value: tuple[QualityItem, ...]) -> tuple[QualityItem, ...]:
        """No two metrics have one ``id``."""
        check_names_differ([item for item in value if isinstance(item, QualityCheck)])
        return value

    @property
    def judges_rows(self) -> bool:
        """Whether anything here may change a row, or hold one back."""
        return bool(self.clean or self.quality) or self.unrepresentable != "null_and_flag"

    @property
    def row_rules(self) -> tuple[CheckRule, ...]:
        """The checks of ``quality`` in their short form."""
        return tuple(item for item in self.quality if isinstance(item, CheckRule))

    @property
    def metrics(self) -> Checks:
        """The checks of ``quality`` in the words of ODCS."""
        return tuple(item for item in self.quality if isinstance(item, QualityCheck))

    def secrets(self) -> list[Secret]:
        """The keys that rules use."""
        keyed = [rule.body for rule in self.clean if rule.kind in ("hash", "tokenise")]
        return [body.key for body in keyed]


def matching(tables: Mapping[str, TableRules], table_id: str) -> list[TableRules]:
    """Return the rules of the patterns that match ``schema.name``, the most general first.

    The more letters besides ``*`` a pattern has the more specific it is; of equal ones
    the one with fewer ``*``.
    """
    found = [pattern for pattern in tables if pattern_expression(pattern).fullmatch(table_id)]
    found.sort(key=lambda pattern: (len(pattern.replace("*", "")), -pattern.count("*"), pattern))
    return [tables[pattern] for pattern in found]


def merged(rules: Sequence[TableRules]) -> TableRules:
    """Return one table's rules, the most general first: lists are joined, the last word counts for the rest.

    A word that a pattern leaves out is not said; ``inherit: false`` forgets what came before.
    """
    values: dict[str, Any] = {}
    for one in rules:
        values = values if one.inherit else {}
        for name in one.model_fields_set:
            value = getattr(one, name)
            values[name] = (*values.get(name, ()), *value) if isinstance(value, tuple) else value
    return TableRules.model_construct(**values)


@lru_cache(maxsize=1024)
def pattern_expression(pattern: str) -> re.Pattern[str]:
    """A table pattern as a regular expression."""
    return re.compile(".*".join(map(re.escape, pattern.split("*"))), re.DOTALL)


def canonical(value: Any) -> Any:
    """Return what the file says, for a digest: without defaults, and of secrets the reference only."""
    if isinstance(value, Secret):
        return value.text if value.is_reference else "…"
    if isinstance(value, BaseModel):
        return {name: canonical(getattr(value, name)) for name in sorted(value.model_fields_set)}
    if isinstance(value, dict):
        return [[key, canonical(inner)] for key, inner in value.items()]
    if isinstance(value, tuple | list):
        return [canonical(inner) for inner in value]
    return value if isinstance(value, str | int | float | bool | None) else str(value)
