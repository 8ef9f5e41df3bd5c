"""Figures of CloudWatch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from smartstream.aws.operate.calls import Aws

PERIOD_S = 60


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric and how its values within a minute become one.

    Attributes:
        statistic: ``Sum``, ``Maximum`` and so on.
    """

    namespace: str
    name: str
    dimensions: Mapping[str, str]
    statistic: str


Points = tuple[tuple[datetime, float], ...]
"""Minutes and values, oldest first; minutes without a value are not there."""


def read(aws: Aws, wanted: Mapping[str, Metric], *, start: datetime, end: datetime) -> dict[str, Points]:
    """Return the values of several metrics, by the caller's names of them."""
    names = list(wanted)
    queries = [
        {
            "Id": f"m{number}",
            "MetricStat": {
                "Metric": {
                    "Namespace": metric.namespace,
                    "MetricName": metric.name,
                    "Dimensions": [{"Name": k, "Value": v} for k, v in metric.dimensions.items()],
                },
                "Period": PERIOD_S,
                "Stat": metric.statistic,
            },
        }
        for number, metric in enumerate(wanted.values())
    ]
    found: dict[str, list[tuple[datetime, float]]] = {name: [] for name in names}
    results = aws.pages(
        "cloudwatch",
        "get_metric_data",
        "*",
        "MetricDataResults",
        MetricDataQueries=queries,
        StartTime=start,
        EndTime=end,
    )
    for one in results:
        found[names[int(one["Id"][1:])]] += zip(one["Timestamps"], one["Values"], strict=False)
    return {name: tuple(sorted(points)) for name, points in found.items()}


def total(points: Points) -> int | None:
    """Return the sum; None where nothing was reported."""
    return round(sum(value for _, value in points)) if points else None


def newest(points: Points) -> float | None:
    """Return the newest value; None where nothing was reported."""
    return points[-1][1] if points else None
