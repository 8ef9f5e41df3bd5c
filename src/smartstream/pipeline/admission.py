"""Which tables of the source a pipeline follows, as their contracts say."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import psycopg

from smartstream.capture import published
from smartstream.capture.names import clashes, in_log
from smartstream.config import Settings, matches, rules_of
from smartstream.errors import NoTables, SchemaFrozen, TablesClash, TableWithoutKey
from smartstream.manifest import TableState
from smartstream.quality.config import SchemaContract
from smartstream.quality.contracted import decision_on
from smartstream.quality.schema_contract import admit, evolves
from smartstream.schema import TableSchema

_LOG = logging.getLogger(__name__)


def discover(
    connection: psycopg.Connection[Any],
    settings: Settings,
    known: Mapping[str, TableState],
    *,
    strict: bool = True,
) -> list[TableSchema]:
    """The source's tables that the configuration wants.

    Args:
        known: the tables that the log knows: what they are called in the lake is taken.
        strict: raise when a wanted table has no key or no name of its own, or when there is
            none at all; otherwise such tables are left out with a warning.
    Raises:
        TableWithoutKey, TablesClash, NoTables: see ``strict``.
    """
    found = published.discover(connection, settings.source, partial(matches, settings))
    if found.keyless:
        reasons = "; ".join(f"{table.id}: {table.reason}" for table in found.keyless)
        message = f"Without a key that changes carry: {reasons}."
        if strict:
            raise TableWithoutKey(message)
        _LOG.warning("left out: %s", message)
    if strict and not found.tables:
        raise NoTables(f"No table of the source matches {', '.join(map(settings.place, settings.tables))}.")
    return _apart(found.tables, known, strict=strict)


def _apart(
    tables: Sequence[TableSchema], known: Mapping[str, TableState], *, strict: bool
) -> list[TableSchema]:
    """The tables that no other one of the lake could be taken for.

    Raises:
        TablesClash: there are others; see ``discover``.
    """
    found = clashes(tables, in_log(known.values()))
    if not found:
        return list(tables)
    message = "; ".join(clash.reason for clash in found)
    if strict:
        raise TablesClash(f"{message}.")
    _LOG.warning("left out: %s", message)
    left_out = {clash.table.oid for clash in found}
    return [table for table in tables if table.oid not in left_out]


def admitted(
    settings: Settings,
    found: Sequence[TableSchema],
    known: Mapping[str, TableState],
    *,
    lsn: int,
    begun: bool,
) -> list[TableSchema]:
    """Return the tables to follow.

    Args:
        known: the tables that the log knows.
        begun: the lake has had its first tables: others are new ones.
    Raises:
        SchemaFrozen: a table is new, and its contract allows none.
    """
    return [
        schema
        for schema in found
        if schema.id in known or not begun or admit(rules_of(settings, schema.id).contract, schema, lsn=lsn)
    ]


def has_begun(known: Mapping[str, TableState]) -> bool:
    """Whether the first tables are all in the log: copies begin after that."""
    return any(table.copied or table.generation > 1 for table in known.values())


def undone(settings: Settings, present: TableSchema, state: TableState) -> bool:
    """Whether the source has taken back what a contract did not allow.

    What came in between is in the log and still not allowed; a new copy goes past it.
    """
    contract = rules_of(settings, present.id).contract
    if evolves(contract):
        return False
    logged = TableSchema.from_json(state.schema)
    return _refuses(contract, logged, state) and not _refuses(contract, present, state)


def _refuses(contract: SchemaContract, schema: TableSchema, state: TableState) -> bool:
    """Whether a contract does not allow a schema."""
    try:
        decision_on(contract, schema, state)
    except SchemaFrozen:
        return True
    return False
