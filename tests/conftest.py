"""Real servers for the tests."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import psycopg
import pytest

from smartstream.testing.postgres import PostgresServer

_NUMBERS = itertools.count(1)


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """One server for the whole session of a test process."""
    with PostgresServer.start(settings={"fsync": "off", "full_page_writes": "off"}) as server:
        yield server


@pytest.fixture
def database(postgres: PostgresServer) -> Iterator[str]:
    """The URL of a fresh database; it goes with its slots."""
    name = f"test_{next(_NUMBERS)}"
    with psycopg.connect(postgres.url, autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name}")
        yield postgres.url_of(name)
        _drop(admin, name)


def _drop(admin: psycopg.Connection[tuple[object, ...]], name: str) -> None:
    """Drop a database with everything that holds on to it."""
    admin.execute(
        "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE database = %s AND active",
        (name,),
    )
    for _ in range(50):
        slots = admin.execute(
            "SELECT slot_name, active FROM pg_replication_slots WHERE database = %s", (name,)
        ).fetchall()
        if not any(active for _, active in slots):
            break
        admin.execute("SELECT pg_sleep(0.1)")
    for slot, _ in slots:
        admin.execute("SELECT pg_drop_replication_slot(%s)", (slot,))
    admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
