"""The snapshot copy into raw, and into trusted, beside COPY (FORMAT binary) to /dev/null."""

from __future__ import annotations

from typing import Any

from benchmarks.setting import copy_out, create_orders, lake, running_pipeline, server, timed, wait_until

TIMEOUT_S = 600.0


def run(rows: int) -> dict[str, Any]:
    """Rows per second of each, and the ratios to the baseline.

    ``to_raw`` ends when the last chunk is durable and ``to_trusted`` when the rows can
    be queried; both begin before the slot, so set-up is included.
    """
    with server() as running:
        create_orders(running.url, rows)
        copy_out(running, "orders")  # warms the cache for all
        baseline = timed(lambda: copy_out(running, "orders"))
        with lake(running.url) as settings, running_pipeline(settings) as pipeline:
            raw = timed(lambda: wait_until(pipeline.copied, TIMEOUT_S))
            trusted = raw + timed(lambda: wait_until(lambda: _rows(pipeline) == rows, TIMEOUT_S))
    return {
        "rows": rows,
        "copy_binary_per_s": round(rows / baseline),
        "to_raw_per_s": round(rows / raw),
        "to_raw_ratio": round(baseline / raw, 2),
        "to_trusted_per_s": round(rows / trusted),
        "to_trusted_ratio": round(baseline / trusted, 2),
    }


def _rows(pipeline: Any) -> int:
    """Rows of the trusted table that a query would see."""
    return int(pipeline.progress().tables["public.orders"].lake_rows)
