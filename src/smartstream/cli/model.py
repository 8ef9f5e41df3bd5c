"""``model``: the models of smartstream.yaml, their runs and what they say."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from smartstream.cli.app import app, invocation, now
from smartstream.cli.render import as_json, console, count, next_step, table, when
from smartstream.errors import ConfigError
from smartstream.lsn import format_lsn

if TYPE_CHECKING:
    from smartstream.config import Settings
    from smartstream.inference.config import ModelSettings
    from smartstream.inference.runs import RunReport

group = typer.Typer(
    name="model",
    help="Models: run them, see their runs, compare, make training sets.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.add_typer(group)

Name = Annotated[str, typer.Argument(metavar="NAME", help="The model's name in smartstream.yaml.")]
JsonOption = Annotated[bool, typer.Option("--json", help="As JSON.")]
RUNS_SHOWN = 20


@group.command("ls")
def list_models(context: typer.Context, json_output: JsonOption = False) -> None:
    """List the models with their last run and when the next is due."""
    from smartstream.inference.runs import drift_of, runs_of
    from smartstream.inference.schedule import parse_schedule
    from smartstream.trusted.catalog import open_catalog

    settings = invocation(context).settings()
    catalog = open_catalog(settings.lake)
    runs = runs_of(catalog) if settings.models else []
    last = {run.model: run for run in reversed(runs)}
    good = {run.model: run for run in reversed(runs) if run.status == "ok"}
    shown = table(None, ("model", "schedule", "next", "version", "last run", "rows", "status", "drifted"))
    found = []
    for model in settings.models:
        run = last.get(model.name)
        begun = run.started_at if run else None
        schedule = parse_schedule(model.schedule, model.zone) if model.schedule else None
        following = schedule.next_after(begun or now()) if schedule else None
        status = _status(run, good.get(model.name))
        row = (
            model.name,
            model.schedule or "by hand",
            f"{following:%Y-%m-%d %H:%M} UTC" if following else "-",
            run.version if run else "-",
            when(begun) if begun else "never",
            count(run.rows_scored if run else None),
            status,
            ", ".join(one["column"] for one in drift_of(catalog, model.name) if not one["passed"]) or "-",
        )
        shown.add_row(*map(Text, row))
        found.append({"model": model.name, "status": status, "last_run": run.to_dict() if run else None})
    if json_output:
        as_json({"ok": True, "models": found})
        return
    console().print(shown)
    next_step("`smartstream model run NAME` scores now; `smartstream model runs NAME` shows each run.")


@group.command("run")
def run_one(
    context: typer.Context,
    name: Name,
    full: Annotated[bool, typer.Option("--full", help="Score every key, not only what changed.")] = False,
    json_output: JsonOption = False,
) -> None:
    """Score with a model now, whatever its schedule says."""
    from smartstream.inference.score import run_model

    settings = invocation(context).settings()
    model = _model(settings, name)
    report = run_model(settings, model, clock=now, mode="full" if full else None)
    if json_output:
        as_json({"ok": True, **report.to_dict()})
        return
    seconds = (report.ended_at - report.started_at).total_seconds()
    typer.echo(
        f"{name}: {report.status}, {report.mode}; {count(report.rows_scored)} rows scored,"
        f" {count(report.rows_unchanged)} unchanged, {count(report.rows_removed)} removed,"
        f" {count(report.rows_quarantined)} in quarantine; {seconds:.1f} s"
    )
    if report.drifted:
        typer.echo(f"drifted: {report.drifted}")
    if report.message:
        typer.echo(report.message)
    next_step(f'`smartstream sql "FROM analytics.{model.table} LIMIT 10"` shows predictions.')


@group.command("test")
def try_model(
    context: typer.Context,
    name: Name,
    rows: Annotated[int, typer.Option("--rows", min=1, max=10_000, help="How many rows at most.")] = 5,
    key: Annotated[
        list[str] | None,
        typer.Option("--key", help="The row with this key; once for each of the key's columns."),
    ] = None,
    json_output: JsonOption = False,
) -> None:
    """Predict a few rows and show them with their features; nothing is written."""
    from smartstream.inference.sample import sample

    settings = invocation(context).settings()
    model = _model(settings, name)
    found = sample(settings, model, rows=rows, key=key or ())
    features, predictions = found.features.to_pylist(), found.predictions.to_pylist()
    reasons = found.reasons.to_pylist()
    if json_output:
        lines = zip(features, predictions, reasons, strict=True)
        shown_rows = [{"features": _plain(f), "prediction": p, "reason": r} for f, p, r in lines]
        facts = {"model": name, "version": found.model.version, "sha256": found.model.sha256}
        as_json({"ok": True, **facts, "lsn": format_lsn(found.lsn), "rows": shown_rows})
        return
    typer.echo(
        f"{name}: {found.model.format}, version {found.model.version};"
        f" {count(len(features))} rows, tables as of {format_lsn(found.lsn)}"
    )
    outputs = found.predictions.column_names
    shown = table(None, (*found.features.column_names, *(f"→ {output}" for output in outputs), "not scored"))
    for row, prediction, reason in zip(features, predictions, reasons, strict=True):
        cells = (*row.values(), *prediction.values())
        shown.add_row(*(Text("-" if cell is None else f"{cell}") for cell in cells), Text(reason or ""))
    console().print(shown)
    next_step(f"`smartstream model run {name}` scores all rows and keeps the predictions.")


@group.command("drift")
def show_drift(
    context: typer.Context,
    name: Name,
    since: Annotated[
        str | None, typer.Option("--since", help="All runs since a moment, or as long ago as `2d`.")
    ] = None,
    json_output: JsonOption = False,
) -> None:
    """Show how far the features of all keys are from the baseline: when last measured, or since a moment."""
    from smartstream.cli.aws_stack import moment
    from smartstream.inference.runs import drift_of
    from smartstream.trusted.catalog import open_catalog

    settings = invocation(context).settings()
    model = _model(settings, name)
    found = drift_of(open_catalog(settings.lake), model.name, moment(since, "--since"))
    if json_output:
        rows = [{**row, "measured_at": row["measured_at"].isoformat()} for row in found]
        as_json({"ok": True, "limits": model.drift.model_dump(), "drift": rows})
        return
    if not found:
        typer.echo(
            f"{name}: nothing was compared yet; without drift.baseline, the first profile is the baseline"
        )
        next_step(f"`smartstream model run {name}` scores, and compares with the baseline.")
        return
    limits = model.drift
    typer.echo(
        f"limits: psi {limits.psi_max}, js {limits.js_max}, ks {limits.ks_max},"
        f" rise of nulls {limits.null_ratio_rise_max}; judged from {count(limits.rows_min)} rows on"
    )
    shown = table(None, ("measured", "column", "psi", "js", "ks", "nulls", "before", "rows", "passed", "why"))
    for row in found:
        numbers = [row[n] for n in ("psi", "js", "ks", "null_ratio", "null_ratio_baseline")]
        cells = (
            f"{row['measured_at']:%Y-%m-%d %H:%M:%S}",
            row["column"],
            *("-" if number is None else f"{number:.3f}" for number in numbers),
            count(row["rows"]),
            "yes" if row["passed"] else "no",
            row["reason"] or "",
        )
        shown.add_row(*map(Text, cells))
    console().print(shown)
    next_step('`smartstream sql "FROM analytics.model_profile"` shows what the columns look like.')


@group.command()
def runs(context: typer.Context, name: Name, json_output: JsonOption = False) -> None:
    """Show a model's runs, the latest first; failed ones say why."""
    from smartstream.inference.runs import runs_of
    from smartstream.trusted.catalog import open_catalog

    settings = invocation(context).settings()
    found = runs_of(open_catalog(settings.lake), _model(settings, name).name)[:RUNS_SHOWN]
    if json_output:
        as_json({"ok": True, "runs": [run.to_dict() for run in found]})
        return
    shown = table(
        None, ("started", "status", "mode", "version", "scored", "unchanged", "removed", "quarantined", "why")
    )
    for run in found:
        numbers = (run.rows_scored, run.rows_unchanged, run.rows_removed, run.rows_quarantined)
        drifted = run.drifted and f"drifted: {run.drifted}"
        why = f"{run.error}: {run.message}" if run.error else drifted or run.message
        row = (f"{run.started_at:%Y-%m-%d %H:%M:%S}", run.status, run.mode, run.version, *map(count, numbers))
        shown.add_row(*map(Text, (*row, why or "-")))
    console().print(shown)
    next_step(f"`smartstream model run {name}` scores now.")


@group.command("compare")
def compare_models(context: typer.Context, name: Name, json_output: JsonOption = False) -> None:
    """Compare a model's predictions with its challenger's."""
    from smartstream.inference.compare import compare

    settings = invocation(context).settings()
    found = compare(settings, _model(settings, name))
    if json_output:
        as_json({"ok": True, **found.to_dict()})
        return
    typer.echo(
        f"champion {found.champion}, challenger {found.challenger}: {count(found.rows_both)} keys of both,"
        f" {count(found.rows_champion_only)} and {count(found.rows_challenger_only)} of one only"
    )
    shown = table(None, ("column", "agreement", "champion's mean", "challenger's mean", "largest difference"))
    for one in found.columns:
        means = (one.agreement, one.champion_mean, one.challenger_mean, one.difference_abs_max)
        shown.add_row(Text(one.column), *(Text("-" if m is None else f"{m:.6g}") for m in means))
    console().print(shown)
    next_step(f"`smartstream model promote {name}` says how the challenger becomes the champion.")


@group.command()
def promote(context: typer.Context, name: Name) -> None:
    """Say what to change in smartstream.yaml so that the challenger takes the model's place."""
    from smartstream.inference.compare import promotion

    settings = invocation(context).settings()
    typer.echo(f"models: - name: {name}")
    for setting, value in promotion(_model(settings, name)).items():
        typer.echo(f"  {setting}: {value}" if value is not None else f"  {setting}: take it out")
    next_step("make the change, then `smartstream plan`; the next run scores every key with the new model.")


@group.command("dataset")
def make_dataset(
    context: typer.Context,
    name: Name,
    labels: Annotated[Path, typer.Option("--labels", help="Parquet: the key, a moment, what happened.")],
    as_of: Annotated[str, typer.Option("--as-of-column", help="Column of the labels with the moment.")],
    to: Annotated[Path, typer.Option("--to", help="Parquet file to write.")],
    json_output: JsonOption = False,
) -> None:
    """Write a training set: for each label the features as they were at its own moment."""
    from smartstream.inference.dataset import dataset

    settings = invocation(context).settings()
    found = dataset(settings, _model(settings, name), labels, to, as_of=as_of)
    if json_output:
        facts: dict[str, Any] = {"path": str(found.path), "rows": found.rows, "left_out": found.rows_left_out}
        as_json({"ok": True, **facts, "moments": found.moments, "features": list(found.features)})
        return
    typer.echo(
        f"{count(found.rows)} rows at {count(found.moments)} moments in {found.path};"
        f" {count(found.rows_left_out)} labels had no features at theirs"
    )
    next_step("train with it; then set `uri` and `sha256` of the model.")


def _model(settings: Settings, name: str) -> ModelSettings:
    """The model of that name."""
    for model in settings.models:
        if model.name == name:
            return model
    names = [model.name for model in settings.models]
    close = difflib.get_close_matches(name, names, n=1)
    guess = f"Did you mean {close[0]}? " if close else ""
    raise ConfigError(f"there is no model {name}", hint=f"{guess}Models: {', '.join(names) or 'none'}.")


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    """Values as JSON has them; others as their text."""
    return {
        name: v if isinstance(v, (int, float, str, None.__class__)) else str(v) for name, v in row.items()
    }


def _status(run: RunReport | None, good: RunReport | None) -> str:
    """How its predictions stand."""
    if run is None:
        return "never run"
    if run.status == "failed":
        return f"stale since {good.started_at:%Y-%m-%d %H:%M:%S}" if good else "failed"
    return run.status
