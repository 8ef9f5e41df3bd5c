"""Checks of the rules: each table's, against the columns that it has now."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Any

from smartstream.capture.catchup import current_wal_lsn
from smartstream.capture.connect import connect
from smartstream.capture.published import discover
from smartstream.config import Settings, matches, rules_of
from smartstream.doctor.check import Check, Patient, Status, ok
from smartstream.errors import ConfigError, ConfigInvalid, LakeError, SchemaFrozen, SourceError
from smartstream.manifest import LakeState
from smartstream.quality.config import Checks
from smartstream.quality.contracted import Rules, rules_under_contract
from smartstream.quality.metrics import check_fits
from smartstream.quality.schema_contract import evolves
from smartstream.raw.manifest_log import ManifestLog
from smartstream.raw.store import open_store
from smartstream.rules_config import Place, pattern_expression
from smartstream.schema import TableSchema


@dataclass(frozen=True, slots=True)
class RulesReport:
    """What the rules are for the tables of the source.

    Attributes:
        compiled: the rules of the tables that have some and whose rules fit.
        problems: what does not fit, with file and line.
        warnings: what may be a mistake.
        frozen: what the source has done that a contract does not allow.
    """

    compiled: tuple[Rules, ...] = ()
    problems: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    frozen: tuple[str, ...] = ()

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
    """Whether any table has rules, or a contract that does not let it take any shape."""
    return has_contract(settings) or any(rules.judges_rows for rules in settings.tables.values())


def has_contract(settings: Settings) -> bool:
    """Whether any table has a contract that does not let it take any shape."""
    return any(not evolves(rules.contract) for rules in settings.tables.values())


def examine_rules(settings: Settings, *, clock: Callable[[], datetime]) -> RulesReport:
    """Type-check the rules of every table that the source has now; without rules it is not asked.

    A source that does not answer is a warning: the rules are checked again when it does.
    So is a lake, which is asked where there are contracts, and what those do not allow.
    """
    if not has_rules(settings):
        return RulesReport()
    try:
        with connect(settings.source) as connection:
            tables = discover(connection, settings.source, partial(matches, settings)).tables
    except SourceError as error:
        return RulesReport(warnings=(f"the rules are not checked against their tables: {error}",))
    state, unread = LakeState(), list[str]()
    if has_contract(settings):
        try:
            state = ManifestLog(open_store(settings.lake), clock).load()
        except LakeError as error:
            unread.append(f"the contracts are not compared with what the lake has: {error}")
    report = compile_all(settings, tables, state)
    return replace(report, warnings=(*report.warnings, *report.frozen, *unread))


def compile_all(
    settings: Settings, tables: Sequence[TableSchema], state: LakeState, *, seen_lsn: int = 0
) -> RulesReport:
    """Type-check the rules of some tables, and read the secret keys that they use.

    Args:
        state: what the lake has: contracts hold tables to it.
        seen_lsn: where the source was when it had these tables.
    """
    compiled: list[Rules] = []
    problems: dict[str, None] = {}
    frozen: list[str] = []
    for schema in tables:
        try:
            said = rules_of(settings, schema.id)
            rules = rules_under_contract(settings, schema, state.tables.get(schema.id), seen_lsn=seen_lsn)
            if rules is not None:
                rules.prepare()
                compiled.append(rules)
            _fit_metrics(schema, said.metrics, rules)
        except ConfigError as error:
            problems[str(error)] = None
        except SchemaFrozen as error:
            frozen.append(str(error))
    warnings = [
        f"the rules of {pattern} are for no table of the source"
        for pattern, rules in settings.tables.items()
        if rules.judges_rows
        and not any(pattern_expression(pattern).fullmatch(schema.id) for schema in tables)
    ]
    return RulesReport(tuple(compiled), tuple(problems), tuple(warnings), tuple(frozen))


def _fit_metrics(schema: TableSchema, metrics: Checks, rules: Rules | None) -> None:
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
    state, lsn = patient.state or LakeState(), current_wal_lsn(patient.connection)
    report = compile_all(patient.settings, patient.discovery.tables, state, seen_lsn=lsn)
    if report.problems:
        return Check(
            "rules",
            Status.FAIL,
            "\n".join(report.problems),
            why="Rows can't go through a rule that does not fit their table.",
            fix="Correct smartstream.yaml; `smartstream validate --explain` shows what the rules do.",
        )
    if report.frozen:
        return Check(
            "rules",
            Status.FAIL,
            "\n".join(report.frozen),
            why="The pipeline stops before such a change, so that no reader is surprised by it.",
            fix=SchemaFrozen.hint,
        )
    if report.warnings:
        return Check("rules", Status.WARN, "; ".join(report.warnings), fix="Correct the patterns.")
    return ok("rules", f"fit {len(report.compiled)} tables")
