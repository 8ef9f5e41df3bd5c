"""The text of PostgreSQL's ``test_decoding``, parsed.

Written from the plug-in's output and not from the package's own decoder, which the
stand-in's records are used to test.  Pure: text in, messages out.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import Enum


class Unchanged(Enum):
    """The place of a TOASTed value that an update left as it was: the WAL doesn't hold it."""

    TOAST = "unchanged-toast-datum"


Values = dict[str, str | Unchanged | None]
"""Values of a row by column, as PostgreSQL writes them."""

_NAME = r'"(?:[^"]|"")*"|[^\s".:\[]+'
_TABLE = re.compile(rf"table ({_NAME})\.({_NAME}): (INSERT|UPDATE|DELETE|TRUNCATE):")
_COLUMN = re.compile(
    rf" (?P<name>{_NAME})"
    r'\[(?P<type>(?:"(?:[^"]|"")*"|\[\]|[^"\[\]])+)\]'
    r":(?:(?P<null>null)|(?P<toast>unchanged-toast-datum)|B?'(?P<text>[^']*(?:''[^']*)*)'|(?P<bare>[^\s']+))"
)
_COMMIT = re.compile(r"COMMIT \d+ \(at (\S+ \S+)\)")
_OLD, _NEW = " old-key:", " new-tuple:"
_NOTHING = " (no-tuple-data)"


@dataclass(frozen=True)
class Begin:
    """The start of a transaction."""


@dataclass(frozen=True)
class Commit:
    """The end of a transaction, and when it was, as PostgreSQL writes a moment in UTC."""

    moment: str


@dataclass(frozen=True)
class RowChange:
    """A row's change.

    Attributes:
        operation: ``insert``, ``update``, ``delete`` or ``truncate`` (of the first table named).
        new: the row of an insert or update; empty for the others.
        old: what the WAL holds of the row before: the replica identity of a deleted row or of
            one whose identity changed, without its nulls; empty where it holds nothing.
    """

    schema: str
    table: str
    operation: str
    new: Values = field(default_factory=dict)
    old: Values = field(default_factory=dict)


Message = Begin | Commit | RowChange


def parse(text: str) -> Message | None:
    """Return what one line of the plug-in says; None for a message that a program emitted.

    Raises:
        ValueError: the plug-in doesn't write this.
    """
    if text.startswith("table "):
        return _row_change(text)
    if text.startswith("BEGIN "):
        return Begin()
    if found := _COMMIT.fullmatch(text):
        return Commit(found[1])
    if text.startswith("message: "):
        return None
    raise ValueError(f"test_decoding doesn't write {text[:20]!r}")


def _row_change(text: str) -> RowChange:
    head = _TABLE.match(text)
    if head is None:
        if ": TRUNCATE:" in text:  # Several tables at once; the operation isn't replicated anyway.
            return RowChange("", "", "truncate")
        raise ValueError("a change of test_decoding names no table")
    schema, table, operation = _unquoted(head[1]), _unquoted(head[2]), head[3].lower()
    at = head.end()
    if operation == "truncate" or text.startswith(_NOTHING, at):
        return RowChange(schema, table, operation)
    old: Values = {}
    if text.startswith(_OLD, at):
        old, at = _columns(text, at + len(_OLD))
        if not text.startswith(_NEW, at):
            raise ValueError("an old key of test_decoding has no new row")
        at += len(_NEW)
    values, at = _columns(text, at)
    if at != len(text):
        raise ValueError(f"column {len(values) + 1} of a change can't be read")
    if operation == "delete":
        return RowChange(schema, table, operation, {}, values)
    return RowChange(schema, table, operation, values, old)


def _columns(text: str, at: int) -> tuple[Values, int]:
    """The columns from a place on, and where they end."""
    values: Values = {}
    while found := _COLUMN.match(text, at):
        if found["null"]:
            value: str | Unchanged | None = None
        elif found["toast"]:
            value = Unchanged.TOAST
        elif found["bare"] is not None:
            value = found["bare"]
        else:
            value = found["text"].replace("''", "'")
        values[_unquoted(found["name"])] = value
        at = found.end()
    return values, at


def _unquoted(name: str) -> str:
    return name[1:-1].replace('""', '"') if name.startswith('"') else name
