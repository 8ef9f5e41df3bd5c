"""The memory that one very large transaction takes, in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import psycopg

from benchmarks.setting import check, create_orders, lake, peak_rss_mib, server
from smartstream.pipeline import Pipeline


def run(rows: int) -> dict[str, Any]:
    """Peak memory of capturing and applying a transaction that changes ``rows`` rows."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.memory", str(rows)], check=True, capture_output=True, text=True
    )
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def _measure(rows: int) -> dict[str, Any]:
    """Copy, change everything in one transaction, apply."""
    with server() as running, lake(running.url) as settings:
        create_orders(running.url, rows)
        Pipeline(settings).run(once=True)
        after_copy = peak_rss_mib()
        with psycopg.connect(running.url) as connection:
            connection.execute("UPDATE orders SET quantity = quantity + 1, status = 'changed'")
        Pipeline(settings).run(once=True)
        after_changes = peak_rss_mib()
        check(settings)
    return {"rows": rows, "peak_rss_mib_copy": round(after_copy), "peak_rss_mib": round(after_changes)}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(_measure(int(sys.argv[1]))) + "\n")
