"""Whether a table's rows have changed without a word in the stream.

PostgreSQL writes no change of a row when a statement rewrites a table (a volatile default, TYPE … USING),
when partitions bring rows or take them along, or when a label of an enum has another name.  What the
catalog says of the table's files, columns, partitions and types shows it afterwards.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, LiteralString

import psycopg

from smartstream.capture.connect import map_error

Connection = psycopg.Connection[tuple[Any, ...]]

_PROMOTED = frozenset({("int2", "int4"), ("int2", "int8"), ("int4", "int8"), ("float4", "float8")})


@dataclass(frozen=True, slots=True)
class RowStamp:
    """What stands for a table's rows, as far as the stream doesn't; all keys are text, as in JSON.

    Attributes:
        files: oid of the table and of each partition below it → the number of its file, 0 for one
            that has none.
        columns: attnum → who wrote the catalog's row about it; whether older rows lack the column (1)
            or not (0); its type.
        links: oid of a partition → the transaction that made it one; with a leading ``+`` if it
            was a table before.
        types: oid of a label of an enum that a column uses → the label; oid of a composite type →
            its attributes' types.
        generated: attnum of a generated column, which the stream leaves out → its kind.
    """

    files: Mapping[str, int]
    columns: Mapping[str, str]
    links: Mapping[str, str]
    types: Mapping[str, str]
    generated: Mapping[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """JSON's view."""
        return asdict(self)


def from_dict(value: Mapping[str, Any]) -> RowStamp:
    """Inverse of ``RowStamp.to_dict``."""
    return RowStamp(**value)


def read_stamps(connection: Connection, oids: Iterable[int]) -> dict[str, RowStamp]:
    """Return oid → stamp of tables as they are now, without those that are gone."""
    wanted = list(oids)
    try:
        found = {str(row[0]): row for row in connection.execute(_STAMPS, {"oids": wanted}).fetchall()}
        types: dict[str, dict[str, str]] = {}
        for table, key, text in connection.execute(_TYPES, {"oids": wanted}).fetchall():
            types.setdefault(str(table), {})[str(key)] = text
    except psycopg.Error as error:
        raise map_error(error, "reading the system catalog") from error
    return {
        oid: RowStamp(row[1] or {}, row[2] or {}, row[3] or {}, types.get(oid, {}), row[4] or {})
        for oid, row in found.items()
    }


def rewritten(before: RowStamp, after: RowStamp) -> str | None:
    """Why rows are not what the stream made of them since ``before``; None if nothing speaks for it.

    Doubt counts as a rewrite.  A type that holds the older one's values (int4 to int8) is taken for
    widened: USING with other values is not seen then.
    """
    if any(after.types.get(key, text) != text for key, text in before.types.items()):
        return "a type of its columns shows its values otherwise"
    if before.generated.keys() & after.columns.keys():
        return "a generated column has become one like the others"
    if len(before.links) or len(after.links):
        return _partitions(before, after)
    if before.files == after.files:
        return None
    return "its rows were written anew" if _touched(before.columns, after.columns) else None


def _partitions(before: RowStamp, after: RowStamp) -> str | None:
    """Why a partitioned table's rows are others."""
    if any(node for oid, node in before.files.items() if oid not in after.files):
        return "a partition was detached or dropped"
    for oid, link in after.links.items():
        if before.links.get(oid) != link and (link.startswith("+") or oid in before.links):
            return "a partition was attached"
    if any(after.files[oid] != node for oid, node in before.files.items() if oid in after.files):
        return "a partition's rows were written anew"
    return None


def _touched(before: Mapping[str, str], after: Mapping[str, str]) -> bool:
    """Whether a column is new or another in a way that a rewrite may have given other values."""
    promoted = cleared = False
    for attnum, text in after.items():
        old = before.get(attnum)
        if old is None:
            return True
        if old == text:
            continue
        _, missing_before, type_before = old.split(" ", 2)
        _, missing, type_after = text.split(" ", 2)
        if (type_before, type_after) in _PROMOTED:
            promoted = True
        elif type_before == type_after and missing_before > missing:
            cleared = True  # any rewrite writes down what older rows of an added column lack
        else:
            return True
    return cleared and not promoted


# The row of a system column in pg_attribute is as old as its table.  A partition that was created as
# one was linked in the same transaction, two commands later; ATTACH needs more of them.
_STAMPS: LiteralString = """
WITH tree AS (
    SELECT w.oid AS root, r.relid::oid AS oid
    FROM unnest(%(oids)s::oid[]) AS w(oid)
    JOIN pg_catalog.pg_class c ON c.oid = w.oid
    CROSS JOIN LATERAL (SELECT relid FROM pg_catalog.pg_partition_tree(w.oid::regclass)
                        UNION SELECT w.oid::regclass) r
), files AS (
    SELECT root, json_object_agg(oid, coalesce(pg_catalog.pg_relation_filenode(oid), 0::oid)::int8) AS found
    FROM tree GROUP BY root
), links AS (
    SELECT root, json_object_agg(
               tree.oid, CASE WHEN i.xmin = a.xmin AND i.cmin::text::int8 - a.cmin::text::int8 BETWEEN 0 AND 3
                              THEN '' ELSE '+' END || i.xmin::text) AS found
    FROM tree JOIN pg_catalog.pg_inherits i ON i.inhrelid = tree.oid
    JOIN pg_catalog.pg_attribute a ON a.attrelid = tree.oid AND a.attnum = -1
    WHERE tree.oid <> root GROUP BY root
), columns AS (
    SELECT a.attrelid AS root, json_object_agg(
               a.attnum, a.xmin::text || CASE WHEN a.atthasmissing THEN ' 1 ' ELSE ' 0 ' END ||
                   CASE WHEN y.typtype = 'b' AND a.atttypmod = -1 THEN y.typname
                   ELSE pg_catalog.format('%%s(%%s)', a.atttypid, a.atttypmod) END) AS found
    FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type y ON y.oid = a.atttypid
    WHERE a.attrelid = ANY (%(oids)s::oid[]) AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
    GROUP BY a.attrelid
), generated AS (
    SELECT a.attrelid AS root, json_object_agg(a.attnum, a.attgenerated::text) AS found
    FROM pg_catalog.pg_attribute a
    WHERE a.attrelid = ANY (%(oids)s::oid[]) AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated <> ''
    GROUP BY a.attrelid
)
SELECT f.root::int8, f.found, c.found, l.found, g.found
FROM files f
LEFT JOIN columns c USING (root) LEFT JOIN links l USING (root) LEFT JOIN generated g USING (root)
"""

_TYPES: LiteralString = """
WITH RECURSIVE needed(root, oid) AS (
    SELECT a.attrelid, a.atttypid FROM pg_catalog.pg_attribute a
    WHERE a.attrelid = ANY (%(oids)s::oid[]) AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
    UNION
    SELECT needed.root, p.oid FROM needed
    JOIN pg_catalog.pg_type t ON t.oid = needed.oid AND t.typtype <> 'p'
    CROSS JOIN LATERAL (
        SELECT v.oid FROM (VALUES (t.typbasetype), (t.typelem)) AS v(oid) WHERE v.oid <> 0
        UNION ALL SELECT r.rngsubtype FROM pg_catalog.pg_range r WHERE r.rngtypid = t.oid
        UNION ALL SELECT a.atttypid FROM pg_catalog.pg_attribute a
        WHERE t.typtype = 'c' AND a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped) p
)
SELECT n.root::int8, e.oid::int8, e.enumlabel::text
FROM needed n JOIN pg_catalog.pg_enum e ON e.enumtypid = n.oid
UNION ALL
SELECT n.root::int8, t.oid::int8, coalesce(string_agg(a.atttypid::text, ' ' ORDER BY a.attnum), '')
FROM needed n JOIN pg_catalog.pg_type t ON t.oid = n.oid AND t.typtype = 'c'
LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped
GROUP BY n.root, t.oid
"""
