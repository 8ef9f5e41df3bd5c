"""Functions that run beside each other while a table gets a column: none takes it away again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from smartstream.aws.definition_guard import GuardedLocks
from smartstream.aws.lambda_transform import TransformFunction
from smartstream.delivery.definitions import Definitions
from smartstream.delivery.lock import ProcessLocks
from smartstream.errors import DefinitionChanged
from smartstream.raw.local_store import LocalStore
from tests.aws.test_transform_lambda import Stack, emulator, stack
from tests.dms_records import ITEMS, control, record

__all__ = ["emulator", "stack"]  # fixtures

NARROW, WIDE = (
    {name: {"type": kind} for name, kind in columns.items()}
    for columns in ({"id": "INT32", "note": "STRING"}, {"id": "INT32", "note": "STRING", "grade": "INT32"})
)
ORDERS = ("sales", "orders")


def _interrupt(monkeypatch: pytest.MonkeyPatch, key: str, meanwhile: Callable[[], None]) -> list[str]:
    """Have something happen once, just after a function has read an object; the objects that were read."""
    fetch, read = TransformFunction._fetch, []

    def interrupted(function: TransformFunction, wanted: str) -> bytes:
        data = fetch(function, wanted)
        read.append(wanted)
        if wanted == key and read.count(key) == 1:
            meanwhile()
        return data

    monkeypatch.setattr(TransformFunction, "_fetch", interrupted)
    return read


def test_a_function_with_an_older_definition_takes_no_column_away(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    defined = stack.put("raw/1", control("create-table", NARROW, ["id"], ORDERS))
    assert stack.call(defined) == []
    early = stack.put("raw/2", record("insert", {"id": 1, "note": "a"}, lsn=5, table=ORDERS))
    widened = stack.put("raw/3", control("add-column", WIDE, ["id"], ORDERS))
    graded = record("insert", {"id": 2, "note": "b", "grade": 7}, lsn=9, table=ORDERS)
    late = stack.put("raw/4", graded)

    def meanwhile() -> None:
        assert stack.call(widened) == []
        assert stack.call(late) == []

    # The definition is read with the first record: an object before it, so that it is known by then.
    read = _interrupt(monkeypatch, early, meanwhile)
    first = stack.put("raw/0", record("insert", {"id": 3, "note": "c"}, lsn=4, table=ORDERS))
    assert stack.call(first, early) == []
    rows = sorted((row["id"], row["note"], row["grade"]) for row in stack.rows("trusted", "sales__orders"))
    assert rows == [(1, "a", None), (2, "b", 7), (3, "c", None)]
    assert read.count(early) == 2


def test_a_table_that_is_defined_anew_all_the_time_comes_again_later(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = stack.put("raw/1", record("insert", {"id": 1}, lsn=5))
    monkeypatch.setattr("smartstream.aws.lambda_transform.GuardedLocks", _Never)
    assert stack.call(one) == ["m0"]


class _Never(GuardedLocks):
    """As when another function has always just defined the table."""

    def hold(self, table_id: str) -> object:  # type: ignore[override]
        raise DefinitionChanged(table_id)


def test_a_lock_is_given_to_who_knows_the_newest_definition(tmp_path: Path) -> None:
    store = LocalStore(str(tmp_path))
    Definitions(store).put(ITEMS)
    known = Definitions(store)
    assert known.get(ITEMS.id) == ITEMS
    locks = GuardedLocks(ProcessLocks(), store, known)
    with locks.hold(ITEMS.id), locks.hold("quarantine.dms_records"):
        pass
    Definitions(store).put(type(ITEMS)(2, ITEMS.schema, ITEMS.name, ITEMS.columns[:3], ITEMS.key))
    with pytest.raises(DefinitionChanged, match=r"public\.items"), locks.hold(ITEMS.id):
        pytest.fail("the lock was given")
    with GuardedLocks(ProcessLocks(), store, Definitions(store)).hold(ITEMS.id):
        pass
