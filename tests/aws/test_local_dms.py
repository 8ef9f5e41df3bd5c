"""The stand-in for DMS replicates: what is in PostgreSQL arrives in the stream, in DMS's shape."""

from __future__ import annotations

import itertools
import random
import re
from threading import Event, Thread

import psycopg
import pytest

from smartstream.testing.local_dms import Quirks
from tests.aws.local_dms_setup import Start, eventually, place, selection

PEOPLE = "CREATE TABLE people (id int PRIMARY KEY, name text, born date, seen timestamptz)"


def test_rows_are_loaded_in_the_order_of_their_key_behind_the_tables_definition(begin: Start) -> None:
    task = begin(
        PEOPLE,
        "INSERT INTO people SELECT n, 'x' || n, '2000-01-01', '2026-01-02 03:04:05.5+02'"
        " FROM generate_series(1200, 1, -1) n",
    )
    raw = [(key, record) for key, record in task.raw() if record["metadata"]["table-name"] == "people"]
    ((control_key, control),) = [one for one in raw if one[1]["metadata"]["record-type"] == "control"]
    assert control["metadata"].pop("timestamp").endswith("Z")
    task_id = task.task_arn.rpartition(":")[2]
    assert control_key == f"{task_id}.public.people"
    assert control == {
        "control": {
            "table-def": {
                "columns": {
                    "id": {"type": "INT32", "nullable": False},
                    "name": {"type": "STRING", "nullable": True},
                    "born": {"type": "DATE", "nullable": True},
                    "seen": {"type": "TIMESTAMP", "nullable": True},
                },
                "primary-key": ["id"],
            }
        },
        "metadata": {
            "record-type": "control",
            "operation": "create-table",
            "partition-key-type": "task-id",
            "partition-key-value": task_id,
            "schema-name": "public",
            "table-name": "people",
        },
    }
    loads = [(key, record) for key, record in raw if record["metadata"]["operation"] == "load"]
    by_shard_order = [record["data"]["id"] for _, record in loads]
    assert sorted(by_shard_order) == list(range(1, 1201))
    # Three shards, and in each of them the order of the key.
    assert sum(a > b for a, b in itertools.pairwise(by_shard_order)) == 2
    key, record = loads[0]
    del record["metadata"]["timestamp"]
    number = record["data"]["id"]
    assert key == f"public.people.{number}"
    assert record == {
        "data": {
            "id": number,
            "name": f"x{number}",
            "born": "2000-01-01",
            "seen": "2026-01-02T01:04:05.500000Z",
        },
        "metadata": {
            "record-type": "data",
            "operation": "load",
            "partition-key-type": "primary-key",
            "partition-key-value": key,
            "schema-name": "public",
            "table-name": "people",
        },
    }
    assert ("create-table", ".awsdms_apply_exceptions") in task.controls()
    table = task.statistics()["people"]
    assert (table["TableState"], table["FullLoadRows"]) == ("Table completed", 1200)
    assert task.task()["ReplicationTaskStats"]["TablesLoaded"] == 1


def test_changes_tell_their_transaction_and_place(begin: Start) -> None:
    task = begin(PEOPLE, "INSERT INTO people VALUES (1, 'a')")
    with task.source.transaction():
        task.source.execute("INSERT INTO people VALUES (2, 'it''s [a]: b')")
        task.source.execute("UPDATE people SET name = NULL WHERE id = 1")
    task.source.execute("DELETE FROM people WHERE id = 2")
    insert, update, delete = task.changes("people", 3)

    assert insert["data"] == {"id": 2, "name": "it's [a]: b", "born": None, "seen": None}
    assert update["data"] == {"id": 1, "name": None, "born": None, "seen": None}
    assert delete["data"] == {"id": 2, "name": None, "born": None, "seen": None}
    assert "before-image" not in insert and update["before-image"] == {} and "before-image" not in delete
    first, second, third = (record["metadata"] for record in (insert, update, delete))
    assert first["partition-key-value"] == "public.people.2"
    assert first["transaction-id"] == second["transaction-id"] != third["transaction-id"]
    assert [one["transaction-record-id"] for one in (first, second, third)] == [1, 2, 1]
    assert "prev-transaction-id" not in first
    assert (second["prev-transaction-id"], second["prev-transaction-record-id"]) == (
        first["transaction-id"],
        1,
    )
    assert (third["prev-transaction-id"], third["prev-transaction-record-id"]) == (
        first["transaction-id"],
        2,
    )
    shape = r"[0-9A-F]{8}/[0-9A-F]{8}\.\d+\.[0-9A-F]{8}/[0-9A-F]{8}"
    assert all(re.fullmatch(shape, one["stream-position"]) for one in (first, second, third))
    assert first["stream-position"].split(".")[2] == second["stream-position"].split(".")[2]
    assert first["commit-timestamp"] == second["commit-timestamp"] < third["commit-timestamp"]
    counts = task.statistics()["people"]
    assert [counts[name] for name in ("Inserts", "Updates", "Deletes", "FullLoadRows")] == [1, 1, 1, 1]


def test_an_old_key_stands_in_the_before_image_only(begin: Start) -> None:
    task = begin(
        "CREATE TABLE rooms (house int, room text, note text, PRIMARY KEY (room, house))",
        "INSERT INTO rooms VALUES (1, 'a', 'x')",
    )
    task.source.execute("UPDATE rooms SET room = 'b'")
    (update,) = task.changes("rooms", 1)
    assert update["data"] == {"house": 1, "room": "b", "note": "x"}
    assert update["before-image"] == {"house": 1, "room": "a"}
    assert update["metadata"]["partition-key-value"] == "public.rooms.b.1"


def test_tables_are_chosen_by_rules_and_partitioned_ones_by_their_partitions(begin: Start) -> None:
    task = begin(
        "CREATE TABLE one_a (id int PRIMARY KEY)",
        "CREATE TABLE onexa (id int PRIMARY KEY)",
        "CREATE TABLE keyless (id int)",
        "CREATE TABLE parts (id int PRIMARY KEY) PARTITION BY RANGE (id)",
        "CREATE TABLE part_1 PARTITION OF parts FOR VALUES FROM (0) TO (10)",
        "CREATE SCHEMA elsewhere",
        "CREATE TABLE elsewhere.other (id int PRIMARY KEY)",
        "INSERT INTO parts VALUES (1)",
        rules=[
            selection("include", "public", "%"),
            selection("exclude", "%", "one[_]%"),
            selection("exclude", "%", "awsdms[_]%"),
        ],
    )
    task.source.execute("INSERT INTO keyless VALUES (1)")
    task.source.execute("TRUNCATE onexa")
    task.source.execute("INSERT INTO onexa VALUES (1)")
    task.changes("onexa", 1)
    states = {name: table["TableState"] for name, table in task.statistics().items()}
    assert states == {"onexa": "Table completed", "keyless": "Table error", "part_1": "Table completed"}
    operations = {(r["metadata"]["operation"], r["metadata"]["table-name"]) for r in task.records()}
    assert operations == {
        ("create-table", "awsdms_apply_exceptions"),
        ("create-table", "onexa"),
        ("create-table", "part_1"),
        ("load", "part_1"),
        ("insert", "onexa"),
    }


def test_what_the_documentation_leaves_open_can_be_chosen(begin: Start) -> None:
    task = begin(
        "CREATE TABLE keyless (id int)",
        "CREATE TABLE lists (ids int[])",
        "CREATE TABLE essays (id int PRIMARY KEY, title text, body text)",
        "ALTER TABLE essays ALTER body SET STORAGE EXTERNAL",
        "INSERT INTO keyless VALUES (1)",
        "INSERT INTO essays VALUES (1, 'a', repeat('b', 9000))",
        quirks=Quirks(poll_seconds=0.02, tables_without_key="inserts", toast_as_null=False),
    )
    task.source.execute("INSERT INTO keyless VALUES (2)")
    task.source.execute("UPDATE keyless SET id = 3")
    task.source.execute("DELETE FROM keyless")
    task.source.execute("UPDATE essays SET title = 'c'")
    assert task.changes("essays", 1)[0]["data"] == {"id": 1, "title": "c"}
    assert task.loaded("keyless") == [{"id": 1}]
    (insert,) = task.changes("keyless", 1)
    assert (insert["data"], insert["metadata"]["partition-key-type"]) == ({"id": 2}, "schema-table")
    # A table with an array and no key is suspended, also by the documentation.
    assert task.statistics()["lists"]["TableState"] == "Table error"


def test_control_records_are_as_detailed_as_the_endpoint_says(begin: Start) -> None:
    quiet = dict.fromkeys(
        (
            "IncludeControlDetails",
            "IncludeTableAlterOperations",
            "IncludePartitionValue",
            "IncludeTransactionDetails",
            "PartitionIncludeSchemaTable",
        ),
        False,
    )
    task = begin(PEOPLE, "INSERT INTO people (id) VALUES (1)", kinesis_settings=quiet)
    task.source.execute("ALTER TABLE people ADD COLUMN height int")
    task.source.execute("INSERT INTO people VALUES (2)")
    eventually(lambda: task.statistics()["people"]["Inserts"] == 1)
    raw = [(key, one) for key, one in task.raw() if one["metadata"]["table-name"] == "people"]
    assert sorted(key for key, one in raw if one["metadata"]["operation"] in ("load", "insert")) == ["1", "2"]
    assert {one["metadata"]["operation"] for _, one in raw} == {"create-table", "load", "insert"}
    by_operation = {one["metadata"]["operation"]: one for _, one in raw}
    assert set(by_operation["create-table"]) == {"metadata"}
    names = {"timestamp", "record-type", "operation", "partition-key-type", "schema-name", "table-name"}
    assert all(set(one["metadata"]) == names for one in by_operation.values())


def test_dmss_own_tables_are_noise_without_a_schema(begin: Start) -> None:
    settings = dict.fromkeys(
        ("StatusTableEnabled", "HistoryTableEnabled", "SuspendedTablesTableEnabled"), True
    )
    task = begin(PEOPLE, task_settings={"ControlTablesSettings": settings})
    task.source.execute("INSERT INTO people VALUES (1, 'a')")
    task.changes("people", 1)
    own = [one for one in task.records() if one["metadata"]["schema-name"] == ""]
    found = {(one["metadata"]["operation"], one["metadata"]["table-name"]) for one in own}
    names = ("apply_exceptions", "status", "history", "suspended_tables")
    assert found == {("create-table", f"awsdms_{name}") for name in names} | {("insert", "awsdms_status")}
    rows = [one["data"]["task_status"] for one in own if "data" in one]
    assert rows == ["FULL LOAD", "CHANGE PROCESSING"]


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [("pk-only", {"id": 1}), ("non-lob", {"id": 1, "n": 5}), ("all", {"id": 1, "n": 5, "note": "a"})],
)
def test_a_before_image_holds_what_the_task_wants(begin: Start, chosen: str, expected: object) -> None:
    task = begin(
        "CREATE TABLE t (id int PRIMARY KEY, n int, note text)",
        "ALTER TABLE t REPLICA IDENTITY FULL",
        "INSERT INTO t VALUES (1, 5, 'a')",
        task_settings={"BeforeImageSettings": {"ColumnFilter": chosen}},
    )
    task.source.execute("UPDATE t SET n = 6")
    assert task.changes("t", 1)[0]["before-image"] == expected


def test_ddl_is_seen_where_the_event_trigger_tells_it(begin: Start) -> None:
    task = begin(PEOPLE, "INSERT INTO people VALUES (1, 'a')")
    task.source.execute("ALTER TABLE people ADD COLUMN height int")
    task.source.execute("INSERT INTO people (id, height) VALUES (2, 180)")
    task.changes("people", 1)
    task.source.execute("ALTER TABLE people RENAME COLUMN height TO cm")
    task.source.execute("ALTER TABLE people ALTER COLUMN cm TYPE bigint")
    task.source.execute("ALTER TABLE people DROP COLUMN born")
    task.source.execute("CREATE TABLE later (id int PRIMARY KEY)")
    task.source.execute("INSERT INTO later VALUES (7)")
    task.source.execute("UPDATE people SET cm = 181 WHERE id = 2")
    update = task.changes("people", 2)[-1]
    assert update["data"] == {"id": 2, "name": None, "seen": None, "cm": 181}
    assert task.changes("later", 1)[0]["data"] == {"id": 7}
    operations = [operation for operation, table in task.controls() if table == "public.people"]
    assert sorted(operations) == [
        "add-column",
        "column-type-change",
        "create-table",
        "drop-column",
        "rename-column",
    ]
    task.source.execute("ALTER TABLE later RENAME TO soon")
    task.source.execute("INSERT INTO soon VALUES (8)")
    assert task.changes("soon", 1)[0]["data"] == {"id": 8}
    task.source.execute("DROP TABLE soon")
    eventually(lambda: ("drop-table", "public.soon") in task.controls())
    assert ("rename-table", "public.soon") in task.controls()
    assert task.statistics()["soon"]["TableState"] == "Table does not exist"


def test_without_the_trigger_a_new_column_goes_unnoticed(begin: Start) -> None:
    task = begin(PEOPLE, source_settings={"CaptureDdls": False})
    task.source.execute("ALTER TABLE people ADD COLUMN height int")
    task.source.execute("INSERT INTO people (id, height) VALUES (2, 180)")
    assert "height" not in task.changes("people", 1)[0]["data"]


def test_nothing_is_lost_by_stopping_and_little_repeated(begin: Start, seed: str) -> None:
    task = begin(
        "CREATE TABLE counters (id int PRIMARY KEY, n int NOT NULL)",
        quirks=Quirks(poll_seconds=0.02, replay_on_resume=True, duplicate_ratio=0.2, batch_rows=50),
    )
    choices = random.Random(seed)
    for round_number in range(3):
        for _ in range(60):
            task.source.execute(
                "INSERT INTO counters VALUES (%s, 1) ON CONFLICT (id) DO UPDATE SET n = counters.n + 1",
                (choices.randrange(20),),
            )
            if choices.random() < 0.1:
                task.source.execute("DELETE FROM counters WHERE id = %s", (choices.randrange(20),))
        if round_number < 2:
            task.stop()
            task.source.execute("UPDATE counters SET n = n + 100")
            task.start("resume-processing")
    task.source.execute("INSERT INTO counters VALUES (1000, 0)")
    eventually(lambda: any(record["data"]["id"] == 1000 for record in task.changes("counters", 1)))
    task.stop()

    records = task.changes("counters", 1)
    assert len(records) > len({place(record) for record in records}), "duplicates were asked for"
    rows: dict[int, int] = {}
    for record in records:
        if record["metadata"]["operation"] == "delete":
            rows.pop(record["data"]["id"], None)
        else:
            rows[record["data"]["id"]] = record["data"]["n"]
    assert rows == dict(task.source.execute("SELECT id, n FROM counters").fetchall())


def test_what_changes_while_it_is_loaded_arrives_too(begin: Start, database: str, seed: str) -> None:
    """Transactions that overlap each other and the load; a row's last change has its last place."""
    stopping = Event()

    def work(number: int) -> None:
        choices = random.Random(f"{seed} {number}")
        with psycopg.connect(database) as connection:
            while not stopping.is_set():
                for key in sorted({choices.randrange(3000) for _ in range(choices.randrange(1, 4))}):
                    if choices.random() < 0.3:
                        connection.execute("DELETE FROM busy WHERE id = %s", (key,))
                    else:
                        upsert = (
                            "INSERT INTO busy VALUES (%s, 1) ON CONFLICT (id) DO UPDATE SET n = busy.n + 1"
                        )
                        connection.execute(upsert, (key,))
                connection.commit() if choices.random() < 0.9 else connection.rollback()

    with psycopg.connect(database, autocommit=True) as admin:
        admin.execute("CREATE TABLE busy (id int PRIMARY KEY, n int NOT NULL)")
        admin.execute("INSERT INTO busy SELECT n, 0 FROM generate_series(1, 3000) n")
    workers = [Thread(target=work, args=(number,)) for number in range(3)]
    for worker in workers:
        worker.start()
    try:
        task = begin(quirks=Quirks(poll_seconds=0.02, delay_seconds=0.05))
        stopping.wait(0.3)
    finally:
        stopping.set()
        for worker in workers:
            worker.join()
    task.source.execute("INSERT INTO busy VALUES (-1, 0)")
    eventually(lambda: task.changes("busy", 1)[-1]["data"]["id"] == -1)
    rows = {row["id"]: row["n"] for row in task.loaded("busy")}
    for record in task.changes("busy", 10):
        if record["metadata"]["operation"] == "delete":
            rows.pop(record["data"]["id"], None)
        else:
            rows[record["data"]["id"]] = record["data"]["n"]
    assert rows == dict(task.source.execute("SELECT id, n FROM busy").fetchall())


def test_a_table_is_loaded_again_on_request_and_the_whole_by_reload_target(begin: Start) -> None:
    task = begin(PEOPLE, "INSERT INTO people VALUES (1, 'a')")
    wanted = [{"SchemaName": "public", "TableName": "people"}]
    task.dms.reload_tables(ReplicationTaskArn=task.task_arn, TablesToReload=wanted)
    eventually(lambda: len(task.loaded("people")) == 2)
    eventually(lambda: task.statistics()["people"]["FullLoadReloaded"])
    task.stop()
    task.source.execute("INSERT INTO people VALUES (2, 'b')")
    task.start("reload-target")
    assert sorted(row["id"] for row in task.loaded("people")) == [1, 1, 1, 2]
    task.source.execute("INSERT INTO people VALUES (3, 'c')")
    assert [record["data"]["id"] for record in task.changes("people", 1)] == [3]


def test_the_heartbeat_moves_an_idle_slot(begin: Start) -> None:
    task = begin(
        PEOPLE,
        rules=[selection("include", "%", "%"), selection("exclude", "awsdms", "awsdms[_]ddl%")],
        quirks=Quirks(poll_seconds=0.02, heartbeat_seconds=0.1),
    )
    beats = task.changes("awsdms_heartbeat", 3)
    assert {record["metadata"]["operation"] for record in beats} == {"insert", "update"}
    slots = "SELECT confirmed_flush_lsn FROM pg_replication_slots WHERE database = current_database()"
    before = task.source.execute(slots).fetchone()
    eventually(lambda: task.source.execute(slots).fetchone() != before)


def test_cdc_without_threads_is_bound_to_one_shard_a_table(begin: Start) -> None:
    task = begin(
        PEOPLE,
        "INSERT INTO people VALUES (1, 'a')",
        task_settings={"TargetMetadata": {"ParallelApplyThreads": 0}},
    )
    task.source.execute("UPDATE people SET name = 'b'")
    (update,) = task.changes("people", 1)
    assert update["metadata"]["partition-key-type"] == "schema-table"
    assert "partition-key-value" not in update["metadata"]
    assert "public.people" in {key for key, _ in task.raw()}
    assert "public.people.1" in {key for key, _ in task.raw()}
