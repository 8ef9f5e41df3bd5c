"""Dataset: the features of past events, each row as it was at its own moment, for training.

The features of a row of labels are those that a run would have computed at the row's
moment: the feature query over the versions of trusted tables that were valid then.  So a
model never learns from what became known later.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from smartstream.config import Settings, rules_of
from smartstream.errors import FeaturesInvalid
from smartstream.inference.config import ModelSettings
from smartstream.inference.features import affected
from smartstream.inference.features.query import FeatureQuery, read_query
from smartstream.inference.features.tree import NOW
from smartstream.query.cleaning import rules_for_past
from smartstream.query.duckdb import engine
from smartstream.query.history import HISTORY, HistoryTables
from smartstream.query.past import read_past
from smartstream.raw.store import open_store
from smartstream.sql_text import literal, quoted
from smartstream.trusted.catalog import lake_errors

MOMENTS_MAX = 10_000
"""Different moments in one set of labels: the query runs once for each."""
BATCH_ROWS = 65_536

_VERSION_COLUMNS = 6
"""What ``history.<table>`` has after the table's columns: valid_from, valid_to, the same in LSNs, …"""


@dataclass(frozen=True, slots=True)
class Dataset:
    """A training set that was written.

    Attributes:
        rows: labels with their features.
        rows_left_out: labels whose key had no features at their moment: it was not there
            yet, or no longer, or the lake does not reach back so far.
        moments: different times of labels.
        first, last: the earliest and the latest of them; None without labels.
        features: the columns that the feature query gave.
    """

    path: Path
    rows: int
    rows_left_out: int
    moments: int
    first: datetime | None
    last: datetime | None
    features: tuple[str, ...]


def dataset(settings: Settings, model: ModelSettings, labels: Path, target: Path, *, as_of: str) -> Dataset:
    """Write the rows of ``labels`` with the features that each had at its own moment.

    What was committed at or before the moment counts, by the source's clock.  Rows keep
    their order; those without features are left out and counted.  Memory is bounded by
    ``limits.duckdb_memory``, time by labels' moments times one feature query, and by the
    length of the tables' changelogs, which is read once.

    Args:
        labels: Parquet with the model's key and the column ``as_of``; its other columns are
            carried along.
        target: Parquet file to write; it appears whole or not at all.
        as_of: column of ``labels``: a time (UTC if it has no zone) or a date (its first moment).
    Raises:
        FeaturesInvalid: the query or the labels can't be used, or a table that the query reads is
            deduplicated: its past has several rows of a business key.
        PastUnknown, RawCorrupt, SchemaFrozen: of the past of a table that the query reads.
    """
    folder = settings.path.parent if settings.path else Path()
    query = read_query(folder / model.features)
    connection = engine(settings.limits)
    try:
        with lake_errors("compute the features of the past"):
            _add_past(connection, settings, query)
            tree = affected.qualified(query, _columns(connection, query.tables))
            sql = affected.feature_query(tree, model.key, affected=False)
            _add_labels(connection, labels, model.key, as_of)
            names = _feature_names(connection, sql, query, model.key)
            moments = _compute(connection, sql, query, model.key, names)
            return _written(connection, target, moments, names)
    finally:
        connection.close()


def _add_past(connection: duckdb.DuckDBPyConnection, settings: Settings, query: FeatureQuery) -> None:
    """``trusted.<table>`` of each table of the query, as of the variable ``moment``."""
    store = open_store(settings.lake)
    ids = {gens[-1].schema.lake_name: table for table, gens in read_past(store).tables.items()}
    for name in query.tables:
        if name not in ids:
            raise FeaturesInvalid(f"{query.path}: the lake knows no past of a table {name}")
        if any(rule.dedupe for rule in rules_of(settings, ids[name]).clean):
            raise FeaturesInvalid(
                f"{query.path}: {name} is deduplicated, so its past has several rows of a business key",
                hint="Leave the table out of the query for the training set, or `dedupe` out of its rules.",
            )
    mentioned = " ".join(f"{HISTORY}.{quoted(name)}" for name in query.tables)
    HistoryTables(connection, store, rules_for_past(settings)).add_history(mentioned)
    connection.execute(f"CREATE SCHEMA IF NOT EXISTS {NOW}")
    for number, name in enumerate(query.tables):
        held = f"versions_of_{number}"
        connection.execute(f"CREATE TEMP TABLE {held} AS FROM {HISTORY}.{quoted(name)}")
        columns = [str(row[0]) for row in connection.execute(f"DESCRIBE {held}").fetchall()]
        begin, end, lsn = (quoted(columns[n - _VERSION_COLUMNS]) for n in range(3))
        shown = ", ".join(quoted(column) for column in columns[:-_VERSION_COLUMNS])
        connection.execute(
            f"CREATE VIEW {NOW}.{quoted(name)} AS SELECT {shown}, {lsn} AS _lsn FROM {held} "
            f"WHERE {begin} <= getvariable('moment') AND ({end} IS NULL OR getvariable('moment') < {end})"
        )


def _columns(connection: duckdb.DuckDBPyConnection, tables: Sequence[str]) -> affected.Columns:
    """The columns of the tables, as the query can name them."""
    connection.execute("SET VARIABLE moment = TIMESTAMPTZ 'epoch'")
    return {
        name: {
            str(row[0]): "unknown" for row in connection.execute(f"DESCRIBE {NOW}.{quoted(name)}").fetchall()
        }
        for name in tables
    }


def _add_labels(connection: duckdb.DuckDBPyConnection, labels: Path, key: Sequence[str], as_of: str) -> None:
    """The table ``labels``: number of the row, moment, then the columns of the file."""
    try:
        source = pq.ParquetFile(labels)
    except (OSError, pa.ArrowInvalid) as error:
        raise FeaturesInvalid(f"cannot read the labels {labels}: {type(error).__name__}") from error
    with source:
        names = source.schema_arrow.names
        if missing := [name for name in (*key, as_of) if name not in names]:
            raise FeaturesInvalid(f"the labels {labels} have no column {', '.join(missing)}")
        kind = source.schema_arrow.field(as_of).type
        if not (pa.types.is_timestamp(kind) or pa.types.is_date(kind)):
            raise FeaturesInvalid(f"the column {as_of} of {labels} is {kind}, not a time or a date")
        batches = source.iter_batches(BATCH_ROWS)
        connection.register("label_file", pa.RecordBatchReader.from_batches(source.schema_arrow, batches))
        connection.execute(
            "CREATE TEMP TABLE labels AS SELECT row_number() OVER () AS label_number, "
            f"{quoted(as_of)}::TIMESTAMPTZ AS label_moment, * FROM label_file"
        )
    ((count, empty),) = connection.execute(
        "SELECT count(DISTINCT label_moment), count(*) FILTER (label_moment IS NULL) FROM labels"
    ).fetchall()
    if empty:
        raise FeaturesInvalid(f"{empty} rows of {labels} have no {as_of}")
    if count > MOMENTS_MAX:
        raise FeaturesInvalid(
            f"the labels {labels} have {count} different moments, more than {MOMENTS_MAX}",
            hint="Cut the times of the labels to hours or days, downwards, or split the file.",
        )


def _feature_names(
    connection: duckdb.DuckDBPyConnection, sql: str, query: FeatureQuery, key: Sequence[str]
) -> tuple[str, ...]:
    """The query's columns besides the key; none may be one of the labels'."""
    with _query_errors(query):
        found = connection.sql(f"SELECT * FROM ({sql}) LIMIT 0").columns
    if missing := [name for name in key if name not in found]:
        raise FeaturesInvalid(f"{query.path}: the query has no column {', '.join(missing)}, its key")
    names = tuple(name for name in found if name not in key)
    there = {name.lower() for name in connection.sql("SELECT * FROM labels LIMIT 0").columns}
    if twice := [name for name in names if name.lower() in there]:
        raise FeaturesInvalid(f"the labels and {query.path} both have the column {', '.join(twice)}")
    return names


def _compute(
    connection: duckdb.DuckDBPyConnection,
    sql: str,
    query: FeatureQuery,
    key: Sequence[str],
    names: Sequence[str],
) -> list[datetime]:
    """The table ``found``: labels with features, one moment after the other; returns the moments."""
    columns = ", ".join(f"f.{quoted(name)}" for name in names)
    same = " AND ".join(f"l.{quoted(name)} = f.{quoted(name)}" for name in key)
    shown = f"l.*{', ' if names else ''}{columns}"
    joined = f"SELECT {shown} FROM labels l JOIN ({sql}) f ON {same}"
    asked = connection.sql("SELECT DISTINCT label_moment FROM labels ORDER BY 1").to_arrow_table()
    moments: list[datetime] = asked["label_moment"].to_pylist()
    with _query_errors(query):
        connection.execute(f"CREATE TEMP TABLE found AS {joined} WHERE false")
        for moment in moments:
            connection.execute(f"SET VARIABLE moment = {literal(moment.isoformat())}::TIMESTAMPTZ")
            connection.execute(f"INSERT INTO found {joined} WHERE l.label_moment = getvariable('moment')")
    ((twice,),) = connection.execute(
        "SELECT count(*) FROM (SELECT label_number FROM found GROUP BY ALL HAVING count(*) > 1)"
    ).fetchall()
    if twice:
        raise FeaturesInvalid(f"{query.path}: the query gives several rows of a key for {twice} labels")
    return moments


@contextmanager
def _query_errors(query: FeatureQuery) -> Iterator[None]:
    """DuckDB's errors as ours, without values of rows."""
    try:
        yield
    except duckdb.Error as error:
        raise FeaturesInvalid(f"{query.path}: the query fails: {type(error).__name__}") from error


def _written(
    connection: duckdb.DuckDBPyConnection, target: Path, moments: Sequence[datetime], names: tuple[str, ...]
) -> Dataset:
    """Write the file under another name first."""
    kept = "* EXCLUDE (label_number, label_moment)"
    reader = connection.sql(f"SELECT {kept} FROM found ORDER BY label_number").to_arrow_reader(BATCH_ROWS)
    unfinished = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
    rows = 0
    try:
        with pq.ParquetWriter(unfinished, reader.schema, compression="zstd") as writer:
            for batch in reader:
                writer.write_batch(batch)
                rows += batch.num_rows
        os.replace(unfinished, target)
    finally:
        unfinished.unlink(missing_ok=True)
    ((labels,),) = connection.execute("SELECT count(*) FROM labels").fetchall()
    first, last = (moments[0], moments[-1]) if moments else (None, None)
    return Dataset(target, rows, int(labels) - rows, len(moments), first, last, names)
