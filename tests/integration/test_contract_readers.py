"""Who reads or foretells a table under a contract sees what the pipeline makes of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from smartstream.config import Settings
from smartstream.doctor import Status, diagnose
from smartstream.doctor.rules import examine_rules
from smartstream.errors import SchemaFrozen
from smartstream.manifest import TableState
from smartstream.pipeline.forecast import Forecast, forecast
from smartstream.pipeline.requests import (
    Answer,
    RequestKind,
    answer,
    forget_answers,
    pending,
    post,
    take_answer,
)
from smartstream.quality import contracted
from smartstream.quality.contracted import in_lake
from smartstream.query import open_lake
from smartstream.query.why import why
from smartstream.raw.manifest_log import ManifestLog
from smartstream.raw.store import open_store
from smartstream.status import TableStatus, read_lake
from smartstream.verify import verify
from tests.running_pipeline import assert_equal, once, query, settings_for

ADD = "ALTER TABLE t ADD email text"
FILL = "UPDATE t SET email = 'b@x' WHERE id = 2"
RENAME = "ALTER TABLE t RENAME id TO number"
WIDEN = "ALTER TABLE t ALTER age TYPE bigint"


def now() -> datetime:
    return datetime.now(UTC)


@pytest.fixture
def admin(database: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("CREATE TABLE t (id integer PRIMARY KEY, name text, age integer)")
        connection.execute("INSERT INTO t VALUES (1, 'a', 10), (2, 'b', 20), (3, 'c', NULL)")
        yield connection


def under(database: str, folder: Path, contract: Any, **rules: Any) -> Settings:
    return settings_for(database, folder, tables={"public.*": {"contract": contract, **rules}})


def status(settings: Settings) -> TableStatus:
    return next(one for one in read_lake(settings, now).tables if one.table == "public.t")


def plan(settings: Settings) -> Forecast:
    return forecast(settings, clock=now)


def state(settings: Settings) -> TableState:
    return ManifestLog(open_store(settings.lake), now).load().tables["public.t"]


def frozen_after(admin: Any, settings: Settings) -> None:
    """A first copy, then a change that the contract does not allow."""
    once(settings)
    admin.execute(ADD)
    admin.execute("INSERT INTO t VALUES (4, 'd', 40, 'd@x')")
    with pytest.raises(SchemaFrozen):
        once(settings)


def test_a_frozen_table_is_told_by_everybody(admin: Any, database: str, tmp_path: Path) -> None:
    settings = under(database, tmp_path, "freeze")
    frozen_after(admin, settings)
    assert status(settings).status == "frozen"
    ahead = plan(settings)
    (line,) = ahead.contract
    assert line.startswith("the pipeline will stop: public.t: column email was added at ")
    assert not (ahead.copies or ahead.rebuilds or ahead.columns)
    (warning,) = examine_rules(settings, clock=now).warnings
    assert "column email was added" in warning
    check = next(one for one in diagnose(settings) if one.name == "rules")
    assert check.status is Status.FAIL and "column email was added" in check.found
    (table,) = verify(settings).tables
    assert not table.equal and "column email was added" in (table.reason or "")
    assert query(settings, "SELECT count(*) FROM t") == [(3,)]
    with pytest.raises(SchemaFrozen, match="column email was added"):
        open_lake(settings, "FROM history.t")
    (copied,) = why(settings, "t", "1").reasons
    assert (copied.verdict, copied.commit is not None) == (None, True)
    (refused,) = why(settings, "t", "4").reasons
    assert (refused.verdict, refused.commit) == ("frozen", None)
    assert "column email was added" in refused.violations[0]["reason"]
    allowed = under(database, tmp_path, "evolve")
    assert plan(allowed).contract == ()
    once(allowed)
    assert status(allowed).status == "ready"
    assert_equal(allowed)


def test_what_a_contract_does_not_know_is_no_change_to_plan(
    admin: Any, database: str, tmp_path: Path
) -> None:
    settings = under(database, tmp_path, {"tables": "freeze", "columns": "discard_value"})
    assert [copy.reason for copy in plan(settings).copies] == ["new"], "the first tables are not new ones"
    once(settings)
    assert plan(settings).quiet
    admin.execute(ADD)
    admin.execute("CREATE TABLE later (id integer PRIMARY KEY)")
    ahead = plan(settings)
    assert sorted(ahead.contract)[0] == "public.t: the contract leaves column email out"
    assert sorted(ahead.contract)[1].startswith("the pipeline will stop: public.later is a new table")
    assert not (ahead.copies or ahead.columns or ahead.publication.added)


def test_plan_foretells_what_is_made_again(admin: Any, database: str, tmp_path: Path) -> None:
    settings = under(database, tmp_path, "discard_row")
    once(settings)
    admin.execute(WIDEN)
    assert [one.reason for one in plan(settings).rebuilds] == ["the contract judges its rows otherwise"]
    once(settings)
    assert plan(settings).rebuilds == ()
    assert status(settings).status == "ready"
    assert [one.reason for one in plan(under(database, tmp_path, "discard_value")).rebuilds] == [
        "rules changed"
    ]
    admin.execute("ALTER TABLE t ALTER age TYPE integer")
    (copy,) = plan(settings).copies
    assert copy.reason == "a column's type changed"


def test_an_undone_change_is_copied_anew_as_planned(admin: Any, database: str, tmp_path: Path) -> None:
    settings = under(database, tmp_path, "freeze")
    frozen_after(admin, settings)
    admin.execute("ALTER TABLE t DROP email")
    (copy,) = plan(settings).copies
    assert copy.reason == "what its contract does not allow was undone"
    once(settings)
    assert plan(settings).quiet
    assert_equal(settings)


@pytest.mark.parametrize(("word", "seen"), [("discard_row", [1, 3]), ("discard_value", [1, 2, 3])])
def test_the_past_is_under_the_contract_too(
    admin: Any, database: str, tmp_path: Path, word: str, seen: list[int]
) -> None:
    settings = under(database, tmp_path, word, clean=[{"upper": ["name"]}])
    once(settings)
    (lsn,) = admin.execute("SELECT (pg_current_wal_lsn() - '0/0')::bigint - 1").fetchone()
    admin.execute(ADD)
    admin.execute(RENAME)
    admin.execute(FILL.replace("id", "number"))
    admin.execute("UPDATE t SET age = 11 WHERE number = 1")
    (later,) = admin.execute("SELECT (pg_current_wal_lsn() - '0/0')::bigint - 1").fetchone()
    once(settings)
    assert_equal(settings)
    assert [key for (key,) in query(settings, "SELECT id FROM t ORDER BY id")] == seen
    with open_lake(settings, "FROM t", as_of=lsn) as lake:
        assert lake.execute("SELECT id, name, age FROM t ORDER BY id").fetchall() == [
            (1, "A", 10),
            (2, "B", 20),
            (3, "C", None),
        ]
    with open_lake(settings, "FROM t", as_of=later) as lake:
        then = lake.execute("FROM t ORDER BY id").fetchall()
        assert [row[0] for row in then] == seen
        assert "email" not in [column[0] for column in lake.description or ()]
    with open_lake(settings, "FROM history.t") as lake:
        versions = lake.execute("SELECT id, age, is_current FROM history.t ORDER BY ALL").fetchall()
    assert [row for row in versions if row[0] == 1] == [(1, 10, False), (1, 11, True)]
    assert len([row for row in versions if row[0] == 2]) == (1 if word == "discard_row" else 2)
    told = why(settings, "t", "2").reasons[-1]
    assert told.verdict == ("quarantine" if word == "discard_row" else "good")
    assert in_lake(settings, state(settings)).key == ("id",)


def test_verify_finds_a_row_that_the_contract_should_have_held(
    admin: Any, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = under(database, tmp_path, "discard_row")
    once(settings)
    admin.execute(ADD)
    admin.execute(FILL)
    whole = contracted.hold
    with monkeypatch.context() as patch:  # a pipeline that lets everything pass
        patch.setattr(
            contracted, "hold", lambda rows, decision: whole(rows, replace(decision, quarantine=()))
        )
        once(settings)
        assert query(settings, "SELECT count(*) FROM t") == [(3,)]
    (table,) = verify(settings, rows=True).tables
    assert not table.equal
    assert {(one.key["id"], one.kind) for one in table.differing} == {("2", "extra"), ("2", "not held")}


def test_answers_that_nobody_takes_are_removed(tmp_path: Path, database: str) -> None:
    store = open_store(settings_for(database, tmp_path).lake)
    taken, left = (post(store, RequestKind.REBUILD, "public.t") for _ in range(2))
    for request in pending(store):
        answer(store, request, Answer(7))
    assert forget_answers(store, before=now() - timedelta(hours=1)) == 0
    assert take_answer(store, taken) == Answer(7)
    assert forget_answers(store, before=now() + timedelta(hours=1)) == 1
    assert take_answer(store, left) is None
