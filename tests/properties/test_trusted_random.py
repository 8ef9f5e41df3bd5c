"""Random batches against a dictionary: every reader must agree with it."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from smartstream.schema import TableSchema
from smartstream.trusted.engine import Engine
from smartstream.trusted.maintenance import maintain
from smartstream.trusted.table import TrustedTable
from tests.trusted_lake import (
    DATE,
    INT4S,
    INT8,
    READERS,
    TEXT,
    MaintenanceOptions,
    Rules,
    apply,
    contents,
    local_catalog,
    numeric,
    reopened,
    table_schema,
)

COMMITS = 60


@pytest.fixture
def engine() -> Iterator[Engine]:
    engine = Engine(memory_bytes=128 << 20)
    yield engine
    engine.close()


SINGLE = table_schema([("id", 1, INT8), ("name", 2, TEXT), ("amount", 3, numeric(12, 2))], ["id"])
COMPOSITE = table_schema(
    [("region", 1, TEXT), ("on day", 2, DATE), ("tags", 3, INT4S), ("n.o", 4, INT8)], ["on day", "region"]
)


def _record(schema: TableSchema, key: int, version: int) -> dict[str, Any]:
    """The row that a key number stands for."""
    if schema is SINGLE:
        name = None if version % 7 == 0 else f"név {version}"
        return {"id": key, "name": name, "amount": None if version % 5 == 0 else version}
    day = datetime(2024, 1, 1).date() + timedelta(days=key % 37)
    tags = None if version % 3 == 0 else [version, None, key][: version % 4]
    return {"region": f"région {key // 37}", "on day": day, "tags": tags, "n.o": version}


@pytest.mark.parametrize("schema", [SINGLE, COMPOSITE], ids=["single key", "composite key"])
def test_random_batches_read_the_same_everywhere(schema: TableSchema, tmp_path: Path, engine: Engine) -> None:
    seed = int(os.environ.get("SEED", random.SystemRandom().randrange(1 << 32)))
    print(f"SEED={seed}")
    rng = random.Random(seed)
    catalog = local_catalog(tmp_path)
    table = TrustedTable.open(catalog, schema, engine=engine)
    model: dict[tuple[Any, ...], dict[str, Any]] = {}
    rules = MaintenanceOptions(Rules(small_files_max=rng.choice([3, 8]), snapshots_max=10, grace=0))
    later = datetime.now(UTC) + timedelta(seconds=5)
    compactions = 0
    for seq in range(1, COMMITS + 1):
        chosen = rng.sample(range(400), rng.choice([1, 5, 60]))
        gone = set(rng.sample(chosen, len(chosen) // 3))
        upserts = [_record(schema, key, seq) for key in chosen if key not in gone]
        deletes = [tuple(_record(schema, key, 0)[name] for name in schema.key) for key in gone]
        apply(table, upserts, deletes, seq=seq)
        for record in upserts:
            model[tuple(record[name] for name in schema.key)] = record
        for key in deletes:
            model.pop(key, None)
        assert table.row_count == len(model)
        if rng.random() < 0.2:
            report = maintain(table, rules, lambda: later)
            table.collected_at = None
            assert not report.compaction.given_up
            compactions += bool(report.compaction.source_count)
        if rng.random() < 0.1:
            table = reopened(catalog, table)
            assert table.row_count == len(model)
        if seq % 20 == 0:
            for name, read in READERS.items():
                assert contents(read(table), schema.key) == model, f"{name} after commit {seq}, seed {seed}"
    assert compactions
    assert table.position.seq == COMMITS
    assert len(table.iceberg.metadata.snapshots) <= COMMITS


def test_rows_are_counted_the_same_in_the_summary(tmp_path: Path, engine: Engine) -> None:
    table = TrustedTable.open(local_catalog(tmp_path), SINGLE, engine=engine)
    for seq in range(1, 30):
        apply(table, [_record(SINGLE, key, seq) for key in range(seq % 7, 20)], [seq % 20], seq=seq)
    snapshot = table.iceberg.current_snapshot()
    assert snapshot is not None
    assert snapshot.summary is not None
    totals = {
        name: int(snapshot.summary[f"total-{name}"]) for name in ("records", "position-deletes", "data-files")
    }
    assert totals["records"] - totals["position-deletes"] == table.row_count
    assert totals["data-files"] == len(table.live_files)
