"""``aws start``, ``stop``, ``status``, ``replay`` and ``logs``: the stack while it runs."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from smartstream.cli.app import now
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
    moment,
    patience,
    reach,
)
from smartstream.cli.render import COLOURS, as_json, console, count, next_step, size, table
from smartstream.errors import ConfigError, ExitCode

if TYPE_CHECKING:
    from smartstream.aws.operate.hops import StackStatus

_COLOURS = COLOURS | {"idle": "cyan", "unknown": "yellow", "healthy": "green", "degraded": "red"}


@group.command()
def start(
    config: Annotated[
        Path | None,
        typer.Option("--config", help="Folder with smartstream.yaml for the functions.", show_default=False),
    ] = None,
    definitions: Annotated[
        bool,
        typer.Option("--definitions", help="Also write what the source's tables look like, read from it."),
    ] = False,
    url: UrlOption = None,
    master: MasterOption = False,
    reload: Annotated[
        bool, typer.Option("--reload", help="Begin anew with a full load, also where it could go on.")
    ] = False,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds to wait at each step.")] = 1800.0,
    stack: StackOption = None,
    outputs: OutputsOption = None,
    profile: ProfileOption = None,
    region: RegionOption = None,
    dry_run: DryRunOption = False,
    json_output: JsonOption = False,
) -> None:
    """Check Firehose and DMS's connections, start or resume replication, wait until it is loaded.

    With --config it first checks smartstream.yaml and copies it, and the files that it names, to where
    the functions read them.
    """
    from smartstream.aws.operate import config_upload, dms
    from smartstream.aws.operate.source import check_identities, source_at, source_tables

    reached = reach(stack, outputs, profile, region, dry_run=dry_run)
    aws, found = reached.aws, reached.stack
    uploaded = config_upload.upload(aws, found, config) if config else []
    if definitions:
        source = source_at(aws, found, url, as_master=master)
        check_identities(source)
        schemas = source_tables(source)
        uploaded += config_upload.put_definitions(aws, found, schemas)
    dms.check_delivery(aws, found)
    dms.check_task(aws, found)
    with patience(timeout) as waiting:
        connections = dms.try_connections(aws, found, waiting)
        how = dms.start(aws, found, waiting, reload=reload)
    files = [asdict(one) for one in uploaded]
    changed = sum(one.is_new for one in uploaded)
    lines = [f"configuration: {len(uploaded)} files, {changed} of them new"] if uploaded else []
    lines += [f"connection to the {side}: {verdict}" for side, verdict in connections.items()]
    lines += ["replication runs already" if how == "running" else f"replication runs ({how})"]
    facts = {"config": files, "connections": connections, "started": how}
    end(reached, facts, json_output=json_output, said="\n".join(lines), then="`smartstream aws status`")


@group.command()
def stop(
    timeout: Annotated[float, typer.Option(min=1, help="Seconds to wait.")] = 900.0,
    stack: StackOption = None,
    outputs: OutputsOption = None,
    profile: ProfileOption = None,
    region: RegionOption = None,
    dry_run: DryRunOption = False,
    json_output: JsonOption = False,
) -> None:
    """Stop replication and wait until it has stopped.  Its slot keeps WAL on the source meanwhile."""
    from smartstream.aws.operate import dms

    reached = reach(stack, outputs, profile, region, dry_run=dry_run)
    with patience(timeout) as waiting:
        before = dms.stop(reached.aws, reached.stack, waiting)
    said = f"replication has stopped (it was {before}); its slot holds back WAL on the source"
    end(
        reached,
        {"was": before},
        json_output=json_output,
        said=said,
        then="`smartstream aws start` goes on where it stopped.",
    )


@group.command()
def status(
    window: Annotated[
        float, typer.Option("--window", min=1, max=1440, help="Minutes that the figures reach back.")
    ] = 15.0,
    stack: StackOption = None,
    outputs: OutputsOption = None,
    profile: ProfileOption = None,
    region: RegionOption = None,
    json_output: JsonOption = False,
) -> None:
    """Show each hop: records in and out, lag, errors, alarms.  Exit code 3 when the stack is degraded."""
    from smartstream.aws.operate import hops

    reached = reach(stack, outputs, profile, region)
    found = hops.status(reached.aws, reached.stack, now=now(), window=timedelta(minutes=window))
    if json_output:
        as_json(found.to_dict())
    else:
        _show(found)
    if found.word == hops.DEGRADED:
        raise typer.Exit(ExitCode.DEGRADED)


def _show(found: StackStatus) -> None:
    """The hops for people."""
    numbers = ("in", "out", "lag", "errors")
    made = table(None, ("hop", "state", *numbers, "what"), right=numbers)
    for hop in found.hops:
        lag = "-" if hop.lag_s is None else f"{hop.lag_s:,.1f} s"
        state = Text(hop.state, style=_COLOURS.get(hop.state, ""))
        figures = (count(hop.records_in), count(hop.records_out), lag, count(hop.errors))
        made.add_row(Text(hop.name), state, *figures, Text(hop.detail))
    console().print(made)
    if found.tables:
        kinds = ("load", "insert", "update", "delete")
        sent = table(None, ("table", "DMS says", *kinds), right=kinds)
        for one in found.tables:
            sent.add_row(Text(one.table), Text(one.state), *(count(one.sent[kind]) for kind in kinds))
        console().print(sent)
    console().print(Text(f"the stack is {found.word}", style=_COLOURS[found.word]))
    next_step(
        {
            "idle": "`smartstream aws start`",
            "healthy": '`smartstream aws query "SHOW TABLES"`',
        }.get(found.word, "docs/aws.md, Alarms and Troubleshooting, say what to do about each.")
    )


@group.command()
def replay(
    table: Annotated[
        str | None, typer.Option("--table", help="Only of this schema.table.", show_default=False)
    ] = None,
    since: Annotated[
        str | None,
        typer.Option("--since", help="Objects written since: 2h, 3d, or a time.", show_default=False),
    ] = None,
    until: Annotated[
        str | None, typer.Option("--until", help="Objects written before, as --since.", show_default=False)
    ] = None,
    dead_letters: Annotated[
        bool, typer.Option("--dead-letters", help="Instead, what the transform gave up.")
    ] = False,
    everything: Annotated[
        bool, typer.Option("--all", help="Every raw object: needed without --table and --since.")
    ] = False,
    limit: Annotated[
        int, typer.Option("--limit", min=1, max=1_000_000, help="Most objects or messages.")
    ] = 10_000,
    stack: StackOption = None,
    outputs: OutputsOption = None,
    profile: ProfileOption = None,
    region: RegionOption = None,
    dry_run: DryRunOption = False,
    json_output: JsonOption = False,
) -> None:
    """Have the transform function read raw objects again; doing so twice changes nothing."""
    from smartstream.aws.operate import replay

    if not (dead_letters or everything or table or since):
        raise ConfigError(
            "it is not said what to replay", hint="Give --table, --since, --dead-letters or --all."
        )
    if dead_letters and (everything or table or since or until):
        raise ConfigError("--dead-letters goes with --limit only", hint="Replay raw objects separately.")
    start, stop = moment(since, "--since"), moment(until, "--until")
    reached = reach(stack, outputs, profile, region, dry_run=dry_run)
    if dead_letters:
        moved = replay.redrive(reached.aws, reached.stack, limit=limit)
        said, facts = f"{count(moved)} messages are back in the queue", {"messages": moved}
    else:
        done = replay.replay(reached.aws, reached.stack, table=table, since=start, until=stop, limit=limit)
        said = f"{count(done.objects)} raw objects, {size(done.size_bytes)}, announced again"
        said += "" if done.is_all else f"; there are more: --limit was {limit:,}, the last {done.last_key}"
        facts = asdict(done)
    if dry_run and not json_output:
        typer.echo(
            said.replace("announced again", "would be announced again").replace("are back", "would go back")
        )
    end(reached, facts, json_output=json_output, said=said, then="`smartstream aws status`")


@group.command()
def logs(
    function: Annotated[str, typer.Argument(help="transform or ml.")] = "transform",
    since: Annotated[str, typer.Option("--since", help="Lines since: 15m, 2h, or a time.")] = "15m",
    pattern: Annotated[
        str | None, typer.Option("--filter", help="Filter pattern of CloudWatch.", show_default=False)
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", help="Go on with new lines.")] = False,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds to follow.")] = 600.0,
    stack: StackOption = None,
    outputs: OutputsOption = None,
    profile: ProfileOption = None,
    region: RegionOption = None,
    json_output: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Show a function's log."""
    from smartstream.aws.operate import logs
    from smartstream.aws.operate.waiting import EVERY_S, Patience

    if function not in logs.FUNCTIONS:
        raise ConfigError(f"there is no function {function}", hint=f"It is {' or '.join(logs.FUNCTIONS)}.")
    start = moment(since, "--since")
    assert start is not None
    reached = reach(stack, outputs, profile, region)
    if follow:
        waiting = Patience(timeout, _nothing, EVERY_S)
        lines = logs.follow(
            reached.aws, reached.stack, function, since=start, patience=waiting, pattern=pattern
        )
    else:
        lines = logs.read(reached.aws, reached.stack, function, since=start, pattern=pattern)
    for line in lines:
        time = line.time.isoformat(timespec="milliseconds")
        if json_output:
            typer.echo(json.dumps({"time": time, "function": line.function, "message": line.message}))
        else:
            typer.echo(f"{time} {line.message}")


def _nothing(_: str) -> None:
    """The lines themselves are the progress."""
