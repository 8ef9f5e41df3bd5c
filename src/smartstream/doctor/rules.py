"""Checks of the rules: each table's, against the columns that it has now."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from smartstream.capture.catalog import discover
from smartstream.capture.connect import connect
from smartstream.config import Settings, matches, rules_of
from smartstream.doctor.check import Check, Patient, Status, ok
from smartstream.errors import ConfigError, ConfigInvalid, SourceError
from smartstream.quality.config import Checks
from smartstream.quality.metrics import check_fits
from smartstream.rules_config import Place, pattern_expression
from smartstream.schema import TableSchema
from smartstream.transform.rules import CompiledRules, compile_rules


@dataclass(frozen=True, slots=True)
class RulesReport:
    """What the rules are for the tables of the source.

    Attributes:
        compiled: the rules of the tables that have some and whose rules fit.
        problems: what does not fit, with file and line.
        warnings: what may be a mistake.
    """

    compiled: tuple[CompiledRules, ...] = ()
    problems: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def to_dict(self) -> list[dict[str, Any]]:
        """The compiled rules for JSON."""
        return [
            {
                "table": rules.schema.id,
                "version": rules.version,
                "columns": {column.name: str(column.type) for column in rules.output},
                "sql": rules.sql,
            }
            for rules in self.compiled
        ]


def has_rules(settings: Settings) -> bool:
    """Whether any table has rules."""
    return any(rules.clean or rules.quality for rules in settings.tables.values())


def examine_rules(settings: Settings) -> RulesReport:
    """Type-check the rules of every table that the source has now; without rules it is not asked.

    A source that does not answer is a warning: the rules are checked again when it does.
    """
    if not has_rules(settings):
        return RulesReport()
    try:
        with connect(settings.source) as connection:
            tables = discover(connection, partial(matches, settings)).tables
    except SourceError as error:
        return RulesReport(warnings=(f"the rules are not checked against their tables: {error}",))
    return compile_all(settings, tables)


def compile_all(settings: Settings, tables: Sequence[TableSchema]) -> RulesReport:
    """Type-check the rules of some tables, and read the secret keys that they use."""
    compiled: list[CompiledRules] = []
    problems: dict[str, None] = {}
    for schema in tables:
        try:
            said = rules_of(settings, schema.id)
            rules = compile_rules(schema, said)
            if rules is not None:
                rules.prepare()
                compiled.append(rules)
            _fit_metrics(schema, said.metrics, rules)
        except ConfigError as error:
            problems[str(error)] = None
    warnings = [
        f"the rules of {pattern} are for no table of the source"
        for pattern, rules in settings.tables.items()
        if (rules.clean or rules.quality)
        and not any(pattern_expression(pattern).fullmatch(schema.id) for schema in tables)
    ]
    return RulesReport(tuple(compiled), tuple(problems), tuple(warnings))


def _fit_metrics(schema: TableSchema, metrics: Checks, rules: CompiledRules | None) -> None:
    """Raise ConfigInvalid when a check of a whole table does not fit what the rules make of it."""
    shape = rules.output_schema() if rules is not None else schema.trusted_schema()
    types = dict(zip(shape.names, shape.types, strict=True))
    for check in metrics:
        try:
            check_fits(check, types)
        except ConfigInvalid as error:
            where = check.place.where() if isinstance(check.place, Place) else Place().where()
            raise ConfigInvalid(f"{where}: {schema.id}: {error}") from error


def fit(patient: Patient) -> Check:
    """Every rule fits its table."""
    if not has_rules(patient.settings):
        return ok("rules", "none")
    report = compile_all(patient.settings, patient.discovery.tables)
    if report.problems:
        return Check(
            "rules",
            Status.FAIL,
            "\n".join(report.problems),
            why="Rows can't go through a rule that does not fit their table.",
            fix="Correct smartstream.yaml; `smartstream validate --explain` shows what the rules do.",
        )
    if report.warnings:
        return Check("rules", Status.WARN, "; ".join(report.warnings), fix="Correct the patterns.")
    return ok("rules", f"fit {len(report.compiled)} tables")
