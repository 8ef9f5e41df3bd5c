"""Deliveries to real tables: late, twice, in any order, with crashes; trusted is what the source has."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from smartstream.config import Settings
from smartstream.delivery.deliver import Deliverer
from smartstream.delivery.ledger import REMEMBERED, Ledger
from smartstream.delivery.lock import ProcessLocks
from smartstream.errors import StoreUnavailable
from smartstream.pipeline.table_writer import TableWriter
from smartstream.trusted.catalog import QUARANTINE, LakeCatalog, open_catalog
from smartstream.trusted.engine import Engine
from smartstream.trusted.table import TrustedTable
from tests.changelog_source import SCHEMA, Source

NOW = datetime(2026, 1, 2, tzinfo=UTC)
Changes = list[dict[str, object]]


def no_lookup(*_: Any) -> pa.Table:
    raise AssertionError("every value is sent")


class Setting:
    """A lake and the means to deliver to it."""

    def __init__(self, folder: Path, rules: dict[str, Any]) -> None:
        self.settings = Settings.model_validate(
            {
                "source": {"url": "postgresql://unused"},
                "lake": {"warehouse": str(folder)},
                "tables": {"public.t": rules},
            }
        )
        self.catalog: LakeCatalog = open_catalog(self.settings.lake)
        self.engine = Engine()

    def deliver(self, changes: Changes) -> None:
        """As a function that has just been started would."""
        deliverer = Deliverer(
            self.settings,
            self.catalog,
            self.engine,
            locks=ProcessLocks(),
            clock=lambda: NOW,
            look_up=no_lookup,
        )
        deliverer.apply(SCHEMA, pa.Table.from_pylist(changes, SCHEMA.changelog_schema()))

    def rows(self, namespace: str, name: str = "t") -> list[dict[str, Any]]:
        """What a table has now."""
        if not self.catalog.table_exists((namespace, name)):
            return []
        found: list[dict[str, Any]] = self.catalog.load_table((namespace, name)).scan().to_arrow().to_pylist()
        return found


def pieces_of(source: Source, rng: random.Random) -> list[Changes]:
    """The log cut anywhere, some pieces twice, shuffled."""
    pieces, rest = [], list(source.log)
    while rest:
        cut = rng.randint(1, 12)
        pieces.append(rest[:cut])
        rest = rest[cut:]
    pieces += rng.sample(pieces, len(pieces) // 3)
    rng.shuffle(pieces)
    return pieces


@pytest.mark.parametrize("number", range(5))
@pytest.mark.parametrize("ruled", [False, True])
def test_the_tables_are_what_the_source_has(
    number: int, ruled: bool, seed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = random.Random(f"{seed}/{number}/{ruled}")
    source = Source(rng.randrange(1 << 30), whole=True)
    for _ in range(20):
        source.step()
    rules = {"quality": [{"range": {"column": "n", "max": 500_000}}]} if ruled else {}
    setting, queue = Setting(tmp_path, rules), pieces_of(source, rng)
    commit = TableWriter.commit
    while queue:
        count = rng.randint(1, 4)
        taken, queue = queue[:count], queue[count:]
        changes = [change for piece in taken for change in piece]
        rng.shuffle(changes)
        crash = rng.random() < 0.2  # the ledger is written, the tables are not
        monkeypatch.setattr(TableWriter, "commit", _fails if crash else commit)
        try:
            setting.deliver(changes)
        except StoreUnavailable:
            queue.insert(rng.randint(0, len(queue)), changes)
    good = {key: row for key, row in source.rows.items() if not ruled or row[1] <= 500_000}
    trusted = {(r["a"], r["b"]): (r["big"], r["n"]) for r in setting.rows("trusted")}
    assert trusted == good
    held = {(r["a"], r["b"]) for r in setting.rows("quarantine")}
    assert held == set(source.rows) - set(good)
    known = setting.rows("quarantine", "t__ledger")
    assert {(r["a"], r["b"]) for r in known if not r["_gone"]} == set(source.rows)


def _fails(*_: Any, **__: Any) -> None:
    raise StoreUnavailable("on purpose")


def test_the_ledger_forgets_rows_that_are_long_gone(tmp_path: Path) -> None:
    setting, source = Setting(tmp_path, {}), Source(1, whole=True)
    for ordinal, key in enumerate([(1, "x"), (2, "x")]):
        source.emit(ordinal, "i", key, ("big", 1))
    source.emit(2, "d", (1, "x"), None)
    setting.deliver(source.log)

    def open_table(schema: Any) -> TrustedTable:
        return TrustedTable.open(setting.catalog, schema, namespace=QUARANTINE)

    ledger = Ledger(SCHEMA, open_table)
    assert ledger.forget(NOW + REMEMBERED) == 0
    assert ledger.forget(NOW + 2 * REMEMBERED) == 1
    assert [row["a"] for row in setting.rows("quarantine", "t__ledger")] == [2]
