"""What scoring costs: a million rows end to end beside bare onnxruntime, and 1 % of them again."""

from __future__ import annotations

import statistics
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from smartstream.config import Settings
from smartstream.inference.score import run_model
from smartstream.schema import Column, Kind, PgType, TableSchema
from smartstream.trusted.catalog import open_catalog
from smartstream.trusted.engine import Engine
from smartstream.trusted.position import Position
from smartstream.trusted.table import TrustedTable

SEED = 1
REPEATS = 3
CHUNK_ROWS = 250_000
COLUMNS = 10
_FLOAT = PgType("double precision", Kind.FLOAT8)
NAMES = [f"x{number}" for number in range(COLUMNS)]
PEOPLE = TableSchema(
    oid=1,
    schema="public",
    name="people",
    columns=(
        Column("id", 1, PgType("integer", Kind.INT4)),
        *(Column(name, number, _FLOAT) for number, name in enumerate(NAMES, 2)),
    ),
    key=("id",),
)
FEATURES = f"SELECT id, {', '.join(NAMES)} FROM people"


def run(rows: int, trees: int, depth: int) -> dict[str, Any]:
    """Rows a second of a full run, of onnxruntime alone on the same features, and an incremental run.

    ``bare_ratio`` is the share of onnxruntime's own speed that a full run reaches: it
    reads, hashes, checks, predicts and commits.  What that costs is the same for every
    model, so both ratios say as much of the model as of SmartStream: ``overhead_s`` and
    ``one_percent_s`` do not.

    Args:
        trees, depth: of the model, a forest of boosted trees.
    """
    rng = np.random.default_rng(SEED)
    with tempfile.TemporaryDirectory(prefix="smartstream-bench-") as name:
        folder = Path(name)
        features = rng.normal(size=(rows, COLUMNS))
        session = _model(folder / "model.onnx", rng, trees, depth)
        settings, table = _lake(folder, features)
        full, bare = [], []
        for number in range(REPEATS):  # in turns, so that other work on the machine meets both
            full.append(_timed(settings, "full", number))
            bare.append(_bare(session, features))
        _timed(settings, "incremental", REPEATS)
        part = []
        for number in range(REPEATS):
            _change(table, rng, rows, number + 2)
            part.append(_timed(settings, "incremental", REPEATS + 1 + number))
    best = statistics.median(full)
    return {
        "rows": rows,
        "columns": COLUMNS,
        "trees": trees,
        "full_s": round(best, 2),
        "full_rows_per_s": round(rows / best),
        "bare_rows_per_s": round(rows / statistics.median(bare)),
        "bare_ratio": round(statistics.median(bare) / best, 2),
        "overhead_s": round(best - statistics.median(bare), 2),
        "one_percent_s": round(statistics.median(part), 3),
        "full_for_one_percent_ratio": round(best / statistics.median(part), 1),
    }


def _model(path: Path, rng: np.random.Generator, trees: int, depth: int) -> Any:
    """A forest of boosted trees as scikit-learn users train them, as ONNX; returns a bare session."""
    import onnxruntime
    from skl2onnx import to_onnx
    from sklearn.ensemble import GradientBoostingClassifier

    sample = rng.normal(size=(4000, COLUMNS))
    label = (sample[:, 0] + sample[:, 1] * sample[:, 2] > 0).astype(np.int64)
    fitted = GradientBoostingClassifier(n_estimators=trees, max_depth=depth, subsample=0.5, random_state=0)
    fitted.fit(sample, label)
    made = to_onnx(fitted, sample[:1].astype(np.float32), options={"zipmap": False})
    path.write_bytes(made.SerializeToString())
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 2
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _bare(session: Any, features: np.ndarray) -> float:
    """Seconds of onnxruntime alone, in chunks as a run has them."""
    begin = time.perf_counter()
    values = features.astype(np.float32)
    for first in range(0, len(values), 65_536):
        session.run(None, {session.get_inputs()[0].name: values[first : first + 65_536]})
    return time.perf_counter() - begin


def _lake(folder: Path, features: np.ndarray) -> tuple[Settings, TrustedTable]:
    """A lake with the table, and a model over it."""
    (folder / "features.sql").write_text(FEATURES)
    model = {
        "name": "score",
        "uri": "model.onnx",
        "features": "features.sql",
        "key": ["id"],
        "inputs": [{"name": name} for name in NAMES],
    }
    settings = Settings.model_validate(
        {
            "source": {"url": "postgresql://unused"},
            "lake": {"warehouse": str(folder / "lake")},
            "models": [model],
        }
    )
    settings._path = folder / "smartstream.yaml"
    table = TrustedTable.open(open_catalog(settings.lake), PEOPLE)
    ids = np.arange(len(features))
    chunks = [
        _rows(ids[first : first + CHUNK_ROWS], features[first : first + CHUNK_ROWS], 1)
        for first in range(0, len(ids), CHUNK_ROWS)
    ]
    files = [file for chunk in chunks for file in table.write(chunk)]
    table.commit(add=files, delete=None, position=Position(1, 1, 1), replace_all=True)
    return settings, table


def _rows(ids: np.ndarray, features: np.ndarray, lsn: int) -> pa.Table:
    """Rows of the trusted table."""
    columns: dict[str, Any] = {"id": pa.array(ids, pa.int32())}
    columns |= {name: features[:, number] for number, name in enumerate(NAMES)}
    columns |= {"_lsn": np.full(len(ids), lsn), "_untyped": pa.nulls(len(ids), pa.string())}
    return pa.table(columns, schema=PEOPLE.trusted_schema())


def _change(table: TrustedTable, rng: np.random.Generator, rows: int, lsn: int) -> None:
    """Update one row in a hundred."""
    ids = np.sort(rng.choice(rows, rows // 100, replace=False))
    new = _rows(ids, rng.normal(size=(len(ids), COLUMNS)), lsn)
    gone = table.locate(new.select(["id"]))
    table.commit(add=table.write(new), delete=gone, position=Position(lsn, lsn, 1))


def _timed(settings: Settings, mode: Any, number: int) -> float:
    """Seconds of one run; a full one begins with no predictions from before."""
    (model,) = settings.models
    if mode == "full":
        model = model.model_copy(update={"version": str(number)})
    else:
        model = model.model_copy(update={"version": str(REPEATS - 1)})
    moment = datetime(2026, 1, 1, 0, number, tzinfo=UTC)
    engine = Engine(memory_bytes=512 << 20)
    begin = time.perf_counter()
    run_model(settings, model, clock=lambda: moment, engine=engine, mode=mode)
    return time.perf_counter() - begin
