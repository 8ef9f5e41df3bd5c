"""``why`` tells the life of a row, and ``sql --as-of`` asks the past, as a person would use them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from smartstream.cli import main
from smartstream.config import load
from smartstream.errors import ExitCode
from smartstream.testing.postgres import PostgresServer
from tests.running_pipeline import once

Capture = pytest.CaptureFixture[str]
CANARY = "canary"


@pytest.fixture(scope="module")
def shop(postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a lake in which row 7 has had a life; the tests only read it."""
    folder, database = tmp_path_factory.mktemp("shop"), postgres.url_of("life")
    (folder / "smartstream.yaml").write_text(
        f"source: {{url: '{database}'}}\ndefaults: {{flush: {{every: 100ms}}}}\nmaintenance: {{every: 1h}}\n"
    )
    settings = load(folder / "smartstream.yaml")
    with psycopg.connect(postgres.url, autocommit=True) as server:
        server.execute("CREATE DATABASE life")
        with psycopg.connect(database, autocommit=True) as admin:
            live(admin, lambda: once(settings))
        yield folder
        server.execute("SELECT pg_drop_replication_slot('smartstream')")
        server.execute("DROP DATABASE life WITH (FORCE)")


def live(admin: psycopg.Connection[Any], follow: Callable[[], None]) -> None:
    """The life of row 7."""
    admin.execute("CREATE TABLE orders (id int, code text, note text, big text, PRIMARY KEY (id, code))")
    admin.execute("ALTER TABLE orders ALTER big SET STORAGE EXTERNAL")
    admin.execute("INSERT INTO orders VALUES (7, 'x', 'first', repeat('b', 5000)), (8, 'x', 'other', '')")
    follow()
    with admin.transaction():
        admin.execute("UPDATE orders SET note = 'hidden' WHERE id = 7")
        admin.execute("UPDATE orders SET note = 'canary' WHERE id = 7")
    admin.execute("UPDATE orders SET code = 'y' WHERE id = 7")
    follow()
    admin.execute("DELETE FROM orders WHERE id = 7")
    admin.execute("INSERT INTO orders VALUES (7, 'y', 'again', NULL)")
    follow()


def ask(capsys: Capture, folder: Path, *arguments: str) -> Any:
    """The JSON answer of a command."""
    capsys.readouterr()
    main(["-C", str(folder), *arguments, "--json"])
    return json.loads(capsys.readouterr().out)


def test_every_change_of_a_row_is_told(shop: Path, capsys: Capture) -> None:
    answer = ask(capsys, shop, "why", "orders", "7,y")
    changes = answer["changes"]
    assert answer["table"] == "public.orders"
    assert [c["op"] for c in changes] == ["r", "u", "u", "u", "d", "i"]
    assert [c["shown"] for c in changes] == [True, False, True, True, True, True]
    assert changes[2]["changed"] == {"note": {"from": "hidden", "to": "canary"}}, "no TOASTed value changed"
    assert changes[3]["moved_from"] == {"id": "7", "code": "x"}
    assert changes[3]["changed"] == {"code": {"from": "x", "to": "y"}}
    assert changes[4]["changed"]["note"] == {"from": "canary", "to": None}
    assert (changes[0]["xid"], changes[0]["time"]) == (None, None), "a copy tells neither"
    assert changes[1]["xid"] == changes[2]["xid"] != changes[3]["xid"]
    assert all((shop / "lake" / c["file"]).is_file() for c in changes)
    commits = [c["commit"]["snapshot_id"] for c in changes]
    assert len(set(commits)) == 3, "the copy, and two commits"
    assert commits == sorted(commits, key=commits.index)


@pytest.mark.parametrize("key", ["7,y", "id=7,code=y", "code=y, id=7", '7,"y"'])
def test_a_key_can_be_written_in_several_ways(shop: Path, key: str, capsys: Capture) -> None:
    assert len(ask(capsys, shop, "why", "public.orders", key)["changes"]) == 6


@pytest.mark.parametrize(
    ("table", "key", "message", "hint"),
    [
        ("orders", "12,canary", "no change of public.orders that the lake holds", "in their order"),
        ("orders", "7", "public.orders has the key id, code: 2 values, not 1", "in their order"),
        ("orders", "canary,y", "the value for id is not of its type, integer", "in their order"),
        ("order", "7,y", "there is no table order", "Did you mean orders?"),
    ],
)
def test_what_is_not_there_is_said_without_values(
    shop: Path, table: str, key: str, message: str, hint: str, capsys: Capture
) -> None:
    assert main(["-C", str(shop), "why", table, key]) == ExitCode.FAILED
    shown = capsys.readouterr()
    assert shown.out == ""
    assert message in shown.err
    assert hint in shown.err
    assert CANARY not in shown.err


def test_people_get_the_same_in_words(shop: Path, capsys: Capture, caplog: pytest.LogCaptureFixture) -> None:
    assert main(["-C", str(shop), "why", "orders", "7,y"]) == ExitCode.OK
    shown = capsys.readouterr()
    assert "note: hidden → canary" in shown.out
    assert "never visible" in shown.out
    assert "came from the key id=7, code=x" in shown.out
    assert shown.out.rstrip().splitlines()[-1].startswith("next: ")
    assert CANARY not in shown.err + caplog.text


def test_sql_asks_the_past(shop: Path, capsys: Capture) -> None:
    changes = ask(capsys, shop, "why", "orders", "7,y")["changes"]
    for change, note in ((changes[2], "canary"), (changes[5], "again")):
        statement = "SELECT note FROM orders WHERE id = 7"
        assert main(["-C", str(shop), "sql", statement, "--as-of", change["lsn"], "-o", "csv"]) == ExitCode.OK
        assert capsys.readouterr().out.splitlines() == ["note", note]
    when = changes[2]["time"]
    assert main(["-C", str(shop), "sql", statement, "--as-of", when, "-o", "csv"]) == ExitCode.OK
    assert capsys.readouterr().out.splitlines() == ["note", "canary"]
    gone = "SELECT count(*) AS n FROM orders WHERE id = 7"
    assert main(["-C", str(shop), "sql", gone, "--as-of", changes[4]["lsn"], "-o", "csv"]) == ExitCode.OK
    assert capsys.readouterr().out.splitlines() == ["n", "0"]


@pytest.mark.parametrize(
    ("moment", "code", "message"),
    [
        ("yesterday", ExitCode.CONFIGURATION, "--as-of takes an LSN or a time"),
        ("0/0", ExitCode.FAILED, "public.orders is not known as of 0/0; it is known from"),
        ("2199-01-01", ExitCode.FAILED, "lies behind what the lake holds"),
        ("2001-01-01", ExitCode.FAILED, "the lake's past does not reach back to 2001-01-01"),
        ("FFFF/0", ExitCode.FAILED, "FFFF/0 lies behind what the lake holds"),
    ],
)
def test_a_moment_that_is_not_known_ends_with_words(
    shop: Path, moment: str, code: int, message: str, capsys: Capture
) -> None:
    assert main(["-C", str(shop), "sql", "FROM orders", "--as-of", moment]) == code
    assert message in capsys.readouterr().err


def test_a_history_table_must_be_named_and_a_wrong_name_gets_a_guess(shop: Path, capsys: Capture) -> None:
    assert main(["-C", str(shop), "sql", "FROM history.oders"]) == ExitCode.FAILED
    assert "Tables: history.orders, orders, trusted.orders." in capsys.readouterr().err
    hidden = "FROM query_table('history.' || 'ord' || 'ers')"
    assert main(["-C", str(shop), "sql", hidden]) == ExitCode.FAILED
    assert main(["-C", str(shop), "sql", "DESCRIBE history.orders", "-o", "csv"]) == ExitCode.OK
    assert "valid_from_lsn" in capsys.readouterr().out
