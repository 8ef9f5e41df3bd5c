"""Checks of single rows after ``clean``: not_null, range, one_of, matches, and the metrics of ODCS."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import pyarrow as pa

from smartstream.errors import ConfigInvalid, RuleInvalid
from smartstream.quality.config import Metric, QualityCheck
from smartstream.quality.predicates import violated
from smartstream.quality.row_checks import row_checks
from smartstream.rule_options import Matches, OneOf, Range
from smartstream.rules_config import Place
from smartstream.sql_text import literal, quoted
from smartstream.transform.rules import types
from smartstream.transform.rules.builder import NOT_REPRESENTABLE, Builder, Failure, codes
from smartstream.transform.rules.casts import constant
from smartstream.transform.rules.shape import Slot
from smartstream.transform.rules.text import check_pattern, is_prose, is_text


def in_range(builder: Builder, rule: Range) -> None:
    """Test that values lie between two others; null passes.

    Raises:
        RuleInvalid: an end is no value of the column's type.
    """
    for slot in builder.slots(rule.column, _plain, "no list", change=False):
        name, failures = quoted(slot.name), []
        if rule.least is not None:
            least = constant(builder, rule.least, slot.type, "min")
            failures.append(Failure(f"{name} < {least}", "is less than the minimum"))
        if rule.most is not None:
            most = constant(builder, rule.most, slot.type, "max")
            failures.append(Failure(f"{name} > {most}", "is greater than the maximum"))
        _test(builder, slot, failures)


def one_of(builder: Builder, rule: OneOf) -> None:
    """Test that values are among some; null passes.

    Raises:
        RuleInvalid: one of them is no value of the column's type.
    """
    for slot in builder.slots(rule.column, _plain, "no list", change=False):
        listed = ", ".join(constant(builder, value, slot.type, "values") for value in rule.values)
        _test(builder, slot, [Failure(f"{quoted(slot.name)} NOT IN ({listed})", "is not one of the values")])


def matches(builder: Builder, rule: Matches) -> None:
    """Test that texts match a regular expression as a whole; null passes.

    Raises:
        RuleInvalid: it is none.
    """
    check_pattern(builder, rule.pattern)
    for slot in builder.slots(rule.column, is_text, "text", change=False, wild=is_prose):
        like = f"regexp_full_match({quoted(slot.name)}, {literal(rule.pattern)})"
        _test(builder, slot, [Failure(f"NOT {like}", "does not match the pattern")])


def metrics(builder: Builder, checks: Iterable[QualityCheck]) -> None:
    """Test what metrics say about single rows; the others are measured over whole tables.

    Raises:
        RuleInvalid: a metric does not fit its column.
    """
    listed = list(checks)
    kinds = {slot.name: slot.type for slot in builder.shape.values()}
    reads: set[str] = set()

    def flagged(column: str) -> str:
        condition, flags = builder.flagged([builder.shape[column]])
        reads.update(flags)
        return f"({condition})"

    of_rows = [check for check in listed if check.of_rows]
    for check in of_rows:
        _fits(builder, check, kinds)
    for check, row in zip(of_rows, row_checks(listed, kinds, flagged), strict=True):
        slot = builder.shape[row.column]
        needs_value = check.metric is not Metric.INVALID_VALUES
        code = builder.test(
            row.column,
            [row.reason],
            [slot],
            on_fail=str(row.on_fail.value),  # type: ignore[arg-type]
            name=row.rule,
            heals=not needs_value,
        )
        if needs_value:
            builder.required.add(row.column)
        builder.sql({code: codes([row.violated])}, [row.column, *reads])


def _fits(builder: Builder, check: QualityCheck, kinds: Mapping[str, pa.DataType]) -> None:
    """Raise RuleInvalid, with its line, for a metric that does not fit its column."""
    try:
        violated(check, kinds)
    except ConfigInvalid as error:
        where = check.place.where() if isinstance(check.place, Place) else Place().where()
        raise RuleInvalid(f"{where}: {builder.schema.id}: {error}") from error


def _plain(slot: Slot) -> bool:
    """Whether a column has plain values."""
    return not types.is_list(slot.type)


def _test(builder: Builder, slot: Slot, failures: list[Failure]) -> None:
    """Add a check of one column; of a value that only ``_untyped`` holds nothing can be told."""
    flagged, flags = builder.flagged([slot])
    if slot.may_flag:
        failures = [*failures, Failure(flagged, NOT_REPRESENTABLE)]
    code = builder.test(slot.name, [failure.reason for failure in failures], [slot])
    builder.sql({code: codes([failure.condition for failure in failures])}, [slot.name, *flags])
