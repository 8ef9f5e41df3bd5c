"""Trusted tables that are changed at random, and models over them, for tests without a source."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa

from smartstream.config import Settings
from smartstream.inference.runs import RunReport
from smartstream.inference.score import run_model
from smartstream.schema import Column, Kind, PgType, TableSchema
from smartstream.trusted.catalog import open_catalog
from smartstream.trusted.engine import Engine
from smartstream.trusted.position import Position
from smartstream.trusted.table import TrustedTable

INT = PgType("integer", Kind.INT4)


def schema(name: str, columns: tuple[str, ...], key: tuple[str, ...]) -> TableSchema:
    return TableSchema(1, "public", name, tuple(Column(one, n, INT) for n, one in enumerate(columns, 1)), key)


TABLES = {
    "people": schema("people", ("id", "team", "pay"), ("id",)),
    "teams": schema("teams", ("id", "boss", "size"), ("id",)),
    "days": schema("days", ("person", "day", "hours"), ("person", "day")),
}
FEATURES = {
    "plain": "SELECT id, pay FROM people",
    "joined": "SELECT p.id, p.pay + coalesce(t.size, 0) AS pay "
    "FROM people p LEFT JOIN teams t ON t.id = p.team",
    "grouped": "WITH w AS (SELECT person, sum(hours) AS h FROM days GROUP BY person) "
    "SELECT p.id, coalesce(w.h, p.pay) AS pay FROM people p LEFT JOIN w ON w.person = p.id WHERE p.team < 6",
    "together": "SELECT id, avg(pay) OVER (PARTITION BY team) AS pay FROM people",  # all features compared
}
INPUT = {"name": "pay", "nullable": False, "minimum": 1, "maximum": 60}


def doubling_model(path: Path, factor: float = 2.0) -> None:
    """An ONNX model of one input, ``pay``, that gives ``factor`` times it."""
    from onnx import TensorProto, helper

    inputs = [helper.make_tensor_value_info("pay", TensorProto.DOUBLE, [None, 1])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.DOUBLE, [None, 1])]
    two = helper.make_tensor("factor", TensorProto.DOUBLE, [1], [factor])
    nodes = [helper.make_node("Mul", ["pay", "factor"], ["y"])]
    graph = helper.make_graph(nodes, "g", inputs, outputs, [two])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=10)
    path.write_bytes(made.SerializeToString())


class ModelLake:
    """A project with tables and models in a folder."""

    def __init__(
        self, folder: Path, rng: random.Random, models: list[dict[str, Any]], lake: Any = None
    ) -> None:
        self.rng, self.now = rng, datetime(2026, 1, 1, tzinfo=UTC)
        self.settings = Settings.model_validate(
            {
                "source": {"url": "postgresql://unused"},
                "lake": lake or {"warehouse": str(folder / "lake")},
                "limits": {"threads": 1},
                "maintenance": {"small_files_max": 2, "grace": 0, "snapshots_max": 4},
                "models": models,
            }
        )
        self.settings._path = folder / "smartstream.yaml"
        self.catalog, self.engine = open_catalog(self.settings.lake), Engine()
        self.rows: dict[str, dict[tuple[int, ...], tuple[int | None, ...]]] = {n: {} for n in TABLES}
        self.tables = {
            name: TrustedTable.open(self.catalog, one, engine=self.engine) for name, one in TABLES.items()
        }
        self.lsn = 0

    def change(self, name: str, count: int) -> None:
        """Insert, update, delete rows of a table in one commit."""
        one, rows = TABLES[name], self.rows[name]
        self.lsn += 1
        width = len(one.columns) - len(one.key)
        touched = {tuple(self.rng.randint(1, 8) for _ in one.key) for _ in range(count)}
        for key in touched:
            if key in rows and self.rng.random() < 0.3:
                del rows[key]
            else:
                rows[key] = tuple(self.rng.choice([None, *range(1, 7), 77]) for _ in range(width))
        self.commit(name, touched)

    def commit(self, name: str, touched: set[tuple[int, ...]]) -> None:
        """Bring the table's rows of some keys to what ``rows`` says."""
        one, table, rows = TABLES[name], self.tables[name], self.rows[name]
        keys = pa.Table.from_pylist(
            [dict(zip(one.key, key, strict=True)) for key in touched],
            pa.schema([one.arrow_schema().field(n) for n in one.key]),
        )
        names = [column.name for column in one.columns]
        made = [
            dict(zip(names, (*key, *rows[key]), strict=True)) | {"_lsn": self.lsn}
            for key in touched
            if key in rows
        ]
        position = Position(self.lsn, table.position.seq + 1, 1)
        files = table.write(pa.Table.from_pylist(made, one.trusted_schema()))
        table.commit(add=files, delete=table.locate(keys), position=position)

    def run(self, name: str, **more: Any) -> RunReport:
        """Score with a model."""
        self.now += timedelta(minutes=1)
        (model,) = [one for one in self.settings.models if one.name == name]
        return run_model(
            self.settings,
            model,
            clock=lambda: self.now,
            engine=self.engine,
            catalog=self.catalog,
            **more,
        )

    def read(self, name: str) -> list[dict[str, Any]]:
        """All rows of a table of analytics."""
        if not self.catalog.table_exists(("analytics", name)):
            return []
        found: list[dict[str, Any]] = (
            self.catalog.load_table(("analytics", name)).scan().to_arrow().to_pylist()
        )
        return found

    def predictions(self, name: str) -> dict[int, tuple[Any, bool]]:
        """Key → prediction, and whether it is stale."""
        return {r["id"]: (r["prediction"], r["_stale"] is not None) for r in self.read(name)}


def model(name: str, features: str, **more: Any) -> dict[str, Any]:
    """A model's part of the configuration."""
    return {
        "name": name,
        "uri": "double.onnx",
        "features": features,
        "key": ["id"],
        "inputs": [INPUT],
        **more,
    }
