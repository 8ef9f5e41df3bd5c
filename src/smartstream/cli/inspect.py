"""``status`` and ``tables``: what the lake holds, with or without a running pipeline."""

from __future__ import annotations

import re
import shlex
import sys
import threading
from contextlib import nullcontext
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Group
from rich.live import Live
from rich.text import Text

from smartstream.cli.app import app, invocation, now
from smartstream.cli.render import (
    as_json,
    console,
    next_step,
    quality_lines,
    receiving_lines,
    source_lines,
    status_table,
    tables_table,
    when,
)
from smartstream.config import Settings
from smartstream.errors import ExitCode
from smartstream.sql_text import quoted

if TYPE_CHECKING:
    from smartstream.quality.watch import QualitySummary
    from smartstream.status import LakeStatus, SourceStatus

WATCH_EVERY_S = 2.0

JsonOption = Annotated[bool, typer.Option("--json", help="As JSON.")]


@app.command()
def status(
    context: typer.Context,
    watch: Annotated[bool, typer.Option("--watch", help="Look again every 2 seconds, until Ctrl-C.")] = False,
    json_output: JsonOption = False,
) -> None:
    """Positions of source and lake, the slot, each table.  Exit code 3 when something is degraded."""
    settings = invocation(context).settings()
    if watch and not json_output:
        _watch(settings)
        return
    lake, source = _read(settings)
    quality, held = _read_quality(settings, lake), _read_held(settings, lake)
    problem = degraded(settings, lake, source) or _quality_problem(quality)
    if json_output:
        facts = {"ok": problem is None, "name": settings.name, "degraded": problem}
        measured = quality.to_dict() if quality else None
        shown = {**lake.to_dict(), "tables": [{**t.to_dict(), "held": held[t.table]} for t in lake.tables]}
        as_json({**facts, "source": source.to_dict(), "lake": shown, "quality": measured})
    else:
        console().print(_screen(settings, lake, source, quality, held))
        next_step(problem or _advice(lake))
    raise typer.Exit(ExitCode.DEGRADED if problem else ExitCode.OK)


@app.command()
def tables(context: typer.Context, json_output: JsonOption = False) -> None:
    """The tables of the lake: rows, size, columns."""
    from smartstream.status import read_lake

    lake = read_lake(invocation(context).settings(), now)
    if json_output:
        as_json({"ok": True, "tables": [table.to_dict() for table in lake.tables]})
        return
    if lake.tables:
        console().print(tables_table(lake))
        next_step(f"`smartstream sql {_count_of(lake.tables[0].name)}`")
    else:
        typer.echo(f"There are no tables in {lake.warehouse} yet.")
        next_step("`smartstream run` copies them.")


def _count_of(table: str) -> str:
    """A statement as a shell takes it, whatever the table is called."""
    if re.fullmatch(r"[a-z_][a-z0-9_]*", table):
        return f'"SELECT count(*) FROM {table}"'
    return shlex.quote(f"SELECT count(*) FROM {quoted(table)}")


def degraded(settings: Settings, lake: LakeStatus, source: SourceStatus) -> str | None:
    """What a person should look at, and how; None if all is well."""
    if source.error is not None:
        return "The source does not answer: `smartstream doctor` says more."
    if source.slot is not None and source.slot.lost:
        return "The slot is lost: `smartstream resync`, then `smartstream run`."
    if source.slot is None and lake.durable_lsn:
        return "The slot is gone: `smartstream resync`, then `smartstream run`."
    if lake.paused_since is not None:
        return f"Trusted tables are paused since {when(lake.paused_since)}: `smartstream resume`."
    if source.slot is not None and source.slot.retained_bytes > settings.source.slot.max_retained:
        return "The slot holds back more WAL than source.slot.max_retained: start `smartstream run`."
    return None


def _read(settings: Settings) -> tuple[LakeStatus, SourceStatus]:
    """Both sides, now."""
    from smartstream.status import beside, read_lake, read_source

    lake = read_lake(settings, now)
    source = read_source(settings, lake.durable_lsn)
    return beside(lake, source), source


def _read_held(settings: Settings, lake: LakeStatus) -> dict[str, dict[str, int]]:
    """Rows in the quarantine of each table, by disposition."""
    if not lake.tables:
        return {}
    from smartstream.quality.held import HeldRows

    with HeldRows(settings, count_only=True) as held:
        return {table.table: held.counts_of(table.name) for table in lake.tables}


def _read_quality(settings: Settings, lake: LakeStatus) -> QualitySummary | None:
    """What the quality checks found last; None where none was ever measured."""
    if not lake.tables:
        return None
    from smartstream.quality.watch import summary

    found = summary(settings)
    return found if found.check_count else None


def _quality_problem(quality: QualitySummary | None) -> str | None:
    """What to do when a check failed that is not just worth knowing."""
    if quality is None or not quality.degraded:
        return None
    return '`smartstream sql "FROM analytics.trusted_quality WHERE NOT passed"` shows the checks that failed.'


def _watch(settings: Settings) -> None:
    """Show both sides until Ctrl-C: in place on a terminal, one below the other elsewhere."""
    out, pause = console(), threading.Event()
    try:
        with Live(console=out, auto_refresh=False) if out.is_terminal else nullcontext() as live:
            while True:
                lake, source = _read(settings)
                quality, held = _read_quality(settings, lake), _read_held(settings, lake)
                screen = _screen(settings, lake, source, quality, held)
                if live is None:
                    out.print(screen)
                else:
                    live.update(screen, refresh=True)
                sys.stdout.flush()
                pause.wait(WATCH_EVERY_S)
    except KeyboardInterrupt:
        next_step("`smartstream verify` compares source and lake, row for row.")


def _screen(
    settings: Settings,
    lake: LakeStatus,
    source: SourceStatus,
    quality: QualitySummary | None,
    held: dict[str, dict[str, int]],
) -> Any:
    """Both sides for people."""
    lines = [f"{settings.name}: {lake.warehouse}", *source_lines(source, lake.durable_lsn)]
    lines += receiving_lines(lake.receiving, now())
    lines += quality_lines(quality) if quality else []
    return Group(Text("\n".join(lines)), *([status_table(lake, held)] if lake.tables else []))


def _advice(lake: LakeStatus) -> str:
    """What to do when all is well."""
    if not lake.tables:
        return "`smartstream run` makes the first copy."
    frozen = [table.table for table in lake.tables if table.status == "frozen"]
    if frozen:
        return f"`smartstream plan` says what the contract of {frozen[0]} does not allow."
    if any(table.status in ("outdated", "rebuilding") for table in lake.tables):
        return "`smartstream run`, started with the rules as they are, rebuilds what is outdated."
    if any(table.status != "ready" for table in lake.tables):
        return "`smartstream run` finishes what is not ready, if it is not running already."
    return '`smartstream sql "SHOW TABLES"`, or `smartstream verify`.'
