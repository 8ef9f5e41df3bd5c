"""The index behind versions: a table's changes in order, and what follows from them, as DuckDB tables."""

from __future__ import annotations

import os
from collections.abc import Sequence

import duckdb
import pyarrow as pa

from smartstream.capture.values import cast
from smartstream.change import COMMIT_LSN, COMMIT_TS, OLD_KEY, OP, ORDINAL, UNCHANGED
from smartstream.query.relation import sql_type
from smartstream.query.versions import Era, Versions, place, scan
from smartstream.raw.store import Store
from smartstream.schema import Column, TableSchema
from smartstream.sql_text import literal, quoted
from smartstream.transform.rows import same_key

_PRESENT = "op IN ('r', 'i', 'u')"


def build(
    connection: duckdb.DuckDBPyConnection,
    store: Store,
    name: str,
    schema: TableSchema,
    eras: Sequence[Era],
    fills: dict[str, str],
    *,
    upto_lsn: int | None = None,
) -> Versions:
    """Find the versions of a table and keep them in a schema called ``name``.

    Several changes of one key in one transaction make one version, the last; the states
    between were never visible to anybody.  Versions that ended while their generation was
    still being copied are left out: copied rows are of several moments.

    Args:
        schema: under which rows are shown; all files have its key, and its oid.
        eras: oldest first, their LSNs ascending.
        fills: attnum → text that rows hold that are older than the column.
        upto_lsn: only what stood after the transaction with this commit LSN, as if nothing
            had happened since.
    """
    index = _Index(connection, quoted(name), schema)
    connection.execute(f"CREATE SCHEMA {index.name}")
    versions = Versions(connection, index.name, schema)
    versions.groups = index.add_files(store, eras)
    versions.filled = index.add_fills(fills)
    index.add_eras(eras)
    index.add_changes(versions.groups, upto_lsn)
    index.add_versions()
    versions.carried = [column for column in schema.columns if index.add_sources(column)]
    versions.left_out = index.leave_out(versions.carried)
    connection.execute(f"DROP TABLE {index.name}.changes")
    return versions


class _Index:
    """The tables on their way."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, name: str, schema: TableSchema) -> None:
        self._connection, self.name, self._schema = connection, name, schema
        count = range(len(schema.key))
        self._keys = ", ".join(f"k{n}" for n in count)
        self._old = ", ".join(f"o{n}" for n in count)
        self._unchanged: set[int] = set()

    def add_files(self, store: Store, eras: Sequence[Era]) -> list[tuple[TableSchema, list[str]]]:
        """Number the files; those of one schema together."""
        remote = store.filesystem.type_name != "local"
        groups: dict[str, tuple[TableSchema, list[str]]] = {}
        rows: list[tuple[str, int, int]] = []
        for era in eras:
            for logged, schema in era.files:
                key = store.path(logged.file.path)
                path = f"s3://{key}" if remote else os.path.abspath(key)
                rows.append((path, len(rows), era.number))
                groups.setdefault(schema.to_json(), (schema, []))[1].append(path)
        paths, numbers, generations = zip(*rows, strict=True) if rows else ((), (), ())
        files = pa.table(
            {
                "path": pa.array(paths, pa.string()),
                "number": pa.array(numbers, pa.int64()),
                "generation": pa.array(generations, pa.int64()),
            }
        )
        self._load("files", files)
        return list(groups.values())

    def add_fills(self, texts: dict[str, str]) -> list[int]:
        """Keep what older rows hold in columns added since; the columns' attnums."""
        columns = [c for c in self._schema.columns if str(c.attnum) in texts]
        values = {f"c{c.attnum}": cast(pa.array([texts[str(c.attnum)]]), c.type).values for c in columns}
        self._load("fills", pa.table(values or {"nothing": pa.nulls(1, pa.int64())}))
        return [column.attnum for column in columns]

    def add_eras(self, eras: Sequence[Era]) -> None:
        """Keep the bounds of the generations."""
        stamp = pa.timestamp("us", tz="UTC")
        columns = {
            "generation": pa.array([era.number for era in eras], pa.int64()),
            "from_lsn": pa.array([era.from_lsn for era in eras], pa.int64()),
            "from_time": pa.array([era.from_time for era in eras], stamp),
            "ready_lsn": pa.array([era.ready_lsn for era in eras], pa.int64()),
            "end_lsn": pa.array([era.end_lsn for era in eras], pa.int64()),
            "end_time": pa.array([era.end_time for era in eras], stamp),
        }
        self._load("eras", pa.table(columns))

    def add_changes(self, groups: Sequence[tuple[TableSchema, list[str]]], upto_lsn: int | None) -> None:
        """Read the narrow part of every change."""
        upto = "" if upto_lsn is None else f" AND (op = 'r' OR lsn <= {int(upto_lsn)})"
        parts = " UNION ALL ".join(self._narrow(schema, paths) for schema, paths in groups)
        keys = ", ".join(f"NULL::{sql_type(c.type.arrow)} AS {p}{n}" for n, c, p in self._key_places())
        nothing = (
            "SELECT 0::BIGINT AS row_id, 0::BIGINT AS generation, '' AS op, 0::BIGINT AS lsn, "
            "0::BIGINT AS ordinal, "
            f"NULL::TIMESTAMPTZ AS time, NULL::INTEGER[] AS unchanged, false AS moved, {keys} WHERE false"
        )
        self._run(
            f"CREATE TABLE {self.name}.changes AS SELECT c.* REPLACE ("
            "CASE op WHEN 'r' THEN from_lsn ELSE lsn END AS lsn, "
            "CASE op WHEN 'r' THEN from_time ELSE time END AS time) "
            f"FROM ({nothing} UNION ALL {parts or nothing}) AS c JOIN {self.name}.eras USING (generation) "
            f"WHERE (op = 'r' OR lsn >= from_lsn){upto}"
        )
        # Nothing of an era ends later than something of the next begins, also when its clock went otherwise.
        self._run(
            f"UPDATE {self.name}.eras AS e SET end_time = least(end_time, (SELECT min(time) "
            f"FROM {self.name}.changes AS c WHERE c.generation > e.generation)) WHERE end_time IS NOT NULL"
        )
        found = self._run(
            f"SELECT DISTINCT unnest(unchanged) FROM {self.name}.changes WHERE unchanged IS NOT NULL"
        )
        self._unchanged = {int(attnum) for (attnum,) in found.fetchall() if attnum is not None}

    def add_versions(self) -> None:
        """Cut each key's changes into versions."""
        name, keys = self.name, self._keys
        self._run(
            f"CREATE TABLE {name}.truncates AS "
            "SELECT generation, lsn, max(ordinal) AS ordinal, min(time) AS time "
            f"FROM {name}.changes WHERE op = 't' GROUP BY generation, lsn"
        )
        fields = "generation, row_id, lsn, ordinal, time, op"
        self._run(f"""
            CREATE TABLE {name}.versions AS
            WITH effects AS (
                SELECT {fields}, op <> 'd' AS present, {keys} FROM {name}.changes WHERE op <> 't'
                UNION ALL SELECT {fields}, false, {self._old} FROM {name}.changes WHERE moved
            ), standing AS (
                SELECT e.* FROM effects AS e ANTI JOIN {name}.truncates AS t
                ON e.generation = t.generation AND e.lsn = t.lsn AND e.ordinal < t.ordinal
            ), spans AS (
                SELECT *, lead(lsn) OVER w AS next_lsn, lead(time) OVER w AS next_time FROM standing
                WINDOW w AS (PARTITION BY generation, {keys} ORDER BY lsn, ordinal, row_id)
            ), ended AS (
                SELECT s.*, t.lsn AS empty_lsn, t.time AS empty_time, ready_lsn, end_lsn, end_time,
                       least(next_lsn, t.lsn, end_lsn) AS to_lsn
                FROM spans AS s JOIN {name}.eras AS e ON e.generation = s.generation
                ASOF LEFT JOIN {name}.truncates AS t ON s.generation = t.generation AND s.lsn < t.lsn
                WHERE present AND (next_lsn IS NULL OR next_lsn > s.lsn)
            )
            SELECT row_id, generation, op, lsn AS from_lsn, time AS from_time, to_lsn,
                   CASE to_lsn WHEN next_lsn THEN next_time WHEN empty_lsn THEN empty_time
                               WHEN end_lsn THEN end_time END AS to_time, {keys}
            FROM ended WHERE to_lsn IS NULL OR to_lsn >= ready_lsn
        """)

    def add_sources(self, column: Column) -> bool:
        """Find for each update that left the column out the change that carries its value.

        A row that came from another key has its value there: these steps are shortened
        until none leads to another one.

        Returns:
            False when no update left it out.
        """
        if column.attnum not in self._unchanged:
            return False
        name, number = self.name, column.attnum
        left_out = f"coalesce(list_contains(unchanged, {number}), false)"
        own = f"CASE WHEN {_PRESENT} AND NOT {left_out} THEN row_id WHEN moved THEN -1 - row_id END"
        keys = self._keys
        self._run(f"""
            CREATE TABLE {name}.walk AS
            WITH touched AS (
                SELECT generation, {keys} FROM {name}.changes WHERE {left_out}
                UNION SELECT generation, {self._old} FROM {name}.changes WHERE moved AND {left_out}
            ), walk AS (
                SELECT generation, {keys}, lsn, ordinal, row_id,
                       {own} AS anchor, {left_out} AS wanted, false AS leaving
                FROM {name}.changes WHERE op <> 't' AND (generation, {keys}) IN (FROM touched)
                UNION ALL SELECT generation, {self._old}, lsn, ordinal, row_id, NULL, true, true
                FROM {name}.changes WHERE moved AND {left_out}
            )
            SELECT generation, row_id, lsn, wanted, leaving, last_value(anchor IGNORE NULLS) OVER (
                PARTITION BY generation, {keys} ORDER BY lsn, ordinal, row_id
                ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS source
            FROM walk
        """)
        self._shorten()
        self._run(f"""
            CREATE TABLE {name}.source_{number} AS
            SELECT w.row_id, CASE WHEN w.source < 0 THEN s.source ELSE w.source END AS source
            FROM {name}.walk AS w LEFT JOIN {name}.steps AS s ON s.row_id = -1 - w.source
            WHERE w.wanted AND NOT w.leaving
        """)
        self._run(f"DROP TABLE {name}.walk; DROP TABLE {name}.steps")
        return True

    def _shorten(self) -> None:
        """Follow rows from key to key.

        While a copy is caught up with, a copied row under the key that was left may be a
        stranger that came there later: it is no source.
        """
        name = self.name
        self._run(f"""
            CREATE TABLE {name}.steps AS
            SELECT w.row_id,
                   CASE WHEN w.lsn < e.ready_lsn AND c.op = 'r' THEN NULL ELSE w.source END AS source
            FROM {name}.walk AS w JOIN {name}.eras AS e USING (generation)
            LEFT JOIN {name}.changes AS c ON c.row_id = w.source WHERE w.leaving
        """)
        while self._run(f"SELECT 1 FROM {name}.steps WHERE source < 0 LIMIT 1").fetchall():
            self._run(f"""
                CREATE OR REPLACE TABLE {name}.steps AS
                SELECT s.row_id, CASE WHEN s.source < 0 THEN t.source ELSE s.source END AS source
                FROM {name}.steps AS s LEFT JOIN {name}.steps AS t ON t.row_id = -1 - s.source
            """)

    def leave_out(self, carried: Sequence[Column]) -> int:
        """Take out versions with a value that nothing carries; their number."""
        lost = " UNION ".join(
            f"SELECT row_id FROM {self.name}.source_{c.attnum} WHERE source IS NULL" for c in carried
        )
        if not lost:
            return 0
        ((count,),) = self._run(f"DELETE FROM {self.name}.versions WHERE row_id IN ({lost})").fetchall()
        return int(count)

    def _narrow(self, schema: TableSchema, paths: list[str]) -> str:
        """The changes in raw files of one schema, without their wide columns."""
        assert same_key(schema, self._schema)
        known = " ".join(f"WHEN {literal(c.name)} THEN {c.attnum}" for c in schema.columns)
        unchanged = place(schema, UNCHANGED)
        old = place(schema, OLD_KEY)
        outputs = [
            "file.generation",
            f"{place(schema, OP)} AS op",
            f"{place(schema, COMMIT_LSN)} AS lsn",
            f"{place(schema, ORDINAL)} AS ordinal",
            f"{place(schema, COMMIT_TS)} AS time",
            f"list_transform({unchanged}, lambda name: CASE name {known} END) AS unchanged",
            f"{old} IS NOT NULL AS moved",
        ]
        for n, column, prefix in self._key_places():
            value = place(schema, schema.key[n])
            if prefix == "o":
                value = f"{old}[{literal(schema.key[n])}]"
            outputs.append(f"CAST({value} AS {sql_type(column.type.arrow)}) AS {prefix}{n}")
        return scan(self.name, paths, schema, outputs)

    def _key_places(self) -> list[tuple[int, Column, str]]:
        """Key columns by number, first as they are, then as they were before an update."""
        columns = self._schema.key_columns()
        return [(n, column, prefix) for prefix in "ko" for n, column in enumerate(columns)]

    def _load(self, table: str, rows: pa.Table) -> None:
        """Keep an Arrow table."""
        self._connection.register("loaded", rows)
        self._run(f"CREATE TABLE {self.name}.{table} AS FROM loaded")
        self._connection.unregister("loaded")

    def _run(self, statement: str) -> duckdb.DuckDBPyConnection:
        """Run one statement."""
        return self._connection.execute(statement)
