"""The snapshot copy into raw, and into trusted, beside COPY (FORMAT binary) to /dev/null."""

from __future__ import annotations

import threading
from typing import Any

from benchmarks.setting import copy_out, create_orders, lake, running_pipeline, server, timed, wait_until
from smartstream.pipeline import Pipeline


def run(rows: int) -> dict[str, Any]:
    """Rows per second of each, and the ratios to the baseline."""
    with server() as running:
        create_orders(running.url, rows)
        copy_out(running, "orders")  # warms the cache for both
        baseline = timed(lambda: copy_out(running, "orders"))
        with lake(running.url) as settings:
            raw = timed(lambda: _copy_to_raw(Pipeline(settings)))
        with (
            lake(running.url, source={"url": running.url, "slot": {"name": "second"}}) as settings,
            running_pipeline(settings) as pipeline,
        ):
            trusted = timed(lambda: wait_until(pipeline.ready, 600))
    return {
        "rows": rows,
        "copy_binary_per_s": round(rows / baseline),
        "to_raw_per_s": round(rows / raw),
        "to_raw_ratio": round(baseline / raw, 2),
        "to_trusted_per_s": round(rows / trusted),
        "to_trusted_ratio": round(baseline / trusted, 2),
    }


def _copy_to_raw(pipeline: Pipeline) -> None:
    """Run until all chunks are durable, set-up included."""
    stop = threading.Event()
    thread = threading.Thread(target=lambda: pipeline.run(stop=stop))
    thread.start()
    try:
        wait_until(pipeline.copied, 600)
    finally:
        stop.set()
    # The applier finishes its step; what counts is when the rows were durable.
    threading.Thread(target=thread.join, daemon=True).start()
