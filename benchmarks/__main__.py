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

from benchmarks import apply, catch_up, live_lag, memory, snapshot_copy

Benchmark = Callable[[], dict[str, Any]]

FULL: dict[str, Benchmark] = {
    "catch_up": lambda: catch_up.run(1_000_000),
    "snapshot_copy": lambda: snapshot_copy.run(2_000_000),
    "live_lag_2k": lambda: live_lag.run(2_000, 30),
    "live_lag_10k": lambda: live_lag.run(10_000, 30),
    "memory": lambda: memory.run(2_000_000),
    "apply_1m": lambda: apply.run(1_000_000, (1_000, 10_000, 100_000)),
    "apply_4m": lambda: apply.run(4_000_000, (1_000, 10_000, 100_000)),
}
QUICK: dict[str, Benchmark] = {
    "catch_up": lambda: catch_up.run(200_000),
    "snapshot_copy": lambda: snapshot_copy.run(300_000),
    "live_lag_2k": lambda: live_lag.run(2_000, 8),
    "live_lag_10k": lambda: live_lag.run(10_000, 8),
    "memory": lambda: memory.run(200_000),
    "apply_1m": lambda: apply.run(200_000, (1_000, 10_000)),
}


def main(arguments: list[str]) -> None:
    """Run the benchmarks named, or all of them."""
    chosen = QUICK if "--quick" in arguments else FULL
    names = [name for name in arguments if not name.startswith("-")] or list(chosen)
    console = Console(stderr=True)
    results: dict[str, Any] = {"machine": {"cpus": os.cpu_count(), "python": platform.python_version()}}
    table = Table("benchmark", "figure", "value")
    for name in names:
        console.print(f"{name} …")
        results[name] = chosen[name]()
        for figure, value in results[name].items():
            table.add_row(name, figure, f"{value:,}")
    console.print(table)
    sys.stdout.write(json.dumps(results) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
