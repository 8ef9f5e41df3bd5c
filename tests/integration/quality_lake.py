"""A small lake for the tests of quality: trusted tables and quarantines without a pipeline."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from smartstream.config import Settings
from smartstream.quality.config import QualityCheck
from smartstream.quality.evaluate import evaluate
from smartstream.quality.lake import open_quality_lake
from smartstream.quality.results import Result
from smartstream.schema import Column, Kind, PgType, TableSchema
from smartstream.trusted.catalog import QUARANTINE, open_catalog
from smartstream.trusted.position import Position
from smartstream.trusted.table import TrustedTable
from tests.trusted_lake import INT4, TEXT, apply, rows, table_schema

AT = PgType("timestamp with time zone", Kind.TIMESTAMPTZ)
ORDERS = table_schema([("id", 1, INT4), ("email", 2, TEXT), ("customer", 3, INT4), ("at", 4, AT)], ["id"])
CUSTOMERS = table_schema([("nr", 1, INT4), ("name", 2, TEXT)], ["nr"], name="customers", oid=2)


class Clock:
    """A clock that goes on when it is told to."""

    def __init__(self) -> None:
        self.now = datetime.now(UTC)

    def __call__(self) -> datetime:
        return self.now

    def advance(self, **span: float) -> None:
        self.now += timedelta(**span)


def settings_in(folder: Path, **sections: Any) -> Settings:
    values = {"source": {"url": "postgresql://u@h/d"}, "lake": {"warehouse": str(folder / "lake")}}
    return Settings.model_validate({**values, **sections})


def table_in(settings: Settings, schema: TableSchema = ORDERS) -> TrustedTable:
    return TrustedTable.open(open_catalog(settings.lake), schema)


def fill(
    settings: Settings, records: Sequence[Mapping[str, Any]], schema: TableSchema = ORDERS
) -> TrustedTable:
    """A trusted table with rows."""
    table = table_in(settings, schema)
    apply(table, records, seq=table.position.seq + 1)
    return table


def hold_back(settings: Settings, violations: Sequence[Sequence[str]]) -> None:
    """A quarantine of orders with one row for each list of broken rules; keys from 1000 on."""
    columns = (
        Column("id", 1, INT4),
        *(Column(n, 10_000 + i, TEXT) for i, n in enumerate(("_violations", "_row"))),
    )
    schema = TableSchema(1, "public", "orders", columns, ("id",))
    table = TrustedTable.open(open_catalog(settings.lake), schema, namespace=QUARANTINE)
    records = [
        {
            "id": 1000 + n,
            "_violations": json.dumps([{"rule": rule, "column": "c", "reason": "r"} for rule in rules]),
        }
        for n, rules in enumerate(violations)
    ]
    seq = table.position.seq + 1
    table.commit(add=table.write(rows(schema, records)), delete=None, position=Position(seq, seq, 1))


def check(metric: str, **values: Any) -> QualityCheck:
    return QualityCheck.model_validate({"metric": metric, **values})


def measure(
    settings: Settings, clock: Clock, *checks: QualityCheck, table: str = "public.orders"
) -> list[Result]:
    with open_quality_lake(settings) as lake:
        return evaluate(lake, {table: checks}, clock)
