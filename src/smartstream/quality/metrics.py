"""The number of a check over a whole table, as SQL, pure."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from smartstream.errors import ConfigInvalid
from smartstream.quality.config import ROW_METRICS, Metric, QualityCheck
from smartstream.quality.predicates import Types, violated
from smartstream.sql_text import quoted


def count_sql(check: QualityCheck, types: Types) -> str:
    """An aggregate expression of one scan: rows that break the check, or the age of a column's latest.

    Raises:
        ConfigInvalid: the check does not fit its column.
    """
    if check.metric is Metric.FRESHNESS:
        return _latest(check, types)
    if check.metric in (Metric.ROW_COUNT, Metric.VOLUME):
        return "count(*)"
    assert check.metric in ROW_METRICS, check.metric
    return f"count(*) FILTER (WHERE {violated(check, types)})"


def check_fits(check: QualityCheck, types: Types) -> None:
    """Find out whether a check of a whole table can be measured; the other table of a foreign key aside.

    Raises:
        ConfigInvalid: a column is missing, or of a type that the check is not for.
    """
    if check.metric in (Metric.DUPLICATE_VALUES, Metric.FOREIGN_KEY):
        _columns(check, check.names, types)
    else:
        count_sql(check, types)


def duplicates_sql(check: QualityCheck, types: Types, relation: str) -> str:
    """A query of one number: the rows beyond the first of each value; nulls are no duplicates."""
    columns = _columns(check, check.names, types)
    present = " AND ".join(f"{column} IS NOT NULL" for column in columns)
    return (
        f"SELECT coalesce(sum(n - 1), 0)::BIGINT FROM (SELECT count(*) AS n FROM {relation} "
        f"WHERE {present} GROUP BY {', '.join(columns)} HAVING count(*) > 1)"
    )


def orphans_sql(
    check: QualityCheck, types: Types, relation: str, there: str, there_types: Types, there_key: Sequence[str]
) -> str:
    """A query of one number: the rows whose values, none of them null, are not in the other table.

    Args:
        there: the other table.
        there_key: its key, meant when the check names no columns of it.
    Raises:
        ConfigInvalid: columns are missing, or can't be compared.
    """
    wanted = check.arguments.columns or tuple(there_key)
    if len(wanted) != len(check.names):
        raise ConfigInvalid(
            f"quality check foreign_key of {', '.join(check.names)}: the key of {check.arguments.table} has "
            "another number of columns; name the ones that are meant in arguments.columns"
        )
    own, other = _columns(check, check.names, types), _columns(check, wanted, there_types)
    for mine, theirs in zip(check.names, wanted, strict=True):
        if _family(types[mine]) != _family(there_types[theirs]):
            raise ConfigInvalid(
                f"quality check foreign_key: {mine} is {types[mine]} and {theirs} is {there_types[theirs]}"
            )
    present = " AND ".join(f"own.{column} IS NOT NULL" for column in own)
    same = " AND ".join(f"own.{a} = other.{b}" for a, b in zip(own, other, strict=True))
    return (
        f"SELECT count(*) FROM (SELECT * FROM {relation} AS own WHERE {present}) AS own "
        f"ANTI JOIN {there} AS other ON {same}"
    )


def _latest(check: QualityCheck, types: Types) -> str:
    """The latest time in a column, in seconds since 1970; a time without zone counts as UTC."""
    if check.column is None:
        return "NULL::DOUBLE"
    (column,) = _columns(check, check.names, types)
    kind = types[check.column]
    if not (pa.types.is_timestamp(kind) or pa.types.is_date(kind)):
        raise ConfigInvalid(
            f"quality check freshness of column {check.column}: expected a date or a time, it is {kind}"
        )
    return f"epoch(max({column}))::DOUBLE"


def _columns(check: QualityCheck, names: Sequence[str], types: Types) -> list[str]:
    """Columns as SQL, if they are all there."""
    for name in names:
        if name not in types:
            raise ConfigInvalid(f"quality check {check.metric}: there is no column {name}")
    return [quoted(name) for name in names]


def _family(kind: pa.DataType) -> str:
    """Types of one family can be compared without losing anything."""
    if pa.types.is_integer(kind) or pa.types.is_decimal(kind):
        return "number"
    return "text" if pa.types.is_large_string(kind) else str(kind)
