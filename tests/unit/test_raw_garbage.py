"""Orphans go, everything that anyone may still need stays."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from smartstream.errors import RawCorrupt
from smartstream.manifest import EntryKind, RawFile
from smartstream.raw.garbage import collect_orphans
from smartstream.raw.local_store import LocalStore
from smartstream.raw.manifest_log import ManifestLog, entry_key
from smartstream.raw.writer import RawWriter
from tests.unit.raw_samples import ORDERS, changelog

GRACE = timedelta(minutes=15)
START = datetime(2026, 3, 4, 12, tzinfo=UTC)
AGES = {"long ago": timedelta(hours=1), "just before": timedelta(minutes=5), "since": -timedelta(minutes=1)}


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    """A lake."""
    return LocalStore(tmp_path)


@pytest.fixture
def log(store: LocalStore) -> ManifestLog:
    """Its log, loaded at START."""
    log = ManifestLog(store, lambda: START)
    log.load()
    return log


def write(store: LocalStore, age: timedelta) -> RawFile:
    """A raw file written at START - age."""
    file = RawWriter(store, lambda: START).write(ORDERS, changelog(5))
    _age(store, file.path, age)
    return file


def _age(store: LocalStore, key: str, age: timedelta) -> None:
    moment = (START - age).timestamp()
    os.utime(store.path(key), (moment, moment))


def test_only_old_files_that_no_entry_names_are_deleted(store: LocalStore, log: ManifestLog) -> None:
    named = {name: write(store, age) for name, age in AGES.items()}
    orphans = {name: write(store, age) for name, age in AGES.items()}
    log.append(EntryKind.CHANGES, lsn=1, files=list(named.values()))
    log.save_checkpoint(log.state, 0)
    _age(store, "raw/_checkpoint.json", timedelta(days=9))
    _age(store, entry_key(1), timedelta(days=9))
    before = {found.key for found in store.list("raw/")}
    assert collect_orphans(store, log, now=START, grace=GRACE) == 1
    assert before - {found.key for found in store.list("raw/")} == {orphans["long ago"].path}


def test_what_this_process_wrote_stays_however_long_it_is_uncommitted(
    store: LocalStore, log: ManifestLog
) -> None:
    file = write(store, AGES["since"])
    assert collect_orphans(store, log, now=START + timedelta(days=30), grace=GRACE) == 0
    log.append(EntryKind.CHANGES, lsn=1, files=[file])
    assert store.get(file.path)


def test_the_next_process_collects_what_the_last_left(store: LocalStore) -> None:
    write(store, AGES["since"])
    later = START + timedelta(hours=1)
    log = ManifestLog(store, lambda: later)
    log.load()
    assert collect_orphans(store, log, now=later, grace=GRACE) == 1


def test_files_that_only_entries_before_the_checkpoint_name_stay(store: LocalStore, log: ManifestLog) -> None:
    for lsn in range(1, 5):
        log.append(EntryKind.CHANGES, lsn=lsn, files=[write(store, AGES["long ago"])])
    log.save_checkpoint(log.state, 4)
    assert collect_orphans(store, log, now=START, grace=GRACE) == 0


def test_half_written_and_foreign_files(store: LocalStore, log: ManifestLog, tmp_path: Path) -> None:
    (tmp_path / "raw/public.orders").mkdir(parents=True)
    for name in (".tmp-0123", "notes.txt"):
        (tmp_path / "raw/public.orders" / name).write_bytes(b"x")
        _age(store, f"raw/public.orders/{name}", AGES["long ago"])
    collect_orphans(store, log, now=START, grace=GRACE)
    assert os.listdir(tmp_path / "raw/public.orders") == ["notes.txt"]


def test_with_a_damaged_log_nothing_is_deleted(store: LocalStore, log: ManifestLog) -> None:
    orphan = write(store, AGES["long ago"])
    log.append(EntryKind.CHANGES, lsn=1, files=[write(store, AGES["long ago"])])
    store.put(entry_key(1), b"{")
    with pytest.raises(RawCorrupt):
        collect_orphans(store, log, now=START, grace=GRACE)
    assert store.get(orphan.path)


def test_a_log_that_was_never_loaded_is_a_defect(store: LocalStore) -> None:
    with pytest.raises(AssertionError):
        collect_orphans(store, ManifestLog(store, lambda: START), now=START, grace=GRACE)
