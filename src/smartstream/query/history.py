"""History: ``history.<table>``, every version that a row has had, and tables as of a moment.

Both come from the raw zone.  What they cost follows the table's changelog, so only the
tables that a statement names are worked out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import duckdb

from smartstream.change import UNTYPED
from smartstream.errors import PastUnknown
from smartstream.lsn import format_lsn
from smartstream.quality.contracted import Rules
from smartstream.query.as_of import Moment, resolve
from smartstream.query.cleaning import Rows, RulesOf, clean_rows, one_of_each, plain_rows, selected
from smartstream.query.past import TablePast, past_at, read_past, whole_past
from smartstream.query.relation import not_named
from smartstream.query.remote import register_s3
from smartstream.query.version_index import build
from smartstream.query.versions import Versions
from smartstream.raw.store import Store
from smartstream.raw.timeline import Generation
from smartstream.schema import TRUSTED_LSN
from smartstream.sql_text import quoted

HISTORY = "history"

_VERSION = {
    "valid_from": "from_time",
    "valid_to": "to_time",
    "valid_from_lsn": "from_lsn",
    "valid_to_lsn": "to_lsn",
    "is_current": "to_lsn IS NULL",
    "op": "op",
}


@dataclass(frozen=True, slots=True)
class HistoryTables:
    """The past of a lake, to be added to a connection that shows its present."""

    connection: duckdb.DuckDBPyConnection
    store: Store
    rules_of: RulesOf

    def add_history(self, statement: str) -> None:
        """Create ``history.<table>`` for each table that ``statement`` names, and a sign for the others.

        Columns are the table's newest ones (those of trusted, with rules), then ``_untyped``,
        ``valid_from``, ``valid_to``, ``valid_from_lsn``, ``valid_to_lsn``, ``is_current`` and
        ``op``; one of these that the table has as well gets underscores in front.

        Raises:
            PastUnknown, RawCorrupt: of a table that is named.
            SchemaFrozen: its contract does not allow its newest columns.
        """
        past = read_past(self.store)
        self._read_s3()
        self.connection.execute(f"CREATE SCHEMA IF NOT EXISTS {HISTORY}")
        for number, (table, name) in enumerate(sorted(_lake_names(past.tables).items())):
            view = f"{HISTORY}.{quoted(name)}"
            if not names_table(statement, name):
                self.connection.execute(f"CREATE VIEW {view} AS {_sign(view)}")
                continue
            found = whole_past(past, self.store, table)
            versions, rules = self._versions(f"past_{number}", found)
            rows = plain_rows(versions) if rules is None else clean_rows(versions, rules)
            taken = {column.lower() for column in rows.columns}
            fields = {_free(column, taken): sql for column, sql in _VERSION.items()}
            shown = selected({**rows.columns, **fields})
            self.connection.execute(f"CREATE VIEW {view} AS SELECT {shown} FROM ({rows.sql})")

    def add_as_of(self, statement: str, moment: Moment, namespace: str) -> int:
        """Create a view of each table that ``statement`` names, as it was; return the LSN.

        Raises:
            NotDurable, PastUnknown: see ``resolve`` and ``past_at``.
            SchemaFrozen: the contract of a table that is named does not allow its newest columns.
        """
        past = read_past(self.store)
        if not past.tables:
            raise PastUnknown("the lake is empty", hint="`smartstream run` makes the first copy.")
        self._read_s3()
        lsn = resolve(past, self.store, moment)
        self.connection.execute(f"CREATE SCHEMA IF NOT EXISTS {quoted(namespace)}")
        for number, (table, name) in enumerate(sorted(_lake_names(past.tables).items())):
            view = f"{quoted(namespace)}.{quoted(name)}"
            sql = _sign(view)
            if names_table(statement, name):
                found = past_at(past, self.store, table, lsn)
                versions, rules = self._versions(f"past_{number}", found, lsn)
                if versions.left_out:
                    raise PastUnknown(f"{table}: the log lacks values of rows as of {format_lsn(lsn)}")
                rows = self._rows_then(versions, rules)
                sql = f"SELECT {selected(_as_trusted(rows))} FROM ({rows.sql})"
            self.connection.execute(f"CREATE VIEW {view} AS {sql}")
            self.connection.execute(f"CREATE VIEW {quoted(name)} AS FROM {view}")
        return lsn

    def _versions(self, name: str, found: TablePast, lsn: int | None = None) -> tuple[Versions, Rules | None]:
        """The versions of a table by the lake's names, and what they must go through to be seen.

        Args:
            name: of the schema that holds what they need.
        """
        rules = self.rules_of(found.shown)
        schema = rules.schema if rules else found.schema
        versions = build(self.connection, self.store, name, schema, found.eras, found.fills, upto_lsn=lsn)
        return versions, rules

    def _rows_then(self, versions: Versions, rules: Rules | None) -> Rows:
        """The rows of the moment that the versions were built for."""
        if rules is None:
            self.connection.execute(f"DELETE FROM {versions.name}.versions WHERE to_lsn IS NOT NULL")
            return plain_rows(versions)
        rows = clean_rows(versions, rules)
        return one_of_each(replace(rows, sql=f"SELECT * FROM ({rows.sql}) WHERE to_lsn IS NULL"), rules)

    def _read_s3(self) -> None:
        """Let DuckDB read raw files in S3."""
        remote = self.store.filesystem.type_name != "local"
        if remote and not self.connection.filesystem_is_registered("s3"):
            register_s3(self.connection, self.store.filesystem)


def mentions_history(statement: str) -> bool:
    """Whether a statement may read a history table."""
    return HISTORY in statement.lower()


def names_table(statement: str, name: str) -> bool:
    """Whether a statement may read a table; rather once too often."""
    return name.lower() in statement.lower().replace('""', '"')


def _lake_names(tables: Mapping[str, Sequence[Generation]]) -> dict[str, str]:
    """Source table → its name in the lake."""
    return {table: generations[-1].schema.lake_name for table, generations in tables.items()}


def _sign(view: str) -> str:
    """What a table shows that was not worked out, because its name was not seen in the statement."""
    return f"SELECT {not_named(view)} AS not_named"


def _as_trusted(rows: Rows) -> dict[str, str]:
    """Columns in the order of trusted tables: ``_lsn`` and ``_untyped`` come last."""
    shown = {name: sql for name, sql in rows.columns.items() if name != UNTYPED}
    return {**shown, TRUSTED_LSN: rows.lsn, UNTYPED: rows.columns[UNTYPED]}


def _free(name: str, taken: set[str]) -> str:
    """``name`` with as many underscores in front as it takes."""
    while name in taken:
        name = f"_{name}"
    return name
