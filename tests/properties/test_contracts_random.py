"""Under a contract: trusted table and quarantine account for every key, whatever batches there were."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from smartstream.config import Settings
from smartstream.quality.contracted import Rules, rules_held_to
from smartstream.rules_config import TableRules
from smartstream.schema import Column, Kind, PgType, TableSchema
from tests.changelog_source import SCHEMA, Source
from tests.properties.test_rules_random import (
    Lake,
    crash_between_commits,
    in_order,
    outcome,
    transaction_ends,
)

SMALL = PgType("smallint", Kind.INT2)
REFERENCE = replace(SCHEMA, columns=(*SCHEMA.columns[:2], Column("amount", 4, SCHEMA.column("n").type)))
"""Without ``big``, and ``n`` had another name."""
NARROW = replace(SCHEMA, columns=(*SCHEMA.columns[:2], Column("big", 3, SMALL), SCHEMA.columns[3]))
"""``big`` had another type."""
RULES: tuple[dict[str, Any], ...] = (
    {},
    {"quality": [{"range": {"column": "{n}", "min": 300_000}}]},
    {"clean": [{"compute": {"column": "twice", "sql": "{n} * 2"}}], "quality": [{"not_null": ["{n}"]}]},
    {
        "clean": [
            {"compute": {"column": "bucket", "sql": "{n} % 5"}},
            {"dedupe": {"key": ["bucket"], "keep": "last", "by": "{n}"}},
        ],
        "quality": [{"range": {"column": "{n}", "max": 800_000}, "on_fail": "drop"}],
    },
)


def named(value: Any, n: str) -> Any:
    """Rules with the name of the number's column put in."""
    if isinstance(value, dict):
        return {key: named(one, n) for key, one in value.items()}
    if isinstance(value, list):
        return [named(one, n) for one in value]
    return value.replace("{n}", n) if isinstance(value, str) else value


@dataclass
class ContractedLake(Lake):
    """A table that a contract holds to ``reference``."""

    settings: Settings = field(kw_only=True)
    reference: TableSchema = field(kw_only=True)

    def compiled(self, schema: TableSchema) -> Rules | None:
        return rules_held_to(self.settings, schema, self.reference, lsn=1)


def sparse(source: Source) -> None:
    """Take half of the values out of ``big``: rows without one fit the contract."""
    for change in source.log:
        if change["big"] is not None and int(str(change["big"])[3:]) % 2:
            change["big"] = None


@pytest.mark.parametrize("word", ["discard_row", "discard_value"])
@pytest.mark.parametrize("part", ["columns", "data_type"])
@pytest.mark.parametrize("number", range(4))
def test_any_batches_give_the_contract_applied_to_the_source(
    number: int, part: str, word: str, seed: str, tmp_path: Path
) -> None:
    rng = random.Random(f"{seed} {number} {part} {word}")
    source = Source(rng.randrange(2**32))
    for _ in range(25):
        source.step()
    sparse(source)
    reference, n = (REFERENCE, "amount") if part == "columns" else (NARROW, "n")
    said = {**named(RULES[number], n), "contract": {part: word}}
    settings = Settings.model_validate({"source": {"url": "x"}, "tables": {"public.t": said}})
    lake = ContractedLake(source, TableRules(), tmp_path, settings=settings, reference=reference)
    ends = transaction_ends(source)
    for cut in sorted({*rng.sample(ends, min(6, len(ends))), len(source.log)}):
        if rng.random() < 0.3:
            crash_between_commits(lake, cut)
        lake.feed(cut)
        if rng.random() < 0.3:
            lake.writer.revise_held(None, drop=False)
    compiled = lake.compiled(SCHEMA)
    assert compiled is not None
    good, held = outcome(source, compiled)
    message = f"seed {seed} {number} {part} {word}"
    assert in_order(lake.trusted()) == in_order(good), message
    assert lake.held() == held, message
    keys = {(row["a"], row["b"]) for row in lake.trusted()}
    assert keys | held.keys() == source.rows.keys() and not keys & held.keys(), message
    columns = {column.name for column in lake.writer.table.schema.columns}
    assert ("big" in columns) == (part == "data_type"), message
