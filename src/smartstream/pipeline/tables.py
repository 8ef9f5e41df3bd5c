"""The tables that are captured, each with the schema that the stream has reached."""

from __future__ import annotations

import threading
from collections.abc import Iterable

from smartstream.schema import TableSchema


class CapturedTables:
    """Thread-safe map from table oid to the schema of the latest change read."""

    def __init__(self, schemas: Iterable[TableSchema] = ()) -> None:
        self._lock = threading.Lock()
        self._by_oid = {schema.oid: schema for schema in schemas}

    def get(self, oid: int) -> TableSchema | None:
        """The schema of the table with this oid, None when it is not captured."""
        with self._lock:
            return self._by_oid.get(oid)

    def put(self, schema: TableSchema) -> None:
        """Capture the table, or move on to its next schema."""
        with self._lock:
            same_name = [oid for oid, s in self._by_oid.items() if s.id == schema.id and oid != schema.oid]
            for oid in same_name:  # dropped and created again
                del self._by_oid[oid]
            self._by_oid[schema.oid] = schema

    def all(self) -> list[TableSchema]:
        """The captured tables by name."""
        with self._lock:
            return sorted(self._by_oid.values(), key=lambda schema: schema.id)
