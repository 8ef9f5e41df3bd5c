"""``python -m benchmarks [--quick] [NAME…]``: a table of figures, then one line of JSON."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Callable
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks import (
    apply,
    big_transaction,
    catch_up,
    dms,
    live_lag,
    memory,
    rules,
    scoring,
    snapshot_copy,
    transform_memory,
)

Benchmark = Callable[[], dict[str, Any]]

FULL: dict[str, Benchmark] = {
    "catch_up": lambda: catch_up.run(1_000_000),
    "snapshot_copy": lambda: snapshot_copy.run(2_000_000),
    "live_lag_2k": lambda: live_lag.run(2_000, 30),
    "live_lag_10k": lambda: live_lag.run(10_000, 30),
    "memory": lambda: memory.run(2_000_000),
    "big_transaction": lambda: big_transaction.run(1_000_000, 100_000),
    "apply_1m": lambda: apply.run(1_000_000, (1_000, 10_000, 100_000)),
    "rules": lambda: rules.run(1_000_000, 100_000),
    "dms": lambda: dms.run(200_000),
    "transform_memory": lambda: transform_memory.run(10, 5 * transform_memory.MB, 128 * transform_memory.MB),
    "scoring": lambda: scoring.run(1_000_000, 500, 6),
    "scoring_light": lambda: scoring.run(1_000_000, 100, 4),
    "apply_4m": lambda: apply.run(4_000_000, (1_000, 10_000, 100_000)),
}
QUICK: dict[str, Benchmark] = {
    "catch_up": lambda: catch_up.run(200_000),
    "snapshot_copy": lambda: snapshot_copy.run(300_000),
    "live_lag_2k": lambda: live_lag.run(2_000, 8),
    "live_lag_10k": lambda: live_lag.run(10_000, 8),
    "memory": lambda: memory.run(200_000),
    "big_transaction": lambda: big_transaction.run(300_000, 30_000),
    "apply_1m": lambda: apply.run(200_000, (1_000, 10_000)),
    "rules": lambda: rules.run(200_000, 100_000),
    "dms": lambda: dms.run(50_000),
    "transform_memory": lambda: transform_memory.run(10, 1 * transform_memory.MB, 20 * transform_memory.MB),
    "scoring": lambda: scoring.run(100_000, 500, 6),
    "scoring_light": lambda: scoring.run(100_000, 100, 4),
}

# What is wanted on 2 cores, of the full sizes: at least (ratios), at most (the rest).
WANTED: dict[str, dict[str, float]] = {
    "catch_up": {"to_raw_ratio": 2.5, "to_trusted_ratio": 1.3},
    "snapshot_copy": {"to_trusted_ratio": 0.35},
    "live_lag_2k": {"lag_ms_p50": 1500, "lag_ms_p99": 4000},
    "live_lag_10k": {"lag_ms_p50": 1500, "lag_ms_p99": 4000},
    "memory": {"peak_rss_mib": 1024},
    "big_transaction": {"peak_rss_mib": 1024},
    "rules": {"with_for_without": 1.5},
    "dms": {"records_per_cpu_second": 200_000},
    # The rest of Lambda's 512 MB is its runtime's.
    "transform_memory": {"peak_rss_mib": 480, "peak_rss_mib_again": 480, "peak_rss_mib_large": 480},
    "scoring": {"bare_ratio": 0.6, "full_for_one_percent_ratio": 20},
    "scoring_light": {"bare_ratio": 0.6, "full_for_one_percent_ratio": 20},
}


def main(arguments: list[str]) -> int:
    """Run the benchmarks named, or all of them; 1 when one of them failed to run."""
    chosen = QUICK if "--quick" in arguments else FULL
    names = [name for name in arguments if not name.startswith("-")] or list(chosen)
    unknown = [name for name in names if name not in chosen]
    if unknown:
        raise SystemExit(f"no such benchmark: {', '.join(unknown)}; there are {', '.join(chosen)}")
    console = Console(stderr=True)
    results: dict[str, Any] = {"machine": _machine()}
    table = Table("benchmark", "figure", "value", "wanted")
    _add(table, "machine", results["machine"])
    failed = False
    for name in names:
        console.print(f"{name} …")
        try:
            results[name] = chosen[name]()
        except Exception as error:  # the others are worth having all the same
            console.print_exception()
            results[name], failed = {"error": type(error).__name__}, True
        _add(table, name, results[name])
    console.print(table)
    sys.stdout.write(json.dumps(results) + "\n")
    return int(failed)


def _machine() -> dict[str, Any]:
    """What the figures hold for; other work on the machine (``load``) spoils them."""
    load = round(os.getloadavg()[0], 2)
    return {"cpus": os.cpu_count(), "python": platform.python_version(), "load": load}


def _add(table: Table, name: str, figures: dict[str, Any]) -> None:
    """One benchmark's lines of the table."""
    for figure, value in figures.items():
        wanted = WANTED.get(name, {}).get(figure)
        text = value if isinstance(value, str) else f"{value:,}"
        table.add_row(name, figure, text, "" if wanted is None else _verdict(figure, value, wanted))


def _verdict(figure: str, value: float, wanted: float) -> str:
    """What is wanted, and whether it is reached."""
    at_least = figure.endswith(("_ratio", "_per_cpu_second"))
    reached = value >= wanted if at_least else value <= wanted
    return f"{'≥' if at_least else '≤'} {wanted:,} {'[green]yes[/]' if reached else '[red]no[/]'}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
