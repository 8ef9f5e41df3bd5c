"""Folding any changelog, cut anywhere, gives the table that the changes describe."""

from __future__ import annotations

import random

import pyarrow as pa
import pytest

from smartstream.schema import Column, Kind, PgType, TableSchema
from smartstream.transform.fold import fill, fold, wanted_keys

INT, TEXT = PgType("integer", Kind.INT4), PgType("text", Kind.TEXT)
SCHEMA = TableSchema(
    1,
    "public",
    "t",
    (Column("a", 1, INT), Column("b", 2, TEXT), Column("big", 3, TEXT), Column("n", 4, INT)),
    ("a", "b"),
)
Key = tuple[int, str]


class Source:
    """A table that is changed at random and logs its changes as PostgreSQL would."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.rows: dict[Key, tuple[str, int]] = {}
        self.log: list[dict[str, object]] = []
        self.lsn = 100

    def step(self) -> None:
        """One transaction of one to four changes."""
        self.lsn += self.random.randint(1, 9)
        for ordinal in range(self.random.randint(1, 4)):
            self.change(ordinal)

    def change(self, ordinal: int) -> None:
        key = (self.random.randint(0, 6), self.random.choice("xy"))
        draw, n = self.random.random(), self.random.randint(0, 10**6)
        if draw < 0.02:
            self.rows.clear()
            self.emit(ordinal, "t", None, None)
        elif key not in self.rows:
            self.rows[key] = (f"big{n}", n)
            self.emit(ordinal, "i", key, self.rows[key])
        elif draw < 0.2:
            del self.rows[key]
            self.emit(ordinal, "d", key, None)
        else:
            self.update(ordinal, key, n)

    def update(self, ordinal: int, key: Key, n: int) -> None:
        free = [(a, b) for a in range(7) for b in "xy" if (a, b) not in self.rows]
        target = self.random.choice(free) if free and self.random.random() < 0.3 else key
        big, _ = self.rows.pop(key)
        unchanged = self.random.random() < 0.6
        big = big if unchanged else f"big{n}"
        self.rows[target] = (big, n)
        self.emit(
            ordinal,
            "u",
            target,
            (None if unchanged else big, n),
            old=key if target != key else None,
            unchanged=["big"] if unchanged else None,
        )

    def emit(self, ordinal: int, op: str, key: Key | None, values: object, **more: object) -> None:
        a, b = key or (None, None)
        big, n = values or (None, None)  # type: ignore[misc]
        old = more.get("old")
        self.log.append(
            {
                "_op": op,
                "_commit_lsn": self.lsn,
                "_ordinal": ordinal,
                "_commit_ts": None,
                "_xid": 1,
                "_unchanged": more.get("unchanged"),
                "_old_key": {"a": old[0], "b": old[1]} if old else None,  # type: ignore[index]
                "_untyped": None,
                "a": a,
                "b": b,
                "big": big,
                "n": n,
            }
        )


def apply(
    target: dict[Key, tuple[str, int]],
    changes: list[dict[str, object]],
    rng: random.Random,
    unresolved: set[Key] | None = None,
) -> None:
    """Fold one batch, in any order of its rows, into ``target``; ``unresolved``: it may be ahead."""
    shuffled = rng.sample(changes, len(changes))
    net = fold(pa.Table.from_pylist(shuffled, SCHEMA.changelog_schema()), SCHEMA)
    if net.truncate:
        target.clear()
    keys = {(r["a"], r["b"]) for r in wanted_keys(net, SCHEMA).to_pylist()} if net.missing else set()
    old = [{"a": k[0], "b": k[1], "big": target[k][0], "_untyped": None} for k in keys if k in target]
    old_schema = pa.schema(
        [("a", pa.int32()), ("b", pa.string()), ("big", pa.string()), ("_untyped", pa.string())]
    )
    filled = fill(net, pa.Table.from_pylist(old, old_schema), SCHEMA, exact=unresolved is None)
    upserts = filled.upserts
    touched = [(r["a"], r["b"]) for r in net.keys.to_pylist()]
    lost = {(r["a"], r["b"]) for r in filled.unresolved.to_pylist()}
    if unresolved is None:
        assert not lost
    else:
        unresolved -= set(touched)
        unresolved |= lost
    assert len(touched) == len(set(touched))
    for key in touched:
        target.pop(key, None)
    for row in upserts.to_pylist():
        key = (row["a"], row["b"])
        assert key in touched and key not in target
        target[key] = (row["big"], row["n"])


@pytest.mark.parametrize("seed", range(60))
def test_folding_in_random_batches_gives_the_source(seed: int) -> None:
    source, rng, target = Source(seed), random.Random(-seed), {}
    for _ in range(40):
        source.step()
    log = source.log
    while log:
        cut = rng.randint(1, 30)
        lsn = log[min(cut, len(log)) - 1]["_commit_lsn"]
        batch = [c for c in log if c["_commit_lsn"] <= lsn]  # type: ignore[operator]
        apply(target, batch, rng)
        log = log[len(batch) :]
    assert target == source.rows, f"seed {seed}"


@pytest.mark.parametrize("seed", range(200))
def test_a_copy_read_meanwhile_is_settled_or_the_row_is_known_to_be_unresolved(seed: int) -> None:
    """Two chunks are read at different moments, each after the changes that are applied began."""
    source, rng = Source(seed), random.Random(-seed)
    for _ in range(10):
        source.step()
    start, base = len(source.log), {}
    for chunk in (0, 1):
        for _ in range(rng.randint(0, 12)):
            source.step()
        base.update({key: row for key, row in source.rows.items() if hash(key[0]) % 2 == chunk})
    for _ in range(rng.randint(0, 12)):
        source.step()
    log, unresolved = source.log[start:], set[Key]()
    while log:
        lsn = log[min(rng.randint(1, 10), len(log)) - 1]["_commit_lsn"]
        batch = [c for c in log if c["_commit_lsn"] <= lsn]  # type: ignore[operator]
        apply(base, batch, rng, unresolved)
        log = log[len(batch) :]
    different = {key for key in base.keys() | source.rows.keys() if base.get(key) != source.rows.get(key)}
    assert different <= unresolved, f"seed {seed}"


def test_a_batch_applied_twice_changes_nothing() -> None:
    source, target = Source(1), {}
    for _ in range(20):
        source.step()
    whole = [c for c in source.log if c["_unchanged"] is None]
    apply(target, whole, random.Random(0))
    once = dict(target)
    apply(target, whole, random.Random(1))
    assert target == once
