"""Why a row is as it is: its life, what today's rules say to each version, and which commit holds it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
from pyiceberg.table import Table

from smartstream.change import DELETE, TRUNCATE
from smartstream.errors import SchemaFrozen
from smartstream.lsn import format_lsn
from smartstream.query.cleaning import RulesOf, rules_for_past
from smartstream.query.life import Life, LifeChange, find_table, life_of, parse_key
from smartstream.query.past import read_past
from smartstream.raw.store import open_store
from smartstream.raw.timeline import Generation
from smartstream.transform.rows import renamed
from smartstream.transform.rules import Verdict
from smartstream.trusted.catalog import TRUSTED, lake_errors, open_catalog
from smartstream.trusted.plan import find_table as find_trusted
from smartstream.trusted.position import Position

Verdicted = tuple[str | None, list[Mapping[str, Any]]]
"""The verdict on a change, and what was violated."""


@dataclass(frozen=True, slots=True)
class Commit:
    """The Iceberg snapshot of the trusted table that first held a change.

    Attributes:
        exact: False when older snapshots have been forgotten: it was this one, or one before.
    """

    snapshot_id: int
    lsn: int
    exact: bool


@dataclass(frozen=True, slots=True)
class Reason:
    """A change and what became of it.

    Attributes:
        verdict: of today's rules on the row as it was then: good, quarantine or drop; frozen
            where it waits because the table's contract has stopped the pipeline; None without
            rules, or without a row.
        violations: list of {rule, column, reason}.
        commit: None while the trusted table does not hold it.
    """

    change: LifeChange
    verdict: str | None
    violations: list[Mapping[str, Any]]
    commit: Commit | None

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        change = self.change
        found = asdict(change)
        found["lsn"] = format_lsn(change.lsn)
        found["time"] = change.time.isoformat() if change.time else None
        found["changed"] = {name: {"from": old, "to": new} for name, (old, new) in change.changed.items()}
        commit = asdict(self.commit) | {"lsn": format_lsn(self.commit.lsn)} if self.commit else None
        return {**found, "verdict": self.verdict, "violations": self.violations, "commit": commit}


@dataclass(frozen=True, slots=True)
class Why:
    """The answer, oldest change first."""

    table: str
    reasons: list[Reason]

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"table": self.table, "changes": [reason.to_dict() for reason in self.reasons]}


def why(settings: Any, table: str, key: str, rules_of: RulesOf | None = None) -> Why:
    """Return the life of the row of ``table`` that has, or had, ``key``.

    Args:
        table: ``schema.table``, or the name in the lake.
        key: see ``parse_key``.
        rules_of: the rules to judge by; those of ``settings`` if None.
    Raises:
        QueryError: there is no such table, or the key is not one of its.
        KeyNotFound: the row never was, as far as the lake knows.
        RawCorrupt, StoreUnavailable, CatalogUnavailable: the lake can't be read.
    """
    store = open_store(settings.lake)
    past = read_past(store)
    found = find_table(past, table)
    schema = past.tables[found][-1].schema
    life = life_of(past, store, found, parse_key(key, schema))
    catalog = open_catalog(settings.lake)
    with lake_errors(f"look at trusted table {schema.lake_name}"):
        trusted = find_trusted(catalog, TRUSTED, schema.lake_name)
    snapshots = _snapshots(trusted) if trusted else []
    commits = [_commit(snapshots, change) for change in life.changes]
    try:
        verdicts = _verdicts(life, past.tables[found][-1], rules_of or rules_for_past(settings))
    except SchemaFrozen as error:
        verdicts = [_frozen(error) if commit is None else (None, []) for commit in commits]
    reasons = [
        Reason(change, verdict, violations, commit)
        for change, (verdict, violations), commit in zip(life.changes, verdicts, commits, strict=True)
    ]
    return Why(found, reasons)


def _frozen(error: SchemaFrozen) -> Verdicted:
    """Of a change that waits because a contract does not allow what came with it or before it."""
    return "frozen", [{"rule": "contract", "column": None, "reason": str(error)}]


def _verdicts(life: Life, newest: Generation, rules_of: RulesOf) -> list[Verdicted]:
    """What the rules say to the row after each change.

    Raises:
        SchemaFrozen: the table's contract does not allow its newest columns.
    """
    rules = rules_of(newest)
    if rules is None:
        return [(None, []) for _ in life.changes]
    cleaned = rules.apply(renamed(life.rows, life.schema, rules.schema))
    texts: list[str | None] = pa.array(cleaned.violations).to_pylist()
    return [
        (None, [])
        if change.op in (DELETE, TRUNCATE)
        else (Verdict(int(verdict)).name.lower(), json.loads(text or "[]"))
        for change, verdict, text in zip(life.changes, cleaned.verdict, texts, strict=True)
    ]


def _snapshots(table: Table) -> list[tuple[int, Position, bool]]:
    """The snapshots that are left, oldest first: id, position, whether the one before is left too."""
    found: list[tuple[int, Position, bool]] = []
    snapshot = table.current_snapshot()
    while snapshot is not None:
        parent = snapshot.parent_snapshot_id
        before = table.snapshot_by_id(parent) if parent is not None else None
        if snapshot.summary is not None:
            position = Position.from_properties(snapshot.summary.additional_properties)
            found.insert(0, (snapshot.snapshot_id, position, parent is None or before is not None))
        snapshot = before
    return found


def _commit(snapshots: list[tuple[int, Position, bool]], change: LifeChange) -> Commit | None:
    """The first snapshot that holds a change."""
    for snapshot_id, position, exact in snapshots:
        if _holds(position, change):
            return Commit(snapshot_id, position.lsn, exact)
    return None


def _holds(position: Position, change: LifeChange) -> bool:
    """Whether a table at a position holds a change; a copy is one swap, whatever its entries' numbers."""
    if position.generation != change.generation:
        return position.generation > change.generation
    return change.op == "r" or position.seq >= change.seq
