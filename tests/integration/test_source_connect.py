"""Connecting to a source, and what its refusals become."""

from __future__ import annotations

import socket
import uuid
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import adbc_driver_manager
import psycopg
import pytest

from smartstream import errors
from smartstream.capture.connect import adbc_connect, connect, map_error

from .source_setup import FakeSource, connected, run_sql

PASSWORD = "hunter2-canary"


def changed(url: str, **parts: Any) -> str:
    """``url`` with another user, password, port or database."""
    old = urlsplit(url)
    user, password = parts.get("user", old.username), parts.get("password", old.password)
    netloc = f"{user}:{password}@{old.hostname}:{parts.get('port', old.port)}"
    return urlunsplit((old.scheme, netloc, parts.get("database", old.path), "", ""))


@pytest.fixture
def plain_role(database: str) -> Iterator[str]:
    """A URL of a role that may log in and nothing else."""
    role = f"r{uuid.uuid4().hex[:8]}"
    run_sql(database, f"CREATE ROLE {role} LOGIN PASSWORD '{PASSWORD}'")
    yield changed(database, user=role, password=PASSWORD)
    run_sql(database, f"DROP OWNED BY {role}", f"DROP ROLE {role}")


@pytest.mark.parametrize("open_", [connect, adbc_connect])
def test_values_print_the_same_on_every_connection(database: str, open_: Any) -> None:
    run_sql(database, "ALTER DATABASE " + database.rsplit("/", 1)[1] + " SET DateStyle = 'SQL, DMY'")
    connection = open_(FakeSource(database))
    with connection, connection.cursor() as cursor:
        cursor.execute(
            "SELECT '2024-03-09 12:00+02'::timestamptz::text, '1 day 2 hours'::interval::text, "
            "0.1::float8::text, '\\x0aff'::bytea::text, 'pg_class'::regclass::text"
        )
        assert cursor.fetchone() == ("2024-03-09 10:00:00+00", "1 day 02:00:00", "0.1", "\\x0aff", "pg_class")


def test_options_of_the_url_are_kept(database: str) -> None:
    with connected(database + "?options=-c%20work_mem%3D7MB") as connection:
        assert connection.execute("SHOW work_mem").fetchone() == ("7MB",)
        assert connection.execute("SHOW timezone").fetchone() == ("UTC",)


def test_a_replication_connection_understands_replication_commands(database: str) -> None:
    with connect(FakeSource(database), replication=True) as connection:
        row = connection.execute("IDENTIFY_SYSTEM").fetchone()
        assert row is not None
        assert row[3] == database.rsplit("/", 1)[1]


@pytest.mark.parametrize("open_", [connect, adbc_connect])
def test_a_wrong_password_is_refused_without_showing_it(database: str, open_: Any) -> None:
    with pytest.raises(errors.SourceAuthFailed) as caught:
        open_(FakeSource(changed(database, password=PASSWORD)))
    assert PASSWORD not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("open_", [connect, adbc_connect])
def test_an_unknown_role_is_refused(database: str, open_: Any) -> None:
    with pytest.raises(errors.SourceAuthFailed):
        open_(FakeSource(changed(database, user="nobody_at_all")))


@pytest.mark.parametrize("open_", [connect, adbc_connect])
def test_an_unknown_database_is_named(database: str, open_: Any) -> None:
    with pytest.raises(errors.DatabaseMissing, match="no_such_database"):
        open_(FakeSource(changed(database, database="/no_such_database")))


@pytest.mark.parametrize("open_", [connect, adbc_connect])
def test_a_server_that_does_not_answer_is_unreachable(database: str, open_: Any) -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        port = reserved.getsockname()[1]
        with pytest.raises(errors.SourceUnreachable) as caught:
            open_(FakeSource(changed(database, port=port)))
    assert str(port) in str(caught.value)


@pytest.mark.parametrize("open_", [connect, adbc_connect])
@pytest.mark.parametrize(
    "url", [f"postgresql://u:{PASSWORD}@h:port/d", f"postgres:/u:{PASSWORD}@h", "mysql://x"]
)
def test_a_url_that_is_none_is_refused_without_showing_it(open_: Any, url: str) -> None:
    with pytest.raises(errors.ConfigInvalid) as caught:
        open_(FakeSource(url))
    assert PASSWORD not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_role_without_replication_lacks_a_right(plain_role: str) -> None:
    with pytest.raises(errors.MissingRight):
        connect(FakeSource(plain_role), replication=True)


def test_a_table_that_may_not_be_read_is_a_missing_right(database: str, plain_role: str) -> None:
    run_sql(database, "CREATE TABLE secret (id int PRIMARY KEY)")
    with connect(FakeSource(plain_role)) as connection, pytest.raises(psycopg.Error) as caught:
        connection.execute("SELECT * FROM public.secret")
    assert isinstance(map_error(caught.value, "reading"), errors.MissingRight)
    with (
        adbc_connect(FakeSource(plain_role)) as bulk,
        bulk.cursor() as cursor,
        pytest.raises(adbc_driver_manager.Error) as refused,
    ):
        cursor.execute("SELECT * FROM public.secret")
    assert isinstance(map_error(refused.value, "reading"), errors.MissingRight)


def test_a_connection_that_the_server_ends_is_gone(database: str) -> None:
    with connected(database) as connection:
        run_sql(database, f"SELECT pg_terminate_backend({connection.info.backend_pid})")
        with pytest.raises(psycopg.Error) as caught:
            connection.execute("SELECT 1")
        assert isinstance(map_error(caught.value, "reading"), errors.SourceGone)
        with pytest.raises(psycopg.Error) as again:
            connection.execute("SELECT 1")
        assert isinstance(map_error(again.value, "reading"), errors.SourceGone)


def test_messages_leave_out_the_values_that_a_detail_quotes(database: str) -> None:
    run_sql(database, "CREATE TABLE t (id int PRIMARY KEY)", "INSERT INTO t VALUES (4711)")
    with connected(database) as connection, pytest.raises(psycopg.Error) as caught:
        connection.execute("INSERT INTO public.t VALUES (4711)")
    assert "4711" in str(caught.value)
    assert "4711" not in str(map_error(caught.value, "writing"))


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ('FATAL:  no pg_hba.conf entry for host "10.0.0.1", user "u", database "d"', errors.SourceAuthFailed),
        ("FATAL:  number of requested standby connections exceeds max_wal_senders", errors.NoFreeSlot),
        ("FATAL:  sorry, too many clients already", errors.SourceBusy),
        ("FATAL:  the database system is starting up", errors.SourceUnreachable),
        ('could not translate host name "nowhere"', errors.SourceUnreachable),
        ('FATAL:  role "u" is not permitted to log in', errors.SourceAuthFailed),
    ],
)
def test_refusals_that_carry_only_text_are_told_apart(text: str, kind: type[Exception]) -> None:
    assert type(map_error(psycopg.OperationalError(text), "connecting", connecting=True)) is kind


def test_passwords_in_a_drivers_message_are_blotted_out() -> None:
    for text in (
        f"bad: postgresql://u:{PASSWORD}@h/d",
        f"host=h password={PASSWORD} x",
        f"password = '{PASSWORD}'",
    ):
        assert PASSWORD not in str(map_error(psycopg.OperationalError(text), "connecting", connecting=True))
