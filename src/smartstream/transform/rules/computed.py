"""Rules that change the shape: compute and drop; and the check by a SQL condition."""

from __future__ import annotations

from collections.abc import Sequence

from smartstream.rule_options import Compute, Names
from smartstream.sql_text import quoted
from smartstream.transform.rules import types
from smartstream.transform.rules.builder import NOT_REPRESENTABLE, Builder, codes
from smartstream.transform.rules.expressions import Expression, ExpressionInvalid, guarded, parse
from smartstream.transform.rules.shape import Slot

FAILS = "the expression can't be computed"


def drop(builder: Builder, names: Names) -> None:
    """Leave columns out."""
    for slot in builder.slots(names, lambda _: True, "any"):
        del builder.shape[slot.name]


def compute(builder: Builder, rule: Compute) -> None:
    """Add a column, or put one in place of another.

    Raises:
        RuleInvalid: the expression can't be used, the name is taken, or the type is not carried.
    """
    name = rule.column
    builder.refuse_key(name)
    if not (rule.replace and name in builder.shape):
        builder.refuse_name(name)
    expression = expression_of(builder, rule.sql, "sql")
    kind = types.carried(expression.sql_type)
    if kind is None:
        what = "null" if expression.sql_type == '"NULL"' else expression.sql_type
        raise builder.wrong(f"the expression is {what}; CAST it to one of {types.KNOWN}", "sql")
    slots = [builder.shape[column] for column in sorted(expression.columns)]
    tried = _add(builder, expression, slots, name)
    builder.sql({name: f"CAST({quoted(tried)}.v AS {types.sql_of(kind)})"}, [tried])
    sources = frozenset().union(*(slot.sources for slot in slots))
    inputs = frozenset({name}).union(*(slot.inputs for slot in slots))
    builder.shape[name] = Slot(name, kind, None, sources, inputs)


def check(builder: Builder, text: str) -> None:
    """Test a condition; null passes, as in SQL.

    Raises:
        RuleInvalid: it can't be used, or is no condition.
    """
    expression = expression_of(builder, text)
    if expression.sql_type != "BOOLEAN":
        raise builder.wrong(f"the condition is {expression.sql_type}, not true or false")
    slots = [builder.shape[column] for column in sorted(expression.columns)]
    flagged, flags = builder.flagged(slots)
    tried = builder.fresh("tried")
    builder.sql({tried: guarded(expression)}, expression.columns)
    reasons = ["is not met", FAILS, NOT_REPRESENTABLE]
    code = builder.test("", reasons, slots, heals=False)
    result = quoted(tried)
    number = (
        f"CAST(CASE WHEN {flagged} THEN 3 WHEN {result} IS NULL THEN 2 WHEN NOT {result}.v THEN 1"
        " ELSE 0 END AS UTINYINT)"
    )
    builder.sql({code: number}, [tried, *flags])


def expression_of(builder: Builder, text: str, *inner: str) -> Expression:
    """A user's expression; RuleInvalid if it can't be used."""
    try:
        return parse(text, builder.shape)
    except ExpressionInvalid as error:
        raise builder.wrong(str(error), *inner) from error


def _add(builder: Builder, expression: Expression, slots: Sequence[Slot], name: str) -> str:
    """The steps that compute an expression and test that it could be; the column of what came out."""
    flagged, flags = builder.flagged(slots)
    tried = builder.fresh(f"tried {name}")
    builder.sql({tried: guarded(expression)}, expression.columns)
    code = builder.test(name, [NOT_REPRESENTABLE, FAILS], slots)
    builder.sql({code: codes([flagged, f"{quoted(tried)} IS NULL"])}, [tried, *flags])
    return tried
