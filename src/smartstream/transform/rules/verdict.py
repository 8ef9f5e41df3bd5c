"""The verdict on each row: which rules it broke, and what becomes of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Codes = npt.NDArray[np.uint8]
OnFail = Literal["quarantine", "drop", "warn", "stop"]


class Verdict(IntEnum):
    """What becomes of a row; the worst that a rule asks for wins."""

    GOOD = 0
    QUARANTINE = 1
    DROP = 2


_VERDICTS: dict[str, Verdict] = {
    "quarantine": Verdict.QUARANTINE,
    "drop": Verdict.DROP,
    "warn": Verdict.GOOD,
    "stop": Verdict.QUARANTINE,
}


@dataclass(frozen=True, slots=True)
class Test:
    """Something that a row can fail.

    Attributes:
        rule: its name.
        column: what it is about, empty for the row as a whole.
        reasons: constant texts; the pass gives 0 for a row that is good, else 1 + the index of one.
        code: the pass's column of these numbers.
        sources: the source columns that decide it.
        heals: the output columns that must become null to make a row good that fails;
            None where that does not help.
    """

    rule: str
    column: str
    on_fail: OnFail
    reasons: tuple[str, ...]
    code: str
    sources: frozenset[str]
    heals: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Judgement:
    """Verdicts and what they rest on, for n rows; see ``Cleaned``."""

    verdict: npt.NDArray[np.int8]
    violations: pa.Array
    bad_columns: pa.Array
    quality: pa.Array
    counts: dict[str, int]


def judge(tests: Sequence[Test], codes: Sequence[Codes], count: int) -> Judgement:
    """Sum up what each test says of each of ``count`` rows.

    Reasons hold no values of rows, so rows that fail alike share their texts: these are
    made once for each combination that occurs.
    """
    counts = {test.rule: int(np.count_nonzero(one)) for test, one in zip(tests, codes, strict=True)}
    failing = [number for number, test in enumerate(tests) if counts[test.rule]]
    marks = np.zeros((count, len(failing)), np.uint8)
    for position, number in enumerate(failing):
        marks[:, position] = codes[number]
    touched = np.flatnonzero(marks.any(axis=1))
    patterns, which = np.unique(marks[touched], axis=0, return_inverse=True)
    chosen = [tests[number] for number in failing]
    found = [_outcome(chosen, pattern.tolist()) for pattern in patterns]
    good = _Outcome(Verdict.GOOD, None, None, None)
    index = np.full(count, len(found), np.int64)
    index[touched] = which.reshape(-1)
    take = pa.array(index)
    found.append(good)
    return Judgement(
        verdict=np.array([one.verdict for one in found], np.int8)[index],
        violations=pa.array([one.violations for one in found], pa.string()).take(take),
        bad_columns=pa.array([one.bad for one in found], pa.list_(pa.string())).take(take),
        quality=pa.array([one.quality for one in found], pa.string()).take(take),
        counts=counts,
    )


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What becomes of rows that fail alike."""

    verdict: Verdict
    violations: str | None
    bad: list[str] | None
    quality: str | None


def _outcome(tests: Sequence[Test], pattern: Sequence[int]) -> _Outcome:
    """The outcome of one combination of codes."""
    failed = [(test, code) for test, code in zip(tests, pattern, strict=True) if code]
    warned = [test.rule for test, _ in failed if test.on_fail == "warn"]
    broken = [(test, code) for test, code in failed if test.on_fail != "warn"]
    verdict = max((_VERDICTS[test.on_fail] for test, _ in broken), default=Verdict.GOOD)
    quality = json.dumps({"warn": warned}, ensure_ascii=False) if warned else None
    if not broken:
        return _Outcome(Verdict.GOOD, None, None, quality)
    listed = [
        {"rule": test.rule, "column": test.column, "reason": test.reasons[code - 1]} for test, code in broken
    ]
    return _Outcome(verdict, json.dumps(listed, ensure_ascii=False), _bad_columns(broken, verdict), quality)


def _bad_columns(broken: Sequence[tuple[Test, int]], verdict: Verdict) -> list[str] | None:
    """The columns that must become null, None where that does not make the row good."""
    if verdict is not Verdict.QUARANTINE or any(test.heals is None for test, _ in broken):
        return None
    return sorted({column for test, _ in broken for column in test.heals or ()})
