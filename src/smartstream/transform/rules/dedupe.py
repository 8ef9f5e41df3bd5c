"""The rule ``dedupe``: which columns identify a thing of the business, and which of its rows is kept.

Rows are compared across the whole table, so the pipeline does it; here the rule is
only checked, and rows are held whose values can't be compared.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from smartstream.rules_config import CleanRule
from smartstream.transform.rules import types
from smartstream.transform.rules.builder import NOT_REPRESENTABLE, Builder, codes


@dataclass(frozen=True, slots=True)
class Dedupe:
    """Of the rows with the same business key one is kept.

    Rows with a null in the business key are no duplicates of any.  Rows with equal
    ``by`` are in the order of the source's key; a null ``by`` comes before all values.

    Attributes:
        key, by: output columns; without ``by`` the order is that of the source's key.
    """

    key: tuple[str, ...]
    keep: Literal["first", "last"]
    by: str | None


def dedupe(builder: Builder, rule: CleanRule) -> Dedupe | None:
    """Check the rule against the columns that the other rules leave.

    Raises:
        RuleInvalid: a column is not among them, or can't be compared.
    """
    body = rule.dedupe
    assert body is not None
    names = [*body.key, *([body.by] if body.by else [])]
    found = [builder.slot(name, "by" if name == body.by else "key") for name in names]
    slots = [slot for slot in found if slot is not None]
    if len(slots) < len(names):
        return None
    for slot in slots:
        if types.is_list(slot.type):
            raise builder.wrong(f"{slot.name} is a list, which is not compared", "key")
    if any(slot.may_flag for slot in slots):
        flagged, flags = builder.flagged(slots)
        code = builder.test(", ".join(names), [NOT_REPRESENTABLE], slots, heals=False)
        builder.sql({code: codes([flagged])}, flags)
    return Dedupe(body.key, body.keep, body.by)
