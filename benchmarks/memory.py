"""The memory that one very large transaction takes, in processes of their own."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import psycopg

from benchmarks.setting import check, create_orders, peak_rss_mib, server
from smartstream.config import Settings
from smartstream.pipeline import Pipeline

TIMEOUT_S = 600.0


def run(rows: int) -> dict[str, Any]:
    """Peak memory of copying a table, and of a transaction that then changes every row of it.

    ``peak_rss_mib`` is of a process that has copied the table before, as a process that
    runs on has; ``peak_rss_mib_restarted`` is of one that begins with the transaction.
    """
    with server() as running, tempfile.TemporaryDirectory(prefix="smartstream-bench-") as folder:
        create_orders(running.url, rows)
        settings = {"source": {"url": running.url}, "lake": {"warehouse": str(Path(folder) / "lake")}}
        copied, changed = _measure(settings, "copy", "change")
        (restarted,) = _measure(settings, "change")
        check(Settings.model_validate(settings))
    return {
        "rows": rows,
        "peak_rss_mib_copy": round(copied),
        "peak_rss_mib": round(changed),
        "peak_rss_mib_restarted": round(restarted),
    }


def _measure(settings: dict[str, Any], *steps: str) -> list[float]:
    """Take some steps in a process of their own; its peak memory after each."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.memory", *steps],
        input=json.dumps(settings),
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        timeout=TIMEOUT_S,
    )
    return [float(line) for line in done.stdout.split()]


def _take(step: str, settings: Settings) -> None:
    """Bring the lake up to date, for ``change`` after a transaction that changes every row."""
    if step == "change":
        with psycopg.connect(settings.source.dsn) as connection:
            connection.execute("UPDATE orders SET quantity = quantity + 1, status = 'changed'")
    Pipeline(settings).run(once=True)


if __name__ == "__main__":
    given = Settings.model_validate(json.load(sys.stdin))
    for name in sys.argv[1:]:
        _take(name, given)
        sys.stdout.write(f"{peak_rss_mib()}\n")
