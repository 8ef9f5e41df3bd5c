"""What is often asked of a query's tree, and the names under which a run shows its tables."""

from __future__ import annotations

from functools import cache

import duckdb
from sqlglot import exp

from smartstream.inference.features.query import DIALECT

BEFORE, NOW, DELTA = "before", "trusted", "delta"
"""Schemas: the tables as of the last run, as of this one, and the keys of changed rows."""
FOUND = "found"
"""Schema: the rows of a table with an affected key, as of this run."""
AFFECTED = "affected"
"""Table of the keys whose features are asked for."""


def named(text: str) -> str:
    """A name, quoted."""
    sql: str = exp.to_identifier(text, quoted=True).sql(DIALECT)
    return sql


def start_of(select: exp.Select) -> exp.Expression | None:
    """The FROM of a SELECT."""
    return select.args.get("from_") or select.args.get("from")


def sources(select: exp.Select) -> list[exp.Expression]:
    """What a SELECT reads."""
    start = start_of(select)
    first = [start.this] if start is not None else []
    return [*first, *(join.this for join in select.args.get("joins") or ())]


def is_aggregate(node: exp.Expression) -> bool:
    """Whether there is a function of many rows in an expression."""
    if node.find(exp.AggFunc) is not None:
        return True
    called = {f.name if isinstance(f, exp.Anonymous) else f.sql_name() for f in node.find_all(exp.Func)}
    return not _aggregates().isdisjoint(name.lower() for name in called)


@cache
def _aggregates() -> frozenset[str]:
    """The names of DuckDB's aggregates; sqlglot does not know them all."""
    with duckdb.connect() as connection:
        rows = connection.execute(
            "SELECT DISTINCT function_name FROM duckdb_functions() WHERE function_type = 'aggregate'"
        ).fetchall()
    return frozenset(name for (name,) in rows)
