"""A changelog folded slice by slice gives what it gives as a whole."""

from __future__ import annotations

import pyarrow as pa
import pytest

from smartstream.transform.fold import fold
from smartstream.transform.partition import can_partition, split
from tests.properties.test_fold import SCHEMA, Source


def changelog(seed: int, *, toast: bool) -> pa.Table:
    source = Source(seed)
    for _ in range(60):
        source.step()
    rows = [r for r in source.log if toast or r["_unchanged"] is None]
    return pa.Table.from_pylist(rows, SCHEMA.changelog_schema())


@pytest.mark.parametrize("seed", range(20))
def test_slices_together_are_the_whole(seed: int) -> None:
    changes = changelog(seed, toast=False)
    whole = fold(changes, SCHEMA)
    parts = [fold(slice_, SCHEMA) for slice_ in split(changes, SCHEMA, 3).values()]
    order = [("a", "ascending"), ("b", "ascending")]
    for name in ("upserts", "keys"):
        together = pa.concat_tables([getattr(part, name) for part in parts]).sort_by(order)
        assert together == getattr(whole, name).sort_by(order), f"seed {seed}"
    assert any(part.truncate for part in parts) == whole.truncate


def test_an_update_that_moves_a_row_and_leaves_out_a_value_is_not_cut() -> None:
    changes = changelog(3, toast=True)
    assert not can_partition(changes)
    with pytest.raises(ValueError, match="leaves out"):
        split(changes, SCHEMA, 2)
