"""The quality checks that single rows pass or fail, for the one pass of the rules, pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from smartstream.quality.config import Metric, OnFail, QualityCheck, named
from smartstream.quality.predicates import Flagged, Types, flagged_in_untyped, violated


@dataclass(frozen=True, slots=True)
class RowCheck:
    """A check of single rows.

    Attributes:
        rule: its name in violations and results.
        violated: SQL over the columns that the rules leave, true for rows that break it,
            never null.
        reason: a constant text, without values of rows.
    """

    rule: str
    column: str
    violated: str
    on_fail: OnFail
    reason: str


_REASONS = {
    Metric.NULL_VALUES: "is null",
    Metric.MISSING_VALUES: "is missing",
    Metric.INVALID_VALUES: "is not valid",
}


def row_checks(
    checks: Sequence[QualityCheck], types: Types, flagged: Flagged = flagged_in_untyped
) -> list[RowCheck]:
    """Return the checks that the rules' pass must judge: ``mustBe: 0`` of null, missing or invalid values.

    The others are of a whole table; see ``evaluate``.

    Args:
        types: the columns that the rules leave, with their types.
        flagged: how to tell a value that stands in ``_untyped``.
    Raises:
        ConfigInvalid: a check does not fit its column.
    """
    return [
        RowCheck(
            rule=name,
            column=str(check.column),
            violated=violated(check, types, flagged),
            on_fail=check.on_fail,
            reason=check.description or f"{check.column} {_REASONS[check.metric]}",
        )
        for name, check in named(checks)
        if check.of_rows
    ]
