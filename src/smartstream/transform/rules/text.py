"""Rules for text: trim, lower, upper, replace, mask."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from smartstream.rule_options import Mask, Names, Replace
from smartstream.sql_text import literal, quoted
from smartstream.transform.rules import types
from smartstream.transform.rules.builder import Builder
from smartstream.transform.rules.engine import evaluate, first_line
from smartstream.transform.rules.shape import Slot
from smartstream.transform.rules.steps import ArrowStep, Columns

SPACES = (
    "\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000"
)
"""White space as Unicode defines it."""

Kernel = Callable[[pa.ChunkedArray], pa.ChunkedArray]
_GROUP = re.compile(r"\\(.)", re.DOTALL)


def is_text(slot: Slot) -> bool:
    """Whether a rule for text can take a column."""
    return types.is_text(slot.type)


def is_prose(slot: Slot) -> bool:
    """Whether ``*`` means a column in rules for text: not those whose text has a form, like uuids."""
    return slot.is_prose


def trim(builder: Builder, names: Names) -> None:
    """Remove white space at both ends."""
    _each(builder, names, lambda texts: pc.utf8_trim(texts, SPACES), "without white space at the ends")


def lower(builder: Builder, names: Names) -> None:
    """Make letters small, each by itself."""
    _each(builder, names, pc.utf8_lower, "in small letters")


def upper(builder: Builder, names: Names) -> None:
    """Make letters capital, each by itself."""
    _each(builder, names, pc.utf8_upper, "in capital letters")


def replace(builder: Builder, rule: Replace) -> None:
    """Replace what a regular expression finds.

    Raises:
        RuleInvalid: the expression is none, or the replacement names a group that it lacks.
    """
    check_pattern(builder, rule.pattern)
    _check_groups(builder, rule)
    option = "" if rule.first_only else ", 'g'"
    for slot in builder.slots(rule.column, is_text, "text", wild=is_prose):
        value = (
            f"regexp_replace({quoted(slot.name)}, {literal(rule.pattern)}, {literal(rule.with_text)}{option})"
        )
        builder.change(slot, value)


def mask(builder: Builder, rule: Mask) -> None:
    """Hide all of a text but its ends; a text that is all ends is hidden whole."""
    kept, hidden = rule.keep_first + rule.keep_last, literal(rule.with_text)
    for slot in builder.slots(rule.column, is_text, "text", wild=is_prose):
        name = quoted(slot.name)
        first = f"left({name}, {rule.keep_first}) || " if rule.keep_first else ""
        last = f" || right({name}, {rule.keep_last})" if rule.keep_last else ""
        shown = f"{first}{hidden}{last}"
        whole = f"{name} IS NOT NULL AND length({name}) <= {kept}"
        value = (
            f"CASE WHEN {whole} THEN {hidden} ELSE {shown} END"
            if kept
            else f"CASE WHEN {name} IS NOT NULL THEN {hidden} END"
        )
        builder.change(slot, value)


def check_pattern(builder: Builder, pattern: str) -> None:
    """Raise RuleInvalid for what is no regular expression."""
    try:
        evaluate(f"SELECT regexp_matches('', {literal(pattern)})")
    except duckdb.Error as error:
        raise builder.wrong(f"not a regular expression (RE2): {first_line(error)}", "pattern") from error


def _check_groups(builder: Builder, rule: Replace) -> None:
    """Raise RuleInvalid when the replacement says something that RE2 would leave out silently."""
    escaped = _GROUP.findall(rule.with_text)
    if re.search(r"(?<!\\)(?:\\\\)*\\\Z", rule.with_text) or any(c not in "0123456789\\" for c in escaped):
        raise builder.wrong(r"a backslash is followed by the number of a group; write \\ for itself", "with")
    highest = max((int(sign) for sign in escaped if sign != "\\"), default=0)
    if not highest:
        return
    names = ", ".join(literal(f"g{number}") for number in range(highest))
    try:
        evaluate(f"SELECT regexp_extract('', {literal(rule.pattern)}, [{names}])")
    except duckdb.Error as error:
        raise builder.wrong(f"the pattern has no group {highest}", "with") from error


def _each(builder: Builder, names: Names, kernel: Kernel, what: str) -> None:
    """Change each of the columns by an Arrow kernel: these are many times faster than SQL on text."""
    for slot in builder.slots(names, is_text, "text", wild=is_prose):
        _change(builder, slot.name, kernel, what)


def _change(builder: Builder, name: str, kernel: Kernel, what: str) -> None:
    """The step for one column; texts are never flagged."""

    def run(columns: Columns) -> Mapping[str, pa.ChunkedArray]:
        return {name: kernel(columns[name])}

    own = frozenset({name})
    builder.arrow(ArrowStep(f"{builder.label}: {name} {what}", own, own, run))
