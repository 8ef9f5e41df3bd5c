"""Which of the rows with the same business key stay, pure.

A row whose business key has a null is nobody's duplicate.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from smartstream.schema import TRUSTED_LSN
from smartstream.sql_text import quoted
from smartstream.transform.rules.engine import ROWS, evaluate

Mask = npt.NDArray[np.bool_]


class DedupeRule(Protocol):
    """The rule, compiled; see transform.rules."""

    @property
    def key(self) -> tuple[str, ...]: ...
    @property
    def keep(self) -> Literal["first", "last"]: ...
    @property
    def by(self) -> str | None: ...


CANDIDATE = ("business_key", "order_by", TRUSTED_LSN)
"""Columns of candidates, beside the source's key."""


def candidates(rows: pa.Table, rule: DedupeRule, key: Sequence[str]) -> pa.Table:
    """Return of each row what decides: business key and order as text, and the source's key.

    Args:
        rows: (n, clean columns and ``_lsn``).
    Returns:
        (n, ``business_key`` JSON text or null, ``order_by`` text or null, ``_lsn``, key columns).
    """
    parts = [f"{quoted(name)}::VARCHAR" for name in rule.key]
    nulls = " OR ".join(f"{quoted(name)} IS NULL" for name in rule.key)
    order = f"{quoted(rule.by)}::VARCHAR" if rule.by else "NULL::VARCHAR"
    sql = (
        f"SELECT CASE WHEN {nulls} THEN NULL ELSE to_json([{', '.join(parts)}])::VARCHAR END AS business_key,"
        f" {order} AS order_by FROM {ROWS}"
    )
    decided = evaluate(sql, rows.select(list(dict.fromkeys([*rule.key, *filter(None, [rule.by])]))))
    columns = [*decided.columns, rows[TRUSTED_LSN], *(rows[name] for name in key)]
    return pa.table(columns, names=[*CANDIDATE, *key])


def business_keys(values: pa.Table) -> pa.ChunkedArray:
    """Return business keys as the JSON text that ``candidates`` gives them; nulls are not allowed."""
    parts = ", ".join(f"{quoted(name)}::VARCHAR" for name in values.column_names)
    return evaluate(f"SELECT to_json([{parts}])::VARCHAR FROM {ROWS}", values).column(0)


def winners(found: pa.Table, rule: DedupeRule, kind: str, key: Sequence[str]) -> Mask:
    """Return which candidates stay: one of each business key, and all without one.

    Of equal order the source's key decides, so the result depends on nothing else.

    Args:
        found: (n, see ``candidates``).
        kind: SQL name of the type that ``order_by`` is the text of.
    """
    way = "DESC" if rule.keep == "last" else "ASC"
    ties = [f"k{n} {way}" for n in range(len(key))]
    order = ", ".join([f"CAST(order_by AS {kind}) {way} NULLS LAST", *ties])
    renamed = found.rename_columns([*CANDIDATE, *(f"k{n}" for n in range(len(key)))])
    numbered = renamed.append_column("n", pa.array(np.arange(len(found))))
    sql = (
        "SELECT n FROM numbered WHERE business_key IS NOT NULL"
        f" QUALIFY row_number() OVER (PARTITION BY business_key ORDER BY {order}) > 1"
    )
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.register("numbered", numbered)
        lost = connection.sql(sql).to_arrow_table()["n"].to_numpy()
    stays = np.ones(len(found), np.bool_)
    stays[lost] = False
    return stays
