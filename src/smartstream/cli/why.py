"""``why``: the life of a row."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated

import typer

from smartstream.cli.app import app, invocation
from smartstream.cli.render import as_json, next_step

if TYPE_CHECKING:
    from smartstream.config import Settings
    from smartstream.inference.made_from import MadeFrom
    from smartstream.query.why import Reason

_OPS = {"r": "copied", "i": "inserted", "u": "updated", "d": "deleted", "t": "truncated"}
_VALUE_CHARS_MAX = 60


@app.command()
def why(
    context: typer.Context,
    table: Annotated[str, typer.Argument(help="schema.table, or the table's name in the lake.")],
    key: Annotated[str, typer.Argument(help="The row's key: 7, or 7,x in key order, or id=7,code=x.")],
    json_output: Annotated[bool, typer.Option("--json", help="As JSON, values in full.")] = False,
) -> None:
    """Tell the life of a row: every change, its rules' verdict, its commit, and predictions made from it.

    Of analytics.MODEL: which model made a prediction, from which snapshots and changes.
    """
    settings = invocation(context).settings()
    if table.startswith("analytics."):
        _prediction(settings, table.removeprefix("analytics."), key, json_output)
        return
    from smartstream.inference.made_from import made_from
    from smartstream.query.why import why as ask

    found = ask(settings, table, key)
    made = made_from(settings, found.table, key)
    if json_output:
        as_json({"ok": True, **found.to_dict(), "predictions": [one.to_dict() for one in made]})
        return
    for reason in found.reasons:
        typer.echo("\n".join(_lines(reason)) + "\n")
    for one in made:
        typer.echo("\n".join(_made(one)) + "\n")
    next_step(f'`smartstream sql "FROM history.…"` shows the versions of all rows of {found.table}.')


def _prediction(settings: Settings, name: str, key: str, json_output: bool) -> None:
    """Where a prediction comes from, and the last change of the row that it is about."""
    from smartstream.errors import QueryError, SchemaError
    from smartstream.inference.lineage import lineage
    from smartstream.query.why import why as ask

    found = lineage(settings, name, key)
    reasons: Sequence[Reason] = ()
    with suppress(QueryError, SchemaError):  # where the model's key is not this table's
        reasons = ask(settings, found.first_table, key).reasons
    if json_output:
        as_json({"ok": True, **found.to_dict(), "changes": [reason.to_dict() for reason in reasons]})
        return
    said = ", ".join(f"{column} = {value}" for column, value in found.values.items())
    typer.echo(f"{', '.join(f'{column}={value}' for column, value in found.key.items())}: {said}")
    typer.echo(f"  model {found.model}, version {found.version}, sha256 {found.sha256}")
    typer.echo(f"  run {found.run_id}, {found.predicted_at}; source complete up to {found.lsn}")
    for table, snapshot in found.snapshots.items():
        typer.echo(f"  read {table}: snapshot {snapshot}")
    for mark in (found.stale and f"stale: {found.stale}", found.closed_at and f"closed: {found.closed_at}"):
        if mark:
            typer.echo(f"  {mark}")
    typer.echo("")
    for reason in reasons[-1:]:
        typer.echo("\n".join(_lines(reason)) + "\n")
    next_step(f"`smartstream why {found.first_table} {key}` tells the whole life of the row.")


def _made(made: MadeFrom) -> list[str]:
    """The predictions of one model for people."""
    if made.unknown is not None:
        return [f"{made.table}: not known ({made.unknown})"]
    more = f", the first {len(made.predictions)}" if made.count > len(made.predictions) else ""
    lines = [f"{made.table}: {made.count} predictions from this row{more}"]
    for one in made.predictions:
        key = ", ".join(f"{name}={value}" for name, value in one["key"].items())
        said = ", ".join(f"{name} = {_short(str(value))}" for name, value in one["values"].items())
        lines.append(f"  {key}: {said}; run {one['run_id']}, {one['predicted_at']}")
    return lines


def _lines(reason: Reason) -> list[str]:
    """One change for people."""
    from smartstream.lsn import format_lsn

    change = reason.change
    when = (
        change.time.isoformat(sep=" ") if change.time else f"before the copy (generation {change.generation})"
    )
    lines = [f"{format_lsn(change.lsn)}  {_OPS[change.op]}  {when}"]
    if change.key:
        lines[0] += "  " + ", ".join(f"{name}={value}" for name, value in change.key.items())
    if change.xid is not None:
        lines.append(f"  transaction {change.xid}, change {change.ordinal} of it")
    if change.moved_from:
        before = ", ".join(f"{name}={value}" for name, value in change.moved_from.items())
        lines.append(f"  came from the key {before}")
    lines += [f"  {name}: {_short(old)} → {_short(new)}" for name, (old, new) in change.changed.items()]
    if not change.shown:
        lines.append("  never visible: the same transaction changed it again")
    if reason.verdict is not None:
        broken = "; ".join(f"{v.get('rule')}: {v.get('reason')}" for v in reason.violations)
        lines.append(f"  rules: {reason.verdict}{f' ({broken})' if broken else ''}")
    lines.append(f"  raw: {change.file}")
    lines.append(f"  trusted: {_commit(reason)}")
    return lines


def _commit(reason: Reason) -> str:
    """Which commit holds a change."""
    commit = reason.commit
    if commit is None:
        return "not yet"
    return f"snapshot {commit.snapshot_id}" + ("" if commit.exact else ", or one before that is forgotten")


def _short(value: str | None) -> str:
    """A value on one line."""
    if value is None:
        return "NULL"
    value = value.replace("\n", "\\n")
    return value if len(value) <= _VALUE_CHARS_MAX else value[: _VALUE_CHARS_MAX - 1] + "…"
