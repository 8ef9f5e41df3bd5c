"""Quantiles of a stream of numbers in bounded memory."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

LEVEL_MAX = 4096
"""Numbers that a level keeps at least before it is halved."""


class QuantileSketch:
    """Numbers seen so far, thinned out evenly.

    Level h keeps numbers that stand for 2^h each.  A level that is full is sorted, and every other number
    goes one level up; which of the two, alternates, so that errors cancel out instead of adding up.  No
    chance is involved: the same numbers in the same chunks give the same sketch.

    Halving level h moves no rank by more than 2^h, and happens at most n / (8192 × 2^h) times.  So after
    n numbers a rank is wrong by at most n × log2(n / 4096) / 8192 (0.1 % of n for a million, 0.22 % for a
    thousand million); up to 8,191 numbers it is exact.  Kept are at most 8,191 numbers a level.
    """

    def __init__(self) -> None:
        self._levels: list[Floats] = []
        self._odd: list[bool] = []

    def add(self, values: Floats) -> None:
        """Take in finite numbers, any order: sorts them, O(n log n)."""
        level, rising = 0, values
        while rising.size:
            if level == len(self._levels):
                self._levels.append(np.empty(0))
                self._odd.append(False)
            held = np.concatenate([self._levels[level], rising])
            if held.size < 2 * LEVEL_MAX:
                self._levels[level] = held
                return
            held.sort()
            even = held.size // 2 * 2
            rising = held[int(self._odd[level]) : even : 2]
            self._odd[level] = not self._odd[level]
            self._levels[level] = held[even:].copy()
            level += 1

    def weighted(self) -> tuple[Floats, Floats]:
        """The numbers kept, ascending, and how many each stands for; the sum is how many came in."""
        if not self._levels:
            return np.empty(0), np.empty(0)
        values = np.concatenate(self._levels)
        weights = np.concatenate(
            [np.full(held.size, float(2**level)) for level, held in enumerate(self._levels)]
        )
        order = np.argsort(values, kind="stable")
        return values[order], weights[order]
