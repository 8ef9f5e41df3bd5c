"""The table of schema changes: what happens to partitions."""

from __future__ import annotations

from tests.ddl_case import COLUMNS, ROWS, Case, Effect

F, C = Effect.FOLLOWED, Effect.COPIED

PARTITIONS = (
    Case(
        "partition_new",
        "`CREATE TABLE … PARTITION OF`",
        F,
        (
            "CREATE TABLE {t}_b PARTITION OF {t} FOR VALUES FROM (100000) TO (200000)",
            "INSERT INTO {t} SELECT g, 'b', 1 FROM generate_series(100001, 100020) g",
        ),
        "its rows are rows of the root",
        setup=(
            f"CREATE TABLE {{t}} {COLUMNS} PARTITION BY RANGE (id)",
            "CREATE TABLE {t}_a PARTITION OF {t} FOR VALUES FROM (0) TO (100000)",
            ROWS,
        ),
    ),
    Case(
        "partition_attach",
        "`ATTACH PARTITION`",
        C,
        ("ALTER TABLE {t} ATTACH PARTITION {t}_b FOR VALUES FROM (100000) TO (200000)",),
        "the rows that it brings, too",
        setup=(
            f"CREATE TABLE {{t}} {COLUMNS} PARTITION BY RANGE (id)",
            "CREATE TABLE {t}_a PARTITION OF {t} FOR VALUES FROM (0) TO (100000)",
            ROWS,
            f"CREATE TABLE {{t}}_b {COLUMNS}",
            "INSERT INTO {t}_b SELECT g, 'b', 1 FROM generate_series(100001, 100020) g",
        ),
        down=True,
    ),
    Case(
        "partition_filled",
        "a partition created, filled and attached in one transaction",
        C,
        (
            f"BEGIN; CREATE TABLE {{t}}_b {COLUMNS}; INSERT INTO {{t}}_b "
            "SELECT g, 'b', 1 FROM generate_series(100001, 100020) g; "
            "ALTER TABLE {t} ATTACH PARTITION {t}_b FOR VALUES FROM (100000) TO (200000); COMMIT",
        ),
        "the rows that it brings, too",
        setup=(
            f"CREATE TABLE {{t}} {COLUMNS} PARTITION BY RANGE (id)",
            "CREATE TABLE {t}_a PARTITION OF {t} FOR VALUES FROM (0) TO (100000)",
            ROWS,
        ),
    ),
    Case(
        "partition_detach",
        "`DETACH PARTITION`, or a partition dropped",
        C,
        ("ALTER TABLE {t} DETACH PARTITION {t}_b",),
        "its rows are gone; its own table is a new one",
        setup=(
            f"CREATE TABLE {{t}} {COLUMNS} PARTITION BY RANGE (id)",
            "CREATE TABLE {t}_a PARTITION OF {t} FOR VALUES FROM (0) TO (100000)",
            "CREATE TABLE {t}_b PARTITION OF {t} FOR VALUES FROM (100000) TO (200000)",
            ROWS,
            "INSERT INTO {t} SELECT g, 'b', 1 FROM generate_series(100001, 100020) g",
        ),
        down=True,
    ),
    Case(
        "partition_nested",
        "nested partitions",
        F,
        (
            "CREATE TABLE {t}_c PARTITION OF {t}_b FOR VALUES FROM (100000) TO (150000)",
            "INSERT INTO {t} SELECT g, 'b', 1 FROM generate_series(100001, 100020) g",
            "ALTER TABLE {t} RENAME COLUMN v TO w",
        ),
        "their rows are rows of the root",
        setup=(
            f"CREATE TABLE {{t}} {COLUMNS} PARTITION BY RANGE (id)",
            "CREATE TABLE {t}_a PARTITION OF {t} FOR VALUES FROM (0) TO (100000)",
            "CREATE TABLE {t}_b PARTITION OF {t} FOR VALUES FROM (100000) TO (200000) "
            "PARTITION BY RANGE (id)",
            ROWS,
        ),
    ),
)
