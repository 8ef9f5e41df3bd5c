"""The memory that one large transaction takes on its way from the slot into trusted, beside a small one."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psycopg

from benchmarks.setting import FILL, ORDERS, check, peak_rss_mib, server
from smartstream.config import Settings
from smartstream.pipeline import Pipeline

TIMEOUT_S = 1800.0


def run(rows: int, small: int) -> dict[str, Any]:
    """Peak memory of a process that takes one transaction of ``rows`` inserts, and of one with ``small``.

    Both begin with an empty table and read the transaction as a backlog.
    """
    peak_small, _ = _measure(small)
    peak, seconds = _measure(rows)
    return {
        "rows": rows,
        "peak_rss_mib": round(peak),
        f"peak_rss_mib_{small // 1000}k": round(peak_small),
        "memory_for_small": round(peak / peak_small, 2),
        "rows_per_s": round(rows / seconds),
    }


def _measure(rows: int) -> tuple[float, float]:
    """Peak memory in MiB and seconds of a process of its own, from the commit to trusted."""
    with server() as running, tempfile.TemporaryDirectory(prefix="smartstream-bench-") as folder:
        settings = {"source": {"url": running.url}, "lake": {"warehouse": str(Path(folder) / "lake")}}
        with psycopg.connect(running.url) as connection:
            connection.execute(ORDERS)
            connection.commit()
            Pipeline(Settings.model_validate(settings)).run(once=True)
            connection.execute(FILL, (1, rows))
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.big_transaction"],
            input=json.dumps(settings),
            check=True,
            stdout=subprocess.PIPE,
            text=True,
            timeout=TIMEOUT_S,
        )
        check(Settings.model_validate(settings))
    peak, seconds = json.loads(done.stdout)
    return peak, seconds


if __name__ == "__main__":
    given = Settings.model_validate(json.load(sys.stdin))
    begun = time.monotonic()
    Pipeline(given).run(once=True)
    sys.stdout.write(json.dumps([peak_rss_mib(), time.monotonic() - begun]))
