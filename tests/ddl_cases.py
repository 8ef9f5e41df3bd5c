"""The table of schema changes: what the tests run under load, and docs/schema-changes.md made of the same."""

from __future__ import annotations

from tests.ddl_case import COLUMNS, ROWS, THREE, Case, Effect
from tests.ddl_cases_partitions import PARTITIONS

F, C, U = Effect.FOLLOWED, Effect.COPIED, Effect.IGNORED

CASES = (
    Case("add_plain", "`ADD COLUMN`", F, ("ALTER TABLE {t} ADD COLUMN c text",), "null in older rows"),
    Case(
        "add_constant",
        "`ADD COLUMN … DEFAULT` constant",
        F,
        ("ALTER TABLE {t} ADD COLUMN c text DEFAULT 'so'",),
        "the default in older rows",
    ),
    Case(
        "add_constant_changed",
        "the same, and then another default",
        F,
        ("ALTER TABLE {t} ADD COLUMN c int DEFAULT 1", "ALTER TABLE {t} ALTER COLUMN c SET DEFAULT 2"),
        "older rows keep the first default",
    ),
    Case(
        "add_volatile",
        "`ADD COLUMN … DEFAULT` volatile",
        C,
        ("ALTER TABLE {t} ADD COLUMN c uuid DEFAULT gen_random_uuid()",),
        "each row's own value",
        down=True,
    ),
    Case(
        "add_volatile_dropped",
        "the same, and then `DROP DEFAULT`",
        C,
        (
            "BEGIN; ALTER TABLE {t} ADD COLUMN c float8 DEFAULT random(); "
            "ALTER TABLE {t} ALTER COLUMN c DROP DEFAULT; COMMIT",
        ),
        "each row's own value",
        down=True,
    ),
    Case("drop", "`DROP COLUMN`", F, ("ALTER TABLE {t} DROP COLUMN v",), "it is gone; history keeps it"),
    Case(
        "rename",
        "`RENAME COLUMN`",
        F,
        ("ALTER TABLE {t} RENAME COLUMN v TO w",),
        "renamed, same field id: history is readable under the new name",
    ),
    Case(
        "swap",
        "two names swapped",
        F,
        (
            "BEGIN; ALTER TABLE {t} ADD COLUMN m integer DEFAULT 5; ALTER TABLE {t} RENAME COLUMN n TO x; "
            "ALTER TABLE {t} RENAME COLUMN m TO n; ALTER TABLE {t} RENAME COLUMN x TO m; COMMIT",
        ),
        "each keeps its values",
    ),
    Case(
        "drop_add",
        "dropped, and added again under the same name",
        Effect.EITHER,
        ("ALTER TABLE {t} DROP COLUMN n", "ALTER TABLE {t} ADD COLUMN n integer DEFAULT 9"),
        "another field: the new column's values",
    ),
    Case(
        "widen_int",
        "`integer` → `bigint`",
        F,
        ("ALTER TABLE {t} ALTER COLUMN n TYPE bigint",),
        "widened in place",
    ),
    Case(
        "varchar_text",
        "`varchar(n)` → `text`, or longer",
        F,
        ("ALTER TABLE {t} ALTER COLUMN c TYPE varchar(40)", "ALTER TABLE {t} ALTER COLUMN c TYPE text"),
        "as before",
        setup=(
            THREE + "c varchar(10) DEFAULT 'c')",
            ROWS,
        ),
    ),
    Case(
        "numeric_precision",
        "`numeric(p,s)` → larger `p`",
        F,
        ("ALTER TABLE {t} ALTER COLUMN c TYPE numeric(14, 2)",),
        "widened in place",
        setup=(
            THREE + "c numeric(8, 2) DEFAULT 1.25)",
            ROWS,
        ),
    ),
    Case(
        "numeric_scale",
        "`numeric(p,s)` → another `s`",
        C,
        ("ALTER TABLE {t} ALTER COLUMN c TYPE numeric(14, 4)",),
        "the new type in all rows",
        setup=(
            THREE + "c numeric(8, 2) DEFAULT 1.25)",
            ROWS,
        ),
    ),
    Case(
        "retype",
        "another type",
        C,
        ("ALTER TABLE {t} ALTER COLUMN n TYPE text",),
        "the new type in all rows; a [contract](contracts.md) may refuse it",
        down=True,
    ),
    Case(
        "text_varchar",
        "`text` → `varchar(n)`",
        C,
        ("ALTER TABLE {t} ALTER COLUMN v TYPE varchar(200)",),
        "as before: it may have cut values",
    ),
    Case(
        "using_other",
        "`TYPE … USING` with another type",
        C,
        ("ALTER TABLE {t} ALTER COLUMN v TYPE integer USING length(v)",),
        "the new values in all rows",
    ),
    Case(
        "using_same",
        "`TYPE … USING` with the same type",
        C,
        ("ALTER TABLE {t} ALTER COLUMN n TYPE integer USING n * 2",),
        "the new values in all rows",
        down=True,
    ),
    Case(
        "not_null",
        "`SET` / `DROP NOT NULL`",
        U,
        (
            "UPDATE {t} SET n = 0 WHERE n IS NULL; ALTER TABLE {t} ALTER COLUMN v SET DEFAULT 'd'",
            "DELETE FROM {t} WHERE v IS NULL; ALTER TABLE {t} ALTER COLUMN v SET NOT NULL",
            "ALTER TABLE {t} ALTER COLUMN v DROP NOT NULL",
        ),
        "columns of the lake are nullable in any case",
    ),
    Case(
        "key_other",
        "the primary key is another column",
        F,
        ("BEGIN; ALTER TABLE {t} DROP CONSTRAINT {name}_pkey; ALTER TABLE {t} ADD PRIMARY KEY (k); COMMIT",),
        "rows are told apart by the new key",
        setup=(
            THREE + "k bigint GENERATED ALWAYS AS IDENTITY)",
            ROWS,
        ),
    ),
    Case(
        "key_composite",
        "the primary key has another column",
        F,
        (
            "BEGIN; ALTER TABLE {t} DROP CONSTRAINT {name}_pkey; ALTER TABLE {t} "
            "ADD PRIMARY KEY (k, id); COMMIT",
        ),
        "rows are told apart by the new key",
        setup=(THREE + "k text DEFAULT 'k')", ROWS),
    ),
    Case(
        "identity_full",
        "`REPLICA IDENTITY FULL`, then `DEFAULT`",
        U,
        ("ALTER TABLE {t} REPLICA IDENTITY FULL", "ALTER TABLE {t} REPLICA IDENTITY DEFAULT"),
        "the primary key tells rows apart in any case",
    ),
    Case(
        "identity_index",
        "`REPLICA IDENTITY USING INDEX`",
        F,
        ("ALTER TABLE {t} REPLICA IDENTITY USING INDEX {name}_k_idx",),
        "rows are told apart by the index's columns",
        setup=(
            THREE + "k bigint GENERATED ALWAYS AS IDENTITY)",
            "CREATE UNIQUE INDEX {name}_k_idx ON {t} (k)",
            ROWS,
        ),
    ),
    Case(
        "dropped_again",
        "dropped and created again under the same name",
        C,
        (f"BEGIN; DROP TABLE {{t}}; CREATE TABLE {{t}} {COLUMNS}; COMMIT",),
        "the new table's rows",
        down=True,
    ),
    Case("truncate", "`TRUNCATE`", F, ("TRUNCATE {t}",), "empty; history keeps the rows"),
    Case(
        "truncate_amid",
        "`TRUNCATE` with inserts before and after, in one transaction",
        F,
        (
            "BEGIN; INSERT INTO {t} VALUES (5001, 'before', 1); TRUNCATE {t}; "
            "INSERT INTO {t} VALUES (5002, 'after', 2); COMMIT",
        ),
        "the rows inserted after it",
    ),
    Case(
        "truncate_cascade",
        "`TRUNCATE … CASCADE`",
        F,
        ("TRUNCATE {t} CASCADE",),
        "every table that it reaches is empty",
        setup=(
            f"CREATE TABLE {{t}} {COLUMNS}",
            ROWS,
            "CREATE TABLE {t}_2 (id integer PRIMARY KEY REFERENCES {t} ON DELETE CASCADE)",
            "INSERT INTO {t}_2 SELECT id FROM {t}",
        ),
    ),
    Case(
        "truncate_two",
        "`TRUNCATE` of several tables",
        F,
        ("TRUNCATE {t}, {t}_2",),
        "all are empty",
        setup=(
            f"CREATE TABLE {{t}} {COLUMNS}",
            ROWS,
            f"CREATE TABLE {{t}}_2 {COLUMNS}",
            "INSERT INTO {t}_2 SELECT * FROM {t}",
        ),
    ),
    *PARTITIONS,
    Case(
        "generated_stored",
        "generated column, stored",
        U,
        ("ALTER TABLE {t} ADD COLUMN c integer GENERATED ALWAYS AS (n * 2) STORED",),
        "not in the lake: PostgreSQL does not send it",
    ),
    Case(
        "generated_dropped",
        "`DROP EXPRESSION` of a generated column",
        C,
        ("ALTER TABLE {t} ALTER COLUMN c DROP EXPRESSION",),
        "a column, with the values that its rows have",
        setup=(THREE + "c integer GENERATED ALWAYS AS (n * 2) STORED)", ROWS),
        down=True,
    ),
    Case(
        "generated_virtual",
        "generated column, virtual",
        U,
        ("ALTER TABLE {t} ADD COLUMN c integer GENERATED ALWAYS AS (n * 2) VIRTUAL",),
        "not in the lake: PostgreSQL does not send it",
        needs=18,
    ),
    Case(
        "identity_column",
        "identity column added",
        C,
        ("ALTER TABLE {t} ADD COLUMN c bigint GENERATED BY DEFAULT AS IDENTITY",),
        "each row's own number",
    ),
    Case(
        "inheritance",
        "a child table (`INHERITS`)",
        U,
        (
            "CREATE TABLE {t}_child (extra text, PRIMARY KEY (id)) INHERITS ({t})",
            "INSERT INTO {t}_child VALUES (9001, 'child', 1, 'e')",
        ),
        "a table of its own; the parent has its own rows only",
    ),
    Case(
        "inherited_column",
        "a column added to a parent and its children",
        F,
        ("ALTER TABLE {t} ADD COLUMN c integer DEFAULT 3",),
        "added to each",
        setup=(
            f"CREATE TABLE {{t}} {COLUMNS}",
            ROWS,
            "CREATE TABLE {t}_child (PRIMARY KEY (id)) INHERITS ({t})",
            "INSERT INTO {t}_child VALUES (9001, 'child', 1)",
        ),
    ),
    Case(
        "unlogged",
        "`SET UNLOGGED`, then `SET LOGGED`",
        C,
        (
            "ALTER PUBLICATION smartstream DROP TABLE {t}",
            "ALTER TABLE {t} SET UNLOGGED",
            "UPDATE {t} SET v = 'unlogged' WHERE id < 50",
            "ALTER TABLE {t} SET LOGGED",
        ),
        "PostgreSQL refuses it while the table is published; back in the publication, all rows",
    ),
    Case(
        "enum_add",
        "`ALTER TYPE … ADD VALUE`",
        F,
        ("ALTER TYPE {s}.{name}_mood ADD VALUE 'new'", "UPDATE {t} SET m = 'new' WHERE id % 3 = 0"),
        "the new label",
        setup=(
            "CREATE TYPE {s}.{name}_mood AS ENUM ('old', 'older')",
            THREE + "m {s}.{name}_mood DEFAULT 'old')",
            ROWS,
        ),
    ),
    Case(
        "enum_rename",
        "`ALTER TYPE … RENAME VALUE`",
        C,
        ("ALTER TYPE {s}.{name}_mood RENAME VALUE 'old' TO 'young'",),
        "the new label in all rows",
        setup=(
            "CREATE TYPE {s}.{name}_mood AS ENUM ('old', 'older')",
            THREE + "m {s}.{name}_mood[] DEFAULT '{{old}}')",
            ROWS,
        ),
        down=True,
    ),
    Case(
        "composite_add",
        "`ALTER TYPE … ADD ATTRIBUTE`",
        C,
        ("ALTER TYPE {s}.{name}_pair ADD ATTRIBUTE c integer",),
        "the new form of the value in all rows",
        setup=(
            "CREATE TYPE {s}.{name}_pair AS (a integer, b text)",
            THREE + "p {s}.{name}_pair DEFAULT '(1,x)')",
            ROWS,
        ),
    ),
    Case(
        "domain",
        "a domain's constraint or default",
        U,
        (
            "ALTER DOMAIN {s}.{name}_positive DROP CONSTRAINT positive",
            "ALTER DOMAIN {s}.{name}_positive SET DEFAULT 4",
            "UPDATE {t} SET d = -1 WHERE id < 9",
        ),
        "as before",
        setup=(
            "CREATE DOMAIN {s}.{name}_positive AS integer CONSTRAINT positive CHECK (VALUE > 0)",
            THREE + "d {s}.{name}_positive DEFAULT 1)",
            ROWS,
        ),
    ),
    Case(
        "amid_changes",
        "in a transaction, between changes of rows",
        F,
        (
            "BEGIN; INSERT INTO {t} VALUES (5001, 'before', 1); UPDATE {t} SET n = 0 WHERE id < 9; "
            "ALTER TABLE {t} ADD COLUMN c integer DEFAULT 6; INSERT INTO {t} VALUES (5002, 'after', 2, 3); "
            "ALTER TABLE {t} DROP COLUMN v; UPDATE {t} SET c = 8 WHERE id = 5001; COMMIT",
        ),
        "each change under the columns of its moment",
    ),
    Case(
        "rolled_back",
        "rolled back",
        U,
        ("BEGIN; ALTER TABLE {t} ADD COLUMN c integer DEFAULT 6; UPDATE {t} SET c = 1; ROLLBACK",),
        "nothing of it",
    ),
    Case(
        "savepoint",
        "rolled back to a savepoint",
        F,
        (
            "BEGIN; UPDATE {t} SET n = 1 WHERE id < 9; SAVEPOINT a; ALTER TABLE {t} DROP COLUMN v; "
            "UPDATE {t} SET n = 2 WHERE id < 9; ROLLBACK TO a; "
            "ALTER TABLE {t} ADD COLUMN c text DEFAULT 'kept'; "
            "UPDATE {t} SET v = 'still there' WHERE id < 5; COMMIT",
        ),
        "what was kept of it",
    ),
    Case(
        "no_rows",
        "indexes, constraints, comments, owners, statistics, storage",
        U,
        (
            "CREATE INDEX {name}_v ON {t} (v)",
            "ALTER TABLE {t} ADD CONSTRAINT {name}_c CHECK (id > -5)",
            "COMMENT ON TABLE {t} IS 'noted'",
            "ALTER TABLE {t} OWNER TO CURRENT_USER",
            "ALTER TABLE {t} ALTER COLUMN v SET STATISTICS 50",
            "ALTER TABLE {t} ALTER COLUMN v SET STORAGE EXTERNAL",
        ),
        "as before",
    ),
    Case(
        "vacuum_full",
        "`VACUUM FULL`, `CLUSTER`, `REINDEX`",
        U,
        ("VACUUM FULL {t}", "CLUSTER {t} USING {name}_pkey", "REINDEX TABLE {t}", "ANALYZE {t}"),
        "as before",
    ),
    Case(
        "truncate_leaf",
        "`TRUNCATE` or `VACUUM FULL` of one partition",
        C,
        ("TRUNCATE {t}_a",),
        "PostgreSQL does not send it as the root's: the partition's rows are gone",
        setup=(
            f"CREATE TABLE {{t}} {COLUMNS} PARTITION BY RANGE (id)",
            "CREATE TABLE {t}_a PARTITION OF {t} FOR VALUES FROM (0) TO (100000)",
            ROWS,
        ),
    ),
    Case(
        "reordered",
        "columns reordered by copying them: added, filled, dropped, renamed",
        Effect.EITHER,
        (
            "BEGIN; ALTER TABLE {t} ADD COLUMN v2 text; UPDATE {t} SET v2 = v; "
            "ALTER TABLE {t} DROP COLUMN v; "
            "ALTER TABLE {t} RENAME COLUMN v2 TO v; COMMIT",
        ),
        "the column's values under the new field",
    ),
)
