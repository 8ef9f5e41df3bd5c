"""``init``, ``doctor`` and ``validate``: before the first run."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from smartstream.cli.app import app, invocation, now
from smartstream.cli.render import as_json, checks_table, console, next_step, table
from smartstream.config import FILE_NAME, Settings, load
from smartstream.errors import ExitCode, RuleInvalid

if TYPE_CHECKING:
    from smartstream.doctor import Check


@app.command()
def init(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Folder to make.")],
    url: Annotated[
        str,
        typer.Option(
            "--from", metavar="URL", help="postgresql://user:password@host:5432/database; - reads it."
        ),
    ],
) -> None:
    """Make a folder with a commented smartstream.yaml for a database, and look at that database."""
    from smartstream.cli.scaffold import scaffold
    from smartstream.doctor import diagnose

    found = scaffold(directory, sys.stdin.readline().strip() if url == "-" else url)
    typer.echo(f"wrote {directory / FILE_NAME}; the password is in {directory / '.secrets'}, for you alone\n")
    listed = table(None, ("table", "key", "columns"), right=("columns",))
    for one in found.tables:
        listed.add_row(one.id, ", ".join(one.key), str(len(one.columns)))
    for keyless in found.keyless:
        listed.add_row(keyless.id, f"none: {keyless.reason}", "")
    console().print(listed)
    typer.echo("")
    checks = diagnose(load(directory / FILE_NAME))
    console().print(checks_table(checks))
    go = f"cd {directory} && smartstream"
    next_step(f"`{go} doctor` once the failures above are fixed." if _failures(checks) else f"`{go} run`")


@app.command()
def doctor(
    context: typer.Context,
    print_sql: Annotated[
        bool, typer.Option("--print-sql", help="Only the SQL of all fixes, in one block.")
    ] = False,
    json_output: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Check source, lake and machine; each failure with its fix.  Exit code 2 when something fails."""
    from smartstream.doctor import diagnose, sql_script

    settings = invocation(context).settings()
    checks = diagnose(settings)
    failures = _failures(checks)
    if json_output:
        as_json(
            {"ok": not failures, "checks": [check.to_dict() for check in checks], "sql": sql_script(checks)}
        )
    elif print_sql:
        typer.echo(sql_script(checks))
    else:
        console().print(checks_table(checks))
        next_step(_after_doctor(checks))
    raise typer.Exit(ExitCode.CONFIGURATION if failures else ExitCode.OK)


@app.command()
def validate(
    context: typer.Context,
    json_schema: Annotated[
        bool, typer.Option("--json-schema", help="Print the JSON Schema of the file, for editors.")
    ] = False,
    explain: Annotated[
        bool, typer.Option("--explain", help="Show what the rules of each table do, as SQL.")
    ] = False,
    json_output: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Check smartstream.yaml: keys, values, secrets; rules against the source, models against features."""
    if json_schema:
        typer.echo(json.dumps(Settings.model_json_schema(), indent=1))
        return
    from smartstream.doctor.rules import examine_rules
    from smartstream.inference.examine import examine_models

    call = invocation(context)
    settings = call.settings()
    for secret in settings.secrets():
        secret.reveal()
    report = examine_rules(settings, clock=now)
    if report.problems:
        raise RuleInvalid("\n".join(report.problems))
    models = examine_models(settings)
    for model in models:
        if model.error is not None:
            raise model.error
    notes = [f"model {model.model}: {note}" for model in models for note in model.notes]
    plain = [] if settings.source.url.is_reference else [_PLAIN_URL]
    warnings = [*plain, *report.warnings, *notes]
    if json_output:
        rules = {"rules": report.to_dict()} if explain else {}
        as_json({"ok": True, "file": str(call.config), "warnings": warnings, **rules})
        return
    for warning in warnings:
        typer.echo(f"warning: {warning}", err=True)
    for compiled in report.compiled if explain else ():
        typer.echo(f"-- {compiled.schema.id}, rules {compiled.version}\n{compiled.sql}\n")
    typer.echo(f"{call.config} is valid")
    next_step("`smartstream doctor` looks at the source and the lake.")


_PLAIN_URL = "source.url stands in the file itself; ${env:NAME} or ${file:PATH} keep its password out of it"


def _failures(checks: Sequence[Check]) -> list[Check]:
    """The checks that failed."""
    return [check for check in checks if check.status.value == "fail"]


def _after_doctor(checks: Sequence[Check]) -> str:
    """What to do next."""
    failures = _failures(checks)
    if not failures:
        return "`smartstream run`"
    sql = any(check.sql for check in failures)
    how = "`smartstream doctor --print-sql` prints the SQL" if sql else "correct them"
    return f"{len(failures)} failed: {how}, then run `smartstream doctor` again."
