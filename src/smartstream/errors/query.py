"""Questions that can not be answered, and comparisons."""

from __future__ import annotations

from smartstream.errors.base import SmartStreamError


class QueryError(SmartStreamError):
    """A statement or a question about the lake cannot be answered."""

    hint = "`smartstream tables` lists the tables and their columns."


class PastUnknown(QueryError):
    """The lake does not know enough of a table to say how it was then."""

    hint = "A table's past is known from the end of its first copy on: ask for a later moment."


class NotDurable(QueryError):
    """A moment that the lake has not reached yet."""

    hint = "Leave --as-of out for the newest rows; `smartstream status` shows how far the lake is."


class KeyNotFound(QueryError):
    """No change that the lake holds is about a row with this key."""

    hint = "Give the values of the key's columns in their order: 7, or 7,x, or id=7,code=x."


class VerifyError(SmartStreamError):
    """Source and lake cannot be compared."""

    hint = "Run `smartstream run --once` to bring the lake to the source's position, then verify again."
