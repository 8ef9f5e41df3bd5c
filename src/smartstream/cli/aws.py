"""``aws``: commands around the stack on AWS.  Here the group and ``cost``; the others in ``aws_*.py``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text
from typer.core import TyperGroup

from smartstream.cli.app import app
from smartstream.cli.render import as_json, console, next_step, table
from smartstream.errors import ConfigError

if TYPE_CHECKING:
    from smartstream.aws.cost.estimate import Estimate

EXAMPLES = ("dev", "prod", "low-cost")

STEPS = (
    "cost",
    "seed",
    "start",
    "status",
    "crawl",
    "query",
    "verify",
    "replay",
    "logs",
    "stop",
    "destroy",
)


class StepsInOrder(TyperGroup):
    """Lists the commands in the order of a deployment."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Names for --help."""
        return sorted(super().list_commands(ctx), key=STEPS.index)


group = typer.Typer(
    name="aws",
    cls=StepsInOrder,
    help="The stack on AWS: filling, starting, watching, asking, repairing, pricing and removing it.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.add_typer(group)


@group.command()
def cost(
    var_files: Annotated[
        list[Path] | None, typer.Option("-var-file", "--var-file", help="A .tfvars file, as for Terraform.")
    ] = None,
    variables: Annotated[
        list[str] | None, typer.Option("-var", "--var", help="name=value, as for Terraform; beats files.")
    ] = None,
    stack: Annotated[
        Path | None, typer.Option("--stack", help="Folder of the .tf files.", show_default=False)
    ] = None,
    records_per_second: Annotated[
        float, typer.Option(min=0, help="Changes a second, over all tables.")
    ] = 1.0,
    record_bytes: Annotated[
        int, typer.Option(min=1, max=1 << 20, help="Size of one change as DMS writes it.")
    ] = 1024,
    tables: Annotated[int, typer.Option(min=0, max=500, help="Tables that change all the time.")] = 3,
    markdown: Annotated[bool, typer.Option("--markdown", help="As a Markdown table.")] = False,
    json_output: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Estimate the monthly cost of the plan at hand, at list prices.  Asks nothing of the network."""
    from smartstream.aws.cost.estimate import Configuration, Load, estimate
    from smartstream.aws.cost.markdown import bill
    from smartstream.aws.cost.prices import Prices
    from smartstream.aws.cost.variables import find_stack, read_stack

    if markdown and json_output:
        raise ConfigError("--markdown and --json exclude each other", hint="Give one of them.")
    declared = read_stack(stack or find_stack(Path()))
    files = [*declared.automatic_files(), *(var_files or ())]
    configuration = Configuration.of(declared.values(files, variables or ()))
    made = estimate(configuration, Load(records_per_second, record_bytes, tables), Prices.load())
    if json_output:
        as_json(_as_dict(made, files))
    elif markdown:
        typer.echo(bill(made), nl=False)
    else:
        _show(made, files)


def estimates(stack: Path) -> Mapping[str, Estimate]:
    """The defaults and the example profiles, for the documentation; nobody's own terraform.tfvars."""
    from smartstream.aws.cost.estimate import Configuration, Load, estimate
    from smartstream.aws.cost.prices import Prices
    from smartstream.aws.cost.variables import read_stack

    declared, prices = read_stack(stack), Prices.load()
    files = {name: stack / "examples" / f"{name}.tfvars" for name in EXAMPLES}
    chosen = {"default": (), **{name: (path,) for name, path in files.items() if path.is_file()}}
    return {
        name: estimate(Configuration.of(declared.values(paths)), Load(), prices)
        for name, paths in chosen.items()
    }


def _show(made: Estimate, files: list[Path]) -> None:
    """The bill for people."""
    from smartstream.aws.cost.estimate import ASSUMPTIONS, NOT_INCLUDED
    from smartstream.aws.cost.markdown import quantity, unit_price, usd

    numbers = ("quantity", "unit price", "$ per month")
    shown = table(None, ("service", "item", *numbers), right=numbers)
    previous = ""
    for line in made.lines:
        service = "" if line.service == previous else line.service
        previous = line.service
        row = (service, line.item, quantity(line), unit_price(line.price), usd(line))
        shown.add_row(*map(Text, row))
    shown.add_section()
    shown.add_row(Text("total", style="bold"), "", "", "", Text(f"{made.monthly_usd:,.2f}", style="bold"))
    read = ", ".join(map(str, files)) or "the defaults"
    load = made.load
    typer.echo(
        f"{made.configuration.region}, list prices, from {read}; {load.records_per_s:g} changes/s of"
        f" {load.record_bytes:,} bytes over {load.tables} tables"
    )
    console().print(shown)
    for note in made.notes:
        typer.echo(note)
    typer.echo("\n  ".join(["assumed:", *ASSUMPTIONS]))
    typer.echo("\n  ".join(["not included:", *NOT_INCLUDED]))
    next_step("try another plan: `smartstream aws cost -var egress_mode=vpc_endpoints`.")


def _as_dict(made: Estimate, files: list[Path]) -> dict[str, Any]:
    """The bill for programs."""
    from smartstream.aws.cost.estimate import ASSUMPTIONS, NOT_INCLUDED

    lines = [
        {
            "service": line.service,
            "item": line.item,
            "quantity": line.quantity,
            "monthly_usd": round(line.monthly_usd, 4),
            "price": {
                "usd": line.price.usd,
                "per": line.price.per,
                "region": line.price.region,
                "source": line.price.source,
                "date": line.price.date,
                "estimate": line.price.estimate,
            },
        }
        for line in made.lines
    ]
    load = made.load
    return {
        "ok": True,
        "region": made.configuration.region,
        "monthly_usd": round(made.monthly_usd, 2),
        "files": [str(path) for path in files],
        "load": {
            "records_per_second": load.records_per_s,
            "record_bytes": load.record_bytes,
            "tables": load.tables,
        },
        "lines": lines,
        "notes": list(made.notes),
        "assumed": list(ASSUMPTIONS),
        "not_included": list(NOT_INCLUDED),
    }
