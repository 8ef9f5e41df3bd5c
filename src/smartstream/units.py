"""Durations and sizes as people write them: ``500ms``, ``15m``, ``64MiB``."""

from __future__ import annotations

import re
from collections.abc import Mapping

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_POWERS = ("", "k", "m", "g", "t")
_BYTES = {"b": 1} | {
    f"{letter}{suffix}": base**power
    for power, letter in enumerate(_POWERS)
    if power
    for suffix, base in (("b", 1000), ("ib", 1024))
}


def parse_duration(value: object) -> float:
    """Return the seconds in ``500ms``, ``2s``, ``1m``, ``1h``, ``1d``; a number is seconds already.

    Raises:
        ValueError: it is none of these, or negative.
    """
    return _parse(value, _SECONDS, "a duration like 500ms, 30s, 15m or 1h")


def parse_size(value: object) -> int:
    """Return the bytes in ``64MiB``, ``5GiB``, ``10kB``; a number is bytes already.

    Raises:
        ValueError: it is none of these, negative, or not a whole number of bytes.
    """
    size = _parse(value, _BYTES, "a size like 64MiB or 5GiB")
    if size != int(size):
        raise ValueError("not a whole number of bytes")
    return int(size)


def _parse(value: object, units: Mapping[str, float], wanted: str) -> float:
    """A number with a unit."""
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < float("inf"):
        return value
    found = re.fullmatch(r"([0-9]{1,18}(?:\.[0-9]{1,9})?)\s*([A-Za-z]+)", str(value).strip())
    if not isinstance(value, str) or found is None or found[2].lower() not in units:
        raise ValueError(f"expected {wanted}")
    number = int(found[1]) if found[1].isdigit() else float(found[1])
    return number * units[found[2].lower()]


def format_duration(seconds: float) -> str:
    """The shortest text that ``parse_duration`` reads back."""
    for unit, size in reversed(_SECONDS.items()):
        count = round(seconds / size, 9)
        if count >= 1 and count == int(count):
            return f"{int(count)}{unit}"
    return f"{seconds * 1000:.9f}".rstrip("0").rstrip(".") + "ms"


def format_size(size_bytes: int) -> str:
    """The shortest text that ``parse_size`` reads back."""
    for unit, size in (("TiB", GIB * KIB), ("GiB", GIB), ("MiB", MIB), ("KiB", KIB)):
        if size_bytes >= size and size_bytes % size == 0:
            return f"{size_bytes // size}{unit}"
    return f"{size_bytes}B"
