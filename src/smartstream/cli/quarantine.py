"""``quarantine`` and ``rebuild``: rows that rules hold back, and tables made anew from the raw zone."""

from __future__ import annotations

import sys
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from smartstream.cli.app import app, invocation, now
from smartstream.cli.render import as_json, console, count, next_step, table
from smartstream.cli.run import DISPLAYS, ProgressKind, drive, stopped_by_signals
from smartstream.config import Settings
from smartstream.errors import ConfigError, ExitCode

if TYPE_CHECKING:
    import pyarrow as pa

    from smartstream.pipeline.requests import RequestKind
    from smartstream.quality.held import HeldRow, HeldTable
    from smartstream.schema import TableSchema

group = typer.Typer(
    name="quarantine",
    help="Rows that rules hold back: list, look at, judge again, let be.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.add_typer(group)

VALUE_CHARS_MAX = 40

TableArgument = Annotated[str, typer.Argument(help="schema.table, or the table's name in the lake.")]
KeysArgument = Annotated[
    list[str] | None,
    typer.Argument(metavar="KEY", help="Of a row: 7, or 7,x in key order, or id=7,code=x; several."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="As JSON.")]


@group.command("ls")
def list_held(
    context: typer.Context,
    name: Annotated[str | None, typer.Argument(metavar="TABLE", help="One table; all without it.")] = None,
    json_output: JsonOption = False,
) -> None:
    """Count what is held of each table, by rule."""
    call = _Call.of(context)
    found = call.tables(name)
    if json_output:
        as_json({"ok": True, "tables": [one.to_dict() for one in found]})
        return
    if not any(one.total for one in found):
        typer.echo("no row is held")
        next_step("nothing to do.")
        return
    console().print(_held_table(found))
    first = next(one for one in found if one.total)
    next_step(f"`smartstream quarantine show {first.table}` shows the rows and why they are held.")


@group.command("show")
def show_held(
    context: typer.Context,
    name: TableArgument,
    keys: KeysArgument = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="Rows, the newest first.")] = 20,
    json_output: JsonOption = False,
) -> None:
    """Show held rows: what they broke, the row as the source has it, its change."""
    from smartstream.quality.held import HeldRows, check_held

    call = _Call.of(context)
    schema = call.schema(name)
    wanted = _typed(schema, keys)
    with HeldRows(call.settings) as held:
        total = check_held(call.settings, held, schema, wanted)
        rows = held.rows(schema, wanted, limit)
    if json_output:
        as_json({"ok": True, "table": schema.id, "total": total, "rows": [row.to_dict() for row in rows]})
        return
    for row in rows:
        typer.echo("\n".join(_lines(row)) + "\n")
    typer.echo(f"{count(len(rows))} of {count(total)} held rows of {schema.id}")
    next_step(
        f"correct the row in the source, or the rule, then `smartstream rebuild {schema.id}`."
        if rows
        else "nothing to do."
    )


@group.command("replay")
def replay(
    context: typer.Context, name: TableArgument, keys: KeysArgument = None, json_output: JsonOption = False
) -> None:
    """Judge held rows again; those that are good now go to the trusted table.  Without KEY: all open ones."""
    from smartstream.pipeline.requests import RequestKind

    _revise(_Call.of(context), RequestKind.REPLAY, name, keys, json_output)


@group.command("drop")
def drop(
    context: typer.Context,
    name: TableArgument,
    keys: KeysArgument = None,
    everything: Annotated[bool, typer.Option("--all", help="Every row that is held of the table.")] = False,
    json_output: JsonOption = False,
) -> None:
    """Let held rows be: they count as dropped until the source changes them, or the table is rebuilt."""
    if everything == bool(keys):
        raise ConfigError(
            "quarantine drop wants keys, or --all, and not both",
            hint="`smartstream quarantine show TABLE` shows the keys.",
        )
    from smartstream.pipeline.requests import RequestKind

    _revise(_Call.of(context), RequestKind.DROP, name, keys, json_output)


@app.command()
def rebuild(context: typer.Context, name: TableArgument, json_output: JsonOption = False) -> None:
    """Make a trusted table again from the raw zone, with the rules as they are; readers see one swap."""
    from smartstream.pipeline.requests import RequestKind

    call = _Call.of(context)
    schema = call.schema(name)
    before = call.held(schema)
    carried_out = call.ask(RequestKind.REBUILD, schema, None, show=not json_output)
    if not carried_out:
        _stopped(f"the rebuild of {schema.id}")
    after = call.held(schema)
    if json_output:
        as_json({"ok": True, "table": schema.id, "before": before.to_dict(), "after": after.to_dict()})
        return
    typer.echo(
        f"rebuilt {schema.id}: {count(after.trusted_rows)} rows (before: {count(before.trusted_rows)}),"
        f" {count(after.total)} held (before: {count(before.total)})"
    )
    next_step(
        f"`smartstream quarantine ls {schema.id}` tells why rows are held."
        if after.total
        else f"`smartstream verify {schema.id}` proves it."
    )


@dataclass(frozen=True, slots=True)
class _Call:
    """One call, and what it needs of the lake."""

    settings: Settings

    @staticmethod
    def of(context: typer.Context) -> _Call:
        """With the configuration of the call."""
        return _Call(invocation(context).settings())

    def schema(self, name: str) -> TableSchema:
        """The table that is meant."""
        from smartstream.quality.held import captured_table
        from smartstream.raw.manifest_log import ManifestLog
        from smartstream.raw.store import open_store

        state = ManifestLog(open_store(self.settings.lake), now).load()
        return captured_table(self.settings, state, name)

    def tables(self, name: str | None) -> list[HeldTable]:
        """What is held of one table, or of all that ever held something."""
        from smartstream.quality.held import HeldRows, check_held
        from smartstream.raw.manifest_log import ManifestLog
        from smartstream.raw.store import open_store
        from smartstream.schema import TableSchema

        if name is not None:
            schema = self.schema(name)
            with HeldRows(self.settings) as held:
                check_held(self.settings, held, schema, None)
                return [held.table(schema)]
        state = ManifestLog(open_store(self.settings.lake), now).load()
        if not state.tables:
            return []
        schemas = [TableSchema.from_json(state.tables[one].schema) for one in sorted(state.tables)]
        with HeldRows(self.settings) as held:
            return [found for schema in schemas if (found := held.table(schema)).total]

    def held(self, schema: TableSchema) -> HeldTable:
        """What is held of a table now."""
        from smartstream.quality.held import HeldRows

        with HeldRows(self.settings) as held:
            return held.table(schema)

    def ask(
        self, kind: RequestKind, schema: TableSchema, keys: list[tuple[str, ...]] | None, *, show: bool
    ) -> bool:
        """Have a request carried out, by who runs or by a run of our own; False: interrupted."""
        from smartstream.pipeline import Pipeline
        from smartstream.pipeline.errand import Errand

        for secret in self.settings.secrets():
            secret.reveal()
        stop = threading.Event()
        progress = ProgressKind.RICH if sys.stdout.isatty() else ProgressKind.PLAIN

        def run_once() -> None:
            if not show:
                drive(Pipeline(self.settings), stop, True, lambda *_: None)
                return
            with DISPLAYS[progress]() as display:
                drive(Pipeline(self.settings), stop, True, display)

        with stopped_by_signals(stop):
            errand = Errand(self.settings, clock=now, run_once=run_once, stop=stop)
            done = errand.carry_out(kind, schema.id, keys) is not None
        if done and self._outdated(schema):
            text = "warning: the running pipeline has the rules of its start, not those of the file now"
            typer.echo(f"{text}: start it again", err=True)
        return done

    def _outdated(self, schema: TableSchema) -> bool:
        """Whether a table's rows went through other rules than those of the file."""
        from smartstream.status import read_lake

        lake = read_lake(self.settings, now)
        return any(one.table == schema.id and one.status == "outdated" for one in lake.tables)


def _revise(call: _Call, kind: RequestKind, name: str, keys: list[str] | None, json_output: bool) -> None:
    """Judge held rows again, or let them be; tell what changed."""
    from smartstream.pipeline.requests import RequestKind
    from smartstream.quality.held import HeldRows, check_held
    from smartstream.query.life import key_texts

    schema = call.schema(name)
    wanted = _typed(schema, keys)
    with HeldRows(call.settings) as held:
        about = check_held(call.settings, held, schema, wanted)
        before = held.table(schema)
    texts = [key_texts(key, schema) for key in keys] if keys else None
    if about and not call.ask(kind, schema, texts, show=False):
        _stopped(f"the {kind.value} of held rows")
    after = call.held(schema)
    released = after.trusted_rows - before.trusted_rows
    if json_output:
        as_json({"ok": True, "table": schema.id, "before": before.to_dict(), "after": after.to_dict()})
        return
    if not about:
        typer.echo(f"no row of {schema.id} is held")
        next_step("nothing to do.")
    elif kind is RequestKind.REPLAY:
        typer.echo(
            f"{schema.id}: {count(before.total)} rows were held, {count(after.total)} are now;"
            f" the trusted table has {released:+,} rows"
        )
        next_step(f"`smartstream quarantine ls {schema.id}` tells what is left.")
    else:
        typer.echo(
            f"{schema.id}: of {count(after.total)} held rows"
            f" {count(after.counts.get('dropped', 0))} are dropped"
        )
        next_step("a later change of such a row in the source is judged like any other.")


def _typed(schema: TableSchema, keys: list[str] | None) -> pa.Table | None:
    """The keys that were given, each once."""
    if not keys:
        return None
    import pyarrow as pa

    from smartstream.query.life import key_texts, parse_key

    distinct = {key_texts(key, schema): key for key in keys}
    return pa.concat_tables([parse_key(key, schema) for key in distinct.values()])


def _stopped(what: str) -> None:
    """Interrupted: say so and end."""
    typer.echo(f"stopped before {what} was done; a pipeline that has begun it goes on", err=True)
    raise typer.Exit(ExitCode.FAILED)


def _held_table(found: list[HeldTable]) -> Any:
    """One line for each table and rule."""
    made = table(
        None, ("table", "held as", "rule", "rows", "of all rows", "oldest"), right=("rows", "of all rows")
    )
    for one in found:
        for rule in one.rules:
            rows = one.trusted_rows + one.total
            made.add_row(
                Text(one.table),
                rule.disposition,
                Text(rule.rule or "-"),
                count(rule.rows),
                f"{rule.rows / rows:.2%}",
                rule.oldest.isoformat(" ", "seconds") if rule.oldest else "-",
            )
    return made


def _lines(row: HeldRow) -> list[str]:
    """One held row for people."""
    from smartstream.lsn import format_lsn

    key = ", ".join(f"{name}={_short(value)}" for name, value in row.key.items())
    when = f" at {row.time.isoformat(' ')}" if row.time else ""
    how = f" by {row.op}" if row.op else ""
    lines = [
        f"{key}  {row.disposition}",
        f"  changed{how} at {format_lsn(row.lsn)}{when}; rules {row.rules_version}",
    ]
    lines += [f"  {one['rule']}: {one['column']} {one['reason']}".rstrip() for one in row.violations]
    if row.business_key is not None:
        lines.append(f"  duplicate of the row with ({', '.join(_short(part) for part in row.business_key)})")
    if row.row is not None:
        lines.append("  " + ", ".join(f"{name}: {_short(value)}" for name, value in row.row.items()))
    return lines


def _short(value: str | None) -> str:
    """A value on one line."""
    if value is None:
        return "NULL"
    value = value.replace("\n", "\\n")
    return value if len(value) <= VALUE_CHARS_MAX else value[: VALUE_CHARS_MAX - 1] + "…"
