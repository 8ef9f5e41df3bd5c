"""Opens the writers of a lake: trusted table, rules and quarantine of each source table."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pyarrow as pa

from smartstream.config import Settings
from smartstream.manifest import TableState
from smartstream.pipeline.quarantine import Quarantine
from smartstream.pipeline.refine import Refinery
from smartstream.pipeline.table_writer import TableWriter
from smartstream.quality.contracted import Rules, rules_under_contract
from smartstream.schema import TableSchema
from smartstream.transform.shape import ruled_schema
from smartstream.trusted.catalog import QUARANTINE, TRUSTED, LakeCatalog, lake_errors
from smartstream.trusted.engine import Engine
from smartstream.trusted.table import TrustedTable

LookUp = Callable[[pa.Table, TableSchema, int], pa.Table]
"""Changelog rows of some keys as of a sequence number; see raw.lookup."""


class Writers:
    """What all writers of a process share."""

    def __init__(
        self,
        settings: Settings,
        catalog: LakeCatalog,
        engine: Engine,
        look_up: LookUp,
        states: Callable[[], Mapping[str, TableState]],
    ) -> None:
        self._settings, self._catalog, self._engine, self._look_up = settings, catalog, engine, look_up
        self._states = states

    def open(self, schema: TableSchema) -> TableWriter:
        """Open the tables of ``schema``, creating the trusted one when it is missing.

        Raises:
            RuleInvalid: a rule does not fit the table.
            SchemaFrozen: its contract does not allow the schema.
        """
        rules = self._compiled(schema)
        shape = ruled_schema(rules.schema, rules.output) if rules else schema
        table = self._open_table(shape, TRUSTED, create=True)
        assert table is not None
        return TableWriter(table, schema, self._refinery, self._quarantine)

    def _refinery(self, schema: TableSchema, table: TrustedTable) -> Refinery | None:
        """The rules of a table at a schema."""
        rules = self._compiled(schema)
        if rules is None:
            return None

        def look_up(keys: pa.Table, of: TableSchema) -> pa.Table:
            return self._look_up(keys, of, table.position.seq)

        return Refinery(rules, table, self._quarantine(rules.schema), look_up)

    def _quarantine(self, schema: TableSchema) -> Quarantine:
        """The quarantine of a table."""
        return Quarantine(schema, lambda held, new: self._open_table(held, QUARANTINE, create=new))

    def _compiled(self, schema: TableSchema) -> Rules | None:
        """The configured rules of a table, compiled, under its contract."""
        return rules_under_contract(self._settings, schema, self._states().get(schema.id))

    def _open_table(self, schema: TableSchema, namespace: str, *, create: bool) -> TrustedTable | None:
        """A table of the catalog; None when it is missing and not to be created."""
        with lake_errors(f"look for {namespace} table {schema.lake_name}"):
            if not create and not self._catalog.table_exists((namespace, schema.lake_name)):
                return None
        return TrustedTable.open(
            self._catalog,
            schema,
            namespace=namespace,
            engine=self._engine,
            target_bytes=self._settings.maintenance.target_file_bytes,
        )
