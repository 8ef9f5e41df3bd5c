"""Objects of DMS records cut anywhere, twice, in any order, with noise: trusted is what the source has."""

from __future__ import annotations

import gzip
import json
import random
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from smartstream.config import Settings
from smartstream.delivery.definitions import Definitions
from smartstream.delivery.handle import Announced, Transform
from smartstream.delivery.lock import ProcessLocks
from smartstream.delivery.records import read_object
from smartstream.errors import RawCorrupt, SmartStreamError, StoreUnavailable
from smartstream.pipeline.table_writer import TableWriter
from smartstream.raw.local_store import LocalStore
from smartstream.trusted.catalog import LakeCatalog, open_catalog
from tests.changelog_source import SCHEMA, Source
from tests.dms_records import ITEMS, Known, control, record

NOW = datetime(2026, 1, 2, tzinfo=UTC)
OPERATIONS = {"i": "insert", "u": "update", "d": "delete"}
NOISE = (
    record("insert", {"task": "x"}, table=("", "awsdms_status")),
    control("create-table", {"TASK_NAME": {"type": "STRING"}}, [], ("", "awsdms_apply_exceptions")),
)


class Setting:
    """A lake, and functions that are started for each delivery."""

    def __init__(self, folder: Path, rules: dict[str, Any] | None = None, **tables: Any) -> None:
        self.settings = Settings.model_validate(
            {
                "source": {"url": "postgresql://unused"},
                "lake": {"warehouse": str(folder)},
                "tables": {"public.*": rules, **tables},
            }
        )
        self.catalog: LakeCatalog = open_catalog(self.settings.lake)
        self.definitions = Definitions(LocalStore(str(folder)))
        self.objects: dict[str, bytes] = {}

    def deliver(self, *keys: str) -> dict[str, SmartStreamError]:
        """As a function that has just been started would; each object has a message of its name."""
        clock = {"clock": lambda: NOW}
        transform = Transform(self.settings, self.catalog, self.definitions, locks=ProcessLocks(), **clock)
        return transform.apply([Announced(key, key) for key in keys], self.fetch)

    def fetch(self, key: str) -> bytes:
        """As the store does."""
        if key not in self.objects:
            raise StoreUnavailable(f"there is no {key}")
        return self.objects[key]

    def rows(self, namespace: str, name: str) -> list[dict[str, Any]]:
        """What a table has now."""
        if not self.catalog.table_exists((namespace, name)):
            return []
        found: list[dict[str, Any]] = self.catalog.load_table((namespace, name)).scan().to_arrow().to_pylist()
        return found


def records_of(source: Source) -> list[str]:
    """The source's log as DMS would write it."""
    found = []
    for change in source.log:
        data = {name: change[name] for name in ("a", "b", "big", "n")}
        if change["_op"] == "d":
            data |= {"big": None, "n": None}
        old: Any = change["_old_key"]
        found.append(
            record(
                OPERATIONS[str(change["_op"])],
                data,
                lsn=int(str(change["_commit_lsn"])),
                number=int(str(change["_ordinal"])) + 2,
                before=dict(old) if old else {} if change["_op"] == "u" else None,
                table=("public", "t"),
            )
        )
    return found


def objects_of(records: list[str], rng: random.Random) -> dict[str, bytes]:
    """Records in objects as Firehose might write them."""
    rest, objects = list(records), {}
    while rest:
        count = rng.randint(1, 12)
        taken, rest = rest[:count], rest[count:]
        taken += rng.sample(taken, len(taken) // 4) + rng.sample(NOISE, rng.randint(0, 2))
        rng.shuffle(taken)
        between = rng.choice(["\n", "\n", "\r\n", "", "\n\n", " "])
        text = between.join(taken) + rng.choice(["\n", ""])
        data = text.encode()
        objects[f"raw/{len(objects):03}"] = gzip.compress(data) if rng.random() < 0.7 else data
    return objects


@pytest.mark.parametrize("number", range(4))
def test_the_tables_are_what_the_source_has(
    number: int, seed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = random.Random(f"{seed}/{number}")
    source = Source(rng.randrange(1 << 30), whole=True)
    loaded = [
        record("load", {"a": a, "b": b, "big": "old", "n": 0}, table=("public", "t"))
        for a in range(7)
        for b in "xy"
    ]
    for _ in range(25):
        source.step()
    first = {(a, b) for a in range(7) for b in "xy"} - {(change["a"], change["b"]) for change in source.log}
    first -= {tuple(change["_old_key"].values()) for change in source.log if change["_old_key"]}  # type: ignore[attr-defined]
    setting = Setting(tmp_path)
    setting.definitions.put(SCHEMA)
    setting.objects = objects_of(records_of(source) + loaded, rng)
    queue = list(setting.objects)
    queue += rng.sample(queue, len(queue) // 3)
    rng.shuffle(queue)
    commit = TableWriter.commit
    while queue:
        count = rng.randint(1, 5)
        taken, queue = queue[:count], queue[count:]
        monkeypatch.setattr(TableWriter, "commit", _fails if rng.random() < 0.2 else commit)
        failed = setting.deliver(*taken)
        for key in failed:
            queue.insert(rng.randint(0, len(queue)), key)
    expected = {**dict.fromkeys(first, ("old", 0)), **source.rows}
    trusted = {(r["a"], r["b"]): (r["big"], r["n"]) for r in setting.rows("trusted", "t")}
    assert trusted == expected
    assert not setting.rows("quarantine", "dms_records")


def _fails(*_: Any, **__: Any) -> None:
    raise StoreUnavailable("on purpose")


def test_a_damaged_change_takes_the_older_row_away_and_a_newer_one_brings_it_back(tmp_path: Path) -> None:
    setting = Setting(tmp_path)
    setting.definitions.put(ITEMS)
    cut = record("update", {"id": 1, "name": "a" * 32_768}, lsn=20)
    setting.objects = {
        "raw/1": record("insert", {"id": 1, "name": "old"}, lsn=10).encode(),
        "raw/2": f"{cut}\nnonsense".encode(),
        "raw/3": record("update", {"id": 1, "name": "new"}, lsn=30).encode(),
    }
    assert not setting.deliver("raw/1")
    for _ in range(2):  # twice is as once
        assert not setting.deliver("raw/2", "raw/1")
        assert setting.rows("trusted", "items") == []
        damaged = setting.rows("quarantine", "dms_records")
        assert sorted((row["object"], row["number"]) for row in damaged) == [("raw/2", 0), ("raw/2", 1)]
    assert not setting.deliver("raw/3")
    assert [row["name"] for row in setting.rows("trusted", "items")] == ["new"]


def test_what_is_read_again_and_whole_is_damaged_no_more(tmp_path: Path) -> None:
    setting = Setting(tmp_path)
    setting.definitions.put(ITEMS)
    setting.objects["raw/1"] = record("insert", {"id": 1, "more": 2}, lsn=10).encode()
    assert not setting.deliver("raw/1")
    assert len(setting.rows("quarantine", "dms_records")) == 1
    told = {"id": {"type": "INT32"}, "more": {"type": "INT32"}}
    setting.objects["raw/2"] = control("add-column", told, ["id"], ("public", "items")).encode()
    assert not setting.deliver("raw/2", "raw/1")
    assert not setting.rows("quarantine", "dms_records")
    assert [(row["id"], row["more"]) for row in setting.rows("trusted", "items")] == [(1, 2)]


def test_records_that_came_before_their_columns_are_read_again_when_these_are_defined(tmp_path: Path) -> None:
    setting = Setting(tmp_path)
    setting.definitions.put(ITEMS)
    setting.objects = {
        "raw/1": record("insert", {"id": 1, "more": 2}, lsn=10).encode(),
        "raw/2": record("insert", {"id": 2, "more": 3}, lsn=20).encode(),
        "raw/3": record("update", {"id": 1, "name": "late"}, lsn=30).encode(),
    }
    assert not setting.deliver("raw/1", "raw/2", "raw/3")
    assert [row["id"] for row in setting.rows("trusted", "items")] == [1]
    told = {"id": {"type": "INT32"}, "more": {"type": "INT32"}}
    setting.objects["raw/4"] = control("add-column", told, ["id"], ("public", "items")).encode()
    del setting.objects["raw/1"]  # As when S3 has moved it to its archive: the others are read all the same.
    assert not setting.deliver("raw/4")
    assert [row["object"] for row in setting.rows("quarantine", "dms_records")] == ["raw/1"]
    rows = sorted((row["id"], row["name"], row["more"]) for row in setting.rows("trusted", "items"))
    assert rows == [(1, "late", None), (2, None, 3)]


def test_messages_fail_alone(tmp_path: Path) -> None:
    setting = Setting(tmp_path, {"clean": [{"trim": "name"}]})
    setting.definitions.put(ITEMS)
    setting.objects = {
        "raw/good": record("insert", {"id": 1, "name": " a "}, lsn=10).encode(),
        "raw/unknown": record("insert", {"x": 1}, lsn=10, table=("public", "y")).encode(),
        "raw/broken": gzip.compress(b"x" * 100)[:-5],
    }
    failed = setting.deliver("raw/broken", "raw/unknown", "raw/good")
    kinds = {key: type(error).__name__ for key, error in failed.items()}
    assert kinds == {"raw/broken": "RawCorrupt", "raw/unknown": "DefinitionMissing"}
    assert [row["name"] for row in setting.rows("trusted", "items")] == ["a"]


def test_tables_that_the_configuration_leaves_out_are_left_out(tmp_path: Path) -> None:
    setting = Setting(tmp_path, **{"public.items": {"exclude": True}})
    setting.definitions.put(ITEMS)
    others = [record("insert", {"x": 1}, lsn=10, table=("hr", "y")), record("insert", {"id": 1}, lsn=10)]
    setting.objects["raw/1"] = "\n".join([*others, record("insert", {"id": "x"}, lsn=11)]).encode()
    assert not setting.deliver("raw/1")
    assert not setting.rows("trusted", "items") and not setting.rows("quarantine", "dms_records")


def test_a_dedupe_rule_is_refused(tmp_path: Path) -> None:
    dedupe = {"key": "name", "by": "id"}
    setting = Setting(tmp_path, {"clean": [{"dedupe": dedupe}]})
    setting.definitions.put(ITEMS)
    setting.objects["raw/1"] = record("insert", {"id": 1}, lsn=10).encode()
    failed = setting.deliver("raw/1")
    assert type(failed["raw/1"]).__name__ == "ConfigInvalid"
    assert "dedupe" in str(failed["raw/1"])


def test_any_bytes_give_records_or_damage_or_a_typed_error(seed: str) -> None:
    rng = random.Random(seed)
    known = Known({ITEMS.id: ITEMS})
    whole = [
        record("insert", '{"id": 1, "name": "é\\n", "price": 1.50, "count": 9, "photo": "0x00"}', lsn=4),
        record("update", {"id": 2, "seen": "2026-01-02T03:04:05.25Z", "code": "a"}, lsn=5, before={"id": 1}),
        record("delete", {"id": 3}, lsn=6),
        control("add-column", {"id": {"type": "INT32"}, "x": {"type": "DATE"}}, ["id"], ("public", "items")),
        *NOISE,
    ]
    pieces = [b'"', b"{", b"}", b"\\", b"\n", b"\x00", b"\xff", b"\\ud800", b"1E9", b"-", b"null", b"[", b","]
    pieces += [b"\x1f\x8b", b"9" * 40, b"0.0", b"NaN", b"T", b"Z", b'"id":', "😀".encode()]
    for _ in range(600):
        data = bytearray("\n".join(rng.sample(whole, rng.randint(1, 6))).encode())
        for _ in range(rng.randint(0, 4)):
            at = rng.randrange(len(data) + 1)
            data[at : at + rng.randint(0, 6)] = rng.choice(pieces)
        content = bytes(data)
        if rng.random() < 0.2:
            content = bytearray(gzip.compress(content))  # type: ignore[assignment]
            if rng.random() < 0.5:
                content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)  # type: ignore[index]
        try:
            found = read_object("k", bytes(content), known)
        except RawCorrupt:
            continue
        for _, changelog in found.changes.values():
            changelog.validate(full=True)
            assert not any(changelog[name].null_count for name in ("id", "_op", "_commit_lsn", "_ordinal"))
        found.damaged.validate(full=True)
        for row in found.damaged.to_pylist():
            json.dumps(row)
