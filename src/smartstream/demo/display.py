"""What the demo shows while it runs: a live table on a terminal, lines elsewhere."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.table import Table

from smartstream.demo.foresight import First
from smartstream.lsn import format_lsn
from smartstream.pipeline import Progress

LINE_EVERY_S = 5.0
PLAIN_WIDTH = 120  # of output that goes to a file or a log
HASH_DIGITS = 12


def command() -> str:
    """How to call SmartStream from a shell here: by name where the PATH has it, else by where it lies."""
    if shutil.which("smartstream"):
        return "smartstream"
    return shlex.quote(str(Path(sys.executable).with_name("smartstream")))


class Display:
    """A place for progress; use as a context manager."""

    def __init__(self, *, quiet: bool = False) -> None:
        self.console = Console(quiet=quiet, highlight=False)
        if not self.console.is_terminal:
            self.console.width = PLAIN_WIDTH
        self._live = Live(console=self.console, refresh_per_second=5, transient=True)
        self._is_terminal = self.console.is_terminal and not quiet
        self._next_line_s = 0.0

    def __enter__(self) -> Display:
        if self._is_terminal:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.settle()

    def settle(self) -> None:
        """Take the live table away: what comes now stays."""
        if self._is_terminal:
            self._live.stop()

    def say(self, text: str) -> None:
        """A step of the demo."""
        self.console.print(text, soft_wrap=True)
        sys.stdout.flush()

    def show(self, progress: Progress, elapsed_s: float, changes_per_s: float) -> None:
        """The pipeline's progress."""
        if self._is_terminal and self._live.is_started:
            self._live.update(_table(progress, changes_per_s))
        elif elapsed_s >= self._next_line_s:
            self._next_line_s = elapsed_s + LINE_EVERY_S
            counts = f"captured {progress.captured_count:>9,}  applied {progress.applied_count:>9,}"
            rate = f"{changes_per_s:>8,.0f} changes/s"
            self.say(f"  {elapsed_s:4.0f} s  {progress.mode:<10} {counts}  {rate}  lag {_lag(progress)}")

    def show_first(self, found: First, folder: Path) -> None:
        """What a model of the project in ``folder`` puts first, and where the first of it comes from."""
        table = Table(show_edge=False)
        for column in found.columns:
            table.add_column(column)
        for row in found.rows:
            table.add_row(*row)
        self.console.print(table)
        if found.lineage is not None:
            lineage, employee = found.lineage, found.employees[0]
            self.say(
                f"   Employee {employee}: trusted snapshot {lineage.snapshot_id}, source LSN"
                f" {format_lsn(lineage.lsn)}, model {lineage.sha256[:HASH_DIGITS]}.\n"
                "   Ask for the whole way:"
                f" cd {shlex.quote(str(folder))} && {command()} why analytics.{found.model} {employee}"
            )


def _lag(progress: Progress) -> str:
    """The lag in words."""
    if progress.lag_ms_p50 is None or progress.lag_ms_p99 is None:
        return "-"
    return f"{progress.lag_ms_p50 / 1000:.2f} s (99 %: {progress.lag_ms_p99 / 1000:.2f} s)"


def _table(progress: Progress, changes_per_s: float) -> Table:
    """The live table."""
    caption = f"{progress.mode} · {changes_per_s:,.0f} changes/s · lag {_lag(progress)}"
    table = Table(title="PostgreSQL → lake", caption=caption)
    table.add_column("table")
    table.add_column("status")
    for name in ("rows copied", "changes applied", "rows in the lake"):
        table.add_column(name, justify="right")
    for name, one in progress.tables.items():
        counts = (one.rows_copied, one.changes_applied, one.lake_rows)
        table.add_row(name, one.status, *(f"{count:,}" for count in counts))
    return table
