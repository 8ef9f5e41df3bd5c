"""Whether a run still looks like the baseline, column by column.

Three measures, none of which assumes a distribution:

* PSI, the population stability index: Σ (q - p) ln(q / p).  Under 0.1 nothing moved, above 0.25 much did.
* JS, the Jensen-Shannon divergence in bits: from 0 (the same) to 1 (nothing in common).
* KS, the greatest distance of the cumulative distributions, from 0 to 1; of numbers only.

PSI and JS are taken over at most 12 groups of bins: about a tenth of the baseline's values each, and what
lies below and above all of them.  That is what PSI's limits are made for; the noise of small samples grows
with the number of groups (without any drift PSI is about (groups - 1)(1/n + 1/m)).  KS does not suffer from
fine bins and is taken over all of them: it is too low, never too high, by less than the
largest share of values in one bin, which for a baseline without frequent values is about 0.01.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from smartstream.inference.config import DriftLimits
from smartstream.inference.profile import ColumnProfile, Counts, Profile
from smartstream.inference.quantiles import Floats

GROUPS = 10
PSEUDO_COUNT = 0.5
"""Added to every group for PSI, which has no value for an empty one; fades as samples grow."""


@dataclass(frozen=True, slots=True)
class Drift:
    """One column compared with the baseline.

    Attributes:
        psi, js, ks: None where it has no value; ``ks`` of categories too, which have no order.
        null_ratio, null_ratio_baseline: nulls among the rows, now and then.
        rows: of this run.
        passed: False is worth a warning.
        reason: constant words; None when all was judged and is within the limits.
    """

    column: str
    psi: float | None
    js: float | None
    ks: float | None
    null_ratio: float
    null_ratio_baseline: float | None
    rows: int
    passed: bool
    reason: str | None


def drift(baseline: Profile, now: Profile, limits: DriftLimits) -> list[Drift]:
    """Compare each column of ``now`` with the baseline's.

    Columns that only the baseline has (a training file has labels) are left out.  With fewer than
    ``limits.rows_min`` values on either side, measures are given and nothing fails.

    Args:
        now: counted into the baseline's bins; see ``Profiler``.
    Raises:
        ValueError: it was counted into others.
    """
    return [_compare(baseline.column(column.name), column, limits) for column in now.columns]


def psi(expected: Counts, found: Counts) -> float:
    """Population stability index of two histograms (n,) of counts, smoothed by ``PSEUDO_COUNT``."""
    p, q = (
        (counts + PSEUDO_COUNT) / (counts.sum() + PSEUDO_COUNT * counts.size) for counts in (expected, found)
    )
    return float(np.sum((q - p) * np.log(q / p)))


def js(expected: Counts, found: Counts) -> float:
    """Jensen-Shannon divergence in bits of two histograms (n,) of counts, neither all zero."""
    p, q = expected / expected.sum(), found / found.sum()
    middle = (p + q) / 2
    divergence = (_relative_entropy(p, middle) + _relative_entropy(q, middle)) / 2
    return min(max(divergence, 0.0), 1.0)  # rounding


def ks(expected: Counts, found: Counts) -> float:
    """Greatest distance of the cumulative shares of two histograms (n,) of counts, neither all zero."""
    apart = np.cumsum(expected) / expected.sum() - np.cumsum(found) / found.sum()
    return float(np.abs(apart).max())


def _relative_entropy(p: Floats, of: Floats) -> float:
    """Kullback-Leibler divergence in bits; ``of`` is zero only where p is."""
    some = p > 0
    return float(np.sum(p[some] * np.log2(p[some] / of[some])))


def _grouped(expected: Counts, found: Counts) -> tuple[Counts, Counts]:
    """Bins of numbers drawn together by the baseline's deciles; the outermost stay by themselves."""
    middle = (np.cumsum(expected) - expected / 2) / max(expected.sum(), 1)
    group = np.minimum(np.floor(middle * GROUPS), GROUPS - 1).astype(np.int64) + 1
    group[0], group[-1] = 0, GROUPS + 1
    _, place = np.unique(group, return_inverse=True)
    counts = [np.bincount(place, weights=each).astype(np.int64) for each in (expected, found)]
    return counts[0], counts[1]


def _measures(old: ColumnProfile, now: ColumnProfile) -> tuple[float, float, float | None]:
    """PSI, JS and KS."""
    if (old.edges, old.categories) != (now.edges, now.categories):
        raise ValueError(f"the profiles of {now.name} have different bins")
    expected, found = np.array(old.counts, np.int64), np.array(now.counts, np.int64)
    if now.kind == "category":
        return psi(expected, found), js(expected, found), None
    groups = _grouped(expected, found)
    return psi(*groups), js(*groups), ks(expected, found)


def _compare(old: ColumnProfile | None, now: ColumnProfile, limits: DriftLimits) -> Drift:
    """One column."""

    def result(
        measures: tuple[float | None, float | None, float | None], passed: bool, reason: str | None
    ) -> Drift:
        before = None if old is None else old.null_ratio
        return Drift(now.name, *measures, now.null_ratio, before, now.rows, passed, reason)

    nothing = (None, None, None)
    if old is None:
        return result(nothing, True, "not in the baseline")
    if old.kind != now.kind:
        return result(nothing, False, f"a {now.kind}, a {old.kind} in the baseline")
    rose = now.null_ratio - old.null_ratio > limits.null_ratio_rise_max
    judged = min(old.rows, now.rows) >= limits.rows_min
    failed = ["null ratio"] if rose and judged else []
    if not old.values or not now.values:
        why = f"no values in the {'baseline' if not old.values else 'run'}"
        return result(nothing, not failed, "null ratio past the limit" if failed else why)
    measures = _measures(old, now)
    if min(old.values, now.values) >= limits.rows_min:
        failed = [*_past(measures, limits), *failed]
    elif not failed:
        return result(measures, True, "too few rows to judge")
    return result(measures, not failed, f"{', '.join(failed)} past the limit" if failed else None)


def _past(measures: tuple[float, float, float | None], limits: DriftLimits) -> list[str]:
    """Names of the measures past their limit."""
    allowed = {"psi": limits.psi_max, "js": limits.js_max, "ks": limits.ks_max}
    return [
        name
        for (name, limit), value in zip(allowed.items(), measures, strict=True)
        if value is not None and value > limit
    ]
