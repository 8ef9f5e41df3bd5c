"""The lag from commit on the source to queryable in trusted, at a steady rate of changes."""

from __future__ import annotations

import threading
import time
from typing import Any

import psycopg

from benchmarks.setting import create_orders, lake, running_pipeline, server, wait_until

TRANSACTION_ROWS = 20


def run(rate: int, seconds: float, rows: int = 100_000) -> dict[str, Any]:
    """Percentiles in milliseconds, and the rate that was really reached."""
    with server() as running, lake(running.url) as settings:
        create_orders(running.url, rows)
        with running_pipeline(settings) as pipeline:
            wait_until(pipeline.ready, 120)
            _work(running.url, rate, 3.0, rows)
            pipeline.forget_lag()
            done = _work(running.url, rate, seconds, rows)
            progress = pipeline.progress()
    assert progress.lag_ms_p50 is not None and progress.lag_ms_p99 is not None
    return {
        "rate": rate,
        "reached_per_s": round(done / seconds),
        "lag_ms_p50": round(progress.lag_ms_p50),
        "lag_ms_p99": round(progress.lag_ms_p99),
    }


def _work(url: str, rate: int, seconds: float, rows: int) -> int:
    """Change rows at ``rate`` a second; return how many."""
    done, begin, pause = 0, time.monotonic(), threading.Event()
    with psycopg.connect(url) as connection:
        while (elapsed := time.monotonic() - begin) < seconds:
            if done > rate * elapsed:
                pause.wait(done / rate - elapsed)
                continue
            first = 1 + done * 7 % (rows - TRANSACTION_ROWS)
            done += connection.execute(
                "UPDATE orders SET quantity = quantity + 1, note = 'live' WHERE id >= %s AND id < %s",
                (first, first + TRANSACTION_ROWS),
            ).rowcount
            connection.commit()
    return done
