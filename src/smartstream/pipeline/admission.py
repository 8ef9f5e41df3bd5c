"""Which tables of the source a pipeline follows, as their contracts say."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import psycopg

from smartstream.capture import catalog
from smartstream.config import Settings, matches, rules_of
from smartstream.errors import NoTables, SchemaFrozen, TableWithoutKey
from smartstream.manifest import TableState
from smartstream.quality.config import SchemaContract
from smartstream.quality.contracted import decision_on
from smartstream.quality.schema_contract import admit, evolves
from smartstream.schema import TableSchema

_LOG = logging.getLogger(__name__)


def discover(
    connection: psycopg.Connection[Any], settings: Settings, *, strict: bool = True
) -> list[TableSchema]:
    """The source's tables that the configuration wants.

    Args:
        strict: raise when a wanted table has no key, or when there is none at all;
            otherwise such tables are left out with a warning.
    Raises:
        TableWithoutKey, NoTables: see ``strict``.
    """
    found = catalog.discover(connection, partial(matches, settings))
    if found.keyless:
        reasons = "; ".join(f"{table.id}: {table.reason}" for table in found.keyless)
        message = f"Without a key that changes carry: {reasons}."
        if strict:
            raise TableWithoutKey(message)
        _LOG.warning("left out: %s", message)
    if strict and not found.tables:
        raise NoTables("No table of the source matches `tables:` in the configuration.")
    return list(found.tables)


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
