"""Rules about null: null_if, default, required."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from smartstream.rule_options import Names
from smartstream.sql_text import literal, quoted
from smartstream.transform.rules import types
from smartstream.transform.rules.builder import Builder, codes
from smartstream.transform.rules.casts import constant
from smartstream.transform.rules.shape import Slot, flag_of, may_flag, text_of

IS_NULL = "is null"
_FLAG_TEXTS = frozenset({"infinity", "-infinity", "NaN"})


def _no_list(slot: Slot) -> bool:
    """Whether a column has plain values."""
    return not types.is_list(slot.type)


def null_if(builder: Builder, values: Mapping[str, Sequence[str]]) -> None:
    """Make some values null, among them those that only ``_untyped`` holds: infinity, NaN.

    Raises:
        RuleInvalid: a value that the column's type can't have.
    """
    for name, texts in values.items():
        for slot in builder.slots([name], _no_list, "no list", option=name):
            special = [text for text in texts if _is_flag(text, slot)]
            plain = [text for text in texts if text not in special]
            if plain:
                _null_if(builder, slot, plain, name)
            if special and slot.may_flag:
                _null_if_flagged(builder, slot, special)


def _is_flag(text: str, slot: Slot) -> bool:
    """Whether a text is a value that the source's column can have, but only in ``_untyped``."""
    could = slot.origin is not None and slot.origin.type.arrow == slot.type and may_flag(slot.origin)
    return text in _FLAG_TEXTS and could


def _null_if(builder: Builder, slot: Slot, texts: Sequence[str], name: str) -> None:
    """Make values null that the column can hold."""
    listed = ", ".join(constant(builder, text, slot.type, name) for text in texts)
    column = quoted(slot.name)
    builder.sql({slot.name: f"CASE WHEN {column} IN ({listed}) THEN NULL ELSE {column} END"}, [slot.name])


def _null_if_flagged(builder: Builder, slot: Slot, texts: Sequence[str]) -> None:
    """Forget values that only ``_untyped`` holds: the column is null for them already."""
    builder.flagged([slot])
    builder.texts.add(slot.name)
    flag, text = flag_of(slot.name), text_of(slot.name)
    listed = ", ".join(map(literal, texts))
    kept = f"{quoted(flag)} AND {quoted(text)} NOT IN ({listed})"
    builder.sql({flag: kept}, [flag, text])


def default(builder: Builder, values: Mapping[str, str]) -> None:
    """Put a value in place of null.

    Raises:
        RuleInvalid: a value that the column's type can't have.
    """
    for name, text in values.items():
        for slot in builder.slots([name], _no_list, "no list", option=name):
            builder.change(slot, f"coalesce({quoted(slot.name)}, {constant(builder, text, slot.type, name)})")


def required(builder: Builder, names: Names) -> None:
    """Test that columns are not null; a value that only ``_untyped`` holds is there."""
    for slot in builder.slots(names, lambda _: True, "any", change=False):
        flagged, flags = builder.flagged([slot])
        code = builder.test(slot.name, [IS_NULL], [slot], heals=False)
        builder.required.add(slot.name)
        condition = f"{quoted(slot.name)} IS NULL AND NOT ({flagged})"
        builder.sql({code: codes([condition])}, [slot.name, *flags])
