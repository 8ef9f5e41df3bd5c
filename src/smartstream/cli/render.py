"""Tables and lines for people."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from smartstream.doctor import Check
    from smartstream.pipeline import Progress
    from smartstream.quality.watch import QualitySummary
    from smartstream.raw.receiving import Receiving
    from smartstream.status import LakeStatus, SourceStatus
    from smartstream.verify import Report

WIDTH_WITHOUT_TERMINAL = 160
FAILED_SHOWN_MAX = 20
OPEN_S_SHOWN_MIN = 60
"""Transactions are open for a while; one that has been for this long may have been forgotten."""
COLOURS = {"ok": "green", "warn": "yellow", "fail": "red", "ready": "green", "copying": "yellow"}


def console() -> Console:
    """Where tables go; names are shown as they are, brackets and all."""
    width = None if sys.stdout.isatty() else WIDTH_WITHOUT_TERMINAL
    return Console(file=sys.stdout, markup=False, highlight=False, emoji=False, width=width)


def next_step(text: str) -> None:
    """What to do next: the last line of every command."""
    typer.echo(f"next: {text}")


def when(at: datetime) -> str:
    """A moment in UTC, to the second."""
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"


def as_json(value: Any) -> None:
    """One JSON document on stdout."""
    typer.echo(json.dumps(value, indent=1))


def table(title: str | None, columns: Sequence[str], *, right: Sequence[str] = ()) -> Table:
    """An empty table; ``right`` names the columns of numbers."""
    made = Table(title=title, title_justify="left", show_edge=False, pad_edge=False)
    for name in columns:
        made.add_column(Text(name), justify="right" if name in right else "left", overflow="fold")
    return made


def coloured(word: str) -> Text:
    """A status word in its colour."""
    return Text(word, style=COLOURS.get(word, ""))


def count(value: int | None) -> str:
    """A number with separators, or a dash."""
    return "-" if value is None else f"{value:,}"


def size(size_bytes: int | None) -> str:
    """Bytes for people, or a dash."""
    if size_bytes is None:
        return "-"
    value = float(size_bytes)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def checks_table(checks: Sequence[Check]) -> Table:
    """Doctor's findings, each with its fix."""
    made = table(None, ("", "check", "found"))
    for check in checks:
        lines = [check.found]
        lines += [f"why: {check.why}"] if check.why else []
        lines += [f"fix: {check.fix}"] if check.fix else []
        lines += [f"     {statement}" for statement in check.sql]
        made.add_row(coloured(check.status.value), Text(check.name), Text("\n".join(lines)))
    return made


def status_table(lake: LakeStatus, held: Mapping[str, Mapping[str, int]]) -> Table:
    """The tables, how far they are, and what the rules hold back."""
    kinds = ("quarantined", "duplicate", "dropped")
    shown = kinds if any(held.values()) else ()
    numbers = ("rows", *shown, "not yet applied", "size")
    made = table(None, ("table", "status", "copied", *numbers, "position"), right=numbers)
    from smartstream.lsn import format_lsn

    for one in lake.tables:
        made.add_row(
            Text(one.table),
            coloured(one.status),
            f"{one.chunks_done}/{one.chunks} chunks",
            count(one.rows),
            *(count(held.get(one.table, {}).get(kind, 0)) for kind in shown),
            count(one.pending_changes),
            size(one.size_bytes),
            format_lsn(one.lsn),
        )
    return made


def source_lines(source: SourceStatus, durable_lsn: int) -> list[str]:
    """Where lake and source stand, in words."""
    from smartstream.lsn import format_lsn

    lines = [f"lake    {format_lsn(durable_lsn)} is durable" if durable_lsn else "lake    empty"]
    if source.error is not None or source.lsn is None:
        return [f"source  unreachable: {source.error}", *lines]
    behind = "" if source.lag_bytes is None else f", {size(source.lag_bytes)} of WAL more than the lake"
    lines.insert(0, f"source  {format_lsn(source.lsn)}{behind}")
    info = source.slot
    if info is None:
        lines.append("slot    does not exist")
    else:
        reader = f"read by server process {info.active_pid}" if info.active else "nobody reads it"
        lost = ", LOST" if info.lost else ""
        lines.append(f"slot    {info.name}: {reader}, holds back {size(info.retained_bytes)}{lost}")
        if source.oldest is not None and source.oldest.age.total_seconds() >= OPEN_S_SHOWN_MIN:
            age = timedelta(seconds=int(source.oldest.age.total_seconds()))
            lines.append(f"        from the oldest open transaction on: {source.oldest}, open for {age}")
    return lines


def receiving_lines(receiving: Receiving | None, at: datetime) -> list[str]:
    """A large transaction on its way in."""
    if receiving is None:
        return []
    seconds = max(0.0, (at - receiving.since).total_seconds())
    written = f"{receiving.changes:,} changes ({size(receiving.size_bytes)})"
    return [f"coming  one large transaction: {written} written in {seconds:.0f} s, all visible at its end"]


def quality_lines(quality: QualitySummary) -> list[str]:
    """What the quality checks found last."""
    failed = len(quality.failed)
    lines = [
        f"quality {quality.check_count} checks, {failed} failed"
        if failed
        else f"quality {quality.check_count} checks, all passed"
    ]
    for one in quality.failed[:FAILED_SHOWN_MAX]:
        found = one.reason if one.value is None else f"{one.value:g} {one.unit}"
        lines.append(f"        {one.table} {one.check_id}: {one.threshold}, it is {found} ({one.severity})")
    return lines


def tables_table(lake: LakeStatus) -> Table:
    """The tables of the lake with their columns."""
    numbers = ("rows", "files", "size")
    made = table(None, ("name", "source", *numbers, "columns"), right=numbers)
    for one in lake.tables:
        columns = ", ".join(f"{name} {kind}{' key' * (name in one.key)}" for name, kind in one.columns)
        sizes = (count(one.rows), count(one.files), size(one.size_bytes))
        made.add_row(Text(one.name), Text(one.table), *sizes, Text(columns))
    return made


def report_table(report: Report) -> Table:
    """The verification."""
    with_rules = any(one.held_rows is not None for one in report.tables)
    numbers = ("rows in source", "rows in lake", *(["held"] if with_rules else []))
    made = table(None, ("table", *numbers, "equal", "reason"), right=numbers)
    for one in report.tables:
        equal = Text("yes", style="green") if one.equal else Text("NO", style="red")
        rows = [count(one.source_rows), count(one.lake_rows)]
        rows += [count(one.held_rows)] if with_rules else []
        made.add_row(Text(one.table), *rows, equal, Text(one.reason or ""))
    return made


def differing_table(report: Report) -> Table:
    """The keys that differ."""
    made = table("Rows that differ (a sample)", ("table", "kind", "key"))
    for one in report.tables:
        for row in one.differing:
            key = ", ".join(f"{name}={value}" for name, value in row.key.items())
            made.add_row(Text(one.table), row.kind, Text(key))
    return made


def progress_table(progress: Progress, rate_per_s: float) -> Table:
    """The running pipeline."""
    numbers = ("rows copied", "changes applied", "rows in the lake")
    made = table(None, ("table", "status", *numbers), right=numbers)
    for name, one in progress.tables.items():
        estimate = f" of ~{one.rows_estimate:,}" if one.status == "copying" and one.rows_estimate > 0 else ""
        copied = f"{one.rows_copied:,}{estimate}"
        made.add_row(
            Text(name), coloured(one.status), copied, count(one.changes_applied), count(one.lake_rows)
        )
    made.caption = progress_line(progress, rate_per_s)
    return made


def progress_line(progress: Progress, rate_per_s: float) -> str:
    """The running pipeline on one line."""
    ready = sum(one.status == "ready" for one in progress.tables.values())
    copied = sum(one.rows_copied for one in progress.tables.values())
    parts = [
        progress.mode,
        f"{ready}/{len(progress.tables)} tables ready",
        f"{copied:,} rows copied",
        f"{progress.captured_count:,} changes captured",
        f"{progress.applied_count:,} applied",
        f"{rate_per_s:,.0f}/s",
    ]
    if progress.receiving_count:
        parts.append(f"in one transaction that has not ended: {progress.receiving_count:,} changes so far")
    if progress.source_lsn is not None and progress.durable_lsn:
        parts.append(f"{size(max(0, progress.source_lsn - progress.durable_lsn))} behind")
    if progress.lag_ms_p50 is not None and progress.lag_ms_p99 is not None:
        parts.append(f"lag {progress.lag_ms_p50 / 1000:.2f} s (99 %: {progress.lag_ms_p99 / 1000:.2f} s)")
    return " · ".join(parts)
