"""``contract``: data contracts (ODCS) to and from the settings, and held against tables."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from smartstream.cli.app import app, invocation, now
from smartstream.cli.render import as_json, console, next_step, table
from smartstream.cli.whole_file import replacing
from smartstream.config import load
from smartstream.errors import ConfigError, ExitCode
from smartstream.yaml_file import edited, written

if TYPE_CHECKING:
    from smartstream.quality.odcs.check import Difference
    from smartstream.quality.odcs.settings import Wanted

group = typer.Typer(
    name="contract",
    help="Data contracts in the form of the Open Data Contract Standard (ODCS) v3.1.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.add_typer(group)

ContractFile = Annotated[Path, typer.Argument(metavar="FILE", help="A contract, YAML.")]
JsonOption = Annotated[bool, typer.Option("--json", help="As JSON.")]


class OnFailChoice(StrEnum):
    """What an imported check does on failure."""

    WARN = "warn"
    QUARANTINE = "quarantine"
    DROP = "drop"
    STOP = "stop"


@group.command("export")
def export_contract(
    context: typer.Context,
    tables: Annotated[list[str] | None, typer.Argument(help="schema.table, one or several.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every table of the lake.")] = False,
    version: Annotated[str, typer.Option("--version", help="The contract's version.")] = "1.0.0",
    status: Annotated[
        str, typer.Option("--status", help="proposed, draft, active, deprecated or retired.")
    ] = "active",
    to: Annotated[
        Path | None,
        typer.Option("--to", help="File for the contract, instead of stdout.", show_default=False),
    ] = None,
    json_output: Annotated[bool, typer.Option("--json", help="As JSON instead of YAML.")] = False,
) -> None:
    """Write the contract that trusted tables and their quality checks amount to."""
    if bool(tables) == everything:
        raise ConfigError(
            "name tables, or say --all", hint="For example `smartstream contract export --all`."
        )
    settings = invocation(context).settings()
    from smartstream.quality.odcs.lake import export_tables

    names = [name if "." in name else f"public.{name}" for name in tables or []]
    contract = export_tables(settings, names or None, now, version=version, status=status)
    if json_output:
        as_json(contract)
    elif to is None:
        typer.echo(written(contract), nl=False)
    else:
        _replace(to, written(contract))
        next_step(f"`smartstream contract check {to}` holds the lake against it, now and later.")


@group.command("import")
def import_contract(
    context: typer.Context,
    file: ContractFile,
    merge: Annotated[bool, typer.Option("--merge", help="Put them into smartstream.yaml.")] = False,
    on_fail: Annotated[
        OnFailChoice, typer.Option(help="For checks of which the contract says nothing.")
    ] = OnFailChoice.WARN,
    json_output: JsonOption = False,
) -> None:
    """Print the settings that a contract asks for, ready for smartstream.yaml."""
    from smartstream.quality.config import OnFail
    from smartstream.quality.odcs.document import read_contract
    from smartstream.quality.odcs.settings import wanted

    asked = wanted(read_contract(file), on_fail=OnFail(on_fail.value))
    settings = {"tables": {one.table: one.settings() for one in asked}}
    left_out = [reason for one in asked for reason in one.left_out]
    if merge:
        config = invocation(context).config
        _merge(config, asked)
    if json_output:
        as_json({"ok": True, "settings": settings, "left_out": left_out})
        return
    if not merge:
        typer.echo(written(settings), nl=False)
    for reason in left_out:
        typer.echo(f"left out: {reason}", err=True)
    if merge:
        typer.echo(f"{config} has what {file} asks for")
        next_step("`smartstream validate`, then start `smartstream run` again.")
    else:
        typer.echo("next: --merge puts this into smartstream.yaml.", err=True)


@group.command("check")
def check_contract(
    context: typer.Context,
    file: ContractFile,
    source: Annotated[
        bool, typer.Option("--source", help="Hold the source's tables against it, instead of the lake's.")
    ] = False,
    json_output: JsonOption = False,
) -> None:
    """Hold the lake against a contract: columns, then quality.  Exit code 1 when they differ."""
    settings = invocation(context).settings()
    from smartstream.quality.odcs.document import read_contract
    from smartstream.quality.odcs.lake import check_lake, check_source

    contract = read_contract(file)
    found = check_source(settings, contract) if source else check_lake(settings, contract, now)
    broken = [one for one in found if one.breaks]
    if json_output:
        as_json({"ok": not broken, "differences": [one.to_dict() for one in found]})
    else:
        what = "source" if source else "lake"
        _show_differences(found)
        typer.echo(f"the {what} {'is NOT' if broken else 'is'} as the contract {contract.id} says")
        if broken:
            next_step("correct the data or the rules, or agree on a new version of the contract.")
        else:
            next_step("`smartstream contract diff OLD NEW` tells what a new version would break.")
    raise typer.Exit(ExitCode.FAILED if broken else ExitCode.OK)


@group.command("diff")
def diff_contracts(
    old: Annotated[Path, typer.Argument(metavar="OLD", help="The contract as it was.")],
    new: Annotated[Path, typer.Argument(metavar="NEW", help="The contract as it will be.")],
    json_output: JsonOption = False,
) -> None:
    """Tell what changed between two contracts.  Exit code 1 when a change can break a reader."""
    from smartstream.quality.odcs.diff import diff, version_advice
    from smartstream.quality.odcs.document import read_contract

    before, after = read_contract(old), read_contract(new)
    changes = diff(before, after)
    advice = version_advice(before, after, changes)
    breaking = any(change.breaking for change in changes)
    if json_output:
        facts = {"ok": not breaking, "changes": [change.to_dict() for change in changes]}
        as_json({**facts, "version": advice})
    else:
        shown = table(None, ("", "where", "what"))
        for change in changes:
            word = Text("breaking", style="red") if change.breaking else Text("compatible", style="green")
            shown.add_row(word, Text(change.path), Text(change.what))
        if changes:
            console().print(shown)
        else:
            typer.echo("the contracts promise the same")
        next_step(advice or ("tell the readers before the change." if breaking else "nothing to do."))
    raise typer.Exit(ExitCode.FAILED if breaking else ExitCode.OK)


def _show_differences(found: list[Difference]) -> None:
    """A table of differences; what breaks the contract first."""
    shown = table(None, ("", "where", "contract", "found"))
    for one in sorted(found, key=lambda one: not one.breaks):
        word = Text("differs", style="red") if one.breaks else Text("extra", style="yellow")
        shown.add_row(word, Text(one.path), Text(one.expected), Text(one.found))
    if found:
        console().print(shown)


def _merge(config: Path, asked: list[Wanted]) -> None:
    """Put settings into the file, if the result is valid; checks that are there already stay as they are."""
    from smartstream.quality.odcs.settings import not_yet

    def change(tree: Any) -> None:
        tables = tree.setdefault("tables", {"public.*": {}})
        for one in asked:
            settings = one.settings()
            rules = tables.get(one.table) or {}
            tables[one.table] = rules
            if "contract" in settings:
                rules["contract"] = settings["contract"]
            checks = rules.setdefault("quality", [])
            checks.extend(not_yet(checks, settings.get("quality", ())))

    _replace(config, edited(config, change), accept=load)


def _replace(target: Path, text: str, accept: Callable[[Path], Any] | None = None) -> None:
    """Put a text in place of a file, or beside nothing; ``accept`` sees it before and may refuse."""
    with replacing(target) as unfinished:
        unfinished.write_text(text, encoding="utf-8")
        if accept is not None:
            accept(unfinished)
