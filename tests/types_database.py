"""Databases of a test's own, for what the fixture ``database`` is too small for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

from smartstream.testing.postgres import PostgresServer


@contextmanager
def fresh_database(postgres: PostgresServer, name: str, options: str = "") -> Iterator[str]:
    """The URL of a new database; it is dropped with its slots."""
    with psycopg.connect(postgres.url, autocommit=True) as server:
        server.execute(f"CREATE DATABASE {name} {options}".encode())
        try:
            yield postgres.url_of(name)
        finally:
            _drop_slots(server, name)
            server.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


def _drop_slots(server: psycopg.Connection[Any], name: str) -> None:
    """Drop what is left when the sessions that have just closed are gone, and temporary slots with them."""
    find = "SELECT slot_name, active FROM pg_replication_slots WHERE database = %s"
    for _ in range(100):
        slots = server.execute(find, (name,)).fetchall()
        if not any(active for _, active in slots):
            break
        server.execute("SELECT pg_sleep(0.1)")
    for slot, _ in slots:
        server.execute("SELECT pg_drop_replication_slot(%s)", (slot,))
