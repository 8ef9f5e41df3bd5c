"""The source's side of a table with rules: its rows in the exported snapshot, through the same rules.

Rows are read, judged and summed up a batch at a time.  Of a table with ``dedupe`` what
decides between duplicates is kept in DuckDB, which spills; then a slice of the business
keys at a time is decided.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from smartstream.capture.connect import adbc_connect
from smartstream.capture.snapshot import read_exported
from smartstream.query.relation import sql_type
from smartstream.transform.dedupe import CANDIDATE, candidates, winners
from smartstream.transform.rows import project, trusted_rows
from smartstream.transform.shape import DUPLICATE
from smartstream.verify.canonical import FoundRow, Search
from smartstream.verify.judge import WHY, Judge, Judged
from smartstream.verify.ruled_rows import Places, RuledRows
from smartstream.verify.source import Chunk, SourceSnapshot

SLICE_ROWS = 500_000
"""Candidates that are decided in one piece; all with one business key go together."""

_HASHES = ("good", "held", "key_text")


class RuledSource:
    """One table of the source, read in an exported snapshot.  Several threads may read its chunks."""

    def __init__(
        self,
        settings: Any,
        snapshot: SourceSnapshot,
        judge: Judge,
        connection: duckdb.DuckDBPyConnection,
    ) -> None:
        """
        Args:
            connection: to a DuckDB that spills.
        """
        self._settings, self._snapshot, self._judge = settings, snapshot, judge
        self._connection, self._lock = connection, threading.Lock()
        self._candidates = f"candidates_{judge.rules.schema.oid}"
        self._losers = f"losers_{judge.rules.schema.oid}"
        connection.execute(f"CREATE TABLE {self._losers} (key_text VARCHAR)")
        self._count = 0

    def sums(self, chunk: Chunk) -> Places:
        """Judge a chunk, and sum up what is decided by its rows alone.

        Raises:
            RuleStop, HookFailed: as the rules say.
            SourceError: the source does not answer.
        """
        return Places.total(self._batch_sums(judged) for judged in self._judged(chunk))

    def settled(self) -> Places:
        """Decide between the duplicates of all chunks, and sum up what comes of that."""
        slices = 1 + self._count // SLICE_ROWS
        return Places.total(self._decide(slices, number) for number in range(slices) if self._count)

    def rows(self, chunk: Chunk, good: Search, held: Search) -> tuple[list[FoundRow], list[FoundRow]]:
        """The rows to look at for differences, as they must be; after ``settled``."""
        found: tuple[list[FoundRow], list[FoundRow]] = ([], [])
        for judged in self._judged(chunk):
            with self._connection.cursor() as connection:
                rows = RuledRows(connection, self._judge)
                in_good, in_held = rows.judged(self._without_losers(rows, judged))
                found[0].extend(rows.search(in_good, good))
                found[1].extend(rows.search(in_held, held))
        return found

    def _judged(self, chunk: Chunk) -> Iterator[Judged]:
        """The chunk's rows, a batch at a time."""
        own, schema = self._judge.source, self._judge.rules.schema
        with closing(adbc_connect(self._settings.source)) as source:
            for changes in read_exported(source, own, chunk.rows, snapshot=self._snapshot.name):
                yield self._judge.judge(trusted_rows(project(changes, own, schema, {}), schema))

    def _batch_sums(self, judged: Judged) -> Places:
        """Sums of a batch; rows that have a business key wait for all others."""
        with self._connection.cursor() as connection:
            rows = RuledRows(connection, self._judge)
            if self._judge.rules.dedupe is not None:
                judged = self._set_aside(rows, judged)
            good, held = rows.judged(judged)
            return Places(rows.sums(good), rows.sums(held))

    def _set_aside(self, rows: RuledRows, judged: Judged) -> Judged:
        """Keep the rows that have a business key, hashed as winners and as losers; return the others."""
        rules = self._judge.rules
        assert rules.dedupe is not None
        key = list(rules.schema.key)
        found = candidates(judged.good, rules.dedupe, key)
        competes = pc.is_valid(found["business_key"])
        good = judged.good.filter(competes)
        hashes = rows.hashes(Judged(good, as_duplicates(good.select(key))))
        found = found.filter(competes).rename_columns([*CANDIDATE, *(f"k{n}" for n in range(len(key)))])
        for name, column in zip(_HASHES, hashes, strict=True):
            found = found.append_column(name, column)
        with self._lock:
            given = rows.register(found)
            rows.connection.execute(f"CREATE TABLE IF NOT EXISTS {self._candidates} AS FROM {given} LIMIT 0")
            rows.connection.execute(f"INSERT INTO {self._candidates} FROM {given}")
            self._count += len(found)
        return Judged(judged.good.filter(pc.invert(competes)), judged.held)

    def _decide(self, slices: int, number: int) -> Places:
        """Winners and losers of one slice of the business keys."""
        rules = self._judge.rules
        assert rules.dedupe is not None
        condition = f"hash(business_key) % {slices} = {number}"
        with self._connection.cursor() as connection:
            found = connection.sql(f"FROM {self._candidates} WHERE {condition}").to_arrow_table()
            named = found.drop_columns(list(_HASHES)).rename_columns([*CANDIDATE, *rules.schema.key])
            stays = winners(named, rules.dedupe, order_kind(self._judge), rules.schema.key)
            rows = RuledRows(connection, self._judge)
            won = rows.register(found.filter(pa.array(stays)))
            lost = rows.register(found.filter(pa.array(~stays)))
            connection.execute(f"INSERT INTO {self._losers} SELECT key_text FROM {lost}")
            return Places(
                rows.sums(f"SELECT good AS h FROM {won}"), rows.sums(f"SELECT held AS h FROM {lost}")
            )

    def _without_losers(self, rows: RuledRows, judged: Judged) -> Judged:
        """The same with the rows that lost among the held ones."""
        if not self._count:
            return judged
        key = list(self._judge.rules.schema.key)
        _, _, texts = rows.hashes(Judged(judged.good, as_duplicates(judged.good.select(key))))
        numbered = rows.register(pa.table({"key_text": texts, "n": np.arange(len(texts))}))
        query = f"SELECT n FROM {numbered} SEMI JOIN {self._losers} USING (key_text)"
        lost = np.zeros(len(texts), np.bool_)
        lost[rows.connection.execute(query).fetchnumpy()["n"]] = True
        losers = as_duplicates(judged.good.filter(pa.array(lost)).select(key))
        return Judged(judged.good.filter(pa.array(~lost)), pa.concat_tables([judged.held, losers]))


def as_duplicates(keys: pa.Table) -> pa.Table:
    """Return keys as held rows that lost against another."""
    return keys.append_column(WHY, pa.repeat(DUPLICATE, len(keys)))


def order_kind(judge: Judge) -> str:
    """Return the SQL name of the type that duplicates are ordered by."""
    rule = judge.rules.dedupe
    assert rule is not None
    return sql_type(judge.rules.output_schema().field(rule.by).type) if rule.by else "VARCHAR"
