"""``aws seed``, ``crawl``, ``query`` and ``verify``: rows in, tables found, rows asked and proven."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from smartstream.cli.aws import group
from smartstream.cli.aws_stack import (
    DryRunOption,
    JsonOption,
    MasterOption,
    OutputsOption,
    ProfileOption,
    RegionOption,
    StackOption,
    UrlOption,
    end,
    patience,
    reach,
)
from smartstream.cli.render import as_json, console, count, differing_table, next_step, report_table, size
from smartstream.errors import ExitCode

if TYPE_CHECKING:
    from smartstream.aws.operate.athena import Answer

PASSWORD_VARIABLE = "TF_VAR_dms_source_password"
QUERY_EVERY_S = 0.5


class Output(StrEnum):
    """Forms of an answer of Athena."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"


@group.command()
def seed(
    url: UrlOption = None,
    master: MasterOption = False,
    no_sample: Annotated[
        bool, typer.Option("--no-sample", help="Prepare for DMS only; make no sample tables.")
    ] = False,
    stack: StackOption = None,
    outputs: OutputsOption = None,
    profile: ProfileOption = None,
    region: RegionOption = None,
    dry_run: DryRunOption = False,
    json_output: JsonOption = False,
) -> None:
    """Prepare the source for DMS and fill the sample tables; what is there stays.  Through the tunnel.

    Sets the password of DMS's login to that of the variable TF_VAR_dms_source_password, where it is set.
    """
    from smartstream.aws.operate.source import SAMPLE, SETUP, seed, source_at, sql_folder

    reached = reach(stack, outputs, profile, region, dry_run=dry_run)
    folder = sql_folder(reached.folder)
    names = [SETUP] if no_sample else [SETUP, SAMPLE]
    if dry_run:
        reached.aws.planned += [f"psql {folder / name}" for name in names]
        end(reached, {}, json_output=json_output, said="", then="")
        return
    source = source_at(reached.aws, reached.stack, url, as_master=master)
    done = seed(source, folder, password=os.environ.get(PASSWORD_VARIABLE) or None, sample=not no_sample)
    rows = ", ".join(f"{table} {count(number)}" for table, number in done.rows.items())
    password = "set" if done.is_password_set else f"left as it was ({PASSWORD_VARIABLE} is not set)"
    end(
        reached,
        {"rows": done.rows, "password_set": done.is_password_set},
        json_output=json_output,
        said=f"the source is ready for DMS; its login's password was {password}"
        + (f"\nrows: {rows}" if rows else ""),
        then="`smartstream aws start`",
    )


@group.command()
def crawl(
    timeout: Annotated[float, typer.Option(min=1, help="Seconds to wait for each crawler.")] = 1800.0,
    stack: StackOption = None,
    outputs: OutputsOption = None,
    profile: ProfileOption = None,
    region: RegionOption = None,
    dry_run: DryRunOption = False,
    json_output: JsonOption = False,
) -> None:
    """Start the crawlers, wait for them, and list the catalogue's tables.  Exit code 1 when one failed."""
    from smartstream.aws.operate import crawl

    reached = reach(stack, outputs, profile, region, dry_run=dry_run)
    with patience(timeout) as waiting:
        done = crawl.crawl(reached.aws, reached.stack, waiting)
    tables = crawl.tables(reached.aws, reached.stack)
    failed = [one for one in done if not one.ok]
    crawlers = [{"crawler": one.crawler, "status": one.status, "reason": one.reason} for one in done]
    lines = [f"crawler {one.crawler}: {one.status}{f', {one.reason}' if one.reason else ''}" for one in done]
    lines += [f"{zone}: {', '.join(names) or 'no tables'}" for zone, names in tables.items()]
    facts = {"ok": not failed, "crawlers": crawlers, "tables": {k: list(v) for k, v in tables.items()}}
    end(
        reached,
        facts,
        json_output=json_output,
        said="\n".join(lines),
        then='`smartstream aws query "SHOW TABLES"`',
    )
    if failed:
        raise typer.Exit(ExitCode.FAILED)


@group.command()
def query(
    statement: Annotated[str, typer.Argument(help="One statement in Athena's SQL; - takes it from stdin.")],
    output: Annotated[Output, typer.Option("-o", "--output", help="Form of the result.")] = Output.TABLE,
    zone: Annotated[
        str, typer.Option("--zone", help="Database of plain names: raw, trusted, quarantine, analytics.")
    ] = "trusted",
    timeout: Annotated[float, typer.Option(min=1, help="Seconds; then the query is cancelled.")] = 600.0,
    stack: StackOption = None,
    outputs: OutputsOption = None,
    profile: ProfileOption = None,
    region: RegionOption = None,
    dry_run: DryRunOption = False,
    json_output: Annotated[bool, typer.Option("--json", help="As --output json.")] = False,
) -> None:
    """Ask Athena in the stack's workgroup; says how many bytes it read.  Ctrl-C cancels the query."""
    from smartstream.aws.operate import athena

    reached = reach(stack, outputs, profile, region, dry_run=dry_run)
    text = sys.stdin.read() if statement == "-" else statement
    with patience(timeout, every_s=QUERY_EVERY_S) as waiting:
        answer = athena.ask(reached.aws, reached.stack, text, waiting, zone=zone)
    if dry_run:
        end(reached, {}, json_output=json_output, said="", then="")
        return
    _write(answer, Output.JSON if json_output else output)
    read = f"{size(answer.scanned_bytes)} read, {answer.engine_ms / 1000:.1f} s, query {answer.query_id}"
    typer.echo(read, err=True)


@group.command()
def verify(
    tables: Annotated[
        list[str] | None, typer.Argument(help="schema.table; all that DMS follows if none is named.")
    ] = None,
    url: UrlOption = None,
    master: MasterOption = False,
    wait: Annotated[
        float, typer.Option(min=0, help="Seconds to compare again what differs: the lake may be late.")
    ] = 300.0,
    rows_max: Annotated[
        int, typer.Option("--rows-max", min=0, help="Tables with more rows are only counted.")
    ] = 5_000_000,
    stack: StackOption = None,
    outputs: OutputsOption = None,
    profile: ProfileOption = None,
    region: RegionOption = None,
    json_output: JsonOption = False,
) -> None:
    """Compare the source with the trusted tables, row for row.  Exit code 1 when they differ.

    Both sides are read as they are now, so the source should rest meanwhile.
    """
    from smartstream.aws.operate import dms
    from smartstream.aws.operate.compare import compare
    from smartstream.aws.operate.source import source_at, source_tables
    from smartstream.verify import Report

    reached = reach(stack, outputs, profile, region)
    source = source_at(reached.aws, reached.stack, url, as_master=master)
    followed = {one.table for one in dms.table_states(reached.aws, reached.stack)} if not tables else None
    schemas = [one for one in source_tables(source, tables) if followed is None or one.id in followed]
    with patience(wait) as waiting:
        done = compare(source, reached.aws, reached.stack, schemas, waiting, rows_max=rows_max)
    is_ok = done.ok and bool(done.tables)
    if json_output:
        as_json({**done.to_dict(), "ok": is_ok})
    else:
        report = Report(done.ok, 0, 0, done.tables)
        console().print(report_table(report))
        if any(one.differing for one in done.tables):
            console().print(differing_table(report))
        if done.counted:
            typer.echo(f"only counted, because they are large: {', '.join(done.counted)}")
        verdict = "are equal, row for row" if done.ok else "DIFFER"
        typer.echo(f"source and trusted tables {verdict}" if done.tables else "DMS follows no table yet")
        next_step('`smartstream aws query "SHOW TABLES"`' if is_ok else "`smartstream aws status`")
    if not is_ok:
        raise typer.Exit(ExitCode.FAILED)


def _write(answer: Answer, output: Output) -> None:
    """The rows in the form that was asked for; only a table waits for all of them."""
    for piece in _pieces(answer, output):
        typer.echo(piece)


def _pieces(answer: Answer, output: Output) -> Iterator[str]:
    """Lines of the result."""
    import pyarrow as pa

    from smartstream.query.text import csv_lines, table_lines

    if output is Output.JSON:
        # One object a line inside the array: a reader may take it line by line.
        separator = "["
        for row in answer.rows:
            yield separator + json.dumps(dict(zip(answer.columns, row, strict=False)))
            separator = ","
        yield "]" if separator == "," else "[]"
        return
    columns = list(zip(*answer.rows, strict=True)) or [()] * len(answer.columns)
    arrays = [pa.array(column, pa.string()) for column in columns]
    batch = pa.RecordBatch.from_arrays(arrays, names=list(answer.columns))
    write = table_lines if output is Output.TABLE else csv_lines
    text = b"".join(write(answer.columns, [batch])) if answer.columns else b""
    yield text.decode().removesuffix("\n")
