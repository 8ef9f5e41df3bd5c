"""Lookup: the raw zone gives the newest state of any keys, as the trusted table has it."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pyarrow as pa
import pytest

from smartstream.change import UNCHANGED
from smartstream.config import Settings
from smartstream.pipeline.resync import resync
from smartstream.raw import lookup
from smartstream.raw.lookup import last_rows
from smartstream.raw.manifest_log import ManifestLog
from smartstream.raw.store import open_store
from smartstream.schema import TableSchema
from smartstream.verify.compare import _now as now
from tests.integration.history_setup import CREATE, Recorder, random_statements
from tests.running_pipeline import once, running, settings_for, wait_until


@pytest.fixture
def admin(database: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(database, autocommit=True) as connection:
        for statement in CREATE:
            connection.execute(statement)
        yield connection


def looked_up(
    settings: Settings, table: str, keys: list[tuple[Any, ...]], upto_seq: int | None = None
) -> set[tuple[Any, ...]]:
    """The rows of some keys, without the columns of the changelog."""
    log = ManifestLog(open_store(settings.lake), now)
    schema = TableSchema.from_json(log.load().tables[table].schema)
    columns = zip(*keys, strict=True)
    arrays = [pa.array(c, k.type.arrow) for c, k in zip(columns, schema.key_columns(), strict=True)]
    wanted = pa.table(arrays, names=list(schema.key))
    rows = last_rows(log, open_store(settings.lake), schema, wanted, upto_seq=upto_seq)
    assert rows.schema.equals(schema.changelog_schema())
    assert rows[UNCHANGED].null_count == len(rows)
    return set(zip(*(rows[c.name].to_pylist() for c in schema.columns), strict=True))


def test_rows_are_those_of_the_source(admin: Any, database: str, tmp_path: Path, seed: str) -> None:
    settings, recorder, chance = settings_for(database, tmp_path), Recorder(admin), random.Random(seed)
    for number in range(40):
        recorder.run(*random_statements(chance))
        if number % 6 == 5:
            once(settings)
        if number == 20:
            resync(settings, ["public.b"], clock=now)
    once(settings)
    state = recorder.state()
    ids = [(n,) for n in range(1, 160)]
    assert looked_up(settings, "public.a", ids) == set(state["a"])
    for one in chance.sample(ids, 5):
        assert looked_up(settings, "public.a", [one]) == {row for row in state["a"] if row[:1] == one}
    keys = {row[:2] for row in state["b"]} | {("k1", n) for n in range(50)}
    assert looked_up(settings, "public.b", sorted(keys)) == set(state["b"])


def test_later_entries_do_not_count(admin: Any, database: str, tmp_path: Path, seed: str) -> None:
    settings, recorder, chance = settings_for(database, tmp_path), Recorder(admin), random.Random(seed)
    once(settings)
    seen = []
    for _ in range(4):
        for _ in range(4):
            recorder.run(*random_statements(chance))
        once(settings)
        log = ManifestLog(open_store(settings.lake), now)
        seen.append((log.load().seq, recorder.state()["a"]))
    for seq, rows in seen:
        assert looked_up(settings, "public.a", [(n,) for n in range(1, 160)], seq) == set(rows)


def test_renamed_and_added_columns_are_followed(admin: Any, database: str, tmp_path: Path) -> None:
    settings = settings_for(database, tmp_path)
    with running(settings) as pipeline:
        for ddl in (
            "ALTER TABLE a RENAME COLUMN v TO w",
            "ALTER TABLE a ADD COLUMN added integer DEFAULT 42",
            "ALTER TABLE a RENAME COLUMN id TO number",
            "ALTER TABLE a DROP COLUMN n",
        ):
            admin.execute(ddl)
            applied = pipeline.progress().applied_count
            admin.execute("UPDATE a SET big = big || 'x' WHERE ctid IN (SELECT ctid FROM a LIMIT 3)")
            wait_until(lambda before=applied: pipeline.progress().applied_count > before)
    rows = set(admin.execute("SELECT * FROM a").fetchall())
    assert looked_up(settings, "public.a", [(n,) for n in range(1, 40)]) == rows


def test_only_files_that_can_hold_a_key_are_read(
    admin: Any, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_for(database, tmp_path)
    once(settings)
    for n in range(5):
        admin.execute(f"INSERT INTO a VALUES ({1000 + n}, 'x', 'y', 0)")
        once(settings)
    read = []

    def counted(*args: Any, **options: Any) -> Any:
        inner = options.pop("skip")
        groups = []
        found = read_chosen(*args, skip=lambda g: groups.append(inner(g)) or groups[-1], **options)
        read.extend(groups)
        return found

    read_chosen = lookup.read_chosen
    monkeypatch.setattr(lookup, "read_chosen", counted)
    assert {row[0] for row in looked_up(settings, "public.a", [(1003,)])} == {1003}
    assert read == [True, False], "the newest file is passed over by its bounds, the next one has the key"
    read.clear()
    assert {row[0] for row in looked_up(settings, "public.a", [(7,)])} == {7}
    assert read == [True] * 5 + [False], "of all files only the copy can hold the key"


def test_a_table_that_the_log_does_not_know_has_no_rows(admin: Any, database: str, tmp_path: Path) -> None:
    settings = settings_for(database, tmp_path)
    once(settings)
    log = ManifestLog(open_store(settings.lake), now)
    schema = TableSchema.from_json(log.load().tables["public.a"].schema)
    other = TableSchema(1, "public", "other", schema.columns, schema.key)
    keys = pa.table({"id": pa.array([1], pa.int32())})
    assert last_rows(log, open_store(settings.lake), other, keys).num_rows == 0
    assert last_rows(log, open_store(settings.lake), schema, keys.slice(0, 0)).num_rows == 0
