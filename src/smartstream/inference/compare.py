"""Compare: what a champion and its challenger say of the same keys, and how the second becomes the first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import duckdb
import pyarrow as pa

from smartstream.config import Settings
from smartstream.errors import ModelMissing
from smartstream.inference import outputs as out
from smartstream.inference.config import ModelSettings
from smartstream.query.duckdb import add_filesystem, engine
from smartstream.query.relation import relation
from smartstream.sql_text import literal, quoted
from smartstream.trusted.catalog import ANALYTICS, LakeCatalog, lake_errors, open_catalog
from smartstream.trusted.plan import LivePlan, find_table, plan

TOLERANCE = 1e-9
"""Numbers that differ by less, absolutely or for their size, agree."""

_USABLE = f"{out.STALE} IS NULL AND {out.CLOSED_AT} IS NULL"


@dataclass(frozen=True, slots=True)
class ColumnComparison:
    """One column of predictions, over the keys that both have.

    Attributes:
        agreement: share of keys for which both say the same, 0 to 1; None without keys.
        champion_mean, challenger_mean: None where the column is not a number.
        difference_mean: challenger minus champion; ``difference_abs_mean``, ``difference_abs_max``
            regardless of the sign.
        correlation: Pearson's; None when one side is constant.
    """

    column: str
    agreement: float | None
    champion_mean: float | None = None
    challenger_mean: float | None = None
    difference_mean: float | None = None
    difference_abs_mean: float | None = None
    difference_abs_max: float | None = None
    correlation: float | None = None


@dataclass(frozen=True, slots=True)
class Comparison:
    """A champion's predictions beside its challenger's.

    Attributes:
        champion, challenger: their versions, as the predictions have them.
        rows_both: keys with a prediction of both that is neither stale nor closed.
        rows_champion_only, rows_challenger_only: keys with a prediction of one.
        columns: those that both have.
    """

    model: str
    champion: str
    challenger: str
    rows_both: int
    rows_champion_only: int
    rows_challenger_only: int
    columns: tuple[ColumnComparison, ...]

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def compare(settings: Settings, model: ModelSettings, *, catalog: LakeCatalog | None = None) -> Comparison:
    """Compare the latest predictions of a model with its challenger's.

    Memory is bounded by ``limits.duckdb_memory``, whatever the number of keys.

    Raises:
        ModelMissing: one of the two has not been scored yet.
        LakeError: the predictions can't be read.
    """
    catalog = catalog or open_catalog(settings.lake)
    connection = engine(settings.limits)
    try:
        with lake_errors(f"compare the predictions of model {model.name}"):
            plans = [
                _view(connection, catalog, side, name, model.name)
                for side, name in (
                    ("champion", model.table),
                    ("challenger", f"{model.table}{out.CHALLENGER}"),
                )
            ]
            on = " AND ".join(f"a.{quoted(name)} = b.{quoted(name)}" for name in model.key)
            first = quoted(model.key[0])
            both, ours, theirs = connection.execute(
                f"SELECT count(*) FILTER (a.{first} IS NOT NULL AND b.{first} IS NOT NULL), "
                f"count(*) FILTER (b.{first} IS NULL), count(*) FILTER (a.{first} IS NULL) "
                f"FROM champion a FULL JOIN challenger b ON {on}"
            ).fetchall()[0]
            columns = tuple(
                _column(connection, name, kind, on) for name, kind in _predictions(model.key, plans)
            )
            versions = [_version(connection, side) for side in ("champion", "challenger")]
    finally:
        connection.close()
    return Comparison(model.name, versions[0], versions[1], both, ours, theirs, columns)


def promotion(model: ModelSettings) -> dict[str, str | None]:
    """What to change below the model in smartstream.yaml so that its challenger takes its place.

    Setting → value; None: take it out.  The next run scores every key with the new model.

    Raises:
        ModelMissing: the model has no challenger.
    """
    if model.challenger is None:
        raise ModelMissing(f"model {model.name} has no challenger", hint="Set `challenger` of the model.")
    version = model.challenger.version
    return {
        "uri": model.challenger.uri,
        "sha256": model.challenger.sha256,
        "version": None if version == "challenger" else version,
        "challenger": None,
    }


def _view(
    connection: duckdb.DuckDBPyConnection, catalog: LakeCatalog, side: str, name: str, model: str
) -> LivePlan:
    """One side's usable predictions as a view."""
    table = find_table(catalog, ANALYTICS, name)
    if table is None:
        raise ModelMissing(
            f"model {model}: there are no predictions of the {side} yet",
            hint=f"Set `challenger` of the model, then run `smartstream model run {model}`.",
        )
    add_filesystem(connection, [table])
    planned = plan(table)
    connection.execute(f"CREATE VIEW {side} AS SELECT * FROM ({relation(planned)}) WHERE {_USABLE}")
    return planned


def _predictions(key: Sequence[str], plans: Sequence[LivePlan]) -> list[tuple[str, pa.DataType]]:
    """The columns of predictions that both sides have, in the champion's order and types."""
    ours = {*key, *out.META, "_lsn", "_untyped"}
    other = {column.name: column.type for column in plans[1].columns}
    return [
        (column.name, column.type)
        for column in plans[0].columns
        if column.name not in ours and other.get(column.name) == column.type
    ]


def _column(connection: duckdb.DuckDBPyConnection, name: str, kind: pa.DataType, on: str) -> ColumnComparison:
    """Both sides of one column."""
    a, b = f"a.{quoted(name)}", f"b.{quoted(name)}"
    if not (pa.types.is_floating(kind) or pa.types.is_integer(kind)):
        same = f"avg(({a} IS NOT DISTINCT FROM {b})::INTEGER)"
        row = connection.execute(f"SELECT {same} FROM champion a JOIN challenger b ON {on}").fetchall()[0]
        return ColumnComparison(name, *row)
    a, b = f"{a}::DOUBLE", f"{b}::DOUBLE"
    near = f"abs({b} - {a}) <= {TOLERANCE} * greatest(1, abs({a}), abs({b}))"
    row = connection.execute(
        f"SELECT avg(coalesce({near}, false)::INTEGER), avg({a}), avg({b}), avg({b} - {a}), "
        f"avg(abs({b} - {a})), max(abs({b} - {a})), corr({a}, {b}) "
        f"FROM champion a JOIN challenger b ON {on}"
    ).fetchall()[0]
    return ColumnComparison(name, *(None if value is None or value != value else value for value in row))


def _version(connection: duckdb.DuckDBPyConnection, side: str) -> str:
    """The version that a side's predictions are of; several with ``, `` between them."""
    text = f"string_agg(DISTINCT {out.MODEL_VERSION}, {literal(', ')} ORDER BY {out.MODEL_VERSION})"
    ((found,),) = connection.execute(f"SELECT coalesce({text}, '') FROM {side}").fetchall()
    return str(found)
