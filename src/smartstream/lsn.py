"""Log sequence numbers: PostgreSQL's positions in the write-ahead log.

An LSN is a plain ``int`` in memory and ``X/Y`` (two hexadecimal halves) in
text, as PostgreSQL prints it.  ``int`` sorts, subtracts and stores without
wrapping; the text form is for people and for SQL.
"""

from __future__ import annotations

LSN_MAX = (1 << 63) - 1  # stored as Iceberg ``long``; PostgreSQL reaches this after 8 EiB of WAL


def parse_lsn(text: str) -> int:
    """Return the LSN that ``text`` (``16/B374D848``) names.

    Raises:
        ValueError: the text is not two hexadecimal numbers with a slash.
    """
    high, slash, low = text.strip().partition("/")
    if not slash or not 1 <= len(high) <= 8 or not 1 <= len(low) <= 8:
        raise ValueError(f"not an LSN: {text!r} (expected two hexadecimal numbers, like 16/B374D848)")
    return (int(high, 16) << 32) | int(low, 16)


def format_lsn(lsn: int) -> str:
    """Return ``lsn`` as PostgreSQL prints it, ``16/B374D848``."""
    return f"{lsn >> 32:X}/{lsn & 0xFFFFFFFF:X}"
