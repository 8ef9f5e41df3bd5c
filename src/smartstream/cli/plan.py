"""``plan``: what ``run`` will do, before it does it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from smartstream.cli.app import app, invocation, now
from smartstream.cli.render import as_json, console, count, next_step, size, table

if TYPE_CHECKING:
    from smartstream.capture.publication import PublicationChange
    from smartstream.pipeline.forecast import ColumnAhead, Forecast


@app.command()
def plan(
    context: typer.Context,
    json_output: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Tell what `run` will do with the configuration as it is now.  Changes nothing, anywhere."""
    settings = invocation(context).settings()
    from smartstream.pipeline.forecast import forecast

    found = forecast(settings, clock=now)
    if json_output:
        as_json({"ok": True, **found.to_dict()})
        return
    _show_work(found)
    _show_columns(found)
    for line in _lines(found):
        typer.echo(line)
    if found.quiet:
        typer.echo("`run` goes on where it stopped; nothing else will change")
    if found.running:
        typer.echo("a pipeline is running: it goes on as it was started, until it is started again")
        next_step("stop `smartstream run` and start it again.")
    else:
        next_step("`smartstream run`")


def _show_work(found: Forecast) -> None:
    """The tables that will be copied or rebuilt."""
    made = table(None, ("table", "what", "why", "rows", "bytes"), right=("rows", "bytes"))
    for copy in found.copies:
        left = f", {copy.chunks_left} chunks left" if copy.chunks_left is not None else ""
        rows = f"~{count(copy.row_estimate)}"
        made.add_row(Text(copy.table), "copy", copy.reason + left, rows, size(copy.size_bytes))
    for one in found.rebuilds:
        rows = count(one.trusted_rows + one.held_rows)
        held = f"; {count(one.held_rows)} held rows are judged again" if one.held_rows else ""
        made.add_row(Text(one.table), "rebuild", one.reason + held, rows, size(one.raw_bytes))
    if made.row_count:
        console().print(made)


def _show_columns(found: Forecast) -> None:
    """The columns that will change."""
    made = table("Columns", ("table", "column", "change"))
    for one in found.columns:
        made.add_row(Text(one.table), Text(one.column), Text(_change(one)))
    if made.row_count:
        console().print(made)


def _change(one: ColumnAhead) -> str:
    """One column's change in words."""
    if one.change == "type":
        return f"{one.before} becomes {one.after}"
    if one.change == "renamed":
        return f"was called {one.before}"
    return f"{one.change} ({one.after or one.before})"


def _lines(found: Forecast) -> list[str]:
    """Everything else."""
    lines = [found.slot] if found.slot else []
    lines += _publication_lines(found.publication)
    lines += [f"{one.table} stays as it is: {one.reason}" for one in found.kept]
    return lines + list(found.contract)


def _publication_lines(change: PublicationChange) -> list[str]:
    """What becomes of the publication."""
    lines = ["the publication will be created"] if change.created else []
    lines += [f"the publication gets {', '.join(change.added)}"] if change.added else []
    lines += [f"the publication loses {', '.join(change.dropped)}"] if change.dropped else []
    return lines + (["the publication's options will be set"] if change.altered else [])
