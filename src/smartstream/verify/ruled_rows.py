"""Rows of a table with rules as text and hash, the same from the source's rows and from the lake's, pure."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import duckdb
import pyarrow as pa

from smartstream.change import UNTYPED
from smartstream.schema import PgType, TableSchema
from smartstream.verify.canonical import BUCKETS, FoundRow, Search, Sums, lake_hash, lake_row
from smartstream.verify.difference import added
from smartstream.verify.judge import TEXT, WHY, Judge, Judged
from smartstream.verify.lake import first_of
from smartstream.verify.overlay import column_name

_NUMBER = "row_number"


@dataclass(frozen=True, slots=True)
class Places:
    """Something of the trusted table and something of the quarantine: sums, or rows."""

    good: Sums
    held: Sums

    @staticmethod
    def total(parts: Iterable[Places]) -> Places:
        """The sums of several parts."""
        listed = list(parts)
        return Places(added(part.good for part in listed), added(part.held for part in listed))


class RuledRows:
    """Hashes rows of one table, with DuckDB.

    Relations have c<attnum> for each column; hashed ones have ``h``, ``key`` (the text
    of the key) and ``shown``.
    """

    _numbers = itertools.count(1)

    def __init__(self, connection: duckdb.DuckDBPyConnection, judge: Judge) -> None:
        self.connection, self._judge, self._shape = connection, judge, judge.shape

    def good(
        self,
        view: str,
        names: Mapping[int, Sequence[str]],
        flagged: set[str],
        more: Sequence[str] = (),
    ) -> str:
        """Return SQL for the hashed rows of a trusted table.

        Args:
            names: attnum → the names under which ``_untyped`` may know the column.
            flagged: those that occur.
            more: columns to keep beside the hashes.
        """
        columns, exact = [], []
        for column in self._shape.columns:
            known = [name for name in names.get(column.attnum, (column.name,)) if name in flagged]
            columns.append((column.type, column_name(column)))
            exact.append(first_of(known, column_name(column)) if known else None)
        return self._hashed(view, columns, exact, more)

    def held(self, view: str, more: Sequence[str] = ()) -> str:
        """Return SQL for the hashed rows of a quarantine, as ``Judge.held_view`` shows them."""
        keys = self._judge.rules.schema.key_columns()
        return self._hashed(view, [*((c.type, column_name(c)) for c in keys), (TEXT, WHY)], (), more)

    def judged(self, judged: Judged, *, extra: str | None = None) -> tuple[str, str]:
        """Return the SQL of both for rows in memory.

        Args:
            extra: a column to keep beside the hashes.
        """
        shape, good, more = self._shape, judged.good, [extra] if extra else []
        wanted = [*(column.name for column in shape.columns), UNTYPED, *more]
        names = [*(column_name(column) for column in shape.columns), UNTYPED, *more]
        view = self.register(good.select(wanted).rename_columns(names))
        flagged = {column.name for column in shape.columns} if good[UNTYPED].null_count < len(good) else set()
        held = self.register(judged.held.rename_columns([*self._key_names(), WHY, *more]))
        return self.good(f"FROM {view}", {}, flagged, more), self.held(f"FROM {held}", more)

    def hashes(self, judged: Judged) -> tuple[pa.ChunkedArray, pa.ChunkedArray, pa.ChunkedArray]:
        """Return, in the rows' order, the hashes as good and as held rows, and the texts of the keys.

        Args:
            judged: the same rows in both forms.
        """
        numbers = pa.array(range(len(judged.good)), pa.int64())
        tables = [table.append_column(_NUMBER, numbers) for table in (judged.good, judged.held)]
        found = []
        for hashed in self.judged(Judged(*tables), extra=_NUMBER):
            query = f"SELECT h, key FROM ({hashed}) ORDER BY {_NUMBER}"
            found.append(self.connection.sql(query).to_arrow_table())
        return found[0]["h"], found[1]["h"], found[0]["key"]

    def register(self, rows: pa.Table) -> str:
        """Give rows in memory a name."""
        name = f"rows_{next(self._numbers)}"
        self.connection.register(name, rows)
        return name

    def keys(self, keys: pa.Table) -> str:
        """Give keys a name, their columns as in relations."""
        return self.register(
            keys.select(list(self._judge.rules.schema.key)).rename_columns(self._key_names())
        )

    def sums(self, hashed: str) -> Sums:
        """Count hashed rows and sum up their hashes, per bucket."""
        query = f"SELECT h & {BUCKETS - 1}, count(*), sum(h) FROM ({hashed}) GROUP BY 1"
        rows = self.connection.execute(query).fetchall()
        return {int(bucket): (int(count), int(total)) for bucket, count, total in rows}

    def search(self, hashed: str, search: Search) -> list[FoundRow]:
        """Return the hashed rows to look at for differences."""
        if not search.buckets:
            return []
        query = f"SELECT h, key, shown FROM ({hashed}) WHERE {search.condition('md5(key)')}"
        rows = self.connection.execute(query).fetchall()
        return [FoundRow(int(h), str(key), tuple(shown)) for h, key, shown in rows]

    @property
    def using(self) -> str:
        """SQL that joins by the key."""
        return f"USING ({', '.join(self._key_names())})"

    def _key_names(self) -> list[str]:
        """The key's columns in relations."""
        return [column_name(column) for column in self._judge.rules.schema.key_columns()]

    def _hashed(
        self,
        view: str,
        columns: Sequence[tuple[PgType, str]],
        exact: Sequence[str | None],
        more: Sequence[str],
    ) -> str:
        """Hash, text of the key, and the key for people, of each row."""
        schema: TableSchema = self._judge.rules.schema
        key = lake_row([(column.type, column_name(column)) for column in schema.key_columns()])
        shown = ", ".join(f"CAST({name} AS VARCHAR)" for name in self._key_names())
        found = [f"{lake_hash(lake_row(columns, exact))} AS h", f"{key} AS key", f"[{shown}] AS shown", *more]
        return f"SELECT {', '.join(found)} FROM ({view})"
