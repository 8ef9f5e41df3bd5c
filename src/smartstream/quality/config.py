"""Quality checks and contracts as smartstream.yaml says them, in the words of ODCS 3.1.

Metrics, operators, units and arguments have the names of the Open Data Contract Standard
v3.1.0; ``freshness``, ``volume``, ``foreign_key`` and ``on_fail`` are ours.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date, datetime, time
from enum import StrEnum
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    WithJsonSchema,
    model_validator,
)

from smartstream.units import parse_duration

CHECKS_MAX = 200
"""Of one table: each costs a number in every result."""
VALUES_MAX = 10_000
"""Values of one ``validValues`` or ``missingValues``."""
TEXT_MAX = 4_096

Value = bool | int | float | str | datetime | date | time
"""A value as YAML gives it."""
Seconds = Annotated[
    float,
    BeforeValidator(parse_duration),
    WithJsonSchema({"type": ["string", "number"], "examples": ["30s"]}),
]


def _number(value: object) -> object:
    """A bound: a number, or a duration in words, which only freshness allows."""
    if isinstance(value, bool):
        raise ValueError("expected a number")
    return value


Bound = Annotated[int | float | str, BeforeValidator(_number), WithJsonSchema({"type": ["number", "string"]})]
Bounds = Annotated[tuple[Bound, Bound], WithJsonSchema({"type": "array", "minItems": 2, "maxItems": 2})]


class Metric(StrEnum):
    """What is measured: the metrics of ODCS's library, then ours."""

    NULL_VALUES = "nullValues"
    MISSING_VALUES = "missingValues"
    INVALID_VALUES = "invalidValues"
    DUPLICATE_VALUES = "duplicateValues"
    ROW_COUNT = "rowCount"
    FRESHNESS = "freshness"
    VOLUME = "volume"
    FOREIGN_KEY = "foreign_key"


class OnFail(StrEnum):
    """What happens when a check fails."""

    QUARANTINE = "quarantine"  # the row goes to the quarantine
    DROP = "drop"  # so it does, marked as dropped
    WARN = "warn"  # it is said
    STOP = "stop"  # the pipeline stops


ODCS_METRICS = tuple(Metric)[:5]
ROW_METRICS = (Metric.NULL_VALUES, Metric.MISSING_VALUES, Metric.INVALID_VALUES)
_PERCENT = (*ROW_METRICS, Metric.DUPLICATE_VALUES, Metric.FOREIGN_KEY)


class _Model(BaseModel):
    """Frozen, and nothing unknown."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class Arguments(_Model):
    """What a metric must know besides its column."""

    missing_values: tuple[Value | None, ...] | None = Field(
        default=None,
        alias="missingValues",
        max_length=VALUES_MAX,
        description="missingValues: what counts as missing; null and the empty text if not given",
    )
    valid_values: tuple[Value, ...] | None = Field(
        default=None,
        alias="validValues",
        min_length=1,
        max_length=VALUES_MAX,
        description="invalidValues: all that is valid",
    )
    pattern: str | None = Field(
        default=None,
        min_length=1,
        max_length=TEXT_MAX,
        description="invalidValues: a regular expression (RE2) that is found in what is valid; "
        "`^` and `$` tie it to the ends",
    )
    min_length: int | None = Field(
        default=None, alias="minLength", ge=0, description="invalidValues: characters at least"
    )
    max_length: int | None = Field(
        default=None, alias="maxLength", ge=0, description="invalidValues: characters at most"
    )
    minimum: Value | None = Field(default=None, description="invalidValues: the least valid value")
    maximum: Value | None = Field(default=None, description="invalidValues: the greatest valid value")
    exclusive_minimum: Value | None = Field(
        default=None, alias="exclusiveMinimum", description="invalidValues: what is valid is greater"
    )
    exclusive_maximum: Value | None = Field(
        default=None, alias="exclusiveMaximum", description="invalidValues: what is valid is less"
    )
    properties: tuple[str, ...] | None = Field(
        default=None,
        min_length=1,
        max_length=32,
        description="duplicateValues, foreign_key: several columns that count together",
    )
    table: str | None = Field(
        default=None,
        pattern=r"^[^.]+\..+$",
        max_length=200,
        description="foreign_key: the table (`schema.table`) where the values must be",
    )
    columns: tuple[str, ...] | None = Field(
        default=None,
        min_length=1,
        max_length=32,
        description="foreign_key: its columns; its key if not given",
    )
    against: Literal["previous", "mean"] | None = Field(
        default=None, description="volume: the previous count (default), or the mean of the last days"
    )
    days: float | None = Field(
        default=None, gt=0, le=3650, description="volume: days of the mean; 7 if not given"
    )

    def given(self) -> dict[str, Any]:
        """The arguments that are set, under the names of the file."""
        return self.model_dump(by_alias=True, exclude_none=True)


_ARGUMENTS: dict[Metric, set[str]] = {
    Metric.MISSING_VALUES: {"missingValues"},
    Metric.INVALID_VALUES: {
        "validValues",
        "pattern",
        "minLength",
        "maxLength",
        "minimum",
        "maximum",
        "exclusiveMinimum",
        "exclusiveMaximum",
    },
    Metric.DUPLICATE_VALUES: {"properties"},
    Metric.FOREIGN_KEY: {"properties", "table", "columns"},
    Metric.VOLUME: {"against", "days"},
}
OPERATORS = {
    "must_be": "mustBe",
    "must_not_be": "mustNotBe",
    "must_be_greater_than": "mustBeGreaterThan",
    "must_be_greater_or_equal_to": "mustBeGreaterOrEqualTo",
    "must_be_less_than": "mustBeLessThan",
    "must_be_less_or_equal_to": "mustBeLessOrEqualTo",
    "must_be_between": "mustBeBetween",
    "must_not_be_between": "mustNotBeBetween",
}


class QualityCheck(_Model):
    """One number of a table, what it must be, and what happens when it is not."""

    metric: Metric = Field(description="what is measured")
    column: str | None = Field(
        default=None, min_length=1, max_length=63, description="of which column (ODCS: property)"
    )
    arguments: Arguments = Field(default=Arguments(), description="what the metric must know besides")
    must_be: Bound | None = Field(default=None, alias="mustBe", description="equal to")
    must_not_be: Bound | None = Field(default=None, alias="mustNotBe", description="not equal to")
    must_be_greater_than: Bound | None = Field(
        default=None, alias="mustBeGreaterThan", description="greater than"
    )
    must_be_greater_or_equal_to: Bound | None = Field(
        default=None, alias="mustBeGreaterOrEqualTo", description="greater than or equal to"
    )
    must_be_less_than: Bound | None = Field(default=None, alias="mustBeLessThan", description="less than")
    must_be_less_or_equal_to: Bound | None = Field(
        default=None, alias="mustBeLessOrEqualTo", description="less than or equal to"
    )
    must_be_between: Bounds | None = Field(
        default=None, alias="mustBeBetween", description="greater than the first, less than the second"
    )
    must_not_be_between: Bounds | None = Field(
        default=None, alias="mustNotBeBetween", description="the contrary of mustBeBetween"
    )
    unit: Literal["rows", "percent"] = Field(
        default="rows", description="of what is counted: rows, or percent of all rows"
    )
    on_fail: OnFail = Field(default=OnFail.WARN, description="what happens when it fails")
    severity: str = Field(
        default="error",
        min_length=1,
        max_length=40,
        description="how grave that is: `info`, `warning`, `error`, …",
    )
    id: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9_.-]{1,200}$",
        description="name in results; made of column and metric if not given",
    )
    description: str | None = Field(default=None, max_length=TEXT_MAX, description="why it must be so")

    _place: object = PrivateAttr(default=None)

    @model_validator(mode="after")
    def _fits_together(self) -> QualityCheck:
        """The operator, the arguments and ``on_fail`` are ones that the metric knows."""
        for problem in _problems(self):
            raise ValueError(problem)
        return self

    def stands_at(self, place: object) -> None:
        """Remember where the check stands, for messages."""
        self._place = place

    @property
    def place(self) -> object:
        """Where the check stands: a ``rules_config.Place``; None if nobody has said so."""
        return self._place

    @property
    def operator(self) -> str:
        """The one operator that is given, as ODCS names it."""
        return next(alias for name, alias in OPERATORS.items() if getattr(self, name) is not None)

    @property
    def bounds(self) -> tuple[float, ...]:
        """The operator's one or two numbers; durations in seconds."""
        name = next(name for name in OPERATORS if getattr(self, name) is not None)
        value = getattr(self, name)
        read = parse_duration if self.metric is Metric.FRESHNESS else _plain
        return tuple(read(one) for one in (value if isinstance(value, tuple) else (value,)))

    @property
    def of_rows(self) -> bool:
        """Whether each row passes or fails by itself, so that the rules' pass can judge it."""
        return self.metric in ROW_METRICS and self.operator == "mustBe" and self.bounds == (0,)

    @property
    def names(self) -> tuple[str, ...]:
        """The columns that it looks at."""
        return self.arguments.properties or ((self.column,) if self.column else ())

    @property
    def measured_in(self) -> str:
        """The unit of its number."""
        return {Metric.FRESHNESS: "seconds", Metric.VOLUME: "ratio"}.get(self.metric, self.unit)


class SchemaContract(_Model):
    """What may happen to a table's shape when the source changes it."""

    tables: Literal["evolve", "freeze", "discard_row", "discard_value"] = Field(
        default="evolve", description="a new table: follow it, stop, or leave it out"
    )
    columns: Literal["evolve", "freeze", "discard_row", "discard_value"] = Field(
        default="evolve",
        description="a new column: follow it, stop, hold back the rows that have a value in it, "
        "or leave it out",
    )
    data_type: Literal["evolve", "freeze", "discard_row", "discard_value"] = Field(
        default="evolve",
        description="a new type of a column: follow it, stop, hold back the rows that have a value "
        "in it, or make the value null, marked",
    )

    @model_validator(mode="before")
    @classmethod
    def _one_word_for_all(cls, value: object) -> object:
        """``contract: freeze`` means all three."""
        return dict.fromkeys(("tables", "columns", "data_type"), value) if isinstance(value, str) else value


class QualitySettings(_Model):
    """How often tables are measured, how long results stay, and when rejecting rows stops the pipeline."""

    every: Seconds = Field(default=60.0, ge=1, description="each table is measured this often at most")
    keep: Seconds = Field(default=30 * 86400.0, ge=3600, description="age at which results are deleted")
    quarantine_ratio_max: float = Field(
        default=0.5, gt=0, le=1, description="stop when more of a table's rows than this go to the quarantine"
    )
    quarantine_rows_min: int = Field(
        default=100, ge=1, description="but not before this many rows were judged within the window"
    )
    window: Seconds = Field(default=300.0, ge=1, description="the time over which these are counted")


Checks = Annotated[tuple[QualityCheck, ...], Field(max_length=CHECKS_MAX)]


class Named(NamedTuple):
    """A check with its name."""

    id: str
    check: QualityCheck


def default_name(check: QualityCheck) -> str:
    """What a check without ``id`` is called: ``email.nullValues``."""
    return ".".join(filter(None, ["_".join(check.names), check.metric.value]))


def named(checks: Sequence[QualityCheck]) -> list[Named]:
    """The checks with their names; a second check of the same name gets a ``_2``."""
    taken: set[str] = set()
    names: dict[int, str] = {}
    # Given ids first: no name that is made takes one of them.
    for number, check in sorted(enumerate(checks), key=lambda one: one[1].id is None):
        base = check.id or default_name(check)
        name, times = base, 1
        while name in taken:
            times += 1
            name = f"{base}_{times}"
        taken.add(name)
        names[number] = name
    return [Named(names[number], check) for number, check in enumerate(checks)]


def check_names_differ(checks: Sequence[QualityCheck]) -> None:
    """Raise ValueError when two checks claim one ``id``."""
    ids = [check.id for check in checks if check.id]
    for name in ids:
        if ids.count(name) > 1:
            raise ValueError(f"two quality checks have the id {name}")


def _plain(value: int | float | str) -> float:
    """A number that is one."""
    if isinstance(value, str):
        raise ValueError("expected a number")
    return value


def _problems(check: QualityCheck) -> Iterator[str]:
    """What is wrong with a check, the first thing first."""
    operators = [alias for name, alias in OPERATORS.items() if getattr(check, name) is not None]
    if len(operators) != 1:
        yield f"expected one operator ({', '.join(OPERATORS.values())}), got {len(operators)}"
        return
    try:
        bounds = check.bounds
    except ValueError as error:
        yield f"{operators[0]}: {error}"
        return
    if len(bounds) == 2 and bounds[0] >= bounds[1]:
        yield f"{operators[0]}: expected the smaller number first"
    yield from _column_problems(check)
    known = _ARGUMENTS.get(check.metric, set())
    for name in sorted(set(check.arguments.given()) - known):
        yield f"{check.metric} knows no argument {name}; it knows {', '.join(sorted(known)) or 'none'}"
    if check.metric is Metric.INVALID_VALUES and not check.arguments.given():
        yield f"invalidValues needs an argument that says what is valid: {', '.join(sorted(known))}"
    if check.unit == "percent" and check.metric not in _PERCENT:
        yield f"{check.metric} is not counted in percent"
    if check.on_fail in (OnFail.QUARANTINE, OnFail.DROP) and not check.of_rows:
        yield (
            f"on_fail: {check.on_fail} needs to know which rows: nullValues, missingValues or invalidValues "
            "with mustBe: 0; else choose warn or stop (for duplicates, there is the rule dedupe)"
        )


def _column_problems(check: QualityCheck) -> Iterator[str]:
    """Whether the metric has the columns that it needs, and no others."""
    metric, arguments = check.metric, check.arguments
    if metric in (Metric.ROW_COUNT, Metric.VOLUME) and check.column:
        yield f"{metric} is of the whole table: it takes no column"
    if metric in ROW_METRICS and not check.column:
        yield f"{metric} needs a column"
    of_several = metric in (Metric.DUPLICATE_VALUES, Metric.FOREIGN_KEY)
    if of_several and (check.column is None) == (arguments.properties is None):
        yield f"{metric} needs either a column or arguments.properties"
    if metric is Metric.FOREIGN_KEY:
        if arguments.table is None:
            yield "foreign_key needs arguments.table"
        if arguments.columns is not None and len(arguments.columns) != len(check.names):
            yield "foreign_key: as many arguments.columns as columns of its own"
    if metric is Metric.VOLUME and arguments.days is not None and arguments.against != "mean":
        yield "volume: days belong to against: mean"
