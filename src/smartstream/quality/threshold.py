"""Whether a number is what it must be, pure."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

_HOLDS: dict[str, Callable[[float, Sequence[float]], bool]] = {
    "mustBe": lambda value, bounds: value == bounds[0],
    "mustNotBe": lambda value, bounds: value != bounds[0],
    "mustBeGreaterThan": lambda value, bounds: value > bounds[0],
    "mustBeGreaterOrEqualTo": lambda value, bounds: value >= bounds[0],
    "mustBeLessThan": lambda value, bounds: value < bounds[0],
    "mustBeLessOrEqualTo": lambda value, bounds: value <= bounds[0],
    # ODCS: "equivalent to mustBeGreaterThan and mustBeLessThan", so both ends are outside.
    "mustBeBetween": lambda value, bounds: bounds[0] < value < bounds[1],
    "mustNotBeBetween": lambda value, bounds: not bounds[0] < value < bounds[1],
}


def holds(operator: str, bounds: Sequence[float], value: float) -> bool:
    """Whether ``value`` is what the operator asks for.

    Source: Open Data Contract Standard v3.1.0, "Data Quality", valid properties for operator.
    """
    return _HOLDS[operator](value, bounds)


def threshold_text(operator: str, bounds: Sequence[float]) -> str:
    """The threshold as one would write it: ``mustBeBetween [1, 5]``."""
    numbers = [f"{bound:g}" if abs(bound) < 1e6 else f"{bound:.15g}" for bound in bounds]
    return f"{operator} {numbers[0] if len(numbers) == 1 else '[' + ', '.join(numbers) + ']'}"


def implies(strict: tuple[str, Sequence[float]], loose: tuple[str, Sequence[float]]) -> bool:
    """Whether every number that passes ``strict`` passes ``loose``.

    Both are sets of numbers whose ends are among the bounds, so it is enough to look at
    the bounds, between them, and beyond.
    """
    points = sorted({*strict[1], *loose[1]})
    between = [(a + b) / 2 for a, b in itertools.pairwise(points)]
    probes = [points[0] - 1, *points, *between, points[-1] + 1]
    return all(holds(*loose, probe) for probe in probes if holds(*strict, probe))
