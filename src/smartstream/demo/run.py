"""The demo from beginning to end."""

from __future__ import annotations

import json
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from rich.table import Table

from smartstream.config import FILE_NAME, Settings, load
from smartstream.demo import company, foresight
from smartstream.demo.display import Display, command
from smartstream.demo.foresight import First, Score
from smartstream.demo.predictions import install, model_settings
from smartstream.demo.workload import Workload
from smartstream.errors import ExitCode, SmartStreamError, VerifyError
from smartstream.inference.config import ModelSettings
from smartstream.inference.score import run_model
from smartstream.pipeline import Pipeline
from smartstream.query import open_lake
from smartstream.testing.postgres import PostgresServer
from smartstream.verify import Report, verify
from smartstream.yaml_file import written

COPY_TIMEOUT_S = 300.0
CATCH_UP_TIMEOUT_S = 120.0
TICK_S = 0.2

Reach = Callable[[int], None]

CONFIGURATION = """\
version: 1
name: demo
source: {url: "${file:source-url}", discover_every: 2s, heartbeat: 200ms}
lake: {warehouse: ./lake}
maintenance: {every: 10s}
"""

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
    predictions: int


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
        directory: for smartstream.yaml and the lake; a temporary folder by default.
    """
    folder = (directory or Path(tempfile.mkdtemp(prefix="smartstream-demo-"))).absolute()
    with Display(quiet=json_output) as display:
        display.say("[bold]1.[/] Starting a PostgreSQL of its own …")
        with PostgresServer.start(settings={"max_wal_size": "8GB", "shared_buffers": "256MB"}) as server:
            begin = time.monotonic()
            company.create(server.url, rows)
            display.say(
                f"   PostgreSQL {server.version}, a company of {rows:,} employees"
                f" ({time.monotonic() - begin:.1f} s)"
            )
            settings = write_settings(folder, server.url)
            result = _run(settings, server, display, seconds, rows, keep)
    verified = result.report.ok
    if json_output:
        print(json.dumps(_summary(result)))
    else:
        _closing_words(display, result, folder)
    if directory is None and json_output:  # nobody is told where it is
        shutil.rmtree(folder)
    return ExitCode.OK if verified else ExitCode.FAILED


def write_settings(folder: Path, url: str) -> Settings:
    """Make ``folder`` a project like any other, so that every command works in it."""
    folder.mkdir(parents=True, exist_ok=True)
    secret = folder / "source-url"
    secret.touch(mode=0o600)
    secret.write_text(f"{url}\n", encoding="utf-8")
    install(folder)
    models = written({"models": model_settings()})
    (folder / FILE_NAME).write_text(CONFIGURATION + models, encoding="utf-8")
    return load(folder / FILE_NAME)


def _run(
    settings: Settings, server: PostgresServer, display: Display, seconds: float, rows: int, keep: bool
) -> _Result:
    """Copy, work, catch up, verify."""
    # The models run at the end, when there is something to show, and not by their schedule.
    pipeline = Pipeline(settings.model_copy(update={"models": ()}))
    with _running(pipeline) as errors:
        display.say("[bold]2.[/] Copying what is there, then following every change …")
        _wait(pipeline, display, errors, pipeline.ready, COPY_TIMEOUT_S)
        copied = sum(table.rows_copied for table in pipeline.progress().tables.values())
        display.say(f"   {copied:,} rows copied")
        pipeline.forget_lag()
        display.say(f"[bold]3.[/] {seconds:.0f} seconds of people at work …")
        workload = Workload(server.url, rows=rows)
        elapsed = _work(workload, pipeline, display, errors, seconds)
        display.say(f"   {workload.change_count:,} changes made; a column was added, another renamed")
        display.settle()
        display.say("[bold]4.[/] Comparing source and lake, row for row …")
        report = verify(settings, wait_seconds=CATCH_UP_TIMEOUT_S)
        progress = pipeline.progress()
        _show_report(display, report)
        _show_answers(display, settings)
        display.say("\n[bold]5.[/] Predicting from the trusted tables …")

        def reach(lsn: int) -> None:
            _wait(
                pipeline, display, errors, lambda: pipeline.progress().applied_lsn >= lsn, CATCH_UP_TIMEOUT_S
            )

        found = _foresee(settings, display, _score(settings))
        predictions = sum(count for _, count in found.values())
        first, _ = found["attrition"]
        _score_again(settings, display, _score(settings), first, reach)
        display.settle()
        if keep:
            _stay(display, settings, errors)
    rate = workload.change_count / elapsed
    lag = progress.lag_ms_p50, progress.lag_ms_p99
    return _Result(report, workload.change_count, rate, *lag, predictions)


def _score(settings: Settings) -> Score:
    """Runs a model once."""

    def score(model: ModelSettings, mode: Literal["full", "incremental"]) -> int:
        report = run_model(settings, model, clock=lambda: datetime.now(UTC), mode=mode)
        return report.rows_scored

    return score


@contextmanager
def _running(pipeline: Pipeline) -> Iterator[list[BaseException]]:
    """Run the pipeline beside what is done here; its error is the one to raise."""
    stop, errors = threading.Event(), list[BaseException]()

    def run() -> None:
        try:
            pipeline.run(stop=stop)
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, name="smartstream-pipeline")
    thread.start()
    try:
        yield errors
    except SmartStreamError as error:  # perhaps only because the pipeline has stopped
        raise (errors or [error])[0] from error
    finally:
        stop.set()
        thread.join()
    if errors:
        raise errors[0]


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
    table.add_column("table")
    table.add_column("rows in source", justify="right")
    table.add_column("rows in lake", justify="right")
    table.add_column("equal")
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


def _foresee(settings: Settings, display: Display, score: Score) -> dict[str, tuple[First, int]]:
    """Score everybody with every model; show what each puts first, where that comes from, how many."""
    found = {}
    for model in settings.models:
        display.say(
            f"\n[bold]{foresight.QUESTIONS[model.name]}[/] Model {model.name}: {foresight.told(model.name)}."
        )
        begin = time.monotonic()
        count = score(model, "full")
        elapsed = time.monotonic() - begin
        display.say(f"   {count:,} people scored in {elapsed:.1f} s ({count / elapsed:,.0f}/s)")
        with open_lake(settings) as lake:
            best = foresight.first(lake, model.name)
        found[model.name] = best, count
        assert settings.path is not None
        display.show_first(best, settings.path.parent)
    return found


def _score_again(settings: Settings, display: Display, score: Score, found: First, reach: Reach) -> int:
    """Raise the pay of those whom a model put first, and score what has changed; return how many rows.

    ``reach`` waits until the lake holds what lies before an LSN.
    """
    if not found.rows:
        return 0
    reach(foresight.raise_pay(settings.source.url.reveal(), found.employees))
    begin = time.monotonic()
    model = next(one for one in settings.models if one.name == found.model)
    count = score(model, "incremental")
    elapsed = time.monotonic() - begin
    with open_lake(settings) as lake:
        now = foresight.score_of(lake, model.name, found.employees[0])
    display.say(
        f"\nA raise for these {len(found.rows)}: {count:,} of all scored again in {elapsed:.1f} s;"
        f" employee {found.employees[0]} was at {found.rows[0][-1]} and is at {now:.3f}."
    )
    return count


def _stay(display: Display, settings: Settings, errors: list[BaseException]) -> None:
    """Wait for Ctrl-C."""
    assert settings.path is not None
    display.say(
        f"\nStill running; Ctrl-C ends it. Meanwhile, in another terminal:\n  cd {settings.path.parent}\n"
        f"  {command()} status\n"
        f'  {command()} sql "SELECT count(*) FROM attendance"\n'
        f"  {command()} verify\n"
        "The database is yours to change (psql or any driver):\n"
        '  psql "$(cat source-url)"'
    )
    pause = threading.Event()
    try:
        while not errors:
            pause.wait(TICK_S)
    except KeyboardInterrupt:
        display.say("Stopping …")


def _closing_words(display: Display, result: _Result, folder: Path) -> None:
    """What it came to, and where to go on."""
    p50 = result.lag_ms_p50
    lag = "" if p50 is None else f", half of them queryable within {p50 / 1000:.2f} s"
    verdict = "[green]every row equal[/]" if result.report.ok else "[red]DIFFERENCES FOUND[/]"
    display.say(
        f"\n{result.change_count:,} changes at {result.changes_per_s:,.0f}/s{lag}; {verdict}.\n"
        f"The lake is in {folder / 'lake'}: Parquet and Iceberg, yours to read with anything.\n"
        "Next, ask it something:\n"
        f'  cd {folder} && {command()} sql "SELECT day, count(*) FROM attendance GROUP BY 1"\n'
        "And with your own database:\n"
        f"  {command()} init shop --from postgresql://user:password@host:5432/database\n"
        f"  cd shop && {command()} doctor && {command()} run"
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
        "predictions": result.predictions,
    }
