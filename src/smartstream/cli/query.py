"""``sql`` and ``verify``: ask the lake, and prove it."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from smartstream.cli.app import app, invocation
from smartstream.cli.render import as_json, console, differing_table, next_step, report_table
from smartstream.cli.whole_file import replacing
from smartstream.errors import ConfigError, ExitCode


class Output(StrEnum):
    """Forms of a result."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"
    PARQUET = "parquet"


@app.command()
def sql(
    context: typer.Context,
    statement: Annotated[str, typer.Argument(help="One statement that reads; - takes it from stdin.")],
    output: Annotated[Output, typer.Option("-o", "--output", help="Form of the result.")] = Output.TABLE,
    to: Annotated[
        Path | None, typer.Option("--to", help="File for the result, instead of stdout.", show_default=False)
    ] = None,
    timeout: Annotated[
        float | None, typer.Option(min=0.1, help="Seconds; no limit by default.", show_default=False)
    ] = None,
    as_of: Annotated[
        str | None,
        typer.Option("--as-of", help="Tables as they were: an LSN, or a time (UTC).", show_default=False),
    ] = None,
) -> None:
    """Ask the lake with SQL (DuckDB's dialect, read-only); history.TABLE has every version of its rows."""
    if output is Output.PARQUET and to is None and sys.stdout.isatty():
        raise ConfigError("Parquet is not for terminals", hint="Name a file with --to FILE.")
    settings = invocation(context).settings()
    text = sys.stdin.read() if statement == "-" else statement
    from smartstream.query import open_lake, parse_moment, run_sql

    moment = None if as_of is None else parse_moment(as_of)
    with open_lake(settings, text, as_of=moment) as connection:
        pieces = run_sql(connection, text, output=output.value, timeout=timeout)
        if to is None:
            _write_stdout(pieces)
        else:
            _write_file(pieces, to)
    if to is not None:
        typer.echo(f"next: the result is in {to}.", err=True)
    elif output is Output.TABLE and sys.stdout.isatty():
        typer.echo("next: -o csv, json or parquet with --to FILE keeps the result.", err=True)


def _write_stdout(pieces: Iterable[bytes]) -> None:
    """Bytes as they come."""
    for piece in pieces:
        sys.stdout.buffer.write(piece)
    sys.stdout.buffer.flush()


def _write_file(pieces: Iterable[bytes], target: Path) -> None:
    """The whole result under its name, or nothing."""
    with replacing(target) as unfinished, unfinished.open("wb") as file:
        file.writelines(pieces)


@app.command()
def verify(
    context: typer.Context,
    tables: Annotated[list[str] | None, typer.Argument(help="schema.table; all if none is named.")] = None,
    rows: Annotated[bool, typer.Option("--rows", help="Show keys of rows that differ.")] = False,
    wait: Annotated[
        float, typer.Option(min=1, help="Seconds to wait for old transactions, and for the lake.")
    ] = 30.0,
    json_output: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Compare source and lake, row for row, at one LSN.  Exit code 1 when they differ."""
    settings = invocation(context).settings()
    from smartstream.lsn import format_lsn
    from smartstream.verify import verify as compare

    report = compare(settings, tables or None, rows, wait)
    if json_output:
        as_json(report.to_dict())
        raise typer.Exit(ExitCode.OK if report.ok else ExitCode.FAILED)
    out = console()
    out.print(report_table(report))
    if any(table.differing for table in report.tables):
        out.print(differing_table(report))
    if report.left_out:
        typer.echo(f"left out (`smartstream doctor` says why): {', '.join(report.left_out)}")
    verdict = "source and lake are equal" if report.ok else "source and lake DIFFER"
    typer.echo(f"{verdict} at {format_lsn(report.source_lsn)}")
    if report.ok:
        next_step('`smartstream sql "SHOW TABLES"`')
        return
    more = "" if rows else "`smartstream verify --rows` shows keys that differ; "
    next_step(f"{more}`smartstream run --once` brings the lake to the source's position.")
    raise typer.Exit(ExitCode.FAILED)
