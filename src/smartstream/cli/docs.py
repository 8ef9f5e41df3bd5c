"""Pages of the documentation that are made from the code: every setting, command and error.

``python -m smartstream.cli.docs`` writes them into ``docs/``; a test holds them current.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from smartstream import errors
from smartstream.aws.cost import markdown
from smartstream.aws.cost.prices import Prices
from smartstream.cli import app
from smartstream.cli.app import COMMANDS
from smartstream.cli.aws import estimates
from smartstream.config import Settings
from smartstream.rules_config import TableRules
from smartstream.secret import Secret
from smartstream.units import format_duration, format_size, parse_duration, parse_size

_RETRY = {
    errors.Retry.TRANSIENT: "SmartStream tries again by itself",
    errors.Retry.OPERATOR: "a person must act; then start again",
    errors.Retry.NEVER: "trying again does not help",
    errors.Retry.VERIFY: "SmartStream looks whether it happened, then goes on",
}
_EXIT = {
    errors.ExitCode.FAILED: "1, failed",
    errors.ExitCode.CONFIGURATION: "2, configuration",
    errors.ExitCode.DEGRADED: "3, degraded",
}
_LIMITS = {"ge": "at least", "gt": "more than", "le": "at most", "lt": "less than"}


def pages() -> Mapping[str, str]:
    """The pages by file name."""
    return {
        "configuration.md": configuration_page(),
        "commands.md": commands_page(),
        "errors.md": errors_page(),
    }


def configuration_page() -> str:
    """Every setting with its type, default and meaning."""
    lines = [_CONFIGURATION_HEAD]
    for title, model in _sections(Settings, ""):
        lines += [f"## {title or 'The whole'}", "", _first_line(model), ""]
        lines += ["| setting | default | what |", "|---|---|---|"]
        lines += [_setting_row(title, name, field) for name, field in _fields(model)]
        lines.append("")
    return "\n".join(lines)


def commands_page() -> str:
    """Every command with its options, as `--help` shows them."""
    lines = [_COMMANDS_HEAD]
    group = typer.main.get_command(app)
    found: Mapping[str, Any] = group.commands  # type: ignore[attr-defined]
    for name in COMMANDS:
        below: Mapping[str, Any] = getattr(found[name], "commands", {})
        commands = {f"{name} {inner}": below[inner] for inner in below} or {name: found[name]}
        for title, command in commands.items():
            lines += _command(title, command)
    return "\n".join(lines)


def _command(title: str, command: Any) -> list[str]:
    """The section of one command."""
    arguments = [parameter for parameter in command.params if parameter.param_type_name == "argument"]
    shown = " ".join(
        f"[{p.name.upper()}]" if not p.required else p.metavar or p.name.upper() for p in arguments
    )
    lines = [f"## smartstream {title} {shown}".rstrip(), "", " ".join(str(command.help).split()), ""]
    rows = [_option_row(p) for p in command.params if p.param_type_name == "option" and p.name != "help"]
    if rows:
        lines += ["| option | what |", "|---|---|", *rows, ""]
    return lines


def errors_page() -> str:
    """Every error with its meaning, retry policy and hint."""
    lines = [_ERRORS_HEAD]
    for title, base in ((_first_line(kind), kind) for kind in errors.SmartStreamError.__subclasses__()):
        lines += [f"## {base.__name__}: {title}", ""]
        lines += ["| error | meaning | then | next step | exit |", "|---|---|---|---|---|"]
        for kind in dict.fromkeys([base, *leaves(base)]):
            cells = (_first_line(kind), _RETRY[kind.retry], kind.hint, _EXIT[kind.exit_code])
            lines.append(f"| `{kind.__name__}` | " + " | ".join(map(_cell, cells)) + " |")
        lines.append("")
    return "\n".join(lines)


def leaves(base: type[errors.SmartStreamError]) -> list[type[errors.SmartStreamError]]:
    """The errors of a branch that are raised: all below it, or itself."""
    below = [leaf for kind in base.__subclasses__() for leaf in leaves(kind)]
    return below or [base]


def _sections(model: type[BaseModel], path: str) -> Iterator[tuple[str, type[BaseModel]]]:
    """The models of the file, parents first."""
    yield path, model
    for name, field in _fields(model):
        of_tables = model is Settings and name == "tables"
        inner, many = (TableRules, False) if of_tables else _section(field)
        if inner is not None and not (many and model is TableRules):  # rules have a page of their own
            below = "tables.<pattern>" if of_tables else f"{path}.{name}".lstrip(".")
            yield from _sections(inner, below + "[]" * many)


def _section(field: FieldInfo) -> tuple[type[BaseModel] | None, bool]:
    """The model of a setting that is a section, or a list of them; and whether it is a list."""
    origin = get_origin(field.annotation)
    many = origin is tuple
    parts = get_args(field.annotation) if many or origin in (UnionType, Union) else (field.annotation,)
    found = [part for part in parts if isinstance(part, type) and issubclass(part, BaseModel)]
    return (found[0] if len(found) == 1 else None), many


def _fields(model: type[BaseModel]) -> Iterator[tuple[str, FieldInfo]]:
    """Fields under the names that the file uses."""
    for name, field in model.model_fields.items():
        yield field.alias or name, field


def _setting_row(section: str, name: str, field: FieldInfo) -> str:
    """One setting."""
    path = f"{section}.{name}".lstrip(".")
    annotation = field.annotation
    model, many = _section(field)
    if model is not None and not many:
        default = "see below" if field.default is not None else "none, see below"
        return f"| `{path}` | {default} | {_cell(_first_line(model))} |"
    facts = [field.description or "", *_constraints(field)]
    if get_origin(annotation) is Literal:
        facts.append("one of " + ", ".join(f"`{value}`" for value in get_args(annotation)))
    if _is_secret(annotation):
        facts.append("may be a reference to a secret")
    return f"| `{path}` | {_default(field)} | {_cell('; '.join(filter(None, facts)))} |"


def _default(field: FieldInfo) -> str:
    """The default as one would write it."""
    if field.is_required():
        return "**required**"
    value = field.default
    if value is None:
        return "none"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, dict):
        inner = ", ".join(f"{key}: {{}}" for key in value)
        return f"`{{{inner}}}`"
    return f"`{_written(field, value)}`"


def _written(field: FieldInfo, value: Any) -> str:
    """A value in the unit of its setting."""
    parsers = [getattr(part, "func", None) for part in field.metadata]
    if parse_duration in parsers:
        return format_duration(value)
    return format_size(value) if parse_size in parsers else str(value)


def _constraints(field: FieldInfo) -> Iterator[str]:
    """Limits of a setting's value."""
    for part in field.metadata:
        for name, words in _LIMITS.items():
            limit = getattr(part, name, None)
            if limit:
                yield f"{words} `{_written(field, limit)}`"


def _is_secret(annotation: Any) -> bool:
    """Whether the setting holds a Secret, or several."""
    if get_origin(annotation) in (UnionType, Union, dict):
        return any(_is_secret(part) for part in get_args(annotation) if part is not NoneType)
    if annotation is Secret:
        return True
    return bool(getattr(annotation, "__metadata__", ())) and _is_secret(get_args(annotation)[0])


def _option_row(parameter: Any) -> str:
    """One option of a command."""
    names = ", ".join(f"`{name}`" for name in parameter.opts)
    default = parameter.default
    shown = "" if default in (None, False, ()) or callable(default) else f" Default: `{default}`."
    return f"| {names} | {_cell((parameter.help or '') + shown)} |"


def _first_line(thing: type) -> str:
    """The first paragraph of a docstring, on one line."""
    return " ".join((inspect.getdoc(thing) or "").split("\n\n")[0].split())


def _cell(text: str) -> str:
    """Text inside a Markdown table."""
    return re.sub(r"\s+", " ", text).replace("|", "\\|").strip()


_CONFIGURATION_HEAD = """\
# Configuration

Every setting of `smartstream.yaml`. Only `source.url` is required. `smartstream validate` checks the
file and names the line of what is wrong; `smartstream validate --json-schema` gives editors a schema.

- **Durations**: `500ms`, `30s`, `15m`, `1h`, `1d`; a bare number is seconds.
- **Sizes**: `64KiB`, `64MiB`, `5GiB` (powers of 1024), `10MB` (powers of 1000); a bare number is bytes.
- **Secrets**: `${env:NAME}` takes a variable of the environment, `${file:PATH}` the content of a file
  (relative to `smartstream.yaml`). They are resolved when they are used, and never shown.
- **Tables**: of the patterns that match a table, the one with the most letters besides `*` says whether
  it is wanted; the rules of all of them are joined ([cleaning and checking](transform.md)).

```yaml
version: 1
name: shop
source:
  url: "${file:.secrets/source_url}"
tables:
  public.*: {}
  public.audit_*: {exclude: true}
```

This page is made from the code: `python -m smartstream.cli.docs`.
"""

_COMMANDS_HEAD = """\
# Commands

Global options stand before the command: `-C DIR` (the folder of `smartstream.yaml`), `--config FILE`,
`-v` (log more; tracebacks), `--version`.

Exit codes: 0 done, 1 failed (`verify`, `contract check`: a difference), 2 configuration (`doctor`:
something fails), 3 degraded (`status`; `run` when a quality check or a contract stops it), 130 interrupted
(`run` stops cleanly instead, with 0). With `--json` the result is one JSON document on stdout; an error is
`{"ok": false, "error": {"type", "message", "hint", …}}`.

This page is made from the code: `python -m smartstream.cli.docs`.
"""

_ERRORS_HEAD = """\
# Errors

Every error that SmartStream raises on purpose: what it means, whether trying again can help, what to
do next. The message names the place (file and line, table, slot, LSN), never a row's values.

This page is made from the code: `python -m smartstream.cli.docs`.
"""


def cost_pages(root: Path) -> Mapping[Path, str]:
    """What the AWS stack of a checkout costs: a page, and the table in the README that has markers for it."""
    found = estimates(root / "terraform")
    readme = root / "README.md"
    return {
        root / "docs" / "aws-cost.md": markdown.page(found, Prices.load().all()),
        readme: markdown.with_table(readme.read_text(encoding="utf-8"), found),
    }


def main(root: Path) -> None:
    """Write the pages."""
    for name, text in pages().items():
        (root / "docs" / name).write_text(text, encoding="utf-8")
    for path, text in cost_pages(root).items():
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parents[3])
