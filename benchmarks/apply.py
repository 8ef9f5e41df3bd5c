"""Applying a batch of changes to trusted tables of different sizes."""

from __future__ import annotations

import time
from typing import Any

import psycopg

from benchmarks.setting import create_orders, lake, running_pipeline, server, wait_until


def run(rows: int, batches: tuple[int, ...]) -> dict[str, Any]:
    """Milliseconds from commit to queryable, minus the flush interval's wait, for each batch."""
    result: dict[str, Any] = {"rows": rows}
    with server() as running, lake(running.url, defaults={"flush": {"every": "50ms"}}) as settings:
        create_orders(running.url, rows)
        with (
            running_pipeline(settings) as pipeline,
            psycopg.connect(running.url, autocommit=True) as connection,
        ):
            wait_until(pipeline.ready, 600)
            for size in batches:
                before = pipeline.progress().applied_count
                connection.execute(
                    "UPDATE orders SET quantity = quantity + 1 WHERE id %% %s = 0", (max(1, rows // size),)
                )
                begin = time.perf_counter()
                wait_until(lambda want=before + size: pipeline.progress().applied_count >= want, 120)
                result[f"apply_{size}_ms"] = round((time.perf_counter() - begin) * 1e3)
    return result
