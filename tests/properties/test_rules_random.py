"""With rules: the trusted table is the rules applied to the source, and nothing is unaccounted for."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from smartstream.pipeline.quarantine import Quarantine
from smartstream.pipeline.refine import Refinery
from smartstream.pipeline.table_writer import Staged, TableWriter
from smartstream.quality.contracted import Rules
from smartstream.rules_config import TableRules
from smartstream.schema import TableSchema
from smartstream.transform.fold import fold
from smartstream.transform.rows import project, renamed
from smartstream.transform.rules import Verdict, compile_rules
from smartstream.transform.shape import DUPLICATE, ruled_schema
from smartstream.trusted.table import Position, TrustedTable
from tests.changelog_source import SCHEMA, Source
from tests.trusted_lake import local_catalog, read_pyiceberg

CLEAN: tuple[dict[str, Any], ...] = (
    {"trim": ["big"]},
    {"upper": ["big"]},
    {"replace": {"column": "big", "pattern": "[0-4]", "with": "x"}},
    {"null_if": {"big": ["big7"]}},
    {"default": {"big": "nothing"}},
    {"compute": {"column": "twice", "sql": "n * 2"}},
    {"compute": {"column": "label", "sql": "coalesce(big, '') || '-' || n"}},
    {"mask": {"column": "big", "keep_last": 3}},
    {"required": ["big"]},
)
QUALITY: tuple[dict[str, Any], ...] = (
    {"range": {"column": "n", "min": 200_000}, "on_fail": "quarantine"},
    {"range": {"column": "n", "max": 900_000}, "on_fail": "drop"},
    {"matches": {"column": "big", "pattern": "[2-9x]"}, "on_fail": "quarantine"},
    {"range": {"column": "n", "max": 500_000}, "on_fail": "warn"},
)


def random_rules(rng: random.Random, **more: Any) -> TableRules:
    clean = [rule for rule in CLEAN if rng.random() < 0.35]
    rng.shuffle(clean)
    if rng.random() < 0.5:
        clean += [
            {"compute": {"column": "bucket", "sql": "n % 5"}},
            {"dedupe": {"key": ["bucket"], "keep": rng.choice(["first", "last"]), "by": "n"}},
        ]
    quality = [rule for rule in QUALITY if rng.random() < 0.4]
    return TableRules.model_validate({"clean": clean, "quality": quality, **more})


@dataclass
class Lake:
    """One ruled table, fed batch by batch."""

    source: Source
    rules: TableRules
    folder: Path

    def __post_init__(self) -> None:
        self.catalog = local_catalog(self.folder)
        compiled = self.compiled(SCHEMA)
        shape = ruled_schema(compiled.schema, compiled.output) if compiled else SCHEMA
        table = TrustedTable.open(self.catalog, shape)
        self.writer = TableWriter(table, SCHEMA, self.refinery, self.quarantine)
        self.cuts = [0]

    def refinery(self, schema: TableSchema, table: TrustedTable) -> Refinery | None:
        compiled = self.compiled(schema)
        if compiled is None:
            return None
        return Refinery(compiled, table, self.quarantine(compiled.schema), self.look_up)

    def compiled(self, schema: TableSchema) -> Rules | None:
        return compile_rules(schema, self.rules)

    def quarantine(self, schema: TableSchema) -> Quarantine:
        return Quarantine(schema, self.open_held)

    def open_held(self, schema: TableSchema, create: bool) -> TrustedTable | None:
        if not create and not self.catalog.table_exists(("quarantine", schema.lake_name)):
            return None
        return TrustedTable.open(self.catalog, schema, namespace="quarantine")

    def look_up(self, keys: pa.Table, schema: TableSchema) -> pa.Table:
        """What the raw zone would say, from the source's log up to what the table holds."""
        rows = state(self.source.log[: self.cuts[self.writer.table.position.seq]], keys)
        return project(rows, SCHEMA, schema, {})

    def feed(self, upto: int) -> None:
        """Apply the log from where it is up to ``upto`` changes."""
        first = self.cuts[self.writer.table.position.seq]
        batch = pa.Table.from_pylist(self.source.log[first:upto], SCHEMA.changelog_schema())
        staged = Staged()
        self.writer.stage(batch, staged, exact=True)
        self.cuts.append(upto)
        self.writer.commit(staged, Position(upto, len(self.cuts) - 1, 1))

    def trusted(self) -> list[dict[str, Any]]:
        return read_pyiceberg(self.writer.table).to_pylist()

    def held(self) -> dict[tuple[int, str], str]:
        if not self.catalog.table_exists(("quarantine", SCHEMA.lake_name)):
            return {}
        rows = self.catalog.load_table(("quarantine", SCHEMA.lake_name)).scan().to_arrow().to_pylist()
        found = {(row["a"], row["b"]): row["_disposition"] for row in rows}
        assert len(found) == len(rows), "a key is held twice"
        return found


def state(log: list[dict[str, object]], keys: pa.Table | None = None) -> pa.Table:
    """The rows that a log leaves, as inserts; of ``keys`` only, if given."""
    changes = pa.Table.from_pylist(log, SCHEMA.changelog_schema())
    net = fold(changes, SCHEMA)
    assert not net.missing
    rows = net.upserts.to_pylist()
    wanted = None if keys is None else {(row["a"], row["b"]) for row in keys.to_pylist()}
    full = [
        {"_op": "i", "_commit_lsn": row["_lsn"], "_ordinal": 0, **row}
        for row in rows
        if wanted is None or (row["a"], row["b"]) in wanted
    ]
    return pa.Table.from_pylist(full, SCHEMA.changelog_schema())


def expected(source: Source, rules: TableRules) -> tuple[list[dict[str, Any]], dict[tuple[int, str], str]]:
    """The rules applied to the source's present rows."""
    compiled = compile_rules(SCHEMA, rules)
    assert compiled is not None
    return outcome(source, compiled)


def outcome(source: Source, compiled: Rules) -> tuple[list[dict[str, Any]], dict[tuple[int, str], str]]:
    """Compiled rules applied to the source's present rows, the slow and obvious way."""
    rows = fold(pa.Table.from_pylist(source.log, SCHEMA.changelog_schema()), SCHEMA).upserts
    rows = renamed(rows, SCHEMA, compiled.schema)
    cleaned = compiled.apply(rows)
    keys = [(row["a"], row["b"]) for row in rows.to_pylist()]
    good = [row for row, v in zip(cleaned.rows.to_pylist(), cleaned.verdict, strict=True) if v == 0]
    names = {Verdict.QUARANTINE: "quarantined", Verdict.DROP: "dropped"}
    held = {key: names[Verdict(v)] for key, v in zip(keys, cleaned.verdict, strict=True) if v}
    if compiled.dedupe is None:
        return good, held
    best: dict[Any, dict[str, Any]] = {}
    last, by = compiled.dedupe.keep == "last", compiled.dedupe.by
    assert by is not None
    for row in good:
        other = best.get(row["bucket"])
        order = (row[by], row["a"], row["b"])
        if other is None or (order > (other[by], other["a"], other["b"])) == last:
            best[row["bucket"]] = row
    for row in good:
        if best[row["bucket"]] is not row:
            held[row["a"], row["b"]] = DUPLICATE
    return list(best.values()), held


def transaction_ends(source: Source) -> list[int]:
    """Where the log may be cut: how many changes lie before each end of a transaction."""
    lsns = [change["_commit_lsn"] for change in source.log]
    return [n for n in range(1, len(lsns) + 1) if n == len(lsns) or lsns[n] != lsns[n - 1]]


def in_order(rows: list[dict[str, Any]], *, without: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    kept = [{name: value for name, value in row.items() if name not in without} for row in rows]
    return sorted(kept, key=lambda row: (row["a"], row["b"]))


@pytest.mark.parametrize("number", range(12))
def test_any_batches_give_the_rules_applied_to_the_source(number: int, seed: str, tmp_path: Path) -> None:
    """Random changes, cut anywhere, some batches crashing between their commits, some rows replayed."""
    rng = random.Random(f"{seed} {number}")
    source = Source(rng.randrange(2**32))
    for _ in range(25):
        source.step()
    lake = Lake(source, random_rules(rng), tmp_path)
    if lake.writer.rules_version == "":
        pytest.skip("no rules were drawn")
    ends = transaction_ends(source)
    cuts = sorted({*rng.sample(ends, min(6, len(ends))), len(source.log)})
    for cut in cuts:
        if rng.random() < 0.3:
            crash_between_commits(lake, cut)
        lake.feed(cut)
        if rng.random() < 0.3:  # judging held rows again changes nothing: the rules are the same
            lake.writer.revise_held(None, drop=False)
    good, held = expected(source, lake.rules)
    message = f"seed {seed} {number}, rules {lake.rules}"
    assert in_order(lake.trusted()) == in_order(good), message
    assert lake.held() == held, message
    keys = {(row["a"], row["b"]) for row in lake.trusted()}
    assert keys | held.keys() == source.rows.keys() and not keys & held.keys(), message


def test_what_was_dropped_by_hand_stays_away_until_the_source_changes_it(tmp_path: Path) -> None:
    source = Source(5)
    for _ in range(25):
        source.step()
    rules = TableRules.model_validate({"quality": [{"range": {"column": "n", "min": 500_000}}]})
    lake = Lake(source, rules, tmp_path)
    lake.feed(len(source.log))
    held = sorted(lake.held())
    assert held
    assert lake.writer.revise_held([[str(a), b] for a, b in held], drop=True) == len(held)
    assert set(lake.held().values()) == {"dropped"}
    assert lake.writer.revise_held(None, drop=False) == 0, "dropped rows are not judged again"
    a, b = held[0]
    source.lsn += 1
    source.emit(0, "u", (a, b), ("big", 999_999))
    lake.feed(len(source.log))
    assert (a, b) not in lake.held()
    assert {"a": a, "b": b}.items() <= next(r for r in lake.trusted() if (r["a"], r["b"]) == (a, b)).items()


def crash_between_commits(lake: Lake, cut: int) -> None:
    """Commit the quarantine's part of a batch, then be another process that begins it anew."""
    table = lake.writer.table
    before = table.commit
    try:
        table.commit = stop_here  # type: ignore[method-assign]
        with pytest.raises(InterruptedError):
            lake.feed(cut)
    finally:
        table.commit = before  # type: ignore[method-assign]
    lake.cuts.pop()
    lake.writer = TableWriter(table, SCHEMA, lake.refinery, lake.quarantine)


def stop_here(**_: Any) -> None:
    raise InterruptedError


@pytest.mark.parametrize("number", range(6))
def test_a_bad_update_keeps_what_was_good_wherever_the_log_is_cut(
    number: int, seed: str, tmp_path: Path
) -> None:
    rng = random.Random(f"{seed} {number}")
    source = Source(rng.randrange(2**32))
    for _ in range(20):
        source.step()
    more = {"on_bad_update": "keep_previous_marked"}
    rules = TableRules.model_validate({"quality": [QUALITY[0]], "clean": [CLEAN[0]], **more})
    whole, cut_up = Lake(source, rules, tmp_path / "whole"), Lake(source, rules, tmp_path / "cut")
    whole.feed(len(source.log))
    ends = transaction_ends(source)
    for cut in ends:
        cut_up.feed(cut)
    assert in_order(whole.trusted()) == in_order(cut_up.trusted()), f"seed {seed} {number}"
    assert whole.held() == cut_up.held()
    stale = [row for row in whole.trusted() if row["_quality"] and "stale_since" in row["_quality"]]
    assert {(row["a"], row["b"]) for row in stale} <= whole.held().keys()
    good = pc.sum(pa.array([row["n"] >= 200_000 for row in whole.trusted()])).as_py() or 0
    assert good == len(whole.trusted()), "a bad row got through"


def test_a_key_that_its_row_left_has_no_previous_version(tmp_path: Path) -> None:
    """Two bad rows in one batch, the first of which moved here from the key of the second."""
    source = Source(1)
    for op, key, n, more in (
        ("i", (1, "y"), 900_000, {}),
        ("u", (0, "x"), 10, {"old": (1, "y")}),
        ("i", (1, "y"), 20, {}),
    ):
        source.lsn += 1
        source.emit(0, op, key, ("big", n), **more)
    rules = TableRules.model_validate({"quality": [QUALITY[0]], "on_bad_update": "keep_previous_marked"})
    lake = Lake(source, rules, tmp_path)
    lake.feed(len(source.log))
    assert lake.trusted() == []
    assert set(lake.held()) == {(0, "x"), (1, "y")}
