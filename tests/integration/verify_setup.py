"""What the tests of verify share."""

from __future__ import annotations

import pyarrow as pa

from smartstream.capture.catchup import current_wal_lsn
from smartstream.capture.connect import connect
from smartstream.config import Settings
from smartstream.manifest import EntryKind
from smartstream.raw.manifest_log import ManifestLog
from smartstream.raw.store import open_store
from smartstream.schema import TableSchema
from smartstream.verify import TableReport, verify
from tests.integration.lake_setup import clock, copied, put, schemas_of
from tests.integration.source_setup import run_sql

Change = tuple[str, int | None, str | None, float | None]
"""op, id, name and amount of a change to ``t``."""


def check(settings: Settings, table: str | None = None, *, rows: bool = True) -> TableReport:
    """Verify one table."""
    report = verify(settings, [table] if table else None, rows, 5.0, clock=clock)
    assert len(report.tables) == 1
    assert report.ok == report.tables[0].equal
    return report.tables[0]


def keys(report: TableReport) -> list[tuple[str, str | None]]:
    """Kind and id of each differing row, sorted."""
    return sorted((found.kind, found.key["id"]) for found in report.differing)


def simple(settings: Settings, url: str, count: int = 1000) -> TableSchema:
    """A table ``t`` of (id, name, amount), and a lake with the same rows."""
    run_sql(
        url,
        "CREATE TABLE t (id int PRIMARY KEY, name text, amount float8)",
        f"INSERT INTO t SELECT i, 'name ' || i, i / 7.0 FROM generate_series(1, {count}) i",
    )
    schema = schemas_of(settings)["public.t"]
    put(settings, schema, copied(settings, schema))
    return schema


def with_log(settings: Settings, schema: TableSchema) -> ManifestLog:
    """A manifest that says: the table is copied, exact, at the source's position now."""
    with connect(settings.source) as connection:
        lsn = current_wal_lsn(connection)
    log = ManifestLog(open_store(settings.lake), clock)
    detail = {"generation": 1, "schema": schema.to_json(), "chunks": [], "filenode": "1", "xmin": "1"}
    log.append(EntryKind.COPY_START, lsn=lsn, table=schema.id, detail=detail)
    log.append(EntryKind.COPY_END, lsn=lsn, table=schema.id, detail={"generation": 1})
    log.append(EntryKind.CHANGES, lsn=lsn)
    put(settings, schema, schema.trusted_schema().empty_table(), position=(lsn, 3, 1))
    return log


def changelog(schema: TableSchema, changes: list[Change], lsn: int) -> pa.Table:
    """Changes of ``t`` as a changelog, all of one transaction."""
    target = schema.changelog_schema()
    count = len(changes)
    columns = list(zip(*changes, strict=True))
    given = {
        "_op": columns[0],
        "_commit_lsn": [lsn] * count,
        "_ordinal": list(range(count)),
        "id": columns[1],
        "name": columns[2],
        "amount": columns[3],
    }
    arrays = [pa.array(given[f.name], f.type) if f.name in given else pa.nulls(count, f.type) for f in target]
    return pa.table(arrays, schema=target)
