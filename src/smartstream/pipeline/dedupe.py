"""Dedupe: of the rows with one business key the trusted table has the one that wins.

The others are in the quarantine as duplicates.  When the winner leaves, by a delete or
because its business key changes, the next one takes its place: it is read from the raw
zone and cleaned like any other.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from smartstream.pipeline.quarantine import Quarantine
from smartstream.schema import TRUSTED_LSN, TableSchema
from smartstream.transform import shape
from smartstream.transform.dedupe import CANDIDATE, DedupeRule, business_keys, candidates, winners
from smartstream.transform.keys import concat_keys, find_keys, unique_keys
from smartstream.trusted.table import TrustedTable


@dataclass(frozen=True, slots=True)
class Contest:
    """How a batch changes who wins.

    Attributes:
        stays: (n,) which of the batch's rows the trusted table gets.
        losers: what decided each of the others; see transform.dedupe.candidates.
        superseded: what decided rows of the trusted table that lose their place.
        promoted: keys of duplicates that take one.
    """

    stays: np.ndarray
    losers: pa.Table
    superseded: pa.Table
    promoted: pa.Table


class Dedupe:
    """The dedupe rule of one table, with the tables that it looks at."""

    def __init__(
        self, rule: DedupeRule, kind: str, schema: TableSchema, table: TrustedTable, quarantine: Quarantine
    ) -> None:
        self._rule, self._kind, self._key, self._schema = rule, kind, list(schema.key), schema
        self._table, self._quarantine = table, quarantine

    def contest(self, rows: pa.Table, touched: pa.Table) -> Contest:
        """Decide between a batch's clean rows, the trusted table's and the waiting duplicates.

        Args:
            touched: every key that the batch is about: what is held of these is out of date.
        """
        own = candidates(rows, self._rule, self._key)
        present, waiting = self._others(rows, own, touched)
        together = pa.concat_tables([own, present, waiting])
        stays = np.split(self._winners(together), [len(own), len(own) + len(present)])
        return Contest(
            stays=stays[0],
            losers=own.filter(pa.array(~stays[0])),
            superseded=present.filter(pa.array(~stays[1])),
            promoted=waiting.filter(pa.array(stays[2])).select(self._key),
        )

    def among(self, batches: Iterable[pa.Table]) -> tuple[pa.Table, np.ndarray]:
        """Decide between all rows of a table; returns the candidates and which of them stay."""
        decided = [candidates(rows, self._rule, self._key) for rows in batches]
        if not decided:
            return pa.table({}), np.ones(0, np.bool_)
        found = pa.concat_tables(decided)
        return found, self._winners(found)

    def columns(self) -> list[str]:
        """Of the trusted table, what decides: key, business key, order."""
        return [*self._key, *self._columns()]

    def held(self, losers: pa.Table, version: str) -> pa.Table:
        """Rows of the quarantine for candidates that lost; their row is in the raw zone."""
        target = shape.quarantine_schema(self._schema).trusted_schema()
        columns = {
            **{name: losers[name] for name in self._key},
            shape.DISPOSITION: pa.repeat(shape.DUPLICATE, len(losers)),
            shape.RULES_VERSION: pa.repeat(version, len(losers)),
            shape.BUSINESS_KEY: losers["business_key"],
            shape.ORDER_BY: losers["order_by"],
            TRUSTED_LSN: losers[TRUSTED_LSN],
        }
        arrays = [columns.get(field.name, pa.nulls(len(losers), field.type)) for field in target]
        return pa.table(arrays, schema=target)

    def _winners(self, found: pa.Table) -> np.ndarray:
        """Which candidates stay."""
        return winners(found, self._rule, self._kind, self._key)

    def _others(self, rows: pa.Table, own: pa.Table, touched: pa.Table) -> tuple[pa.Table, pa.Table]:
        """The trusted table's candidates and the waiting ones for every business key in question."""
        leaving = self._table.read(self._table.locate(touched), self._columns())
        values = _distinct([rows, leaving], self._rule.key)
        if not len(values):
            return own.slice(0, 0), own.slice(0, 0)
        present = self._table.read(self._table.locate_by(values), self._columns())
        present = _without(candidates(present, self._rule, self._key), touched, self._key)
        texts = business_keys(values)
        waiting = _without(self._waiting(texts, own), touched, self._key)
        return present, _without(waiting, present, self._key)

    def _columns(self) -> list[str]:
        """Of the trusted table, besides the key."""
        wanted = [TRUSTED_LSN, *self._rule.key, *([self._rule.by] if self._rule.by else [])]
        return [name for name in dict.fromkeys(wanted) if name not in self._key]

    def _waiting(self, keys: pa.ChunkedArray, own: pa.Table) -> pa.Table:
        """The duplicates in the quarantine that have one of the business keys."""
        held = self._quarantine.table
        if held is None or not held.row_count:
            return own.slice(0, 0)
        located = held.locate_by(pa.table({shape.BUSINESS_KEY: keys}))
        columns = [shape.BUSINESS_KEY, shape.ORDER_BY, TRUSTED_LSN]
        rows = held.read(located, [*columns, shape.DISPOSITION])
        rows = rows.filter(pc.equal(rows[shape.DISPOSITION], shape.DUPLICATE))  # not those a person dropped
        found = rows.select([*columns, *self._key])
        return found.rename_columns([*CANDIDATE, *self._key])


def _distinct(tables: list[pa.Table], columns: tuple[str, ...]) -> pa.Table:
    """The distinct values of some columns, without those that have a null."""
    together = concat_keys([rows.select(list(columns)) for rows in tables], columns)
    for name in columns:
        together = together.filter(pc.is_valid(together[name]))
    return unique_keys(together)


def _without(rows: pa.Table, keys: pa.Table, names: list[str]) -> pa.Table:
    """The rows that have none of the keys."""
    return rows.filter(pa.array(find_keys(keys, rows.select(names), names) < 0))
