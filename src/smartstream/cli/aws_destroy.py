"""``aws destroy``: the end of a stack."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from smartstream.cli.aws import group
from smartstream.cli.aws_stack import (
    DryRunOption,
    JsonOption,
    ProfileOption,
    RegionOption,
    StackOption,
    end,
    patience,
    reach,
)
from smartstream.cli.render import console, table
from smartstream.errors import ConfigError


@group.command()
def destroy(
    empty_buckets: Annotated[
        bool, typer.Option("--empty-buckets", help="Delete all objects of the stack's buckets first.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Don't ask for the stack's name.")] = False,
    var_files: Annotated[
        list[Path] | None, typer.Option("-var-file", "--var-file", help="A .tfvars file, as for Terraform.")
    ] = None,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds to wait for DMS to stop.")] = 900.0,
    stack: StackOption = None,
    profile: ProfileOption = None,
    region: RegionOption = None,
    dry_run: DryRunOption = False,
    json_output: JsonOption = False,
) -> None:
    """Stop replication and destroy the stack, after it has said what will be lost."""
    from smartstream.aws.operate import destroy as ending
    from smartstream.aws.operate import dms

    if json_output and not (yes or dry_run):
        raise ConfigError("--json can't ask for the stack's name", hint="Give --yes or --dry-run with it.")
    reached = reach(stack, None, profile, region, dry_run=dry_run)
    aws, found = reached.aws, reached.stack
    name = found.text("name_prefix")
    ending.check_unprotected(aws, found)
    lost = ending.losses(aws, found)
    if not json_output:
        shown = table(f"Destroying {name} deletes for good", ("what", ""))
        for one in lost:
            shown.add_row(Text(one.what), Text(one.detail))
        console().print(shown)
    if not (yes or dry_run) and typer.prompt(f"Write {name} to destroy it") != name:
        raise typer.Abort()
    with patience(timeout) as waiting:
        dms.stop(aws, found, waiting)
        if empty_buckets:
            ending.delete_workgroup(aws, found)
            for bucket in ending.buckets(found):
                ending.empty(aws, bucket, waiting.tell)
    if dry_run:
        aws.planned.append(f"terraform destroy in {reached.folder}")
    else:
        ending.run_terraform(
            reached.folder, var_files or (), may_ask=sys.stdin.isatty() and not yes, is_quiet=json_output
        )
    facts = {"name": name, "lost": [{"what": one.what, "detail": one.detail} for one in lost]}
    end(
        reached, facts, json_output=json_output, said=f"{name} is destroyed", then="checklist, the last step."
    )
