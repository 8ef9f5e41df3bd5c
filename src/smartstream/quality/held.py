"""Held rows: what the quarantines have, counted and shown.  Reads only."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import duckdb
import pyarrow as pa

from smartstream.config import Settings, rules_of
from smartstream.errors import ConfigError, KeyNotFound, QueryError
from smartstream.lsn import format_lsn
from smartstream.manifest import LakeState
from smartstream.quality.contracted import in_lake
from smartstream.quality.schema_contract import evolves
from smartstream.query.duckdb import LakeQuerySettings, open_lake
from smartstream.schema import TRUSTED_LSN, TableSchema
from smartstream.sql_text import quoted
from smartstream.transform import shape
from smartstream.trusted.catalog import QUARANTINE, TRUSTED

DISPOSITIONS = (shape.QUARANTINED, shape.DUPLICATE, shape.DROPPED)


@dataclass(frozen=True, slots=True)
class HeldRule:
    """Rows of one table that one rule keeps out; a row can be with several rules.

    Attributes:
        rule: its name; empty for rows that are there as duplicates.
        oldest: commit time of the oldest change among them; None where none tells.
    """

    disposition: str
    rule: str
    rows: int
    oldest: datetime | None


@dataclass(frozen=True, slots=True)
class HeldTable:
    """The quarantine of one table.

    Attributes:
        table: ``schema.name``.
        trusted_rows: in the trusted table.
        counts: disposition → entries.
        oldest: commit time of the oldest change among the quarantined.
    """

    table: str
    trusted_rows: int
    counts: Mapping[str, int]
    rules: tuple[HeldRule, ...]
    oldest: datetime | None

    @property
    def total(self) -> int:
        """Entries of any kind."""
        return sum(self.counts.values())

    @property
    def ratio(self) -> float:
        """The share of the table's rows that is quarantined."""
        quarantined = self.counts.get(shape.QUARANTINED, 0)
        rows = self.trusted_rows + self.total
        return quarantined / rows if rows else 0.0

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        rules = [{**asdict(rule), "oldest": _moment(rule.oldest)} for rule in self.rules]
        oldest = _moment(self.oldest)
        return {
            "table": self.table,
            "trusted_rows": self.trusted_rows,
            **{name: self.counts.get(name, 0) for name in DISPOSITIONS},
            "ratio": self.ratio,
            "oldest": oldest,
            "rules": rules,
        }


@dataclass(frozen=True, slots=True)
class HeldRow:
    """One entry.

    Attributes:
        key: column → text.
        row: column → PostgreSQL's text of the source's row; None for duplicates.
        violations: list of {rule, column, reason}.
        business_key: what a duplicate shares with the row that is in the trusted table.
        op, time: of the change that brought it here, as far as known.
    """

    key: Mapping[str, str]
    disposition: str
    row: Mapping[str, str | None] | None
    violations: tuple[Mapping[str, str], ...]
    business_key: tuple[str, ...] | None
    rules_version: str
    lsn: int
    op: str | None
    time: datetime | None

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "lsn": format_lsn(self.lsn), "time": _moment(self.time)}


class HeldRows:
    """The quarantines of a lake as they are when this is made; a context manager.

    With ``count_only`` for ``counts_of`` alone: trusted tables are not looked at.
    """

    def __init__(self, settings: LakeQuerySettings, *, count_only: bool = False) -> None:
        namespaces = (QUARANTINE,) if count_only else (TRUSTED, QUARANTINE)
        self._connection = open_lake(settings, namespaces=namespaces)
        self._names = {
            (schema, name)
            for schema, name in self._connection.execute(
                "SELECT table_schema, table_name FROM information_schema.tables"
            ).fetchall()
        }

    def __enter__(self) -> HeldRows:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def counts_of(self, lake_name: str) -> dict[str, int]:
        """Entries of a table by disposition; empty where there are none."""
        if (QUARANTINE, lake_name) not in self._names:
            return {}
        column, held = quoted(shape.DISPOSITION), f"{quoted(QUARANTINE)}.{quoted(lake_name)}"
        found = self._rows(f"SELECT {column}, count(*) FROM {held} GROUP BY 1")
        return {str(disposition): int(count) for disposition, count in found}

    def table(self, schema: TableSchema) -> HeldTable:
        """What is held of one table, by rule."""
        counts = self.counts_of(schema.lake_name)
        rows = 0
        if (TRUSTED, schema.lake_name) in self._names:
            rows = int(self._rows(f"SELECT count(*) FROM {_name(TRUSTED, schema)}")[0][0])
        if not counts:
            return HeldTable(schema.id, rows, {}, (), None)
        held, stamp = _name(QUARANTINE, schema), quoted(shape.CHANGE_TS)
        oldest = self._rows(
            f"SELECT min({stamp}) FROM {held} WHERE {quoted(shape.DISPOSITION)} = '{shape.QUARANTINED}'"
        )
        return HeldTable(schema.id, rows, counts, self._by_rule(held), _utc(oldest[0][0]))

    def rows(self, schema: TableSchema, keys: pa.Table | None, limit: int) -> list[HeldRow]:
        """Entries, the newest first.

        Args:
            keys: (n, ``schema.key``) only of these; all if None.
        """
        if (QUARANTINE, schema.lake_name) not in self._names:
            return []
        held, names = _name(QUARANTINE, schema), [quoted(name) for name in schema.key]
        order = f"{quoted(TRUSTED_LSN)} DESC, {', '.join(names)}"
        source = f"FROM {held} {self._wanted(keys)} ORDER BY {order} LIMIT {int(limit)}"
        texts = [f"CAST({name} AS VARCHAR)" for name in names]
        columns = [
            *(shape.DISPOSITION, shape.ROW, shape.VIOLATIONS, shape.BUSINESS_KEY, shape.RULES_VERSION),
            *(TRUSTED_LSN, shape.CHANGE_OP, shape.CHANGE_TS),
        ]
        found = self._rows(f"SELECT [{', '.join(texts)}], {', '.join(map(quoted, columns))} {source}")
        return [_held_row(schema, row) for row in found]

    def present(self, schema: TableSchema, keys: pa.Table) -> int:
        """How many of ``keys`` have an entry."""
        if (QUARANTINE, schema.lake_name) not in self._names:
            return 0
        held = f"{_name(QUARANTINE, schema)} {self._wanted(keys)}"
        return int(self._rows(f"SELECT count(*) FROM {held}")[0][0])

    def _by_rule(self, held: str) -> tuple[HeldRule, ...]:
        """Entries by disposition and rule, the most first."""
        violations = quoted(shape.VIOLATIONS)
        rules = (
            f"CASE WHEN {violations} IS NULL THEN [''] ELSE"
            f" list_distinct(CAST(json_extract_string({violations}, '$[*].rule') AS VARCHAR[])) END"
        )
        disposition, stamp = quoted(shape.DISPOSITION), quoted(shape.CHANGE_TS)
        inner = f"SELECT {disposition} AS d, {stamp} AS t, unnest({rules}) AS rule FROM {held}"
        found = self._rows(
            f"SELECT d, rule, count(*), min(t) FROM ({inner}) GROUP BY ALL ORDER BY count(*) DESC, d, rule"
        )
        return tuple(HeldRule(str(d), str(rule), int(n), _utc(oldest)) for d, rule, n, oldest in found)

    def _wanted(self, keys: pa.Table | None) -> str:
        """SQL behind a table that leaves only ``keys``."""
        if keys is None:
            return ""
        self._connection.register("wanted_keys", keys)
        return f"SEMI JOIN wanted_keys USING ({', '.join(map(quoted, keys.column_names))})"

    def _rows(self, sql: str) -> list[tuple[Any, ...]]:
        """The rows of a generated query."""
        try:
            return self._connection.execute(sql).fetchall()
        except duckdb.Error as error:
            # Without the text: it may quote values.
            raise QueryError(f"the quarantine can't be read: {type(error).__name__}") from None


def captured_table(settings: Settings, state: LakeState, name: str) -> TableSchema:
    """Return the table that is called ``schema.name``, or so in the lake; columns as the lake calls them.

    Raises:
        QueryError: the lake has none of that name.
    """
    schemas = [in_lake(settings, table) for table in state.tables.values()]
    called = {schema.lake_name: schema for schema in schemas}
    called |= {schema.id: schema for schema in schemas}  # a table of public may be called a.b, too
    if name in called:
        return called[name]
    known = sorted({text for schema in schemas for text in (schema.id, schema.lake_name)})
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    guess = f"Did you mean {close[0]}? " if close else ""
    tables = ", ".join(sorted(schema.id for schema in schemas)) or "none yet; `smartstream run` copies them"
    raise QueryError(f"there is no table {name} in the lake", hint=f"{guess}Tables: {tables}.")


def check_held(settings: Any, held: HeldRows, schema: TableSchema, keys: pa.Table | None) -> int:
    """Return how many entries a command would be about.

    Raises:
        ConfigError: there is none, and the table has no rules that could make one.
        KeyNotFound: a key has none.
    """
    counts = held.counts_of(schema.lake_name)
    rules = rules_of(settings, schema.id)
    if not counts and not rules.judges_rows and evolves(rules.contract):
        raise ConfigError(
            f"{schema.id} has no rules, so nothing of it is held",
            hint="Rules stand under `tables:` in smartstream.yaml (docs/transform.md).",
        )
    if keys is None:
        return sum(counts.values())
    found = held.present(schema, keys)
    if found < len(keys):
        lacking = "it is" if len(keys) == 1 else f"{len(keys) - found} of {len(keys)} are"
        raise KeyNotFound(
            f"no such row of {schema.id} is held: {lacking} not in the quarantine",
            hint=f"`smartstream quarantine show {schema.id}` lists what is held.",
        )
    return found


def _held_row(schema: TableSchema, row: Sequence[Any]) -> HeldRow:
    """An entry as it was read."""
    key, disposition, text, violations, business_key, version, lsn, op, time = row
    return HeldRow(
        key=dict(zip(schema.key, key, strict=True)),
        disposition=str(disposition),
        row=json.loads(text) if text else None,
        violations=tuple(json.loads(violations)) if violations else (),
        business_key=tuple(json.loads(business_key)) if business_key else None,
        rules_version=version or "",
        lsn=int(lsn),
        op=op,
        time=_utc(time),
    )


def _name(namespace: str, schema: TableSchema) -> str:
    """A table of the lake."""
    return f"{quoted(namespace)}.{quoted(schema.lake_name)}"


def _utc(value: datetime | None) -> datetime | None:
    """A moment as DuckDB gives it, in UTC."""
    return value.astimezone(UTC) if value is not None else None


def _moment(value: datetime | None) -> str | None:
    """A moment for JSON."""
    return value.isoformat() if value is not None else None
