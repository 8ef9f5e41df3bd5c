"""Changes that are delivered late, twice and in any order give the table that they describe."""

from __future__ import annotations

import random

import pyarrow as pa
import pytest

from smartstream.delivery.order import GONE, news, touched_keys
from smartstream.transform.fold import fold
from tests.changelog_source import SCHEMA, Key, Source

Ledger = dict[Key, tuple[int, int, bool]]
KNOWN = pa.schema(
    [("a", pa.int32()), ("b", pa.string()), ("_commit_lsn", pa.int64()), ("_ordinal", pa.int64())]
)


def known(ledger: Ledger, keys: pa.Table) -> pa.Table:
    """The ledger's entries of some keys."""
    wanted = [(row["a"], row["b"]) for row in keys.to_pylist()]
    assert len(wanted) == len(set(wanted))
    rows = [
        {"a": a, "b": b, "_commit_lsn": ledger[a, b][0], "_ordinal": ledger[a, b][1]}
        for a, b in wanted
        if (a, b) in ledger
    ]
    return pa.Table.from_pylist(rows, KNOWN)


def deliver(
    changes: list[dict[str, object]],
    ledger: Ledger,
    table: dict[Key, tuple[str, int]],
    *,
    crash: bool,
) -> None:
    """Apply one delivery; with ``crash`` the ledger is written and the table is not."""
    changelog = pa.Table.from_pylist(changes, SCHEMA.changelog_schema())
    found = news(changelog, known(ledger, touched_keys(changelog, SCHEMA)), SCHEMA)
    for row in found.entries.to_pylist():
        ledger[row["a"], row["b"]] = row["_commit_lsn"], row["_ordinal"], row[GONE]
    if crash:
        return
    net = fold(found.changelog, SCHEMA)
    for row in net.keys.to_pylist():
        table.pop((row["a"], row["b"]), None)
    for row in net.upserts.to_pylist():
        table[row["a"], row["b"]] = (row["big"], row["n"])


@pytest.mark.parametrize("number", range(60))
def test_deliveries_in_any_order_give_the_source(number: int, seed: str) -> None:
    rng = random.Random(f"{seed}/{number}")
    source = Source(rng.randrange(1 << 30), whole=True)
    for _ in range(40):
        source.step()
    pieces: list[list[dict[str, object]]] = []
    rest = list(source.log)
    while rest:
        cut = rng.randint(1, 12)  # also within a transaction
        pieces.append(rest[:cut])
        rest = rest[cut:]
    queue = pieces + rng.sample(pieces, len(pieces) // 3)  # some come twice
    rng.shuffle(queue)
    ledger: Ledger = {}
    table: dict[Key, tuple[str, int]] = {}
    while queue:
        count = rng.randint(1, 3)
        taken, queue = queue[:count], queue[count:]
        changes = [change for piece in taken for change in piece]
        rng.shuffle(changes)
        crash = rng.random() < 0.2
        deliver(changes, ledger, table, crash=crash)
        for piece in taken if crash else ():
            queue.insert(rng.randint(0, len(queue)), piece)
    assert table == source.rows
    assert {key for key, (_, _, gone) in ledger.items() if not gone} == set(source.rows)
