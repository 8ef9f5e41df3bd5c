"""Source against the trusted tables in Glue: counts, checksums, and the keys that differ.

Unlike ``smartstream verify`` there is no log position that both sides share: the source is
read as it is now, the lake as it is now, and where they differ both are read again until
they agree or time is up.  Each value is compared by its canonical text in the source's
type, so that what DMS carries in another type is equal where its value is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import duckdb
import psycopg
import pyarrow as pa
from botocore.exceptions import BotoCoreError, ClientError

from smartstream.aws.operate.calls import Aws
from smartstream.aws.operate.source import TunnelSource
from smartstream.aws.operate.stack import StackOutputs
from smartstream.aws.operate.waiting import Patience
from smartstream.capture.connect import connect, map_error
from smartstream.change import UNTYPED
from smartstream.config import Limits
from smartstream.query.duckdb import add_filesystem, engine
from smartstream.query.relation import relation
from smartstream.schema import TableSchema
from smartstream.sql_text import quoted
from smartstream.trusted.catalog import CATALOG_NAME, TRUSTED, LakeCatalog, lake_errors
from smartstream.trusted.glue import DATABASE_PREFIX, ZoneCatalog
from smartstream.trusted.plan import find_table, plan
from smartstream.verify.canonical import BUCKETS, FoundRow, Search, Sums, lake_hash, lake_row
from smartstream.verify.difference import added, differing_keys, search_of, total
from smartstream.verify.lake import first_of
from smartstream.verify.overlay import column_name
from smartstream.verify.report import DifferingKey, TableReport
from smartstream.verify.source import Session, chunk_rows, chunk_sums, chunks, texts_of

ROWS_MAX = 5_000_000
"""Larger tables are compared by their row counts alone."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """What was compared; of ``counted`` only the number of rows."""

    tables: tuple[TableReport, ...]
    counted: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether every table is equal."""
        return all(one.equal for one in self.tables)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"ok": self.ok, "tables": [asdict(one) for one in self.tables], "counted": list(self.counted)}


def lake_catalog(aws: Aws, stack: StackOutputs) -> LakeCatalog:
    """Return the catalog of the stack's tables, with the session's credentials."""
    region, prefix = stack.text("region"), stack.mapping("glue_databases")[TRUSTED].removesuffix(TRUSTED)
    properties = {
        DATABASE_PREFIX: prefix,
        "warehouse": f"s3://{stack.bucket}",
        "client.region": region,
    }
    endpoint = str(aws.client("s3").meta.endpoint_url)
    if "amazonaws.com" not in endpoint:  # a store of one's own, which AWS_ENDPOINT_URL names
        properties["s3.endpoint"] = endpoint
    if (found := aws.session.get_credentials()) is not None:
        frozen = found.get_frozen_credentials()
        properties["client.access-key-id"] = frozen.access_key
        properties["client.secret-access-key"] = frozen.secret_key
        if frozen.token:
            properties["client.session-token"] = frozen.token
    return ZoneCatalog(CATALOG_NAME, **properties)


def compare(
    source: TunnelSource,
    aws: Aws,
    stack: StackOutputs,
    schemas: Sequence[TableSchema],
    patience: Patience,
    *,
    rows_max: int = ROWS_MAX,
) -> Comparison:
    """Compare tables, those that differ again and again until ``patience`` ends.

    Reads every row of both sides, up to ``rows_max`` a table.

    Raises:
        SourceError, LakeError, AwsRightMissing: as either side answers.
    """
    catalog = lake_catalog(aws, stack)
    give_up = patience.monotonic() + patience.timeout_s
    done: dict[str, TableReport] = {}
    counted: set[str] = set()
    while True:
        for schema in schemas:
            if schema.id not in done or not done[schema.id].equal:
                with _session(source) as session, closing(engine(Limits())) as connection:
                    table = _Table(schema, session, connection)
                    with _errors(aws):
                        done[schema.id] = table.report(catalog, rows_max)
                    if table.is_counted:
                        counted.add(schema.id)
        differing = [name for name, one in done.items() if not one.equal]
        patience.tell(f"comparing: {len(done) - len(differing)} of {len(done)} tables are equal")
        if not differing or patience.monotonic() + patience.every_s > give_up:
            return Comparison(tuple(done.values()), tuple(sorted(counted)))
        patience.pause(patience.every_s)


class _Table:
    """One table on both sides."""

    def __init__(self, schema: TableSchema, session: Session, connection: duckdb.DuckDBPyConnection) -> None:
        self._schema, self._session, self._connection = schema, session, connection
        self._utf8 = session.info.parameter_status("server_encoding") == "UTF8"
        self._exact: dict[str, str] = {}
        self.is_counted = False

    def report(self, catalog: LakeCatalog, rows_max: int) -> TableReport:
        """Compare it."""
        found = find_table(catalog, TRUSTED, self._schema.lake_name)
        if found is None:
            return TableReport(
                self._schema.id, self._count(), None, False, reason="it is not in the lake yet"
            )
        add_filesystem(self._connection, [found])
        live = plan(found)
        by_name = {column.name: column.field_id for column in live.columns}
        missing = [column.name for column in self._schema.columns if column.name not in by_name]
        if missing:
            reason = f"the lake lacks {', '.join(missing)}"
            return TableReport(self._schema.id, self._count(), None, False, reason=reason)
        names = {by_name[column.name]: column_name(column) for column in self._schema.columns}
        if UNTYPED in by_name:
            names[by_name[UNTYPED]] = UNTYPED
        rows = f"({relation(live, names)})"
        if (in_source := self._count()) > rows_max:
            return self._by_count(in_source, rows)
        try:
            return self._by_rows(rows)
        except duckdb.ConversionException:
            # Its text quotes the value.
            reason = "a value of the lake is none of the source's type"
            return TableReport(self._schema.id, in_source, self._lake_count(rows), False, reason=reason)

    def _by_count(self, in_source: int, rows: str) -> TableReport:
        """Only how many rows there are."""
        self.is_counted = True
        in_lake = self._lake_count(rows)
        return TableReport(self._schema.id, in_source, in_lake, in_source == in_lake)

    def _by_rows(self, rows: str) -> TableReport:
        """Every row by its hash, and a sample of the keys that differ."""
        rows = self._with_exact(rows)
        parts = chunks(self._session, self._schema)
        ours = added(chunk_sums(self._session, part, self._schema, utf8=self._utf8) for part in parts)
        theirs = self._lake_sums(rows)
        source_rows, source_checksum = total(ours)
        lake_rows, lake_checksum = total(theirs)
        differing: tuple[DifferingKey, ...] = ()
        if ours != theirs:
            search = search_of(ours, theirs)
            listed = [
                row
                for part in parts
                for row in chunk_rows(self._session, part, self._schema, search, utf8=self._utf8)
            ]
            differing = differing_keys(self._schema.key, listed, self._lake_rows(rows, search))
        return TableReport(
            table=self._schema.id,
            source_rows=source_rows,
            lake_rows=lake_rows,
            equal=ours == theirs,
            source_checksum=source_checksum,
            lake_checksum=lake_checksum,
            reason=None if ours == theirs else "rows differ; where the source is busy, the lake may be late",
            differing=differing,
        )

    def _lake_sums(self, rows: str) -> Sums:
        """Row count and sum of hashes, per bucket."""
        hashed = f"SELECT {self._hash()} AS h FROM {rows}"
        query = f"SELECT h & {BUCKETS - 1}, count(*), sum(h) FROM ({hashed}) GROUP BY 1"
        found = self._connection.execute(query).fetchall()
        return {int(bucket): (int(count), int(value)) for bucket, count, value in found}

    def _lake_rows(self, rows: str, search: Search) -> list[FoundRow]:
        """The rows to look at for differences."""
        columns = self._schema.key_columns()
        exact = [self._exact.get(column.name) for column in columns]
        key = lake_row([(column.type, column_name(column)) for column in columns], exact)
        shown = ", ".join(f"CAST({column_name(column)} AS VARCHAR)" for column in columns)
        query = (
            f"SELECT h, key, shown FROM (SELECT {self._hash()} AS h, {key} AS key, [{shown}] AS shown"
            f" FROM {rows}) WHERE {search.condition('md5(key)')}"
        )
        found = self._connection.execute(query).fetchall()
        return [FoundRow(int(h), str(key), tuple(shown)) for h, key, shown in found]

    def _hash(self) -> str:
        """The hash of a row of the lake, in the source's types."""
        columns = self._schema.columns
        exact = [self._exact.get(column.name) for column in columns]
        return lake_hash(lake_row([(column.type, column_name(column)) for column in columns], exact))

    def _with_exact(self, rows: str) -> str:
        """The rows, joined with the canonical text of values that the lake keeps as text in ``_untyped``."""
        described = self._connection.execute(f"DESCRIBE SELECT * FROM {rows}").fetchall()
        if UNTYPED not in {name for name, *_ in described}:
            return rows
        flags = f"{rows} WHERE {UNTYPED} IS NOT NULL"
        keys = self._connection.execute(
            f"SELECT DISTINCT unnest(json_keys({UNTYPED})) FROM {flags}"
        ).fetchall()
        flagged, joined = {name for (name,) in keys}, f"{rows} AS live"
        for number, column in enumerate(self._schema.columns):
            if column.name not in flagged:
                continue
            raw, name = first_of([column.name], column_name(column)), f"exact_{number}"
            found = self._connection.execute(
                f"SELECT DISTINCT {raw} FROM {flags} AND {raw} IS NOT NULL"
            ).fetchall()
            texts = [str(text) for (text,) in found]
            canonical = pa.array(texts_of(self._session, column.type, texts), pa.string())
            self._connection.register(
                name, pa.table({"raw": pa.array(texts, pa.string()), "text": canonical})
            )
            joined += f" LEFT JOIN {name} ON {name}.raw = {raw}"
            self._exact[column.name] = f"{name}.text"
        return joined

    def _count(self) -> int:
        """Rows of the source."""
        name = f"{quoted(self._schema.schema)}.{quoted(self._schema.name)}"
        try:
            (row,) = self._session.execute(f"SELECT count(*) FROM {name}").fetchall()
        except psycopg.Error as error:
            raise map_error(error, f"counting {self._schema.id}") from error
        return int(row[0])

    def _lake_count(self, rows: str) -> int:
        """Rows of the lake."""
        (found,) = self._connection.execute(f"SELECT count(*) FROM {rows}").fetchall()
        return int(found[0])


@contextmanager
def _session(source: TunnelSource) -> Iterator[Session]:
    """A session that sees one moment of the source."""
    with closing(connect(source)) as session:
        session.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        yield session


@contextmanager
def _errors(aws: Aws) -> Iterator[None]:
    """What the catalog and the store answer, as our errors."""
    try:
        with lake_errors("read the trusted tables"):
            yield
    except (BotoCoreError, ClientError) as error:
        raise aws.error(error, "glue", "get_table", "the trusted database") from error
