"""The lag from commit on the source to queryable in trusted, at a steady rate of changes."""

from __future__ import annotations

from typing import Any

from benchmarks.load import apply_load
from benchmarks.setting import check, create_orders, lake, running_pipeline, server, wait_until

WARM_UP_S = 3.0


def run(rate: int, seconds: float, rows: int = 100_000) -> dict[str, Any]:
    """Percentiles in milliseconds over all transactions, and the rate that was really reached.

    Waits for the last change to be queryable: the slowest are counted, too.
    """
    with server() as running, lake(running.url) as settings:
        create_orders(running.url, rows)
        with running_pipeline(settings) as pipeline:
            wait_until(pipeline.ready, 120)
            warm = apply_load(running.url, rate, WARM_UP_S, rows)
            wait_until(lambda: pipeline.progress().applied_count >= warm, 120)
            pipeline.forget_lag()
            done = apply_load(running.url, rate, seconds, rows)
            wait_until(lambda: pipeline.progress().applied_count >= warm + done, 120)
            progress = pipeline.progress()
            check(settings)
    assert progress.lag_ms_p50 is not None
    assert progress.lag_ms_p99 is not None
    return {
        "rate": rate,
        "reached_per_s": round(done / seconds),
        "lag_ms_p50": round(progress.lag_ms_p50),
        "lag_ms_p99": round(progress.lag_ms_p99),
    }
