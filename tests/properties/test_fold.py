"""Folding any changelog, cut anywhere, gives the table that the changes describe."""

from __future__ import annotations

import random

import pyarrow as pa
import pytest

from smartstream.transform.carry import filled_by_piece
from smartstream.transform.fold import Filled, NetChanges, fill, fold, wanted_keys
from tests.changelog_source import SCHEMA, Key, Source


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
    old_rows = pa.Table.from_pylist(old, old_schema)
    filled = fill(net, old_rows, SCHEMA, exact=unresolved is None)
    upserts = filled.upserts
    assert_same_by_piece(net, old_rows, filled, exact=unresolved is None)
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


def assert_same_by_piece(net: NetChanges, old_rows: pa.Table, whole: Filled, *, exact: bool) -> None:
    """Old rows one by one, and in twos or so, give what they give together."""
    for piece_bytes in (1, 100):
        lost: list[pa.Table] = []
        pieces = [old_rows.slice(row, 1) for row in range(len(old_rows))]
        found = filled_by_piece(net, pieces, SCHEMA, exact=exact, lost=lost, piece_bytes=piece_bytes)
        assert sorted(map(str, pa.concat_tables(found).to_pylist())) == sorted(
            map(str, whole.upserts.to_pylist())
        )
        assert pa.concat_tables(lost).to_pylist() == whole.unresolved.to_pylist()


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
