"""Profiles in bounded memory, and drift measures that agree with scipy and with what is known."""

from __future__ import annotations

import math
import random
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from scipy import stats
from scipy.spatial import distance

from smartstream.inference import profile as profiles
from smartstream.inference.config import DriftLimits
from smartstream.inference.drift import Drift, drift, js, ks, psi
from smartstream.inference.drift_tables import (
    DRIFT_SCHEMA,
    PROFILE_SCHEMA,
    Measured,
    drift_rows,
    profile_of,
    profile_rows,
)
from smartstream.inference.profile import ColumnProfile, Profile, Profiler, merge, profile
from smartstream.inference.quantiles import LEVEL_MAX, QuantileSketch

LIMITS = DriftLimits()
ABOUT = Measured("attrition", "1", "run", "feature", datetime(2026, 1, 1, tzinfo=UTC), 42)


@pytest.fixture
def rng(seed: str) -> np.random.Generator:
    """Random numbers that follow from the seed."""
    return np.random.default_rng(random.getrandbits(64))


def only(values: Any, baseline: Profile | None = None) -> ColumnProfile:
    """The profile of one column."""
    (column,) = profile(pa.table({"x": values}), baseline).columns
    return column


def compared(before: Any, now: Any, limits: DriftLimits = LIMITS) -> Drift:
    """Drift of one column."""
    baseline = profile(pa.table({"x": before}))
    (found,) = drift(baseline, profile(pa.table({"x": now}), baseline), limits)
    return found


def test_moments_and_counts_are_numpys(rng: np.random.Generator, seed: str) -> None:
    values = rng.normal(1e6, 3, 20_000)
    nulls = rng.random(20_000) < 0.1
    column = pa.array(values, mask=nulls)
    profiler = Profiler()
    for start in range(0, 20_000, 777):
        profiler.add(pa.table({"x": column.slice(start, 777)}))
    (found,) = profiler.profile().columns
    kept = values[~nulls]
    assert (found.rows, found.nulls, found.infinite) == (20_000, nulls.sum(), 0)
    assert (found.minimum, found.maximum) == (kept.min(), kept.max())
    assert found.mean == pytest.approx(kept.mean(), rel=1e-12), seed
    assert found.std == pytest.approx(kept.std(), rel=1e-9), seed
    assert sum(found.counts) == found.values
    assert found.counts[0] == found.counts[-1] == 0
    assert max(found.counts) < 0.015 * found.values


def test_nan_is_null_and_infinities_lie_outside_of_all_bins() -> None:
    found = only([1.0, math.nan, None, math.inf, -math.inf, 2.0])
    assert (found.rows, found.nulls, found.infinite) == (6, 2, 2)
    assert (found.minimum, found.maximum, found.mean, found.std) == (1, 2, 1.5, 0.5)
    assert found.counts[0] == found.counts[-1] == 1
    again = only([math.inf, -math.inf, 3.0], Profile((found,)))
    assert (again.counts[0], again.counts[-1]) == (1, 2)


def test_bins_lie_around_every_frequent_value() -> None:
    found = only(pa.array([0] * 90 + [5] * 10))
    assert found.edges[1:] == (0.0, 5.0) and -1e-300 < found.edges[0] < 0
    assert found.counts == (0, 90, 10, 0)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (pa.array([7] * 5), (0, 5, 0)),
        (pa.array([2**62, 2**62]), (0, 2, 0)),
        (pa.array([Decimal("1.5"), None]), (0, 1, 0)),
        (pa.array([1.5, 2.5], pa.float32()), (0, 1, 1, 0)),
        (pa.array([], pa.int64()), (0,)),
        (pa.array([None, None], pa.float64()), (0,)),
        (pa.array([math.inf]), (1,)),
        (pa.array([-1.7976931348623157e308, 1.7976931348623157e308]), (1, 1, 0)),
    ],
    ids=["constant", "great", "decimal", "float32", "empty", "nulls", "infinite", "extreme"],
)
def test_odd_columns_of_numbers_have_bins_too(values: pa.Array, expected: tuple[int, ...]) -> None:
    found = only(values)
    assert found.counts == expected
    assert Profile.from_json(Profile((found,)).to_json()) == Profile((found,))


def test_categories_are_the_most_frequent_and_the_rest_is_counted_together() -> None:
    texts = [f"c{n:03}" for n in range(80) for _ in range(100 - n)] + ["x" * 201, None]
    for values in (pa.array(texts), pa.array(texts).dictionary_encode(), pa.array(texts, pa.large_string())):
        found = only(values)
        assert found.categories == tuple(f"c{n:03}" for n in range(50))
        assert found.counts == (*range(100, 50, -1), sum(range(21, 51)) + 1)
        assert (found.rows, found.nulls, found.mean) == (len(texts), 1, None)
    again = only(["c001", "c001", "new", "c049", None], Profile((found,)))
    assert again.categories == found.categories
    assert (again.counts[1], again.counts[49], again.counts[50], sum(again.counts)) == (2, 1, 1, 4)
    truth = only([True, False, True, None])
    assert (truth.kind, truth.categories, truth.counts) == ("category", ("true", "false"), (2, 1, 0))


def test_many_different_texts_are_forgotten_but_not_the_frequent_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(profiles, "CATEGORIES_HELD", 100)
    profiler = Profiler()
    for chunk in range(50):
        texts = [f"rare {chunk} {n}" for n in range(200)] + ["often"] * 50 + ["oftener"] * 60
        profiler.add(pa.table({"x": texts}))
        assert profiler._columns["x"]._held.num_rows <= 100
    (found,) = profiler.profile().columns
    assert found.categories[:2] == ("oftener", "often")
    for exact, counted in zip((3000, 2500), found.counts, strict=False):
        assert exact - found.rows / 100 <= counted <= exact
    assert sum(found.counts) == found.rows


def test_columns_that_cannot_be_compared_are_left_out_with_the_reason() -> None:
    table = pa.table({"x": [1], "v": [[1.0]], "t": [datetime(2026, 1, 1)], "s": [{"a": 1}], "n": pa.nulls(1)})
    found = profile(table)
    assert [column.name for column in found.columns] == ["x"]
    assert dict(found.skipped) == {
        "v": "lists are not profiled",
        "t": "dates and times, which always move, are not profiled",
        "s": "values of type struct<a: int64> are not profiled",
        "n": "values of type null are not profiled",
    }


@pytest.mark.parametrize("order", ["random", "ascending", "descending", "few values"])
def test_the_sketch_keeps_its_promise(order: str, rng: np.random.Generator, seed: str) -> None:
    count = 1_000_000
    values = rng.lognormal(0, 2, count) if order != "few values" else rng.integers(0, 9, count).astype(float)
    if order in ("ascending", "descending"):
        values = np.sort(values)[:: 1 if order == "ascending" else -1]
    sketch = QuantileSketch()
    for start in range(0, count, 65_536):
        sketch.add(values[start : start + 65_536])
    kept, weights = sketch.weighted()
    assert weights.sum() == count
    assert len(kept) <= 2 * LEVEL_MAX * len(sketch._levels)
    ascending = np.sort(values)
    points = rng.choice(ascending, 200)
    true = np.searchsorted(ascending, points, side="right")
    cumulative = np.concatenate([[0], np.cumsum(weights)])
    told = cumulative[np.searchsorted(kept, points, side="right")]
    bound = count * math.log2(count / LEVEL_MAX) / (2 * LEVEL_MAX)
    assert np.abs(true - told).max() <= bound, seed


def test_bins_are_the_same_size_even_if_the_first_chunk_is_not_like_the_rest(seed: str) -> None:
    profiler = Profiler()
    for start in range(0, 300_000, 10_000):  # ascending, as a key is
        profiler.add(pa.table({"x": np.arange(start, start + 10_000)}))
    (found,) = profiler.profile().columns
    shares = np.array(found.counts[1:-1]) / 300_000
    assert np.abs(shares - 0.01).max() < 0.002, seed


def test_measures_are_scipys(rng: np.random.Generator, seed: str) -> None:
    for _ in range(200):
        size = int(rng.integers(2, 60))
        p, q = (rng.integers(0, 50, size) for _ in range(2))
        p[0] += 1
        q[-1] += 1
        assert js(p, q) == pytest.approx(distance.jensenshannon(p, q, 2) ** 2, abs=1e-12), seed
        smooth_p, smooth_q = p + 0.5, q + 0.5
        both = stats.entropy(smooth_p, smooth_q) + stats.entropy(smooth_q, smooth_p)
        assert psi(p, q) == pytest.approx(both, abs=1e-12), seed
        places = np.arange(size)
        exact = stats.ks_2samp(np.repeat(places, p), np.repeat(places, q)).statistic
        assert ks(p, q) == pytest.approx(exact, abs=1e-12), seed


def test_ks_over_bins_is_too_low_by_less_than_the_greatest_bin(rng: np.random.Generator, seed: str) -> None:
    for _ in range(30):
        before = rng.normal(0, 1, int(rng.integers(300, 5000)))
        now = rng.normal(rng.normal(0, 0.5), rng.uniform(0.5, 2), int(rng.integers(300, 5000)))
        exact = stats.ks_2samp(before, now).statistic
        old = only(before)
        new = only(now, Profile((old,)))
        greatest = max(np.max(np.array(side.counts) / side.values) for side in (old, new))
        found = compared(before, now).ks
        assert found is not None and exact - greatest <= found <= exact + 1e-12, seed


def test_known_values() -> None:
    even, shifted = np.array([50, 50]), np.array([75, 25])
    assert psi(even * 10**6, shifted * 10**6) == pytest.approx(0.25 * math.log(3), rel=1e-6)
    assert js(even, shifted) == pytest.approx(0.048794, abs=1e-6)
    assert ks(even, shifted) == 0.25
    assert js(np.array([9, 0]), np.array([0, 9])) == ks(np.array([9, 0]), np.array([0, 9])) == 1
    assert psi(even, even) == js(even, even) == ks(even, even) == 0


@pytest.mark.parametrize("size", [1000, 100_000])
def test_the_same_distribution_passes(size: int, rng: np.random.Generator, seed: str) -> None:
    for values in (rng.normal(0, 1, 2 * size), rng.integers(0, 4, 2 * size), rng.exponential(1, 2 * size)):
        found = compared(values[:size], values[size:])
        assert found.passed and found.reason is None, f"{found} {seed}"


@pytest.mark.parametrize(
    ("before", "now", "reason"),
    [
        ([5.0] * 500, [5.0] * 500, None),
        ([5.0] * 500, [4.0] * 500, "psi, js, ks past the limit"),
        ([5.0] * 500, [6.0] * 500, "psi, js, ks past the limit"),
        (list(range(500)), list(range(500, 1000)), "psi, js, ks past the limit"),
        ([0.0, 1.0] * 250, [0.0, 0.0, 0.0, 1.0] * 125, "psi, ks past the limit"),
        (["a", "b"] * 250, ["a", "c"] * 250, "psi, js past the limit"),
        (["a", "b"] * 250, ["a", "b"] * 250, None),
        ([True, False] * 250, [True] * 500, "psi, js past the limit"),
        ([1.0] * 500, [1.0] * 460 + [None] * 40, "null ratio past the limit"),
        ([1.0] * 500, [1.0] * 480 + [None] * 20, None),
        ([1.0] * 500, [None] * 500, "null ratio past the limit"),
        ([1.0] * 199, [9.0] * 500, "too few rows to judge"),
        ([1.0] * 500, [9.0] * 199, "too few rows to judge"),
        ([1.0] * 500, [9.0] * 100 + [None] * 400, "null ratio past the limit"),
        ([None] * 500, [1.0] * 500, "no values in the baseline"),
        ([1.0] * 500, [], "no values in the run"),
        ([1.0] * 500, ["a"] * 500, "a category, a number in the baseline"),
        ([math.inf] * 500, [1.0] * 500, None),
    ],
)
def test_what_is_worth_a_warning(before: list[Any], now: list[Any], reason: str | None) -> None:
    def column(values: list[Any]) -> pa.Array:
        named = any(isinstance(value, str | bool) for value in values)
        return pa.array(values, None if named else pa.float64())

    found = compared(column(before), column(now))
    assert found.reason == reason
    assert found.passed == (reason is None or reason.startswith(("too few", "no values")))


def test_only_columns_of_the_run_are_judged() -> None:
    baseline = profile(pa.table({"x": [1.0] * 300, "label": [0] * 300}))
    now = profile(pa.table({"new": ["a"] * 300, "x": [1.0] * 300}), baseline)
    new, x = drift(baseline, now, LIMITS)
    assert (new.column, new.psi, new.passed, new.reason) == ("new", None, True, "not in the baseline")
    assert (x.column, x.psi, x.js, x.ks, x.passed, x.rows) == ("x", 0, 0, 0, True, 300)


def test_profiles_with_other_bins_are_not_compared() -> None:
    one, other = (profile(pa.table({"x": list(range(n))})) for n in (300, 400))
    with pytest.raises(ValueError, match="different bins"):
        drift(one, other, LIMITS)
    with pytest.raises(ValueError, match="different bins"):
        merge(one, other)
    with pytest.raises(ValueError, match="different columns"):
        merge(one, Profile(()))


def test_parts_that_were_counted_apart_are_merged(rng: np.random.Generator, seed: str) -> None:
    letters = np.array(list("abcdefgh"))

    def some(count: int) -> pa.Table:
        numbers = pa.array(rng.normal(0, 1, count), mask=rng.random(count) < 0.2)
        lists = pa.array([[1]] * count, pa.list_(pa.int64()))
        return pa.table({"x": numbers, "c": rng.choice(letters, count), "v": lists})

    baseline, parts = profile(some(1000)), [some(n) for n in (0, 1, 500, 3000)]
    merged = profile(parts[0], baseline)
    for part in parts[1:]:
        merged = merge(merged, profile(part, baseline))
    whole = profile(pa.concat_tables(parts), baseline)
    assert merged.skipped == whole.skipped == (("v", "lists are not profiled"),)
    for one, other in zip(merged.columns, whole.columns, strict=True):
        assert (one.counts, one.nulls, one.minimum) == (other.counts, other.nulls, other.minimum), seed
        assert one.std == (other.std and pytest.approx(other.std)), seed


def test_profile_and_drift_are_rows_of_the_analytics_zone() -> None:
    table = pa.table({"x": [1.0, 2.0, None] * 100, "c": ["a", "b", 'ü\n"'] * 100, "v": [[1]] * 300})
    found = profile(table)
    assert Profile.from_json(found.to_json()) == found
    rows = profile_rows(found, ABOUT, is_baseline=True)
    assert rows.schema == PROFILE_SCHEMA.trusted_schema()
    assert rows["column"].to_pylist() == ["x", "c"] and rows["_lsn"].to_pylist() == [42, 42]
    assert profile_of(rows).columns == found.columns
    drifts = drift_rows(drift(found, profile(table, found), LIMITS), ABOUT, baseline="train.parquet")
    assert drifts.schema == DRIFT_SCHEMA.trusted_schema()
    assert drifts["passed"].to_pylist() == [True, True] and drifts["ks"].to_pylist() == [0.0, None]
    assert (
        drift_rows([], ABOUT, baseline="x").num_rows
        == profile_rows(Profile(()), ABOUT, is_baseline=False).num_rows
        == 0
    )
