"""What the ``aws`` commands share: their options, the way to the stack, progress, and endings."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from smartstream.cli.app import now
from smartstream.cli.render import as_json, next_step
from smartstream.errors import ConfigInvalid

if TYPE_CHECKING:
    from smartstream.aws.operate.calls import Aws
    from smartstream.aws.operate.stack import StackOutputs
    from smartstream.aws.operate.waiting import Patience

StackOption = Annotated[
    Path | None, typer.Option("--stack", help="Folder of the .tf files.", show_default=False)
]
OutputsOption = Annotated[
    Path | None,
    typer.Option(
        "--outputs", help="What `terraform output -json` printed, instead of asking it.", show_default=False
    ),
]
ProfileOption = Annotated[
    str | None, typer.Option("--profile", help="Profile of AWS's configuration.", show_default=False)
]
RegionOption = Annotated[
    str | None, typer.Option("--region", help="Region, instead of the stack's.", show_default=False)
]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Say what would be called; change nothing.")]
JsonOption = Annotated[bool, typer.Option("--json", help="As JSON.")]
UrlOption = Annotated[
    str | None,
    typer.Option("--url", help="The database through the tunnel; else PGHOST and so on.", show_default=False),
]
MasterOption = Annotated[bool, typer.Option("--master", help="Log in as the master user, with RDS's secret.")]


@dataclass(frozen=True, slots=True)
class Reached:
    """A stack and the way to it."""

    aws: Aws
    stack: StackOutputs
    folder: Path


def reach(
    stack: Path | None,
    outputs: Path | None,
    profile: str | None,
    region: str | None,
    *,
    dry_run: bool = False,
) -> Reached:
    """Find the stack and make ready to call AWS; calls nothing yet.

    Raises:
        ConfigInvalid: boto3 is not installed.
        StackMissing, TerraformUnusable: the stack cannot be described.
        CredentialsUnusable: there is no such profile.
    """
    try:
        from smartstream.aws.operate.calls import Aws
    except ModuleNotFoundError as error:
        hint = "Install it with: pip install 'smartstream[aws]'"
        raise ConfigInvalid(f"calling AWS needs the package {error.name}", hint=hint) from error
    from smartstream.aws.cost.variables import find_stack
    from smartstream.aws.operate.stack import outputs_file, read_outputs

    folder = stack or find_stack(Path())
    found = outputs_file(outputs) if outputs else read_outputs(folder)
    aws = Aws.connect(profile=profile, region=region or found.text("region"), is_dry=dry_run)
    return Reached(aws, found, folder)


@contextmanager
def patience(timeout_s: float, *, every_s: float | None = None) -> Iterator[Patience]:
    """Waiting that shows what it waits for: a moving line on a terminal, else a line for each news."""
    from smartstream.aws.operate import waiting

    pause = waiting.EVERY_S if every_s is None else min(every_s, waiting.EVERY_S)
    if sys.stderr.isatty():
        console = Console(stderr=True, markup=False, highlight=False, emoji=False)
        with console.status("") as shown:
            yield waiting.Patience(timeout_s, lambda text: shown.update(Text(text)), pause)
        return
    last = ""

    def tell(text: str) -> None:
        nonlocal last
        if text != last:
            typer.echo(text, err=True)
        last = text

    yield waiting.Patience(timeout_s, tell, pause)


def end(reached: Reached, facts: Mapping[str, Any], *, json_output: bool, said: str, then: str) -> None:
    """Say what was done, or in a dry run what would have been."""
    planned = reached.aws.planned
    if json_output:
        dry = {"dry_run": True, "would_call": planned} if reached.aws.is_dry else {}
        as_json({"ok": True, **facts, **dry})
        return
    if reached.aws.is_dry:
        for call in planned:
            typer.echo(f"would call {call}")
        typer.echo(f"{len(planned)} kinds of calls; nothing was changed" if planned else "nothing to do")
        next_step("the same without --dry-run.")
        return
    typer.echo(said)
    next_step(then)


def moment(text: str | None, option: str) -> datetime | None:
    """A moment: ISO 8601 (UTC without a zone), or how long ago, as ``90m`` or ``2d``.

    Raises:
        ConfigInvalid: it is neither.
    """
    from smartstream.units import parse_duration

    if text is None:
        return None
    try:
        return now() - timedelta(seconds=parse_duration(text))
    except (ValueError, OverflowError):
        pass  # no duration, so it must be a time
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigInvalid(
            f"{option}: {text!r} is neither a time nor a duration",
            hint="Write 2h, 30m or 2026-01-31T12:00.",
        ) from None
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
