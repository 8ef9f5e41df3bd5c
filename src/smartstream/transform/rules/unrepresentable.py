"""What becomes of values that the lake's types can't hold, between ``clean`` and ``quality``.

They come as null, their text in ``_untyped``.  What ``clean`` leaves of them is held
back with its row, or replaced by the nearest value that there is, as the table's
``unrepresentable`` says.
"""

from __future__ import annotations

from dataclasses import replace

import pyarrow as pa

from smartstream.rules_config import TableRules
from smartstream.schema import TableSchema
from smartstream.sql_text import literal, quoted
from smartstream.transform.rules import types
from smartstream.transform.rules.builder import NOT_REPRESENTABLE, Builder, codes
from smartstream.transform.rules.shape import Slot, flag_of, may_flag, text_of

KIND = "unrepresentable"
"""The rule's name is it, a colon and the column."""

CLAMPED = "was replaced by the nearest value of its type"

# First and last value; of times PostgreSQL has one more than fits a day.
_ENDS = {
    pa.date32(): ("0001-01-01", "9999-12-31"),
    pa.time64("us"): ("00:00:00", "23:59:59.999999"),
    types.TIMESTAMP: ("0001-01-01 00:00:00", "9999-12-31 23:59:59.999999"),
    types.TIMESTAMPTZ: ("0001-01-01 00:00:00+00", "9999-12-31 23:59:59.999999+00"),
}


def concerns(schema: TableSchema, table: TableRules) -> bool:
    """Return whether the table says something else than null and flag, and has a column that it is about."""
    if table.unrepresentable == "null_and_flag":
        return False
    return any(may_flag(column) for column in schema.columns if column.name not in schema.key)


def unrepresentable(builder: Builder) -> None:
    """Hold back, or clamp, what the columns still have of such values; a key never has any."""
    policy = builder.table.unrepresentable
    if policy == "null_and_flag":
        return
    builder.begin(KIND)
    for slot in list(builder.shape.values()):
        if slot.may_flag and not builder.is_key(slot.name):
            (_quarantine if policy == "quarantine" else _clamp)(builder, slot)


def _quarantine(builder: Builder, slot: Slot) -> None:
    """A row with such a value is bad."""
    flagged, flags = builder.flagged([slot])
    code = builder.test(slot.name, [NOT_REPRESENTABLE], [slot])
    builder.sql({code: codes([flagged])}, flags)


def _clamp(builder: Builder, slot: Slot) -> None:
    """The nearest value, with a warning; where there is none (NaN, an array) null and flag."""
    nearest = _nearest(slot.type, quoted(text_of(slot.name)))
    if nearest is None:
        return
    builder.flagged([slot])
    builder.texts.add(slot.name)
    text, flag, new = text_of(slot.name), flag_of(slot.name), builder.fresh(slot.name)
    code = builder.test(slot.name, [CLAMPED], [slot], on_fail="warn")
    builder.sql({new: f"CASE WHEN {quoted(flag)} THEN {nearest} END"}, [flag, text])
    builder.sql({code: codes([f"{quoted(new)} IS NOT NULL"])}, [new])
    value = f"coalesce({quoted(new)}, {quoted(slot.name)})"
    builder.sql({slot.name: value, flag: f"{quoted(flag)} AND {quoted(new)} IS NULL"}, [slot.name, flag, new])
    builder.shape[slot.name] = replace(slot, may_flag=pa.types.is_decimal(slot.type))


def _nearest(kind: pa.DataType, text: str) -> str | None:
    """SQL for the value next to what ``text``, a SQL expression, says; None for types without an order.

    The texts are PostgreSQL's of values that the type can't hold.
    """
    if pa.types.is_decimal(kind):
        return _nearest_decimal(kind, text)
    if kind not in _ENDS:
        return None
    first, last = (f"CAST({literal(end)} AS {types.sql_of(kind)})" for end in _ENDS[kind])
    return f"CASE WHEN {text} LIKE '-%' OR {text} LIKE '% BC' THEN {first} ELSE {last} END"


def _nearest_decimal(kind: pa.DataType, text: str) -> str:
    """Rounded to the scale, half away from zero as PostgreSQL rounds; else the largest there is."""
    digits = "9" * kind.precision
    largest = digits[: kind.precision - kind.scale] + "." + digits[: kind.scale]
    last, first = (f"CAST('{sign}{largest}' AS {types.sql_of(kind)})" for sign in ("", "-"))
    rounded = f"TRY_CAST({text} AS {types.sql_of(kind)})"
    end = f"CASE WHEN {text} LIKE '-%' THEN {first} ELSE {last} END"
    return f"CASE WHEN {text} <> 'NaN' THEN coalesce({rounded}, {end}) END"
