"""Differences: from sums that are not equal to the keys of the rows behind them, pure."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from smartstream.verify.canonical import FoundRow, Search, Sums
from smartstream.verify.report import DifferingKey

DIFFERING_MAX = 20
"""Keys shown per table."""
ROWS_READ_MAX = 200_000
"""Rows read again, on either side, to find them."""


def differing_keys(
    names: Sequence[str], source: Sequence[FoundRow], lake: Sequence[FoundRow]
) -> tuple[DifferingKey, ...]:
    """Return a sample of the keys that differ, in no special order."""
    return tuple(itertools.islice(_differing(names, source, lake), DIFFERING_MAX))


def _differing(
    names: Sequence[str], source: Sequence[FoundRow], lake: Sequence[FoundRow]
) -> Iterator[DifferingKey]:
    """All of them."""
    ours, theirs = {row.key: row for row in source}, {row.key: row for row in lake}
    repeated = {key for key, count in Counter(row.key for row in lake).items() if count > 1}
    for key in ours | theirs:
        there, here = ours.get(key), theirs.get(key)
        if there is None:
            kind = "extra"
        elif here is None:
            kind = "missing"
        elif key in repeated:
            kind = "repeated"
        elif here.hash != there.hash:
            kind = "different"
        else:
            continue
        shown = there or here
        assert shown is not None
        yield DifferingKey(kind, dict(zip(names, shown.shown, strict=True)))


def search_of(source: Sums, lake: Sums) -> Search:
    """Return where to look: the buckets that differ, and of these a share that is not too much to read."""
    buckets = [b for b in sorted(set(source) | set(lake)) if source.get(b) != lake.get(b)]
    count = sum(max(source.get(b, (0, 0))[0], lake.get(b, (0, 0))[0]) for b in buckets)
    digits = 0
    while count > ROWS_READ_MAX * 16**digits:
        digits += 1
    return Search(tuple(buckets), digits)


def total(sums: Sums) -> tuple[int, str]:
    """Return row count and checksum of a table."""
    count = sum(count for count, _ in sums.values())
    value = sum(value for _, value in sums.values())
    return count, f"{value & (1 << 128) - 1:032x}"


def added(parts: Iterable[Sums]) -> Sums:
    """Return sums of sums."""
    found: dict[int, tuple[int, int]] = {}
    for part in parts:
        for bucket, (count, value) in part.items():
            old_count, old_value = found.get(bucket, (0, 0))
            found[bucket] = (old_count + count, old_value + value)
    return found
