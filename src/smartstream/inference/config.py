"""What smartstream.yaml says of a model."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from smartstream.errors import ScheduleInvalid
from smartstream.inference.schedule import parse_schedule
from smartstream.secret import SecretText
from smartstream.units import GIB, MIB, parse_duration, parse_size

NAME = r"^[a-z][a-z0-9_]{0,47}$"
Seconds = Annotated[
    float,
    BeforeValidator(parse_duration),
    WithJsonSchema({"type": ["string", "number"], "examples": ["30s"]}),
]
Bytes = Annotated[
    int, BeforeValidator(parse_size), WithJsonSchema({"type": ["string", "integer"], "examples": ["64MiB"]})
]


class _Model(BaseModel):
    """Frozen, and nothing unknown."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, protected_namespaces=())


class Feature(_Model):
    """One input of a model, as its signature promises it."""

    name: str = Field(min_length=1, description="column of the feature query")
    type: Literal["int64", "float64", "float32", "bool", "string"] = Field(
        default="float64", description="type that the model expects; the query's column must fit without loss"
    )
    nullable: bool = Field(default=False, description="whether null is allowed; it reaches the model as NaN")
    minimum: float | None = Field(default=None, description="smallest value allowed")
    maximum: float | None = Field(default=None, description="largest value allowed")
    categories: tuple[str, ...] | None = Field(default=None, description="the only texts allowed")


class Challenger(_Model):
    """A second model, scored on the same features beside the first."""

    uri: str = Field(min_length=1, description="as `uri` of the model")
    sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$", description="as of the model")
    version: str = Field(default="challenger", min_length=1, description="name in `_model_version`")


class DriftLimits(_Model):
    """When to warn that the features or predictions no longer look like the baseline."""

    baseline: str | None = Field(
        default=None,
        description="Parquet file of training rows; without one, a version's first profile",
    )
    psi_max: float = Field(default=0.25, gt=0, description="population stability index")
    js_max: float = Field(default=0.1, gt=0, description="Jensen-Shannon divergence, in bits")
    ks_max: float = Field(default=0.2, gt=0, le=1, description="Kolmogorov-Smirnov distance")
    null_ratio_rise_max: float = Field(default=0.05, gt=0, le=1, description="rise of the ratio of nulls")
    rows_min: int = Field(
        default=200, ge=1, description="with fewer rows drift is recorded without a warning"
    )
    every: Seconds = Field(
        default=86_400.0,
        ge=0,
        description="how long after the last profile a run over changed keys makes the next, of all keys",
    )


class ModelSettings(_Model):
    """One model: where it is, what it reads, when it runs, where its predictions go."""

    name: str = Field(pattern=NAME, description="its name; one word, lower case")
    uri: str = Field(
        min_length=1,
        description="a file (relative to smartstream.yaml), `s3://bucket/key`, `mlflow:name@alias`, "
        "`python:module:function`, `sagemaker:endpoint` or `https://host/v2/models/name` (KServe v2)",
    )
    format: Literal["auto", "onnx", "lightgbm", "xgboost", "skops", "mlflow_pyfunc"] = Field(
        default="auto", description="kind of file; auto tells it by its ending and content"
    )
    sha256: str | None = Field(
        default=None,
        pattern=r"^[0-9a-f]{64}$",
        description="hash of the file, checked at each load; required for code",
    )
    version: str | None = Field(default=None, description="its version; else the first digits of its hash")
    allow_code: bool = Field(default=False, description="whether a model that is Python code may run")
    trusted_types: tuple[str, ...] = Field(default=(), description="skops: types that may be loaded")
    features: str = Field(min_length=1, description="SQL file over trusted tables, one row for each key")
    key: tuple[str, ...] = Field(min_length=1, description="columns of the query that identify a row")
    inputs: tuple[Feature, ...] = Field(
        default=(), description="signature; without it, what the model itself says, else any number"
    )
    schedule: str | None = Field(
        default=None, description="`rate(1 hour)`, `cron(0 6 * * ? *)` or `0 6 * * *`; none: by hand only"
    )
    zone: str = Field(default="UTC", description="time zone of the schedule")
    overlap: Literal["skip", "queue"] = Field(default="skip", description="when one is due during another")
    catch_up: bool = Field(default=True, description="run once at start when runs were missed")
    output: str = Field(
        default="",
        pattern=r"^$|^analytics\.[a-z][a-z0-9_]{0,62}$",
        description="else `analytics.<name>`",
    )
    keep: Literal["latest", "history", "both"] = Field(
        default="latest", description="one prediction a key, every prediction (`<output>_history`), or both"
    )
    mode: Literal["incremental", "full"] = Field(
        default="incremental", description="score only keys whose features can have changed, or all"
    )
    on_delete: Literal["remove", "close"] = Field(
        default="remove", description="what becomes of the prediction of a key that is gone"
    )
    explain: int = Field(default=0, ge=0, le=32, description="how many features' contributions to keep")
    challenger: Challenger | None = Field(default=None, description="a second model to compare with")
    drift: DriftLimits = DriftLimits()
    chunk_rows: int = Field(default=65_536, ge=1, le=4_194_304, description="rows scored at once")
    timeout: Seconds = Field(default=600.0, gt=0, description="of one run; of one request to a remote model")
    memory: Bytes = Field(
        default=2 * GIB, ge=64 * MIB, description="address space of a model that is Python code"
    )
    token: SecretText | None = Field(default=None, description="bearer token of a remote model, by reference")

    @field_validator("schedule", "zone")
    @classmethod
    def _schedule_is_one(cls, text: str | None, info: ValidationInfo) -> str | None:
        """A schedule, and a time zone, that can be told; each is blamed for itself."""
        try:
            if text is not None:
                parse_schedule(text) if info.field_name == "schedule" else parse_schedule("0 0 * * *", text)
        except ScheduleInvalid as error:
            raise ValueError(str(error)) from error
        return text

    @model_validator(mode="after")
    def _code_is_pinned(self) -> ModelSettings:
        """Code runs only when it is allowed and is the code that was looked at."""
        code = self.uri.startswith("python:") or self.format == "mlflow_pyfunc"
        if code and not (self.allow_code and self.sha256):
            raise ValueError(f"model {self.name!r} is code: it needs `allow_code: true` and `sha256`")
        return self

    @property
    def table(self) -> str:
        """Name of the output table below ``analytics``."""
        return self.output.partition(".")[2] or self.name


def repeated(models: tuple[ModelSettings, ...]) -> list[str]:
    """Names and output tables that two models share."""
    names = [model.name for model in models]
    outputs = [f"analytics.{model.table}" for model in models]
    return sorted({n for n in names if names.count(n) > 1} | {o for o in outputs if outputs.count(o) > 1})
