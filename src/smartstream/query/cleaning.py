"""Cleaning: versions through today's rules, so that the past shows no more than trusted does.

A version that the rules don't let pass is not shown, as trusted does not show it; with
``on_bad_update`` it is shown with nulls, or as the last good version before it, marked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from smartstream.change import UNTYPED
from smartstream.quality.contracted import ContractedRules, Rules, rules_held_to
from smartstream.query.relation import sql_type
from smartstream.query.versions import Versions
from smartstream.raw.timeline import Generation
from smartstream.schema import TRUSTED_LSN
from smartstream.sql_text import quoted
from smartstream.transform.rules import Cleaned, CompiledRules, Verdict
from smartstream.transform.shape import QUALITY, with_mark

BATCH_ROWS = 50_000

RulesOf = Callable[[Generation], Rules | None]
"""The rules of a table for the columns that a generation of it has now, None without any."""


@dataclass(frozen=True, slots=True)
class Rows:
    """A SELECT of versions (see ``Versions.relation``), and name → SQL of what readers see in it.

    Attributes:
        lsn: SQL for ``_lsn``, of the change that made what is shown.
    """

    columns: Mapping[str, str]
    sql: str
    lsn: str = "from_lsn"


def rules_for_past(settings: Any) -> RulesOf:
    """Return what finds the rules that ``settings`` have for a table.

    A rule that stops the pipeline can't stop a look at the past: such rows count as held.

    Raises:
        RuleInvalid: when it is called, if the rules don't fit the table.
        SchemaFrozen: as well, if its contract does not allow its columns.
    """

    def found(shown: Generation) -> Rules | None:
        rules = rules_held_to(settings, shown.schema, shown.reference, lsn=shown.schema_lsn)
        if isinstance(rules, ContractedRules):
            return replace(rules, rules=_unstopped(rules.rules))
        return None if rules is None else _unstopped(rules)

    return found


def _unstopped(rules: CompiledRules) -> CompiledRules:
    """The same rules, but none stops."""
    tests = [replace(t, on_fail="quarantine") if t.on_fail == "stop" else t for t in rules.tests]
    return replace(rules, tests=tuple(tests))


def plain_rows(versions: Versions) -> Rows:
    """The versions of a table without rules."""
    columns = {column.name: f"c{column.attnum}" for column in versions.schema.columns}
    return Rows({**columns, UNTYPED: UNTYPED}, versions.relation())


def clean_rows(versions: Versions, rules: Rules) -> Rows:
    """The versions as the rules leave them; all are cleaned now, and kept beside the index."""
    table = f"{versions.name}.cleaned"
    kept = [field for field in rules.output_schema() if field.name != TRUSTED_LSN]
    fields = ", ".join(f"d{n} {sql_type(field.type)}" for n, field in enumerate(kept))
    versions.connection.execute(f"CREATE TABLE {table} (row_id BIGINT, good BOOLEAN, {fields})")
    _fill(versions, rules, table, [field.name for field in kept])
    columns = {field.name: f"d{n}" for n, field in enumerate(kept)}
    if rules.on_bad_update == "keep_previous_marked":
        return _with_previous(versions, table, columns)
    joined = f"{table} AS c JOIN {versions.name}.versions AS v USING (row_id)"
    return Rows(columns, f"SELECT c.*, v.* EXCLUDE (row_id) FROM {joined} WHERE c.good")


def one_of_each(rows: Rows, rules: Rules) -> Rows:
    """The rows of one moment without those that a business key has more than once."""
    rule = rules.dedupe
    if rule is None:
        return rows
    way = "DESC" if rule.keep == "last" else "ASC"
    order = [f"{rows.columns[rule.by]} {way} NULLS LAST"] if rule.by else []
    order += [f"{rows.columns[name]} {way}" for name in rules.schema.key]
    business = [rows.columns[name] for name in rule.key]
    nulls = " OR ".join(f"{column} IS NULL" for column in business)
    number = f"row_number() OVER (PARTITION BY {', '.join(business)} ORDER BY {', '.join(order)})"
    return replace(rows, sql=f"SELECT * FROM ({rows.sql}) QUALIFY {nulls} OR {number} = 1")


def _fill(versions: Versions, rules: Rules, table: str, kept: list[str]) -> None:
    """Clean every version, a batch at a time."""
    target = rules.schema.trusted_schema()
    places = {c.name: f"c{c.attnum}" for c in rules.schema.columns} | {TRUSTED_LSN: "from_lsn"}
    wanted = ", ".join(places.get(name, name) for name in target.names)
    query = f"SELECT {wanted}, row_id FROM ({versions.relation()})"
    names = [f"d{n}" for n in range(len(kept))]
    with versions.connection.cursor() as reader:
        for batch in reader.sql(query).to_arrow_reader(BATCH_ROWS):
            found = pa.Table.from_batches([batch])
            given = found.select(range(len(target))).rename_columns(target.names).cast(target)
            cleaned = rules.apply(given)
            rows, good = _judged(cleaned, rules)
            out = rows.select(kept).rename_columns(names)
            out = out.add_column(0, "good", good).add_column(0, "row_id", found["row_id"])
            _insert(versions.connection, table, out.filter(pa.array(cleaned.verdict != Verdict.DROP)))


def _insert(connection: duckdb.DuckDBPyConnection, table: str, rows: pa.Table) -> None:
    """Append rows to a table."""
    connection.register("cleaned_rows", rows)
    connection.execute(f"INSERT INTO {table} FROM cleaned_rows")
    connection.unregister("cleaned_rows")


def _judged(cleaned: Cleaned, rules: Rules) -> tuple[pa.Table, pa.BooleanArray]:
    """The rows, and which of them are shown; with ``null_value`` some are shown with nulls."""
    good = cleaned.verdict == Verdict.GOOD
    rows = cleaned.rows
    if rules.on_bad_update != "null_value" or good.all():
        return rows, pa.array(good)
    lists = cleaned.bad_columns.to_pylist()
    healed = (cleaned.verdict == Verdict.QUARANTINE) & [bool(columns) for columns in lists]
    for name in sorted({name for columns, yes in zip(lists, healed, strict=True) if yes for name in columns}):
        index = rows.schema.get_field_index(name)
        gone = pa.array([bool(yes and name in columns) for columns, yes in zip(lists, healed, strict=True)])
        nulls = pa.nulls(len(rows), rows.schema.field(index).type)
        rows = rows.set_column(index, rows.schema.field(index), pc.if_else(gone, nulls, rows[name]))
    marks = [
        with_mark(text, {"nulled": columns}) if yes else text
        for text, columns, yes in zip(rows[QUALITY].to_pylist(), lists, healed, strict=True)
    ]
    index = rows.schema.get_field_index(QUALITY)
    rows = rows.set_column(index, rows.schema.field(index), pa.array(marks, pa.string()))
    return rows, pa.array(good | healed)


def _with_previous(versions: Versions, table: str, columns: dict[str, str]) -> Rows:
    """Bad versions as the good one before them, as long as the row was not gone in between."""
    keys = ", ".join(f"k{n}" for n in range(len(versions.schema.key)))
    quality = columns[QUALITY]
    mark = f"json_merge_patch(coalesce(c.{quality}, '{{}}'), json_object('stale_since', v.from_lsn))"
    sql = f"""
        WITH judged AS (
            SELECT v.*, c.good, lag(v.to_lsn) OVER w IS DISTINCT FROM v.from_lsn AS begins
            FROM {versions.name}.versions AS v JOIN {table} AS c USING (row_id)
            WINDOW w AS (PARTITION BY v.generation, {keys} ORDER BY v.from_lsn)
        ), lives AS (
            SELECT *, count(*) FILTER (begins) OVER (
                PARTITION BY generation, {keys} ORDER BY from_lsn ROWS UNBOUNDED PRECEDING) AS life
            FROM judged
        ), chosen AS (
            SELECT *, last_value(CASE WHEN good THEN row_id END IGNORE NULLS) OVER (
                PARTITION BY generation, {keys}, life ORDER BY from_lsn
                ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS content
            FROM lives
        )
        SELECT c.* EXCLUDE (row_id, good) REPLACE (
                   CASE WHEN v.good THEN c.{quality} ELSE CAST({mark} AS VARCHAR) END AS {quality}),
               v.row_id, v.from_lsn, v.from_time, v.to_lsn, v.to_time, v.op, o.from_lsn AS content_lsn
        FROM chosen AS v JOIN {table} AS c ON c.row_id = v.content
        JOIN {versions.name}.versions AS o ON o.row_id = v.content
    """
    return Rows(columns, sql, "content_lsn")


def selected(columns: Mapping[str, str]) -> str:
    """Columns by name, for SELECT."""
    return ", ".join(f"{sql} AS {quoted(name)}" for name, sql in columns.items())
