"""What the source's tables look like, as deliveries need it: one JSON object each in the lake."""

from __future__ import annotations

import json
from urllib.parse import quote

from smartstream.errors import RawCorrupt
from smartstream.raw.store import NotFound, Store
from smartstream.schema import TableSchema

PREFIX = "config/tables/"


class Definitions:
    """The definitions below ``config/tables/`` of a lake; what was read once is remembered."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: dict[str, TableSchema] = {}

    def get(self, table_id: str) -> TableSchema | None:
        """The definition of ``schema.name``; None when there is none yet.

        Raises:
            RawCorrupt: the object is not a definition.
        """
        if table_id not in self._known:
            try:
                text = self._store.get(_key(table_id))
            except NotFound:
                return None
            try:
                self._known[table_id] = TableSchema.from_json(text.decode())
            except (ValueError, KeyError, TypeError) as error:
                raise RawCorrupt(f"{_key(table_id)} is not the definition of a table") from error
        return self._known[table_id]

    def put(self, schema: TableSchema) -> None:
        """Keep a definition."""
        if self.get(schema.id) != schema:
            self._store.put(_key(schema.id), json.dumps(json.loads(schema.to_json()), indent=1).encode())
            self._known[schema.id] = schema


def _key(table_id: str) -> str:
    """Where a table's definition lies."""
    return f"{PREFIX}{quote(table_id, safe='._')}.json"
