"""The same changes through the local pipeline and through DMS give equal tables, but for what DMS loses.

``SMARTSTREAM_TEST_PARITY_SECONDS`` sets how long random changes go on (make soak); the seed is printed.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import time
from collections import Counter
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pyarrow as pa
import pytest

from smartstream.aws.operate.source import TunnelSource, check_identities
from smartstream.config import Settings
from smartstream.delivery.records import Options
from smartstream.delivery.records.options import INEXACT, LOB_CUT, NO_BEFORE_IMAGE
from smartstream.errors import TableWithoutKey
from smartstream.testing.postgres import PostgresServer
from smartstream.trusted.catalog import open_catalog
from tests.aws.dms_losses import EXPLAINED, LOSSES, Loss, page_table
from tests.aws.dms_path import DmsPath, dms_path
from tests.running_pipeline import once, settings_for
from tests.types_database import fresh_database
from tests.types_random import CHOICES, RandomTable, quoted, random_tables
from tests.types_values import SETUP

ROOT = Path(__file__).resolve().parents[2]
SECONDS = float(os.environ.get("SMARTSTREAM_TEST_PARITY_SECONDS", "6"))
TABLES, ROWS, TRANSACTIONS = 3, 10, 12
TOASTED_MIN = 500
"""Rows with shorter texts are never TOASTed: PostgreSQL begins at 2 KB a row."""

ADDABLE = tuple(
    case
    for case in CHOICES
    if case.sql
    in {
        *("smallint", "integer", "bigint", "real", "double precision", "numeric(10,2)", "text", "bytea"),
        *("date", "time", "timestamp", "uuid", "jsonb", "interval", "inet"),
    }
)

Rows = dict[int, dict[str, Any]]


def shown(value: Any) -> str | None:
    """A value of the lake as text."""
    if isinstance(value, Decimal):
        return format(value.normalize(), "f")
    if isinstance(value, bytes):
        return value.decode("latin-1")
    return None if value is None else str(value)


def rows_of(catalog: Any, table: str) -> Rows:
    """A trusted table's rows by ``id``, times in UTC."""
    found: pa.Table = catalog.load_table(("trusted", table)).scan().to_arrow()
    rows = found.drop_columns(["_lsn"]).to_pylist()
    assert len({row["id"] for row in rows}) == len(rows), f"{table} has a row twice"
    return {row["id"]: row for row in rows}


@dataclass
class Ends:
    """What both paths have at the end: rows by table, and what DMS's path has put aside."""

    local: dict[str, Rows]
    dms: dict[str, Rows]
    damaged: list[dict[str, Any]]


@pytest.fixture(scope="module")
def ends(postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Ends:
    """All losses, on both paths."""
    folder, rng = tmp_path_factory.mktemp("losses"), random.Random(1)
    with fresh_database(postgres, "losses") as url, psycopg.connect(url, autocommit=True) as admin:

        def run(loss: Loss, *statements: str) -> None:
            for statement in statements:
                admin.execute(statement.replace("{t}", f"lost_{loss.name}").encode())

        for loss in LOSSES:
            run(loss, f"CREATE TABLE {{t}} (id {loss.key} PRIMARY KEY, {loss.columns})")
            run(loss, *(f"INSERT INTO {{t}} VALUES {row}" for row in loss.loaded))
        local = settings_for(url, folder / "local", tables={"public.*": None})
        with dms_path(url, folder / "dms", rng) as dms:
            dms.define()
            once(local)
            dms.start()
            for loss in LOSSES:
                run(loss, *loss.statements)
            dms.catch_up()
            once(local)
            dms.deliver(dms.objects_from_stream())
            names, catalog = [f"lost_{loss.name}" for loss in LOSSES], open_catalog(local.lake)
            ours, theirs = ({name: rows_of(one, name) for name in names} for one in (catalog, dms.catalog))
            return Ends(ours, theirs, dms.damaged())


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.name)
def test_what_dms_loses_ends_as_the_page_says(loss: Loss, ends: Ends) -> None:
    table = f"lost_{loss.name}"
    found = ends.dms[table]
    named = {number: {name: shown(row.get(name)) for name in loss.shown} for number, row in found.items()}
    wanted = {number: {name: row.get(name) for name in loss.shown} for number, row in loss.trusted.items()}
    assert named == wanted
    damaged = {one["parsed"]["data"]["id"]: one["reason"] for one in ends.damaged if one["table"] == table}
    assert damaged == loss.damaged
    # It is a loss: the other path has something else.
    assert ends.local[table] != found


def test_the_page_has_the_table_of_losses() -> None:
    assert page_table() in (ROOT / "docs/formats/dms.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(("enabled", "required"), [(True, False), (True, True), (False, True)])
def test_an_updated_key_leaves_no_old_row_behind_in_silence(
    enabled: bool, required: bool, database: str, tmp_path: Path
) -> None:
    # Neither enabled nor required is what `aws start` refuses, and no function takes it for granted.
    with psycopg.connect(database, autocommit=True) as admin:
        admin.execute("CREATE TABLE t (id integer PRIMARY KEY, n integer)")
        admin.execute("INSERT INTO t VALUES (1, 1), (2, 2)")
        images = {"BeforeImageSettings": {"EnableBeforeImage": enabled}}
        with dms_path(database, tmp_path, random.Random(1), task_settings=images) as dms:
            dms.options = Options(before_image_required=required)
            dms.define()
            dms.start()
            admin.execute("UPDATE t SET id = 3 WHERE id = 1")
            admin.execute("UPDATE t SET n = 4 WHERE id = 2")
            dms.catch_up()
            dms.deliver(dms.objects_from_stream())
            rows, reasons = rows_of(dms.catalog, "t"), {one["reason"] for one in dms.damaged()}
    if enabled:
        assert ({number: row["n"] for number, row in rows.items()}, reasons) == ({3: 1, 2: 4}, set())
    else:  # The old row can't be known; what came in its place is told.
        assert (rows.keys(), reasons) == ({1}, {NO_BEFORE_IMAGE})


def test_tables_whose_log_has_no_old_key_are_refused_with_their_names(database: str) -> None:
    with psycopg.connect(database, autocommit=True) as admin:
        admin.execute("CREATE TABLE fine (id integer PRIMARY KEY, n integer)")
        check_identities(TunnelSource(database))
        admin.execute("CREATE TABLE bad (id integer PRIMARY KEY, n integer NOT NULL UNIQUE)")
        for identity in ("NOTHING", "USING INDEX bad_n_key"):
            admin.execute(f"ALTER TABLE bad REPLICA IDENTITY {identity}".encode())
            with pytest.raises(TableWithoutKey, match=r"public\.bad$"):
                check_identities(TunnelSource(database))
        admin.execute("ALTER TABLE bad REPLICA IDENTITY FULL")
        check_identities(TunnelSource(database))


class Model:
    """A random table, and what is known of the changes that DMS does not send."""

    def __init__(self, table: RandomTable) -> None:
        self.table, self.statements = table, table.create()
        self.truncated: set[int] = set()
        self.defaulted: set[str] = set()
        self.is_full = any("REPLICA IDENTITY FULL" in one for one in self.statements)

    def run(self, connection: psycopg.Connection[Any], statement: str) -> None:
        """Run a statement, which may break a key or be out of a type's range."""
        if statement.startswith("TRUNCATE"):
            rows = connection.execute(f"SELECT id FROM {quoted(self.table.name)}".encode()).fetchall()
            self.truncated |= {number for (number,) in rows}
        try:
            with connection.transaction():
                connection.execute(statement.encode())
        except (psycopg.errors.IntegrityError, psycopg.errors.DataError, psycopg.errors.ProgramLimitExceeded):
            pass

    def change(self, rng: random.Random) -> str:
        """A change of rows, now and then a new column of a type that DMS names as PostgreSQL does."""
        if rng.random() > 0.03:
            return self.table.change()
        name, case = f"added {len(self.table.columns)}", rng.choice(ADDABLE)
        self.table.columns[name] = case
        default = f" DEFAULT {rng.choice(case.values)}" if rng.random() < 0.5 else ""
        if default:
            self.defaulted.add(name)
        return f"ALTER TABLE {quoted(self.table.name)} ADD COLUMN {quoted(name)} {case.sql}{default}"

    def difference(self, ours: Rows, theirs: Rows, damaged: set[int]) -> Counter[str]:
        """Explain every difference, or fail; how often which was the reason."""
        reasons: Counter[str] = Counter()
        for number in ours.keys() | theirs.keys():
            row, found = ours.get(number), theirs.get(number)
            if row is None:
                assert number in self.truncated, (self.table.name, number, "is gone and stays")
                reasons["truncate"] += 1
            elif found is None:
                assert number in damaged, (self.table.name, number, "is missing, and nothing says why")
                assert self._can_be_damaged(row), (self.table.name, number, row)
                reasons["damaged"] += 1
            else:
                reasons += self._of_a_row(row, found)
        return reasons

    def _of_a_row(self, row: dict[str, Any], found: dict[str, Any]) -> Counter[str]:
        """Explain the differences of one row."""
        reasons: Counter[str] = Counter()
        texts, their_texts = (json.loads(one["_untyped"] or "{}") for one in (row, found))
        for name, case in self.table.columns.items():
            # A column that was added last is in a lake as soon as a row or a control record tells of it.
            ours = texts.get(name, shown(row.get(name)))
            theirs = their_texts.get(name, shown(found.get(name)))
            if ours == theirs:
                continue
            explain = EXPLAINED.get(case.sql)
            if explain is not None and ours is not None and explain(ours, theirs):
                reasons[case.sql] += 1
                continue
            if theirs is None and name in self.defaulted:
                reasons["added"] += 1
                continue
            is_toast = theirs is None and not self.is_full and len(str(row)) > TOASTED_MIN
            assert is_toast, (self.table.name, row["id"], name, case.sql, ours, theirs)
            reasons["toast"] += 1
        return reasons

    def _can_be_damaged(self, row: dict[str, Any]) -> bool:
        """Whether a row has a value that DMS can't send."""
        texts = json.loads(row["_untyped"] or "{}")
        for name, case in self.table.columns.items():
            text = texts.get(name) or shown(row.get(name)) or ""
            if case.sql == "bigint" and len(text.lstrip("-")) > 18:
                return True
            if case.sql == "numeric" and text[-1:].isdigit() and abs(Decimal(text)) >= 10**22 - 1:
                return True
            if len(text) > 32_000:
                return True
        return False


def _has_exact_key(table: RandomTable) -> bool:
    """Keys that DMS rounds are a loss of their own; rows of such tables can't be told apart."""
    return all(table.columns[name].sql != "numeric" for name in table.key)


def one_round(postgres: PostgresServer, folder: Path, name: str, rng: random.Random) -> Counter[str]:
    """New tables, a copy, changes; what was different, and why."""
    with fresh_database(postgres, name) as url, psycopg.connect(url, autocommit=True) as admin:
        admin.execute(SETUP)
        models = [Model(table) for table in random_tables(rng, 2 * TABLES) if _has_exact_key(table)][:TABLES]
        for model in models:
            for statement in model.statements:
                admin.execute(statement.encode())
            for _ in range(ROWS):
                model.run(admin, model.table.insert())
        local = settings_for(url, folder / "local", tables={"public.*": None})
        with dms_path(url, folder / "dms", rng, bare_updates=rng.random() < 0.5) as dms:
            dms.define()
            once(local)
            dms.start()
            for _ in range(TRANSACTIONS):
                with admin.transaction():
                    for _ in range(rng.randint(1, 10)):
                        model = rng.choice(models)
                        model.run(admin, model.change(rng))
            dms.catch_up()
            once(local)
            dms.deliver(dms.objects_from_stream())
            return compare(dms, local, models)


def compare(dms: DmsPath, local: Settings, models: list[Model]) -> Counter[str]:
    """All tables of both lakes."""
    catalog, reasons = open_catalog(local.lake), Counter[str]()
    damaged = dms.damaged()
    assert {one["reason"] for one in damaged} <= {INEXACT, LOB_CUT}
    for model in models:
        name = model.table.name
        ids = {one["parsed"]["data"]["id"] for one in damaged if one["table"] == name}
        reasons += model.difference(rows_of(catalog, name), rows_of(dms.catalog, name), ids)
    return reasons


def test_random_changes_give_the_same_tables_on_both_paths(
    postgres: PostgresServer, tmp_path: Path, seed: str
) -> None:
    print(f"seed {seed}")
    ends, reasons = time.monotonic() + SECONDS, Counter[str]()
    for number in itertools.count():
        if number and time.monotonic() > ends:
            break
        rng = random.Random(f"{seed} {number}")
        try:
            reasons += one_round(postgres, tmp_path / str(number), f"parity_{number}", rng)
        except BaseException:
            print(f"in round {number} of seed {seed}")
            raise
    print(f"{number} rounds; differences that DMS explains: {dict(reasons)}")
