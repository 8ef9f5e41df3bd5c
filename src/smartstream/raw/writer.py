"""Changelog rows into Parquet files of the raw zone."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import datetime

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from smartstream.change import COMMIT_LSN, COMMIT_TS, OP, ORDINAL, XID
from smartstream.manifest import RawFile
from smartstream.raw.store import Store
from smartstream.schema import TableSchema

SCHEMA_KEY = b"smartstream.schema"
_ROW_GROUP_ROWS = 131_072
_DICTIONARY = [OP, COMMIT_LSN, COMMIT_TS, XID]  # the rest gains little and costs time


class RawWriter:
    """Writes raw files; they exist for the lake once a manifest entry names them."""

    def __init__(self, store: Store, clock: Callable[[], datetime]) -> None:
        self._store, self._clock = store, clock

    def write(self, schema: TableSchema, changelog: pa.Table) -> RawFile:
        """Write one durable file.

        Args:
            changelog: (n ≥ 1, ``schema.changelog_schema()``), all of one table.
        """
        lsns = pc.min_max(changelog[COMMIT_LSN]).as_py()
        day = self._clock().date().isoformat()
        key = (
            f"raw/{_folder(schema.id)}/dt={day}/{lsns['min']:016X}-{lsns['max']:016X}-{uuid.uuid4().hex[:8]}.parquet"
        )
        target = changelog.schema.with_metadata({SCHEMA_KEY: schema.to_json().encode()})
        with self._store.create(key) as file:
            with pq.ParquetWriter(
                file,
                target,
                compression="zstd",
                compression_level=1,
                use_dictionary=_DICTIONARY,
                column_encoding={ORDINAL: "DELTA_BINARY_PACKED"},
                write_statistics=[COMMIT_LSN],
                store_schema=True,
            ) as writer:
                writer.write_table(changelog.cast(target), row_group_size=_ROW_GROUP_ROWS)
            size = file.tell()
        ops = {entry["values"]: entry["counts"] for entry in pc.value_counts(changelog[OP]).to_pylist()}
        return RawFile(schema.id, key, changelog.num_rows, size, lsns["min"], lsns["max"], ops)


def _folder(table: str) -> str:
    """The table's folder: its name, percent-encoded where a path could not hold it."""
    return "".join(c if c.isalnum() or c in "._-" else "".join(f"%{b:02X}" for b in c.encode()) for c in table)
