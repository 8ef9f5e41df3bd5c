"""Profiles and drift as rows of ``analytics.model_profile`` and ``analytics.model_drift``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Literal

import pyarrow as pa

from smartstream.inference.drift import Drift
from smartstream.inference.profile import Profile, column_from_dict
from smartstream.schema import Column, Kind, PgType, TableSchema

_INT8, _TEXT = PgType("bigint", Kind.INT8), PgType("text", Kind.TEXT)
_FLOAT8, _BOOL = PgType("double precision", Kind.FLOAT8), PgType("boolean", Kind.BOOL)
_TIME = PgType("timestamp with time zone", Kind.TIMESTAMPTZ)
_ABOUT: tuple[tuple[str, PgType], ...] = (
    ("model", _TEXT),
    ("version", _TEXT),
    ("run_id", _TEXT),
    ("side", _TEXT),
    ("column", _TEXT),
    ("measured_at", _TIME),
)
_PROFILE: tuple[tuple[str, PgType], ...] = (
    *_ABOUT,
    ("kind", _TEXT),
    ("rows", _INT8),
    ("nulls", _INT8),
    ("infinite", _INT8),
    ("minimum", _FLOAT8),
    ("maximum", _FLOAT8),
    ("mean", _FLOAT8),
    ("std", _FLOAT8),
    ("bins", _TEXT),
    ("is_baseline", _BOOL),
)
_DRIFT: tuple[tuple[str, PgType], ...] = (
    *_ABOUT,
    ("baseline", _TEXT),
    ("psi", _FLOAT8),
    ("js", _FLOAT8),
    ("ks", _FLOAT8),
    ("null_ratio", _FLOAT8),
    ("null_ratio_baseline", _FLOAT8),
    ("rows", _INT8),
    ("passed", _BOOL),
    ("reason", _TEXT),
)
_BINS = ("edges", "categories", "counts")


def _schema(name: str, columns: Sequence[tuple[str, PgType]]) -> TableSchema:
    """A table of the analytics zone, one row for each column of one run's side."""
    return TableSchema(
        oid=0,
        schema="public",
        name=name,
        columns=tuple(Column(title, number, kind) for number, (title, kind) in enumerate(columns, start=1)),
        key=("model", "version", "run_id", "side", "column"),
    )


PROFILE_SCHEMA = _schema("model_profile", _PROFILE)
DRIFT_SCHEMA = _schema("model_drift", _DRIFT)


@dataclass(frozen=True, slots=True)
class Measured:
    """What was measured, and when.

    Attributes:
        version: of the model; a challenger has its own.
        side: whether the columns are what went into the model or what came out; names may be the same.
        lsn: up to which the features were read; becomes ``_lsn``.
    """

    model: str
    version: str
    run_id: str
    side: Literal["feature", "prediction"]
    measured_at: datetime
    lsn: int


def profile_rows(profile: Profile, about: Measured, *, is_baseline: bool) -> pa.Table:
    """One row of ``PROFILE_SCHEMA.trusted_schema()`` for each column that was profiled."""
    rows = []
    for column in profile.columns:
        values = asdict(column)
        bins = {name: values.pop(name) for name in _BINS}
        text = json.dumps(bins, separators=(",", ":"), allow_nan=False)
        rows.append({**values, "bins": text, "is_baseline": is_baseline, "column": column.name})
    return _table(rows, about, PROFILE_SCHEMA)


def profile_of(rows: pa.Table) -> Profile:
    """The profile that rows of one run and side hold, in their order; inverse of ``profile_rows``.

    Columns that were not profiled are not in the rows.
    """
    kept = ("kind", "rows", "nulls", "infinite", "minimum", "maximum", "mean", "std")
    return Profile(
        tuple(
            column_from_dict(
                {"name": row["column"], **{name: row[name] for name in kept}, **json.loads(row["bins"])}
            )
            for row in rows.to_pylist()
        )
    )


def drift_rows(drifts: Sequence[Drift], about: Measured, *, baseline: str) -> pa.Table:
    """One row of ``DRIFT_SCHEMA.trusted_schema()`` for each column.

    Args:
        baseline: the file or the run_id that it was compared with.
    """
    return _table([{**asdict(each), "baseline": baseline} for each in drifts], about, DRIFT_SCHEMA)


def _table(rows: list[dict[str, Any]], about: Measured, schema: TableSchema) -> pa.Table:
    """Rows with what all of them share."""
    shared = {**asdict(about), "_lsn": about.lsn}
    return pa.Table.from_pylist([{**shared, **row} for row in rows], schema=schema.trusted_schema())
