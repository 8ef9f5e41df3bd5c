"""The rule ``parse_timestamp``: texts, numbers and local times to instants in UTC."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pyarrow as pa

from smartstream.rule_options import ParseTimestamp
from smartstream.sql_text import quoted
from smartstream.transform.rules import formats, types
from smartstream.transform.rules.builder import NOT_REPRESENTABLE, Builder
from smartstream.transform.rules.casts import YEARS
from smartstream.transform.rules.formats import EPOCHS, LOCAL_MAX, US_MAX, US_MIN, UTC_MARK, Format
from smartstream.transform.rules.shape import Slot
from smartstream.transform.rules.steps import ArrowStep, Columns
from smartstream.transform.rules.types import TEXT, TIMESTAMP, TIMESTAMPTZ
from smartstream.transform.rules.zones import to_utc, unknown_zone

REASONS = (
    "has none of the formats, or does not exist",
    "is a local time that the clock skips",
    "is a local time that the clock shows twice",
    YEARS,
    NOT_REPRESENTABLE,
)
_SKIPPED, _DOUBLED, _OUTSIDE, _FLAGGED = 2, 3, 4, 5
_DEFAULT = ("iso",)


def parse_timestamp(builder: Builder, rule: ParseTimestamp) -> None:
    """Make timestamps in UTC.

    Raises:
        RuleInvalid: an unknown zone or format, or one that the column's type does not have.
    """
    problem = unknown_zone(rule.zone)
    if problem:
        raise builder.wrong(problem, "zone")
    wanted = "text, whole numbers, decimals, dates or timestamps without time zone"
    for slot in builder.slots(rule.column, _accepts, wanted, wild=lambda slot: slot.is_prose):
        value = _value(builder, rule, slot).replace("{old}", quoted(slot.name))
        _add(builder, rule, slot, value)


def _accepts(slot: Slot) -> bool:
    """Whether the rule can take a column."""
    kind = slot.type
    number = types.is_whole(kind) or pa.types.is_decimal(kind)
    return number or kind in (TEXT, TIMESTAMP) or bool(pa.types.is_date(kind))


def _value(builder: Builder, rule: ParseTimestamp, slot: Slot) -> str:
    """SQL for microseconds, marked when they are of UTC; null where no format fits."""
    if slot.type == TIMESTAMP or pa.types.is_date(slot.type):
        if rule.formats != _DEFAULT:
            raise builder.wrong(f"{slot.name} is {types.name_of(slot.type)}, which has no formats", "formats")
        return "epoch_us(CAST({old} AS TIMESTAMP))"
    found = [one for number, name in enumerate(rule.formats) for one in _format(builder, name, slot, number)]
    return f"coalesce({', '.join(one.value for one in found)})" if len(found) > 1 else found[0].value


def _format(builder: Builder, name: str, slot: Slot, number: int) -> list[Format]:
    """One entry of ``formats``."""
    where = ("formats", number)
    if name in EPOCHS:
        return [formats.epoch(name, slot.type)]
    if slot.type != TEXT:
        known = ", ".join(EPOCHS)
        what = types.name_of(slot.type)
        raise builder.wrong(f"{slot.name} is {what}: say in formats what it counts ({known})", *where)
    if name == "iso":
        return formats.iso()
    if "%" not in name:
        known = ", ".join(["iso", *EPOCHS])
        raise builder.wrong(f"{name!r} is neither a pattern like %Y-%m-%d nor one of {known}", *where)
    made = formats.pattern(name)
    if isinstance(made, str):
        raise builder.wrong(f"format {name!r}: {made}", *where)
    return [made]


def _add(builder: Builder, rule: ParseTimestamp, slot: Slot, value: str) -> None:
    """The steps for one column: parse in SQL, place in the zone by Arrow."""
    builder.shape[slot.name] = replace(slot, type=TIMESTAMPTZ, may_flag=False)
    flagged, flags = builder.flagged([slot])
    at, code = builder.fresh(f"at {slot.name}"), builder.test(slot.name, REASONS, [slot])
    builder.sql({at: value}, [slot.name])
    old = quoted(slot.name)
    unread = f"{old} IS NOT NULL AND {quoted(at)} IS NULL"
    number = f"CAST(CASE WHEN {flagged} THEN {_FLAGGED} WHEN {unread} THEN 1 ELSE 0 END AS UTINYINT)"
    builder.sql({code: number}, [slot.name, at, *flags])

    def run(columns: Columns) -> Mapping[str, pa.Array]:
        return _place(columns, rule, slot.name, at, code)

    label = f"{builder.label}: {slot.name} := {at} as local time of {rule.zone}"
    reads = frozenset({at, code})
    builder.arrow(ArrowStep(label, reads, frozenset({slot.name, code}), run))


def _place(columns: Columns, rule: ParseTimestamp, name: str, at: str, code: str) -> dict[str, pa.Array]:
    """Instants of parsed values."""
    parsed = columns[at].combine_chunks()
    there = parsed.is_valid().to_numpy(zero_copy_only=False)
    micros = parsed.fill_null(0).to_numpy()
    marked = micros > LOCAL_MAX
    utc = np.where(marked, micros - UTC_MARK, micros)
    codes_ = columns[code].to_numpy().copy()
    # Local times beyond the years that are carried would overflow on the way.
    local = np.flatnonzero(there & ~marked & (utc >= US_MIN) & (utc <= US_MAX))
    placed = to_utc(utc[local], rule.zone, gap=rule.gap, fold=rule.fold)
    utc[local] = placed.utc
    codes_[local[placed.skipped]] = _SKIPPED
    codes_[local[placed.doubled]] = _DOUBLED
    outside = there & ((utc < US_MIN) | (utc > US_MAX))
    codes_[outside] = _OUTSIDE
    gone = ~there | (codes_ != 0)
    return {name: pa.array(utc, mask=gone).cast(TIMESTAMPTZ), code: pa.array(codes_)}
