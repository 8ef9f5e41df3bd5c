"""The demo from beginning to end."""

from __future__ import annotations

import json
import shutil
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from smartstream.config import Settings
from smartstream.demo import company
from smartstream.demo.display import Display
from smartstream.demo.workload import Workload
from smartstream.errors import ExitCode, VerifyError
from smartstream.pipeline import Pipeline
from smartstream.query import open_lake
from smartstream.testing.postgres import PostgresServer
from smartstream.verify import Report, verify

COPY_TIMEOUT_S = 300.0
CATCH_UP_TIMEOUT_S = 120.0
TICK_S = 0.2

QUESTIONS = (
    (
        "Which departments pay best?",
        "SELECT d.name, count(*) AS people, round(avg(e.salary)) AS average FROM employees e"
        " JOIN departments d ON d.id = e.department_id WHERE e.active GROUP BY 1 ORDER BY 3 DESC LIMIT 3",
    ),
    (
        "Who works the longest hours?",
        "SELECT e.name, sum(a.hours) AS hours, count(*) AS days FROM attendance a"
        " JOIN employees e ON e.id = a.employee_id GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 3",
    ),
    (
        "Which values can't Arrow hold? They are kept as text, beside the row.",
        "SELECT id, born, _untyped FROM all_types WHERE _untyped IS NOT NULL ORDER BY id LIMIT 3",
    ),
)


@dataclass(slots=True)
class _Result:
    """What the demo found."""

    report: Report
    change_count: int
    changes_per_s: float
    lag_ms_p50: float | None
    lag_ms_p99: float | None


def run_demo(
    *,
    seconds: float = 30,
    rows: int = 100_000,
    keep: bool = False,
    json_output: bool = False,
    directory: Path | None = None,
) -> int:
    """Run the demo; return the exit code: 0, or 1 when one row differs.

    Args:
        seconds: how long the live workload runs.
        rows: employees; salaries and attendance have as many.
        keep: stay up, pipeline and all, until Ctrl-C.
        json_output: print nothing but one JSON object at the end.
        directory: for the lake; a temporary folder by default.
    """
    lake = directory or Path(tempfile.mkdtemp(prefix="smartstream-demo-"))
    with Display(quiet=json_output) as display:
        display.say("[bold]1.[/] Starting a PostgreSQL of its own …")
        with PostgresServer.start(settings={"max_wal_size": "8GB", "shared_buffers": "256MB"}) as server:
            begin = time.monotonic()
            company.create(server.url, rows)
            display.say(
                f"   PostgreSQL {server.version}, a company of {rows:,} employees"
                f" ({time.monotonic() - begin:.1f} s)"
            )
            settings = demo_settings(server.url, lake)
            result = _run(settings, server, display, seconds, rows, keep)
    verified = result.report.ok
    if json_output:
        print(json.dumps(_summary(result)))
    else:
        _closing_words(display, result, lake)
    if directory is None and not keep and json_output:
        shutil.rmtree(lake, ignore_errors=True)
    return ExitCode.OK if verified else ExitCode.FAILED


def demo_settings(url: str, lake: Path) -> Settings:
    """Settings for the demo's server and lake."""
    return Settings.model_validate(
        {
            "name": "demo",
            "source": {"url": url, "discover_every": "2s"},
            "lake": {"warehouse": str(lake.resolve())},
            "maintenance": {"every": "10s"},
        }
    )


def _run(
    settings: Settings, server: PostgresServer, display: Display, seconds: float, rows: int, keep: bool
) -> _Result:
    """Copy, work, catch up, verify."""
    pipeline, stop = Pipeline(settings), threading.Event()
    errors: list[BaseException] = []

    def run_pipeline() -> None:
        try:
            pipeline.run(stop=stop)
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run_pipeline, name="smartstream-pipeline")
    thread.start()
    try:
        display.say("[bold]2.[/] Copying what is there, then following every change …")
        _wait(pipeline, display, errors, pipeline.ready, COPY_TIMEOUT_S)
        copied = sum(table.rows_copied for table in pipeline.progress().tables.values())
        display.say(f"   {copied:,} rows copied")
        pipeline.forget_lag()
        display.say(f"[bold]3.[/] {seconds:.0f} seconds of people at work …")
        workload = Workload(server.url, rows=rows)
        elapsed = _work(workload, pipeline, display, errors, seconds)
        progress = pipeline.progress()
        display.say(f"   {workload.change_count:,} changes made")
        display.say("[bold]4.[/] Comparing source and lake, row for row …")
        report = verify(settings, wait_seconds=CATCH_UP_TIMEOUT_S)
        _show_report(display, report)
        _show_answers(display, settings)
        if keep:
            _stay(display, settings, errors)
    finally:
        stop.set()
        thread.join()
    if errors:
        raise errors[0]
    rate = workload.change_count / elapsed
    return _Result(report, workload.change_count, rate, progress.lag_ms_p50, progress.lag_ms_p99)


def _wait(
    pipeline: Pipeline, display: Display, errors: list[BaseException], done: Any, timeout_s: float
) -> None:
    """Show progress until something is done."""
    begin, pause = time.monotonic(), threading.Event()
    while not done():
        if errors:
            raise errors[0]
        elapsed = time.monotonic() - begin
        if elapsed > timeout_s:
            raise VerifyError(f"the pipeline did not get there within {timeout_s:.0f} s")
        display.show(pipeline.progress(), elapsed, 0.0)
        pause.wait(TICK_S)


def _work(
    workload: Workload, pipeline: Pipeline, display: Display, errors: list[BaseException], seconds: float
) -> float:
    """Run the workload with the display beside it; return how long it took."""
    stop = threading.Event()
    failed: list[BaseException] = []

    def work() -> None:
        try:
            workload.run(stop, seconds)
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=work, name="demo-workload")
    begin = time.monotonic()
    thread.start()
    try:
        while thread.is_alive() and not errors:
            elapsed = time.monotonic() - begin
            display.show(pipeline.progress(), elapsed, workload.change_count / max(elapsed, 0.1))
            thread.join(TICK_S)
    finally:
        stop.set()
        thread.join()
    for error in (*errors, *failed):
        raise error
    return time.monotonic() - begin


def _show_report(display: Display, report: Report) -> None:
    """The verification as a table."""
    table = Table(title="source = lake?")
    for name, justify in (("table", "left"), ("rows in source", "right"), ("rows in lake", "right"), ("equal", "left")):
        table.add_column(name, justify=justify)  # type: ignore[arg-type]
    for one in report.tables:
        equal = "[green]yes[/]" if one.equal else f"[red]NO[/] {one.reason or ''}"
        table.add_row(one.table, f"{one.source_rows:,}", f"{one.lake_rows:,}", equal)
    display.console.print(table)


def _show_answers(display: Display, settings: Settings) -> None:
    """Three questions to the lake."""
    with open_lake(settings) as lake:
        for question, statement in QUESTIONS:
            display.say(f"\n[bold]{question}[/]")
            answer = lake.execute(statement)
            table = Table(show_edge=False)
            for column in answer.description or ():
                table.add_column(str(column[0]))
            for row in answer.fetchall():
                table.add_row(*(str(value) for value in row))
            display.console.print(table)


def _stay(display: Display, settings: Settings, errors: list[BaseException]) -> None:
    """Wait for Ctrl-C."""
    display.say(f"\nStill running on {settings.source.url!r}; Ctrl-C ends it.")
    pause = threading.Event()
    try:
        while not errors:
            pause.wait(TICK_S)
    except KeyboardInterrupt:
        display.say("Stopping …")


def _closing_words(display: Display, result: _Result, lake: Path) -> None:
    """What it came to, and where to go on."""
    lag = "" if result.lag_ms_p50 is None else f", half of them queryable within {result.lag_ms_p50 / 1000:.2f} s"
    verdict = "[green]every row equal[/]" if result.report.ok else "[red]DIFFERENCES FOUND[/]"
    display.say(
        f"\n{result.change_count:,} changes at {result.changes_per_s:,.0f}/s{lag}; {verdict}.\n"
        f"The lake is in {lake}: Parquet and Iceberg, yours to read with anything.\n"
        "Next, with your own database:\n"
        "  smartstream init shop --from postgresql://user:password@host:5432/database\n"
        "  cd shop && smartstream doctor && smartstream run"
    )


def _summary(result: _Result) -> dict[str, Any]:
    """The demo's outcome for machines."""
    tables = result.report.tables
    return {
        "verified": result.report.ok,
        "tables": len(tables),
        "rows": sum(table.source_rows for table in tables),
        "changes": result.change_count,
        "changes_per_s": round(result.changes_per_s, 1),
        "lag_ms_p50": result.lag_ms_p50 and round(result.lag_ms_p50, 1),
        "lag_ms_p99": result.lag_ms_p99 and round(result.lag_ms_p99, 1),
    }


