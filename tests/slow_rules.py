"""The rules once more, one row at a time in plain Python: the oracle of the property tests."""

from __future__ import annotations

import base64
import hmac
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

KEY = "a key of 16 bytes or more"
SPACES = "\t\n\v\f\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(map(chr, range(0x2000, 0x200B)))


class Broken(Exception):
    """A row breaks a rule."""


@dataclass
class SlowRow:
    """A row on its way through the rules.

    Attributes:
        flags: columns whose value only ``_untyped`` holds, with its text.
        spent: those of them that a rule has failed to change.
        broken: the rules that it broke, each with its ``on_fail``.
    """

    values: dict[str, Any]
    flags: dict[str, str]
    spent: set[str] = field(default_factory=set)
    broken: list[tuple[str, str]] = field(default_factory=list)

    def change(self, rule: str, on_fail: str, column: str, function: Callable[[Any], Any]) -> None:
        """Set a column to ``function`` of it; what fails is null from then on."""
        value = self.values[column]
        try:
            if self.flagged(column):
                self.spent.add(column)
                raise Broken
            self.values[column] = function(value)
        except Broken:
            self.values[column] = None
            self.broken.append((rule, on_fail))

    def flagged(self, column: str) -> bool:
        """Whether null stands for a value that only ``_untyped`` holds."""
        return column in self.flags and column not in self.spent

    def test(self, rule: str, on_fail: str, good: bool) -> None:
        """Note a broken rule."""
        if not good:
            self.broken.append((rule, on_fail))


def keep_null(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A function of values that are there."""
    return lambda value: None if value is None else function(value)


def to_text(value: Any) -> str:
    """As PostgreSQL prints it."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value)


def masked(value: str, options: Mapping[str, Any]) -> str:
    """Only the ends."""
    first, last = options.get("keep_first", 0), options.get("keep_last", 0)
    if len(value) <= first + last:
        return "***"
    return value[:first] + "***" + value[len(value) - last :]


def digest(value: Any, rule: str) -> str:
    """hash and tokenise."""
    raw = hmac.new(KEY.encode(), to_text(value).encode(), "sha256").digest()
    return f"h1:{raw.hex()}" if rule == "hash" else f"tok1_{base64.b32encode(raw[:15]).decode().lower()}"


def cast(value: Any, target: str) -> Any:
    """To integer, decimal(8,2), date or text, from text, whole numbers and decimals."""
    if target == "text":
        return to_text(value)
    if target == "date":
        if not re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", value):
            raise Broken
        try:
            return date.fromisoformat(value)
        except ValueError:
            raise Broken from None
    if isinstance(value, str) and not re.fullmatch(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)", value):
        raise Broken
    number = Decimal(value)
    if target == "integer":
        if isinstance(value, str) and not re.fullmatch(r"[+-]?[0-9]+", value):
            raise Broken
        if number != number.to_integral_value() or not -(2**31) <= number < 2**31:
            raise Broken
        return int(number)
    assert target == "decimal(8,2)"
    if number != number.quantize(Decimal("0.01")) or abs(number) >= 10**6:
        raise Broken
    return number.quantize(Decimal("0.01"))


def instant(value: Any, options: Mapping[str, Any]) -> datetime:
    """parse_timestamp with the formats ``%d.%m.%Y %H:%M`` and ``epoch_s``, of a text or a timestamp."""
    if isinstance(value, str):
        if re.fullmatch(r"[+-]?[0-9]{1,18}(\.[0-9]{0,6}0*)?", value):
            if not -62_135_596_800 <= Decimal(value) < 253_402_300_800:
                raise Broken
            return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=int(Decimal(value) * 10**6))
        found = re.fullmatch(r"(\d{1,2})\.(\d{1,2})\.(\d{4}) (\d{1,2}):(\d{1,2})", value, re.ASCII)
        try:
            day, month, year, hour, minute = map(int, found.groups()) if found else ()
            local = datetime(year, month, day, hour, minute)
        except ValueError:
            raise Broken from None
    else:
        local = value
    zone = ZoneInfo(options["zone"])
    earlier, later = (local.replace(tzinfo=zone, fold=fold) for fold in (0, 1))
    if earlier.utcoffset() == later.utcoffset():
        return earlier.astimezone(UTC)
    skipped = earlier.astimezone(UTC).astimezone(zone).replace(tzinfo=None) != local
    if options.get("gap" if skipped else "fold", "reject") == "reject":
        raise Broken
    # In a gap the offset of fold 0 is the one before it.
    return (later if not skipped and options["fold"] == "later" else earlier).astimezone(UTC)


def replaced(value: str, options: Mapping[str, Any]) -> str:
    """replace."""
    return re.sub(
        options["pattern"], options.get("with", ""), value, count=int(options.get("first_only", False))
    )


def in_range(value: Any, low: Any, high: Any) -> bool:
    """Null passes."""
    return value is None or ((low is None or value >= low) and (high is None or value <= high))
