"""What the columns of a run look like, in a few numbers each: counts, moments and bins.

A profile is small, whatever the run's size, and is kept as JSON.  The first one, the baseline, chooses
the bins; later ones count into the same bins, so that ``drift`` can compare them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from smartstream.inference.quantiles import Floats, QuantileSketch

BINS = 100
"""Bins of a number between the baseline's smallest and greatest value, with equally many values each."""
CATEGORIES_MAX = 50
"""Categories with a count of their own; the others are counted together."""
CATEGORIES_HELD = 10_000
"""Different texts kept while the first run is counted; see ``_Categories``."""
TEXT_LENGTH_MAX = 200
"""Longer texts are no categories; they are counted with the others."""

Kind = Literal["number", "category"]
Counts = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class ColumnProfile:
    """One column.

    Attributes:
        rows: all of them; ``nulls`` of these are null or NaN, ``infinite`` are not finite.
        minimum, maximum, mean, std: of the finite numbers (std: of the population); None without any, or
            when it is too great for a double.
        edges: of numbers, ascending.  Bin i holds what is > edges[i - 1] and <= edges[i].  The first bin is
            below everything in the baseline, the last above everything; both are empty there but for
            infinities.
        categories: of texts and booleans, the most frequent first.
        counts: of each bin (len(edges) + 1), or of each category and, last, all others.  The baseline's
            counts of numbers are within the error of ``QuantileSketch``; later ones are exact.
    """

    name: str
    kind: Kind
    rows: int
    nulls: int
    infinite: int = 0
    minimum: float | None = None
    maximum: float | None = None
    mean: float | None = None
    std: float | None = None
    edges: tuple[float, ...] = ()
    categories: tuple[str, ...] = ()
    counts: tuple[int, ...] = ()

    @property
    def values(self) -> int:
        """Rows that are not null."""
        return self.rows - self.nulls

    @property
    def null_ratio(self) -> float:
        """Nulls among the rows; 0 without rows."""
        return self.nulls / self.rows if self.rows else 0.0


@dataclass(frozen=True, slots=True)
class Profile:
    """Columns of one run, and those that can't be profiled, each with the reason."""

    columns: tuple[ColumnProfile, ...]
    skipped: tuple[tuple[str, str], ...] = ()

    def column(self, name: str) -> ColumnProfile | None:
        """The column called ``name``, None when it is not profiled."""
        return next((column for column in self.columns if column.name == name), None)

    def to_json(self) -> str:
        """One line of JSON; ``from_json`` is its inverse."""
        return json.dumps(asdict(self), separators=(",", ":"), allow_nan=False)

    @staticmethod
    def from_json(text: str) -> Profile:
        """Inverse of ``to_json``."""
        value = json.loads(text)
        return Profile(
            tuple(column_from_dict(column) for column in value["columns"]),
            tuple((name, reason) for name, reason in value["skipped"]),
        )


def column_from_dict(value: dict[str, Any]) -> ColumnProfile:
    """Inverse of ``dataclasses.asdict``; lists become tuples."""
    lists = {name: tuple(value[name]) for name in ("edges", "categories", "counts")}
    return ColumnProfile(**{**value, **lists})


class Profiler:
    """Profiles a run chunk by chunk, in bounded memory.

    Baseline and run should have the same types: 0.1 as float32 is another number than 0.1 as float64.

    Args:
        baseline: whose bins to count into; without one, or where a column is new or of another kind,
            bins are chosen from all chunks at the end.
    """

    def __init__(self, baseline: Profile | None = None) -> None:
        self._baseline = baseline
        self._columns: dict[str, _Numbers | _Categories] = {}
        self._skipped: dict[str, str] = {}

    def add(self, columns: pa.Table) -> None:
        """Take in a chunk; every chunk has the same columns."""
        for name, column in zip(columns.column_names, columns.columns, strict=True):
            kind = column_kind(column.type)
            if kind is None:
                self._skipped[name] = f"{_family(column.type)} are not profiled"
                continue
            if name not in self._columns:
                self._columns[name] = self._begin(name, kind)
            self._columns[name].add(column)

    def profile(self) -> Profile:
        """What has come in so far."""
        return Profile(
            tuple(counted.finish(name) for name, counted in self._columns.items()),
            tuple(self._skipped.items()),
        )

    def _begin(self, name: str, kind: Kind) -> _Numbers | _Categories:
        """Counting for a column, into the baseline's bins if it has any."""
        old = self._baseline.column(name) if self._baseline is not None else None
        # A baseline of nulls alone has no bins worth to count into.
        known = old if old is not None and old.kind == kind and old.values else None
        if kind == "number":
            return _Numbers(None if known is None else known.edges)
        return _Categories(None if known is None else known.categories)


def profile(columns: pa.Table, baseline: Profile | None = None) -> Profile:
    """Profile a run that is one chunk; see ``Profiler``."""
    profiler = Profiler(baseline)
    profiler.add(columns)
    return profiler.profile()


def merge(one: Profile, other: Profile) -> Profile:
    """The profile of two parts of a run together; both were counted into the same bins.

    Raises:
        ValueError: bins or columns differ.
    """
    if [column.name for column in one.columns] != [column.name for column in other.columns]:
        raise ValueError("the profiles have different columns")
    both = zip(one.columns, other.columns, strict=True)
    return Profile(tuple(_merged(a, b) for a, b in both), tuple(dict((*one.skipped, *other.skipped)).items()))


def column_kind(kind: pa.DataType) -> Kind | None:
    """How columns of an Arrow type are profiled, None for not at all."""
    if pa.types.is_dictionary(kind):
        return column_kind(kind.value_type)
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return "number"
    is_text = pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    return "category" if is_text or pa.types.is_boolean(kind) else None


def _family(kind: pa.DataType) -> str:
    """What to call a type that is not profiled."""
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return "lists"
    if pa.types.is_temporal(kind):
        return "dates and times, which always move,"
    return f"values of type {kind}"


class _Numbers:
    """Counts numbers: into edges that are known, or into a sketch until they are."""

    def __init__(self, edges: Sequence[float] | None) -> None:
        self._edges: Floats | None = None if edges is None else np.asarray(edges, dtype=np.float64)
        self._counts: Counts = np.zeros(0 if edges is None else len(edges) + 1, dtype=np.int64)
        self._sketch = QuantileSketch()
        self._whole = ColumnProfile("", "number", 0, 0)
        self._below = self._above = 0  # infinities of a baseline

    def add(self, column: pa.ChunkedArray) -> None:
        present = column.cast(pa.float64(), safe=False).drop_null().to_numpy()
        values = finite = present
        if not np.isfinite(present).all():  # rare, and worth two copies only then
            values = present[~np.isnan(present)]
            finite = values[np.isfinite(values)]
        part = ColumnProfile(
            "", "number", len(column), len(column) - values.size, values.size - finite.size, *_moments(finite)
        )
        self._whole = _merged(self._whole, part)
        if self._edges is None:
            self._sketch.add(finite)
            self._below += int(np.count_nonzero(values == -np.inf))
            self._above += int(np.count_nonzero(values == np.inf))
        else:
            self._counts += _bin_counts(self._edges, values)

    def finish(self, name: str) -> ColumnProfile:
        edges, counts = self._edges, self._counts
        if edges is None:
            edges, counts = self._choose()
        return replace(self._whole, name=name, edges=tuple(edges.tolist()), counts=tuple(counts.tolist()))

    def _choose(self) -> tuple[Floats, Counts]:
        """Edges with equally many values between them, and the counts."""
        values, weights = self._sketch.weighted()
        low, high = self._whole.minimum, self._whole.maximum
        if low is None or high is None:
            return np.empty(0), np.array([self._whole.rows - self._whole.nulls])
        ranks = np.arange(1, BINS) / BINS * weights.sum()
        inner = values[np.searchsorted(np.cumsum(weights), ranks, side="left")]
        # One edge lies just below the smallest value: even a constant has a bin of its own.
        below = math.nextafter(low, -math.inf)
        edges = np.unique(np.concatenate([[below] if math.isfinite(below) else [], inner, [high]]))
        counts = _bin_counts(edges, values, weights)
        counts[0] += self._below
        counts[-1] += self._above
        return edges, counts


class _Categories:
    """Counts texts: into categories that are known, or each by itself until they are.

    Of more than ``CATEGORIES_HELD`` different texts the rare ones are forgotten, by taking the same
    number off every count (Misra and Gries): a count is too low by at most rows / CATEGORIES_HELD, and what
    is taken off is counted with the others.
    """

    def __init__(self, categories: Sequence[str] | None) -> None:
        self._known = None if categories is None else pa.array(categories, pa.large_string())
        self._counts: Counts = np.zeros(0 if categories is None else len(categories), dtype=np.int64)
        self._held = pa.table({"value": pa.array([], pa.large_string()), "count": pa.array([], pa.int64())})
        self._rows = self._nulls = 0

    def add(self, column: pa.ChunkedArray) -> None:
        self._rows += len(column)
        self._nulls += column.null_count
        texts = column.cast(pa.large_string()).drop_null()
        if self._known is not None:
            places = pc.index_in(texts, value_set=self._known).drop_null().to_numpy()
            self._counts += np.bincount(places, minlength=len(self._known))
            return
        short = texts.filter(pc.less_equal(pc.utf8_length(texts), TEXT_LENGTH_MAX))
        found = pc.value_counts(short)
        new = pa.table({"value": found.field("values"), "count": found.field("counts")})
        summed = pa.concat_tables([self._held, new]).group_by("value").aggregate([("count", "sum")])
        self._held = _fewer(pa.table({"value": summed["value"], "count": summed["count_sum"]}))

    def finish(self, name: str) -> ColumnProfile:
        known, counts = self._known, self._counts.tolist()
        if known is None:
            top = self._held.sort_by([("count", "descending"), ("value", "ascending")])[:CATEGORIES_MAX]
            known, counts = top["value"], top["count"].to_pylist()
        others = self._rows - self._nulls - sum(counts)
        return ColumnProfile(
            name,
            "category",
            self._rows,
            self._nulls,
            categories=tuple(known.to_pylist()),
            counts=(*counts, others),
        )


def _fewer(held: pa.Table) -> pa.Table:
    """At most ``CATEGORIES_HELD`` of the counts."""
    if held.num_rows <= CATEGORIES_HELD:
        return held
    counts = held["count"].to_numpy()
    off = int(np.partition(counts, -CATEGORIES_HELD - 1)[-CATEGORIES_HELD - 1])
    lower = held.set_column(1, "count", pa.array(counts - off))
    return lower.filter(pc.greater(lower["count"], 0))


def _bin_counts(edges: Floats, values: Floats, weights: Floats | None = None) -> Counts:
    """How many values, or how much weight, falls into each bin."""
    places = np.searchsorted(edges, values, side="left")
    return np.bincount(places, weights=weights, minlength=len(edges) + 1).astype(np.int64)


def _moments(finite: Floats) -> tuple[float | None, float | None, float | None, float | None]:
    """Minimum, maximum, mean and standard deviation."""
    if not finite.size:
        return None, None, None, None
    with np.errstate(over="ignore", invalid="ignore"):
        mean, std = float(finite.mean()), float(finite.std())
    return float(finite.min()), float(finite.max()), _finite(mean), _finite(std)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _merged(one: ColumnProfile, other: ColumnProfile) -> ColumnProfile:
    """Two parts of a column together."""
    if (one.kind, one.edges, one.categories) != (other.kind, other.edges, other.categories):
        raise ValueError(f"the profiles of {one.name} have different bins")
    mean, std = _merged_moments(one, other)
    lows = [part.minimum for part in (one, other) if part.minimum is not None]
    highs = [part.maximum for part in (one, other) if part.maximum is not None]
    return replace(
        one,
        rows=one.rows + other.rows,
        nulls=one.nulls + other.nulls,
        infinite=one.infinite + other.infinite,
        minimum=min(lows, default=None),
        maximum=max(highs, default=None),
        mean=mean,
        std=std,
        counts=tuple(a + b for a, b in zip(one.counts, other.counts, strict=True)),
    )


def _merged_moments(one: ColumnProfile, other: ColumnProfile) -> tuple[float | None, float | None]:
    """Mean and standard deviation of two parts, from theirs (Chan, Golub and LeVeque)."""
    parts = [part for part in (one, other) if part.minimum is not None]
    if len(parts) < 2:
        return (parts[0].mean, parts[0].std) if parts else (None, None)
    if one.mean is None or one.std is None or other.mean is None or other.std is None:
        return None, None
    sizes = [part.values - part.infinite for part in (one, other)]
    share = sizes[1] / sum(sizes)
    apart = other.mean - one.mean
    try:
        variance = one.std**2 * (1 - share) + other.std**2 * share + apart**2 * share * (1 - share)
    except OverflowError:
        variance = math.inf
    return _finite(one.mean + apart * share), _finite(math.sqrt(variance))
