"""What trusted/ relies on in pyiceberg and DuckDB: a new version of either must pass these."""

from __future__ import annotations

from decimal import Decimal
from importlib.metadata import version
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyiceberg.catalog import Catalog
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.conversions import from_bytes
from pyiceberg.manifest import DATA_FILE_TYPE, DataFileContent, ManifestContent
from pyiceberg.schema import assign_fresh_schema_ids
from pyiceberg.table import Table
from pyiceberg.table.update import TableRequirement, TableUpdate
from pyroaring import BitMap

from smartstream.errors import TableCorrupt
from smartstream.schema import TableSchema
from smartstream.scratch import scratch_folder
from smartstream.trusted.deletes import PATH_FIELD_ID, data_path_of, positions_of, read_deletes
from smartstream.trusted.engine import Engine
from smartstream.trusted.fields import PARQUET_FIELD_ID, first_schema
from smartstream.trusted.table import TrustedTable
from tests.trusted_lake import (
    BYTEA,
    DATE,
    INT4,
    INT4S,
    INT8,
    TEXT,
    apply,
    local_catalog,
    numeric,
    table_schema,
)

SCHEMA = table_schema(
    [
        ("id", 1, INT8),
        ("t", 2, TEXT),
        ("d", 3, DATE),
        ("n", 4, numeric(12, 2)),
        ("l", 5, INT4S),
        ("x", 6, BYTEA),
    ],
    ["id"],
)


@pytest.fixture
def table(tmp_path: Path) -> TrustedTable:
    table = TrustedTable.open(local_catalog(tmp_path), SCHEMA, engine=Engine(memory_bytes=64 << 20))
    records = [{"id": n, "t": f"é{n}" * 20, "n": Decimal(n), "l": [n], "x": b"\xff" * 30} for n in range(10)]
    apply(table, records, seq=1)
    apply(table, [], [1, 2], seq=2)
    return table


def test_pyiceberg_is_the_version_whose_private_classes_we_know() -> None:
    assert version("pyiceberg").startswith("0.12.")
    assert callable(Table._do_commit)
    assert {field.field_id for field in DATA_FILE_TYPE[2].fields} >= {100, 102, 134, 135}


def test_a_new_table_keeps_the_field_ids_that_we_give() -> None:
    schema, ids = first_schema(SCHEMA)
    assert assign_fresh_schema_ids(schema).as_struct() == schema.as_struct()
    assert ids.by_identity == {"1": 1, "2": 2, "3": 3, "4": 4, "5": 5, "6": 6, "_lsn": 7, "_untyped": 8}
    assert schema.find_field("l.element").field_id == 9


def test_data_files_carry_field_ids_on_every_level(table: TrustedTable) -> None:
    path = table.live_files[0].path.removeprefix("file://")
    schema = pq.read_schema(path)
    assert [int(field.metadata[PARQUET_FIELD_ID]) for field in schema] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert schema.field("l").type.value_field.metadata[PARQUET_FIELD_ID] == b"9"
    assert pq.ParquetFile(path).metadata.row_group(0).column(0).compression == "ZSTD"


def test_bounds_hold_every_value(table: TrustedTable) -> None:
    file = table.live_files[0].data.file
    types = {field.field_id: field.field_type for field in table.iceberg.schema().fields}
    decode = {
        n: (from_bytes(types[n], file.lower_bounds[n]), from_bytes(types[n], file.upper_bounds[n]))
        for n in (1, 2, 4)
    }
    assert decode[1] == (0, 9)
    assert decode[4] == (Decimal("0.00"), Decimal("9.00"))
    low, high = decode[2]
    assert low.encode() <= ("é0" * 20).encode() <= ("é9" * 20).encode() <= high.encode()
    assert 6 not in file.upper_bounds  # 0xff… has no truncated upper bound
    assert file.null_value_counts[3] == file.record_count == 10


def test_a_delete_file_names_its_data_file_in_its_bounds(table: TrustedTable) -> None:
    live = table.live_files[0]
    assert live.deletes is not None
    deletes = live.deletes.file
    assert deletes.content == DataFileContent.POSITION_DELETES
    assert deletes.lower_bounds == deletes.upper_bounds == {PATH_FIELD_ID: live.path.encode()}
    assert data_path_of(deletes) == live.path
    rows = pq.read_table(deletes.file_path.removeprefix("file://"))
    assert rows.to_pylist() == [{"file_path": live.path, "pos": 1}, {"file_path": live.path, "pos": 2}]
    assert read_deletes(table.iceberg.io, [deletes]) == [BitMap([1, 2])]
    with pytest.raises(TableCorrupt):
        data_path_of(live.data.file)


def test_manifests_say_what_they_hold(table: TrustedTable) -> None:
    snapshot = table.iceberg.current_snapshot()
    assert snapshot is not None
    contents = {}
    for manifest in snapshot.manifests(table.iceberg.io):
        path = manifest.manifest_path.removeprefix("file://")
        header = Path(path).read_bytes()[:20_000]
        assert b'"element-id":136' in header.replace(b" ", b"") or b"136" in header
        contents[manifest.content] = b"deletes" in header
        assert manifest.min_sequence_number <= manifest.sequence_number <= 2
    assert contents == {ManifestContent.DATA: False, ManifestContent.DELETES: True}


def test_the_state_in_memory_is_the_state_on_disk(table: TrustedTable) -> None:
    apply(table, [{"id": 100}], [3], seq=3)
    apply(table, [{"id": 101}], [100], seq=4)
    again = TrustedTable.open(table.iceberg.catalog, SCHEMA, engine=table.engine)
    ours, theirs = table.view().state, again.view().state
    assert set(ours.live) == set(theirs.live)
    for path, file in ours.live.items():
        other = theirs.live[path]
        assert file.deleted == other.deleted
        for a, b in ((file.data, other.data), (file.deletes, other.deletes)):
            assert (a is None) == (b is None)
            if a is not None and b is not None:
                assert (a.file.file_path, a.manifest, a.sequence) == (
                    b.file.file_path,
                    b.manifest,
                    b.sequence,
                )
                assert (a.snapshot_id, a.file_sequence) == (b.snapshot_id, b.file_sequence)
                assert a.file.record_count == b.file.record_count
    mine = {m.manifest_path: (m.sequence_number, m.min_sequence_number) for m in ours.manifests}
    assert mine == {m.manifest_path: (m.sequence_number, m.min_sequence_number) for m in theirs.manifests}


def test_a_commit_is_one_request_to_the_catalog(table: TrustedTable, monkeypatch: pytest.MonkeyPatch) -> None:
    requests: list[tuple[list[str], list[str]]] = []
    original = SqlCatalog.commit_table

    def commit_table(
        self: SqlCatalog,
        table: Table,
        requirements: tuple[TableRequirement, ...],
        updates: tuple[TableUpdate, ...],
    ) -> object:
        requests.append(([r.type for r in requirements], [u.action for u in updates]))  # type: ignore[union-attr]
        return original(self, table, requirements, updates)

    monkeypatch.setattr(SqlCatalog, "commit_table", commit_table)
    apply(table, [{"id": 50}], [5], seq=3)
    asserted = ["assert-table-uuid", "assert-ref-snapshot-id", "assert-current-schema-id"]
    assert requests == [(asserted, ["add-snapshot", "set-snapshot-ref", "set-properties"])]


def test_updates_are_written_as_the_rest_protocol_wants(table: TrustedTable) -> None:
    from smartstream.trusted.updates import remove_snapshots, set_schema, unchanged

    metadata = table.iceberg.metadata
    dumped = [r.model_dump_json(by_alias=True) for r in unchanged(metadata, 5)]
    assert '"snapshot-id":5' in dumped[1]
    assert '"current-schema-id":0' in dumped[2]
    assert '"snapshot-ids":[1,2]' in remove_snapshots([1, 2])[0].model_dump_json(by_alias=True)
    assert '"schema":' in set_schema(metadata.schema())[0].model_dump_json(by_alias=True)


def test_positions_come_out_of_a_bitmap_in_order() -> None:
    rows = BitMap([7, 1, 100_000, 2**31])
    assert positions_of(rows).tolist() == [1, 7, 100_000, 2**31]
    assert positions_of(BitMap()).tolist() == []
    assert BitMap(np.array([3, 2**32 - 1], dtype=np.int64)) == BitMap([3, 2**32 - 1])


def test_duckdb_numbers_rows_by_their_place_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "it's.parquet"
    pq.write_table(pa.table({"k": list(range(50))}), path, row_group_size=7)
    escaped = str(path).replace("'", "''")
    scan = f"read_parquet('{escaped}', filename=true, file_row_number=true)"
    sql = f"SELECT filename, file_row_number, k FROM {scan}"
    found = duckdb.sql(sql).fetchall()
    assert {(name, number) for name, number, key in found if number == key} == {
        (str(path), n) for n in range(50)
    }


def test_the_engine_spills_to_a_folder_of_its_own() -> None:
    engine = Engine(memory_bytes=64 << 20)
    cursor = engine.cursor()
    sql = "SELECT current_setting('temp_directory'), current_setting('TimeZone')"
    settings = cursor.execute(sql).fetchall()[0]
    folder = Path(settings[0])
    assert folder.parent == scratch_folder() and folder.exists()
    assert settings[1] == "UTC"
    cursor.close()
    engine.close()
    assert not folder.exists()


def test_an_unrelated_catalog_error_is_not_hidden(tmp_path: Path) -> None:
    catalog: Catalog = local_catalog(tmp_path)
    schema: TableSchema = table_schema([("id", 1, INT4)], ["id"])
    table = TrustedTable.open(catalog, schema, engine=Engine(memory_bytes=64 << 20))

    def commit_table(*_: object) -> None:
        raise ValueError("a defect")

    catalog.commit_table = commit_table  # type: ignore[method-assign, assignment]
    with pytest.raises(ValueError, match="a defect"):
        apply(table, [{"id": 1}], seq=1)
    assert table.row_count == 0
