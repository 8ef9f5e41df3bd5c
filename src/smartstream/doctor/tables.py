"""Checks of the captured tables: keys, rights, the publication."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import LiteralString

from psycopg import sql

from smartstream.capture.catalog import NEVER_NULL
from smartstream.capture.names import clashes, in_log
from smartstream.capture.publication import create_statement
from smartstream.doctor.check import Check, Patient, Status, ok
from smartstream.rules_config import pattern_expression
from smartstream.schema import TableSchema

NAMES_MAX = 5

_IDENTITIES = {"d": sql.SQL("DEFAULT"), "f": sql.SQL("FULL")}
"""Replica identities that need no index, as in pg_class."""


def found(patient: Patient) -> Check:
    """There is something to capture."""
    tables = patient.discovery.tables
    if tables:
        return ok("tables", f"{len(tables)} captured: {_names([table.id for table in tables])}")
    if patient.discovery.keyless:
        return Check("tables", Status.WARN, "none with a key", fix="See the next check.")
    patterns = ", ".join(map(patient.settings.place, patient.settings.tables))
    return Check(
        "tables",
        Status.FAIL,
        f"no table matches {patterns}",
        why="There is nothing to copy.",
        fix="Correct `tables:` in smartstream.yaml; patterns are schema.table, with * as wildcard.",
    )


def patterns(patient: Patient) -> Check:
    """Every pattern is about some table; one that excludes tables by ``*`` may be there to be safe."""
    ids = [f"{schema}.{name}" for schema, name in patient.rows(_ALL_TABLES)]
    settings = patient.settings
    idle = [
        pattern
        for pattern, rules in settings.tables.items()
        if not (rules.exclude and "*" in pattern) and not any(map(pattern_expression(pattern).fullmatch, ids))
    ]
    if not idle:
        return ok("patterns", "each matches a table")
    close = {pattern: difflib.get_close_matches(pattern, ids, n=1) for pattern in idle}
    return Check(
        "patterns",
        Status.WARN,
        "; ".join(
            f"{settings.place(pattern)} matches no table" + (f", but {near[0]} is there" if near else "")
            for pattern, near in close.items()
        ),
        why="A pattern that is misspelt leaves its tables out, or in; so it does nothing.",
        fix="Correct `tables:` in smartstream.yaml; patterns are schema.table as PostgreSQL has them, "
        "with upper case, without quotes, with * as wildcard.",
    )


def names(patient: Patient) -> Check:
    """No two tables would be one in the lake."""
    settled = in_log(patient.state.tables.values()) if patient.state else ()
    taken = clashes(patient.discovery.tables, settled)
    if not taken:
        return ok("names", "every table has a name of its own in the lake")
    return Check(
        "names",
        Status.FAIL,
        "; ".join(clash.reason for clash in taken),
        why="Tables of public are called by their name, others schema__table, and engines don't tell case "
        "apart: rows of two tables would be mixed. The other one is captured, this one is left out.",
        fix="Rename one of the tables, or exclude it in smartstream.yaml (`schema.table: {exclude: true}`).",
        sql=tuple(_rename(clash.table) for clash in taken),
    )


def _rename(table: TableSchema) -> str:
    """A comment: a person must choose the name."""
    identifier = sql.Identifier(table.schema, table.name)
    return _text("-- ALTER TABLE {} RENAME TO …;", identifier).replace("\n", " ")


def keys(patient: Patient) -> Check:
    """Every table can tell its rows apart."""
    keyless = patient.discovery.keyless
    if not keyless:
        return ok("keys", "every table has a key")
    offers = {row[0]: row[1:] for row in patient.rows(_KEY_OFFERS, [table.oid for table in keyless])}
    return Check(
        "keys",
        Status.FAIL,
        "; ".join(f"{table.id}: {table.reason}" for table in keyless),
        why="Updates and deletes must name the row that they change; of a table that is published without "
        "that, PostgreSQL lets the application's own UPDATE and DELETE fail.",
        fix="Give each table a key, or exclude it in smartstream.yaml (`schema.table: {exclude: true}`).",
        sql=tuple(line for table in keyless if table.oid in offers for line in _key_sql(*offers[table.oid])),
    )


def _key_sql(
    schema: str, name: str, identity: str, primary: bool, index: str | None, others: list[list[str]]
) -> list[str]:
    """The statements that give a table its key; comments where a person must choose.

    Args:
        index: one that could be its replica identity.
        others: schema and name of partitions that have another replica identity.
    """
    table = sql.Identifier(schema, name)
    if others and identity in _IDENTITIES:
        same = _IDENTITIES[identity]
        return [_text("ALTER TABLE {} REPLICA IDENTITY {};", sql.Identifier(*one), same) for one in others]
    if others:
        line = "-- ALTER TABLE {} REPLICA IDENTITY USING INDEX …;  -- name its part of the table's index"
        return [_text(line, sql.Identifier(*one)) for one in others]
    if primary and identity != "d":
        return [_text("ALTER TABLE {} REPLICA IDENTITY DEFAULT;", table)]
    if index is not None:
        return [_text("ALTER TABLE {} REPLICA IDENTITY USING INDEX {};", table, sql.Identifier(index))]
    return [
        _text("-- ALTER TABLE {} ADD PRIMARY KEY (…);  -- name the columns that identify a row", table),
        _text(
            "-- ALTER TABLE {} ADD COLUMN … bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY;"
            "  -- if none do: numbers the rows, writes the table anew",
            table,
        ),
    ]


def select_rights(patient: Patient) -> Check:
    """SELECT on every table and its partitions, USAGE on their schemas."""
    lacking = patient.rows(_LACKING_SELECT, _oids(patient))
    if not lacking:
        return ok("select rights", f"role {patient.role} may read every table")
    role = sql.Identifier(patient.role)
    schemas = sorted({schema for schema, _, usage, _ in lacking if not usage})
    statements = [_text("GRANT USAGE ON SCHEMA {} TO {};", sql.Identifier(name), role) for name in schemas]
    unread = [(schema, name) for schema, name, _, select in lacking if not select]
    statements += [_text("GRANT SELECT ON TABLE {} TO {};", sql.Identifier(*table), role) for table in unread]
    return Check(
        "select rights",
        Status.FAIL,
        f"role {patient.role} may not read {_names([f'{row[0]}.{row[1]}' for row in lacking])}",
        why="The first copy reads every row.",
        fix="Grant the rights.",
        sql=tuple(statements),
    )


def row_security(patient: Patient) -> Check:
    """No policy hides rows from the copy."""
    filtered = [f"{schema}.{name}" for schema, name in patient.rows(_FILTERED, _oids(patient))]
    if not filtered:
        return ok("row security", "no policy hides rows")
    return Check(
        "row security",
        Status.FAIL,
        f"policies hide rows of {_names(filtered)} from role {patient.role}",
        why="The first copy would miss rows, so PostgreSQL refuses it.",
        fix="Let the role see every row, or exclude the tables.",
        sql=(_text("ALTER ROLE {} BYPASSRLS;", sql.Identifier(patient.role)),),
    )


def publication(patient: Patient) -> Check:
    """The publication sends every change of every table, or SmartStream may make it so."""
    name, tables = patient.settings.source.publication, patient.discovery.tables
    if not patient.settings.source.manage_publication:  # else the discovery would have failed
        return ok("publication", f"publication {name} is yours, and sends {len(tables)} captured tables")
    existing = patient.rows(_PUBLICATION, name)
    unowned = [
        table for table in tables if table.oid in {oid for (oid,) in patient.rows(_UNOWNED, _oids(patient))}
    ]
    if not tables:
        return Check("publication", Status.WARN, "not checked: there is no table to publish")
    if not existing:
        return _to_create(patient, name, tables, unowned)
    everything, complete, owned, members = existing[0]
    missing = [] if everything else [table for table in tables if table.oid not in set(members)]
    if not missing and complete:
        return ok("publication", f"publication {name} sends every captured table")
    lacks = ([f"tables {_names([t.id for t in missing])}"] if missing else []) + (
        [] if complete else ["some kinds of change, or publish_via_partition_root"]
    )
    described = f"publication {name} lacks {' and '.join(lacks)}"
    if owned and not any(table in unowned for table in missing):
        return ok("publication", f"{described}; `smartstream run` adds them")
    return Check(
        "publication",
        Status.FAIL,
        described,
        why=f"Their changes would not be sent, and role {patient.role} may not alter the publication.",
        fix="Let the owner of publication and tables run the statements.",
        sql=_alterations(name, missing, complete),
    )


def _to_create(
    patient: Patient, name: str, tables: Sequence[TableSchema], unowned: Sequence[TableSchema]
) -> Check:
    """No publication yet: may the role create it?"""
    (database, may_create) = patient.row(_MAY_CREATE)
    if may_create and not unowned:
        return ok("publication", f"publication {name} does not exist yet; `smartstream run` creates it")
    reasons = [] if may_create else [f"has no CREATE right on database {database}"]
    if unowned:
        reasons.append(f"does not own {_names([table.id for table in unowned])}")
    return Check(
        "publication",
        Status.FAIL,
        f"publication {name} does not exist, and role {patient.role} {' and '.join(reasons)}",
        why="The publication tells the server which tables' changes to send.",
        fix="Let the tables' owner (or a superuser) create the publication.",
        sql=(f"{create_statement(name, tables)};",),
    )


def _alterations(name: str, missing: Sequence[TableSchema], complete: bool) -> tuple[str, ...]:
    """What completes a publication."""
    publication, statements = sql.Identifier(name), []
    for table in missing:
        identifier = sql.Identifier(table.schema, table.name)
        statements.append(_text("ALTER PUBLICATION {} ADD TABLE ONLY {};", publication, identifier))
    if not complete:
        options = "publish = 'insert, update, delete, truncate', publish_via_partition_root = true"
        statements.append(_text("ALTER PUBLICATION {} SET (" + options + ");", publication))
    return tuple(statements)


def _oids(patient: Patient) -> list[int]:
    """The oids of the captured tables."""
    return [table.oid for table in patient.discovery.tables]


def _names(names: Sequence[str]) -> str:
    """A few names, and how many more."""
    more = f" and {len(names) - NAMES_MAX} more" if len(names) > NAMES_MAX else ""
    return ", ".join(names[:NAMES_MAX]) + more


def _text(template: LiteralString, *names: sql.Composable) -> str:
    """A statement with quoted names."""
    return sql.SQL(template).format(*names).as_string(None)


_ALL_TABLES = """
SELECT n.nspname, c.relname
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND c.relpersistence = 'p'
  AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
"""

_KEY_OFFERS = """
SELECT c.oid, n.nspname, c.relname, c.relreplident::text,
       EXISTS (SELECT FROM pg_catalog.pg_index i
               WHERE i.indrelid = c.oid AND i.indisprimary AND i.indimmediate AND i.indisvalid),
       (SELECT min(x.relname) FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid
        WHERE i.indrelid = c.oid AND i.indisunique AND i.indimmediate AND i.indisvalid
          AND i.indpred IS NULL AND i.indexprs IS NULL
          AND NOT EXISTS (SELECT FROM pg_catalog.pg_attribute a
                          WHERE a.attrelid = c.oid AND NOT {never_null}
                            AND a.attnum = ANY ((i.indkey::int2[])[0 : i.indnkeyatts - 1]))),
       CASE WHEN c.relkind = 'p' AND c.relreplident <> 'n'
            THEN (SELECT pg_catalog.json_agg(ARRAY[m.nspname, l.relname] ORDER BY m.nspname, l.relname)
                  FROM pg_catalog.pg_partition_tree(c.oid) t JOIN pg_catalog.pg_class l ON l.oid = t.relid
                  JOIN pg_catalog.pg_namespace m ON m.oid = l.relnamespace
                  WHERE t.isleaf AND l.relreplident <> c.relreplident) END
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.oid = ANY (%s::oid[])
""".replace("{never_null}", NEVER_NULL)

# The copy reads each partition by itself.
_WITH_PARTITIONS = """
SELECT c.* FROM unnest(%s::oid[]) AS root(oid)
CROSS JOIN LATERAL (SELECT root.oid UNION SELECT t.relid::oid
                    FROM pg_catalog.pg_partition_tree(root.oid) t) AS m(oid)
JOIN pg_catalog.pg_class c ON c.oid = m.oid
"""

_LACKING_SELECT = f"""
SELECT n.nspname, c.relname, pg_catalog.has_schema_privilege(n.oid, 'USAGE'),
       pg_catalog.has_table_privilege(c.oid, 'SELECT')
FROM ({_WITH_PARTITIONS}) c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE NOT (pg_catalog.has_schema_privilege(n.oid, 'USAGE')
           AND pg_catalog.has_table_privilege(c.oid, 'SELECT'))
ORDER BY 1, 2
"""

_FILTERED = f"""
SELECT n.nspname, c.relname
FROM ({_WITH_PARTITIONS}) c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_roles r ON r.rolname = current_user
WHERE c.relrowsecurity AND NOT (r.rolsuper OR r.rolbypassrls)
  AND (c.relforcerowsecurity OR NOT pg_catalog.pg_has_role(c.relowner, 'USAGE'))
ORDER BY 1, 2
"""

_UNOWNED = """
SELECT c.oid FROM pg_catalog.pg_class c
WHERE c.oid = ANY (%s::oid[]) AND NOT pg_catalog.pg_has_role(c.relowner, 'USAGE')
"""

_MAY_CREATE = """
SELECT current_database(), pg_catalog.has_database_privilege(current_database(), 'CREATE')
"""

# Listed tables with a row filter or a column list (to_jsonb: PostgreSQL 15 has them)
# are not sent whole; those that are in it through their schema are in the view only.
_PUBLICATION = """
SELECT p.puballtables, p.pubviaroot AND p.pubinsert AND p.pubupdate AND p.pubdelete AND p.pubtruncate,
       pg_catalog.pg_has_role(p.pubowner, 'USAGE'),
       ARRAY(SELECT r.prrelid::bigint FROM pg_catalog.pg_publication_rel r
             WHERE r.prpubid = p.oid
               AND to_jsonb(r) ->> 'prqual' IS NULL AND to_jsonb(r) ->> 'prattrs' IS NULL
             UNION
             SELECT c.oid::bigint FROM pg_catalog.pg_publication_tables t
             JOIN pg_catalog.pg_namespace n ON n.nspname = t.schemaname
             JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = t.tablename
             WHERE t.pubname = p.pubname
               AND NOT EXISTS (SELECT FROM pg_catalog.pg_publication_rel r
                               WHERE r.prpubid = p.oid AND r.prrelid = c.oid))
FROM pg_catalog.pg_publication p WHERE p.pubname = %s
"""
