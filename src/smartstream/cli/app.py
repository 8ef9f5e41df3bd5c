"""The application, its global options, and the boundary where errors become words."""

from __future__ import annotations

import itertools
import json
import logging
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from smartstream import __version__
from smartstream.config import FILE_NAME, Settings, load
from smartstream.errors import ConfigMissing, ExitCode, SmartStreamError

INTERRUPTED = 130

COMMANDS = (
    "demo",
    "init",
    "doctor",
    "validate",
    "plan",
    "run",
    "status",
    "tables",
    "sql",
    "why",
    "verify",
    "quarantine",
    "rebuild",
    "model",
    "resync",
    "adopt",
    "pause",
    "resume",
    "maintain",
    "contract",
    "aws",
)


class InOrderOfUse(TyperGroup):
    """Lists the commands in the order in which one meets them."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Names for --help."""
        return sorted(super().list_commands(ctx), key=COMMANDS.index)


app = typer.Typer(
    name="smartstream",
    cls=InOrderOfUse,
    help="Keeps a data lake in step with PostgreSQL. Begin with `smartstream demo`, or with "
    "`smartstream init DIR --from URL`.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@dataclass(slots=True)
class Invocation:
    """The global options of one call."""

    config: Path = Path(FILE_NAME)
    verbose: bool = False

    def settings(self) -> Settings:
        """Read the configuration."""
        try:
            return load(self.config)
        except ConfigMissing as error:
            hint = f"Go to the folder of your {FILE_NAME} or name it with -C DIR; {_lower(error.hint)}"
            raise ConfigMissing(str(error), hint=hint) from error


def _lower(text: str) -> str:
    """A sentence as the second half of another."""
    return text[:1].lower() + text[1:]


def now() -> datetime:
    """The wall clock, in UTC."""
    return datetime.now(UTC)


def invocation(context: typer.Context) -> Invocation:
    """The global options, from within a command."""
    found = context.obj
    assert isinstance(found, Invocation)
    return found


def _show_version(value: bool) -> None:
    """Print the version and end."""
    if value:
        typer.echo(f"smartstream {__version__}")
        raise typer.Exit()


@app.callback()
def _options(
    context: typer.Context,
    directory: Annotated[
        Path | None, typer.Option("-C", "--directory", help=f"Folder of {FILE_NAME}.", show_default=False)
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option("--config", help=f"The file itself.  [default: ./{FILE_NAME}]", show_default=False),
    ] = None,
    verbose: Annotated[bool, typer.Option("-v", "--verbose", help="Log more; tracebacks of errors.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Options that stand before the command."""
    if not isinstance(context.obj, Invocation):
        context.obj = Invocation()
    if config is not None:
        context.obj.config = (directory or Path()) / config
    elif directory is not None:
        context.obj.config = directory / FILE_NAME
    context.obj.verbose = verbose
    _configure_logging(verbose)


def _configure_logging(verbose: bool) -> None:
    """Our log lines go to stderr: warnings, or with -v everything."""
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.WARNING,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        force=True,
    )
    logging.getLogger("smartstream").setLevel(logging.DEBUG if verbose else logging.WARNING)
    if not verbose:
        # Libraries warn about what our own errors say better.
        logging.getLogger("pyiceberg").setLevel(logging.ERROR)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code.  Never lets an exception out."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    call = Invocation()
    previous = signal.signal(signal.SIGTERM, _interrupt)
    try:
        code = app(args=given, prog_name="smartstream", standalone_mode=False, obj=call)
        sys.stdout.flush()
        return int(code or ExitCode.OK)
    except SmartStreamError as error:
        return _report(error, given, call)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        return _quiet()
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else ExitCode.FAILED
    except Exception as error:
        return _report_unexpected(error, given, call)
    finally:
        signal.signal(signal.SIGTERM, previous)


def _interrupt(*_: object) -> NoReturn:
    """SIGTERM means the same as Ctrl-C."""
    raise KeyboardInterrupt


def _quiet() -> int:
    """Whoever read our output has had enough (`| head`): that is no failure."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return ExitCode.OK


def _report(error: SmartStreamError, given: Sequence[str], call: Invocation) -> int:
    """Say what is wrong and what to do next."""
    if call.verbose:
        traceback.print_exception(error)
    if wants_json(given):
        typer.echo(json.dumps({"ok": False, "error": error_dict(error)}))
    else:
        typer.echo(f"error: {error}", err=True)
        if error.hint:
            typer.echo(f"next: {error.hint}", err=True)
    return error.exit_code


def error_dict(error: SmartStreamError) -> dict[str, Any]:
    """One of our errors for JSON."""
    return {
        "type": type(error).__name__,
        "message": str(error),
        "hint": error.hint,
        "retry": error.retry.value,
        "exit_code": error.exit_code,
    }


def _report_unexpected(error: Exception, given: Sequence[str], call: Invocation) -> int:
    """A usage error of typer, or a defect of ours."""
    show = getattr(error, "show", None)
    if callable(show):  # typer's own exceptions, whose module depends on its version
        if wants_json(given):
            message = str(getattr(error, "format_message", lambda: error)())
            detail = {"type": "UsageError", "message": message, "hint": "smartstream --help"}
            typer.echo(json.dumps({"ok": False, "error": detail}))
        else:
            show()
        return int(getattr(error, "exit_code", ExitCode.CONFIGURATION))
    if type(error).__name__ == "Abort":
        typer.echo("stopped: nothing was changed", err=True)
        return ExitCode.FAILED
    if call.verbose:
        traceback.print_exception(error)
    # Only the kind: the text of a library's error may quote values or the connection string.
    hint = "This is a defect: run again with -v for the traceback, and report it."
    if wants_json(given):
        detail = {"type": type(error).__name__, "message": "unexpected error", "hint": hint}
        typer.echo(json.dumps({"ok": False, "error": detail}))
    else:
        typer.echo(f"error: unexpected {type(error).__name__}", err=True)
        typer.echo(f"next: {hint}", err=True)
    return ExitCode.FAILED


def wants_json(given: Sequence[str]) -> bool:
    """Whether the command was asked for JSON."""
    options = list(given[: given.index("--")] if "--" in given else given)
    return "--json" in options or "--progress=json" in options or _follows(options, "--progress", "json")


def _follows(options: Sequence[str], name: str, value: str) -> bool:
    """Whether ``name value`` is among the options."""
    return (name, value) in itertools.pairwise(options)
