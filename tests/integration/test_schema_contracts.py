"""Schema contracts in a running pipeline: what a change in the source may do to a trusted table."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest

from smartstream.config import Settings
from smartstream.errors import ExitCode, SchemaFrozen
from smartstream.pipeline import Pipeline
from smartstream.pipeline.resync import resync
from smartstream.pipeline.table_writer import TableWriter
from smartstream.raw.manifest_log import ManifestLog
from smartstream.raw.reader import read_batches
from smartstream.raw.store import open_store
from tests.running_pipeline import assert_equal, once, query, running, settings_for, wait_until

ADD = "ALTER TABLE t ADD email text"
RENAME = "ALTER TABLE t RENAME name TO label"
DROP = "ALTER TABLE t DROP age"
WIDEN = "ALTER TABLE t ALTER age TYPE bigint"
RETYPE = "ALTER TABLE t ALTER age TYPE text USING 'age ' || age"
DISCARDS = ("discard_row", "discard_value")


@pytest.fixture
def admin(database: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(database, autocommit=True) as connection:
        yield connection


def under(database: str, folder: Path, contract: Any, **rules: Any) -> Settings:
    return settings_for(database, folder, tables={"public.*": {"contract": contract, **rules}})


def create(admin: Any, settings: Settings) -> None:
    """Table t with the rows 1 to 3, in the lake."""
    admin.execute("CREATE TABLE t (id integer PRIMARY KEY, name text, age integer)")
    admin.execute("INSERT INTO t VALUES (1, 'a', 10), (2, 'b', 20), (3, 'c', NULL)")
    once(settings)


def columns(settings: Settings) -> list[str]:
    return [name for name, *_ in query(settings, "DESCRIBE t") if not name.startswith("_")]


def rows(settings: Settings, *names: str) -> list[tuple[Any, ...]]:
    return query(settings, f"SELECT {', '.join(names or ('id', 'name', 'age'))} FROM t ORDER BY id")


def tables(settings: Settings) -> list[tuple[str, str]]:
    return query(settings, "SELECT table_schema, table_name FROM information_schema.tables")


def held(settings: Settings) -> dict[int, list[str]]:
    """Key → the columns for which it is held; the table comes with the first of them."""
    if not any(schema == "quarantine" for schema, _ in tables(settings)):
        return {}
    found = query(settings, "SELECT id, _disposition, _violations FROM quarantine.t ORDER BY id")
    assert all(disposition == "quarantined" for _, disposition, _ in found)
    violations = {key: json.loads(text) for key, _, text in found}
    assert all(one["rule"] == "contract" for listed in violations.values() for one in listed)
    return {key: [one["column"] for one in listed] for key, listed in violations.items()}


def raw_values(settings: Settings, column: str) -> list[Any]:
    """What the raw zone has in a column, null aside, whatever the contract says."""
    store = open_store(settings.lake)
    log = ManifestLog(store, lambda: datetime.now(UTC))
    found = []
    for entry in log.entries(0):
        for file in entry.files:
            for batch in read_batches(store, file):
                if column in batch.schema.names:
                    found += [value for value in batch[column].to_pylist() if value is not None]
    return found


def assert_accounted(admin: Any, settings: Settings) -> None:
    """Every key of the source is in exactly one of trusted and quarantine."""
    keys = [key for (key,) in admin.execute("SELECT id FROM t ORDER BY id").fetchall()]
    both = [key for (key,) in query(settings, "SELECT id FROM t")] + list(held(settings))
    assert sorted(both) == keys
    assert_equal(settings)


def test_evolve_follows_every_change(admin: Any, database: str, tmp_path: Path) -> None:
    settings = under(database, tmp_path, "evolve")
    create(admin, settings)
    changes = [ADD, RENAME, DROP, WIDEN, RETYPE]
    for number in range(len(changes)):
        admin.execute(f"CREATE TABLE t{number} (id integer PRIMARY KEY, name text, age integer)")
        admin.execute(f"INSERT INTO t{number} SELECT * FROM t")
    once(settings)
    for number, change in enumerate(changes):
        admin.execute(change.replace("TABLE t", f"TABLE t{number}"))
        admin.execute(f"INSERT INTO t{number} (id) VALUES (4)")
    once(settings)
    assert_equal(settings)
    assert "_quality" not in [name for name, *_ in query(settings, "DESCRIBE t0")]


@pytest.mark.parametrize(
    ("part", "change", "column"),
    [
        ("columns", ADD, "email"),
        ("columns", RENAME, "name"),
        ("columns", DROP, "age"),
        ("data_type", WIDEN, "age"),
        ("data_type", RETYPE, "age"),
    ],
)
def test_freeze_stops_before_anything_is_trusted_and_goes_on_when_it_is_allowed(
    admin: Any, database: str, tmp_path: Path, part: str, change: str, column: str
) -> None:
    frozen = under(database, tmp_path, {part: "freeze"})
    create(admin, frozen)
    before = rows(frozen)
    admin.execute("INSERT INTO t VALUES (4, 'd', 40)")
    admin.execute(change)
    admin.execute("UPDATE t SET id = 5 WHERE id = 1")
    for _ in range(2):
        with pytest.raises(SchemaFrozen, match=rf"public\.t: .*column {column} .* at [0-9A-F]+/") as stopped:
            once(frozen)
        assert stopped.value.exit_code == ExitCode.DEGRADED
        earlier = (4, "d", 40)  # written before the change: it may be there, if it came in a batch of its own
        assert [row for row in rows(frozen) if row != earlier] == before
    if change != RETYPE:  # whose rows come with a copy, which the next run goes on with
        assert 5 in raw_values(frozen, "id")
    allowed = under(database, tmp_path, "evolve")
    once(allowed)
    assert_equal(allowed)
    assert rows(allowed, "id") == [(2,), (3,), (4,), (5,)]


def test_what_is_allowed_passes_a_frozen_part(admin: Any, database: str, tmp_path: Path) -> None:
    settings = under(database, tmp_path, {"columns": "freeze"})
    create(admin, settings)
    admin.execute(WIDEN)
    admin.execute("INSERT INTO t VALUES (4, 'd', 5000000000)")
    once(settings)
    assert rows(settings)[-1] == (4, "d", 5_000_000_000)
    admin.execute(RETYPE)
    once(settings)
    assert rows(settings)[-1] == (4, "d", "age 5000000000")
    admin.execute(ADD)
    admin.execute("INSERT INTO t (id) VALUES (6)")
    with pytest.raises(SchemaFrozen, match="column email was added"):  # a copy in between accepts nothing
        once(settings)


def test_a_frozen_change_that_is_undone_is_passed_by_a_copy(
    admin: Any, database: str, tmp_path: Path
) -> None:
    settings = under(database, tmp_path, "freeze")
    create(admin, settings)
    admin.execute(ADD)
    admin.execute("INSERT INTO t VALUES (4, 'd', 40, 'e')")
    with pytest.raises(SchemaFrozen):
        once(settings)
    admin.execute("ALTER TABLE t DROP email")
    admin.execute("INSERT INTO t VALUES (5, 'f', 50)")
    once(settings)
    assert rows(settings)[-2:] == [(4, "d", 40), (5, "f", 50)]
    assert columns(settings) == ["id", "name", "age"]
    assert_accounted(admin, settings)


@pytest.mark.parametrize("change", [ADD, RETYPE])
def test_resync_accepts_the_new_shape(admin: Any, database: str, tmp_path: Path, change: str) -> None:
    settings = under(database, tmp_path, "freeze")
    create(admin, settings)
    admin.execute(change)
    admin.execute("INSERT INTO t (id) VALUES (4)")
    with pytest.raises(SchemaFrozen):
        once(settings)
    resync(settings, ["public.t"], clock=lambda: datetime.now(UTC))
    admin.execute("INSERT INTO t (id) VALUES (5)")
    once(settings)
    assert rows(settings, "id")[-2:] == [(4,), (5,)]
    assert columns(settings) == [
        name
        for (name,) in admin.execute(
            "SELECT attname FROM pg_attribute WHERE attrelid = 't'::regclass AND attnum > 0"
        ).fetchall()
    ]
    admin.execute(RENAME)
    admin.execute("INSERT INTO t (id) VALUES (6)")
    with pytest.raises(SchemaFrozen, match="column name was renamed"):
        once(settings)


@pytest.mark.parametrize("word", DISCARDS)
def test_a_new_column_is_discarded(admin: Any, database: str, tmp_path: Path, word: str) -> None:
    settings = under(database, tmp_path, {"columns": word})
    create(admin, settings)
    admin.execute(ADD)
    admin.execute("INSERT INTO t VALUES (4, 'd', 40, NULL), (5, 'e', 50, 'e@x'), (6, 'f', 60, 'f@x')")
    admin.execute("UPDATE t SET email = 'b@x' WHERE id = 2")
    once(settings)
    kept = [1, 3, 4] if word == "discard_row" else [1, 2, 3, 4, 5, 6]
    assert [key for (key,) in rows(settings, "id")] == kept
    assert columns(settings) == ["id", "name", "age"]
    lost = {2: ["email"], 5: ["email"], 6: ["email"]} if word == "discard_row" else {}
    assert held(settings) == lost
    if lost:
        assert query(settings, "SELECT _row->>'email' FROM quarantine.t WHERE id = 5") == [("e@x",)]
    assert {"b@x", "e@x", "f@x"} <= set(raw_values(settings, "email"))
    admin.execute("UPDATE t SET email = NULL, age = 51 WHERE id = 5")
    admin.execute("DELETE FROM t WHERE id = 6")
    once(settings)
    assert (5, "e", 51) in rows(settings)
    assert 6 not in held(settings)
    assert_accounted(admin, settings)
    allowed = under(database, tmp_path, "evolve")
    once(allowed)
    assert rows(allowed, "id", "email")[1:4] == [(2, "b@x"), (3, None), (4, None)]
    assert_equal(allowed)


@pytest.mark.parametrize("word", DISCARDS)
def test_a_renamed_column_keeps_the_name_of_the_contract(
    admin: Any, database: str, tmp_path: Path, word: str
) -> None:
    settings = under(database, tmp_path, {"columns": word}, clean=[{"upper": ["name"]}])
    create(admin, settings)
    admin.execute(RENAME)
    admin.execute("ALTER TABLE t RENAME id TO number")
    admin.execute("ALTER TABLE t ADD name text")  # its name is taken in the lake
    admin.execute("INSERT INTO t (number, label, age) VALUES (4, 'd', 40)")
    admin.execute("UPDATE t SET label = 'bb', name = 'new' WHERE number = 2")
    admin.execute("UPDATE t SET number = 7 WHERE number = 1")
    once(settings)
    assert columns(settings) == ["id", "name", "age"]
    changed = {(3, "C", None), (4, "D", 40), (7, "A", 10)}
    if word == "discard_value":
        assert set(rows(settings)) == {(2, "BB", 20), *changed}
        assert held(settings) == {}
    else:
        assert set(rows(settings)) == changed
        assert held(settings) == {2: ["name_4"]}
    admin.execute("DELETE FROM t WHERE number = 2")
    once(settings)
    assert set(rows(settings)) == changed
    assert held(settings) == {}


@pytest.mark.parametrize("word", DISCARDS)
def test_no_discarding_keeps_a_dropped_column(admin: Any, database: str, tmp_path: Path, word: str) -> None:
    settings = under(database, tmp_path, {"columns": word})
    create(admin, settings)
    admin.execute(DROP)
    admin.execute("INSERT INTO t VALUES (4, 'd')")
    with pytest.raises(SchemaFrozen, match="column age was dropped"):
        once(settings)
    assert len(rows(settings)) == 3


@pytest.mark.parametrize("change", [WIDEN, RETYPE])
@pytest.mark.parametrize("word", DISCARDS)
def test_a_new_type_is_discarded_in_all_rows(
    admin: Any, database: str, tmp_path: Path, word: str, change: str
) -> None:
    settings = under(database, tmp_path, {"data_type": word})
    create(admin, settings)
    admin.execute(change)
    admin.execute("INSERT INTO t (id, name, age) VALUES (4, 'd', '7'), (5, 'e', NULL)")
    once(settings)
    kinds = {name: kind for name, kind, *_ in query(settings, "DESCRIBE t")}
    assert kinds["age"] == "INTEGER"
    if word == "discard_row":
        assert rows(settings) == [(3, "c", None), (5, "e", None)]
        assert held(settings) == {1: ["age"], 2: ["age"], 4: ["age"]}
    else:
        nulled = json.dumps({"nulled": ["age"]})
        assert rows(settings, "id", "age", "_quality") == [
            (1, None, nulled),
            (2, None, nulled),
            (3, None, None),
            (4, None, nulled),
            (5, None, None),
        ]
    assert raw_values(settings, "age")
    assert_accounted(admin, settings)
    admin.execute("UPDATE t SET age = NULL WHERE id = 1")
    once(settings)
    assert (1, "a", None) in rows(settings)
    assert_accounted(admin, settings)


@pytest.mark.parametrize("change", [WIDEN, f"{ADD} DEFAULT 'e@x'"])
def test_a_crash_before_rows_are_made_again_changes_nothing(
    admin: Any, database: str, tmp_path: Path, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = under(database, tmp_path, "discard_row")
    create(admin, settings)
    admin.execute("UPDATE t SET age = 30 WHERE id = 3")
    admin.execute(change)
    admin.execute("INSERT INTO t (id, name) VALUES (4, 'd')")
    with monkeypatch.context() as patch:
        patch.setattr(TableWriter, "disturbs", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            once(settings)
    once(settings)
    assert sorted(held(settings)) == ([1, 2, 3] if change == WIDEN else [1, 2, 3, 4])
    assert_accounted(admin, settings)


def test_a_default_in_a_new_column_holds_back_the_rows_that_were_there(
    admin: Any, database: str, tmp_path: Path
) -> None:
    settings = under(database, tmp_path, {"columns": "discard_row"})
    create(admin, settings)
    with running(settings):
        admin.execute("ALTER TABLE t ADD state text DEFAULT 'new'")
        admin.execute("INSERT INTO t VALUES (4, 'd', 40, NULL)")
        wait_until(lambda: rows(settings) == [(4, "d", 40)])
        wait_until(lambda: sorted(held(settings)) == [1, 2, 3])
        admin.execute("ALTER TABLE t DROP state")
        admin.execute("INSERT INTO t VALUES (5, 'e', 50)")
        wait_until(lambda: len(rows(settings)) == 5)
        assert held(settings) == {}
    assert_accounted(admin, settings)


def test_toasted_values_are_found_under_the_contract(admin: Any, database: str, tmp_path: Path) -> None:
    settings = under(database, tmp_path, {"columns": "discard_row", "data_type": "discard_value"})
    admin.execute("CREATE TABLE t (id integer PRIMARY KEY, name text, age integer)")
    admin.execute("ALTER TABLE t ALTER name SET STORAGE EXTERNAL")
    for key in (1, 2, 3):
        admin.execute("INSERT INTO t VALUES (%s, repeat('x', 9000) || %s, 1)", (key, key))
    once(settings)
    admin.execute("ALTER TABLE t ADD note text")
    admin.execute("ALTER TABLE t ALTER note SET STORAGE EXTERNAL")
    admin.execute(RENAME)
    admin.execute("UPDATE t SET note = repeat('y', 9000) WHERE id = 2")
    once(settings)
    admin.execute("UPDATE t SET age = 2")
    once(settings)
    assert held(settings) == {2: ["note"]}
    assert rows(settings, "id", "right(name, 1)", "length(name)", "age") == [
        (1, "1", 9001, 2),
        (3, "3", 9001, 2),
    ]
    admin.execute("UPDATE t SET note = NULL WHERE id = 2")
    once(settings)
    assert rows(settings, "id", "length(name)", "age")[1] == (2, 9001, 2)
    assert_accounted(admin, settings)


def test_a_toasted_value_of_a_discarded_type_stays_marked(admin: Any, database: str, tmp_path: Path) -> None:
    settings = under(database, tmp_path, {"data_type": "discard_value"})
    admin.execute("CREATE TABLE t (id integer PRIMARY KEY, name text, age integer)")
    admin.execute("INSERT INTO t VALUES (1, 'a', 1)")
    once(settings)
    admin.execute("ALTER TABLE t ALTER name TYPE bytea USING name::bytea, ALTER name SET STORAGE EXTERNAL")
    admin.execute("UPDATE t SET name = repeat('x', 9000)::bytea")
    once(settings)
    admin.execute("UPDATE t SET age = 2")
    once(settings)
    nulled = json.dumps({"nulled": ["name"]})
    assert rows(settings, "id", "name", "age", "_quality") == [(1, None, 2, nulled)]


def test_other_words_rebuild_the_table(admin: Any, database: str, tmp_path: Path) -> None:
    create(admin, under(database, tmp_path, {"columns": "discard_row"}))
    admin.execute(ADD)
    admin.execute("UPDATE t SET email = 'b@x' WHERE id = 2")
    accounts = {}
    for word in ("discard_row", "discard_value", "evolve", "discard_row"):
        settings = under(database, tmp_path, {"columns": word})
        once(settings)
        accounts[word] = (len(rows(settings, "id")), len(held(settings)), len(columns(settings)))
    assert accounts == {"discard_row": (2, 1, 3), "discard_value": (3, 0, 3), "evolve": (3, 0, 4)}


@pytest.mark.parametrize("word", ["evolve", "freeze", *DISCARDS])
def test_a_new_table_is_judged_while_it_runs_and_at_the_start(
    admin: Any, database: str, tmp_path: Path, word: str
) -> None:
    settings = under(database, tmp_path, {"tables": word})
    create(admin, settings)
    if word == "freeze":
        pipeline, stop = Pipeline(settings), threading.Event()

        def create_while_it_runs() -> None:
            wait_until(pipeline.ready)
            admin.execute("CREATE TABLE new (id integer PRIMARY KEY)")

        threads = [threading.Thread(target=create_while_it_runs), threading.Timer(30, stop.set)]
        for thread in threads:
            thread.start()
        with pytest.raises(SchemaFrozen, match=r"public\.new is a new table"):
            pipeline.run(stop=stop)
        threads[1].cancel()
        with pytest.raises(SchemaFrozen, match=r"public\.new is a new table"):
            once(settings)
        resync(settings, ["public.new"], clock=lambda: datetime.now(UTC))
        once(settings)
        assert query(settings, "SELECT count(*) FROM new") == [(0,)]
        return
    with running(settings):
        admin.execute("CREATE TABLE new (id integer PRIMARY KEY)")
        admin.execute("INSERT INTO new VALUES (1)")
        admin.execute("INSERT INTO t VALUES (4)")
        wait_until(lambda: len(rows(settings)) == 4)
        if word == "evolve":
            wait_until(lambda: ("trusted", "new") in tables(settings))
    once(settings)
    assert (("trusted", "new") in tables(settings)) == (word == "evolve")
    published = admin.execute("SELECT tablename FROM pg_publication_tables").fetchall()
    assert (("new",) in published) == (word == "evolve")
