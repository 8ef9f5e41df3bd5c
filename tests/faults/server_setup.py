"""What the tests of server events share: a table, a workload that survives its server, a proxy."""

from __future__ import annotations

import contextlib
import os
import random
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest

from smartstream.config import Settings
from smartstream.errors import SmartStreamError
from smartstream.manifest import LakeState
from smartstream.pipeline import Pipeline
from smartstream.raw.manifest_log import ManifestLog
from smartstream.raw.store import open_store
from smartstream.testing.postgres import PostgresServer, find_external_bin
from tests.running_pipeline import settings_for, wait_until

QUICK = {"fsync": "off", "full_page_writes": "off"}
ROWS = 200
HEAVY = pytest.mark.skipif(
    not os.environ.get("SMARTSTREAM_TEST_SERVER_EVENTS"), reason="SMARTSTREAM_TEST_SERVER_EVENTS is not set"
)
"""For cases that `make soak` runs: variations, and what waits for the server's own clocks."""


def start_server(major: int | None, **settings: str) -> PostgresServer:
    """A server for one file of tests, to be restarted, killed and promoted."""
    bin_dir = None if major is None else find_external_bin(major)
    return PostgresServer.start(bin_dir=bin_dir, settings={**QUICK, **settings})


@contextmanager
def new_database(server: PostgresServer, name: str) -> Iterator[str]:
    """The URL of a database with a table; its slots go with it."""
    with psycopg.connect(server.url, autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name}")
    url = server.url_of(name)
    sql(url, "CREATE TABLE t (id integer PRIMARY KEY, v integer, big text)")
    sql(url, f"INSERT INTO t SELECT n, 0, 'x' FROM generate_series(1, {ROWS}) n")
    yield url
    sql(
        server.url,
        f"SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = '{name}'",
    )


def sql(url: str, *statements: str) -> list[tuple[Any, ...]]:
    """Run statements, each on its own; the rows of the last."""
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in statements:
            cursor = connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []


def settings_of(url: str, folder: Path, **source: Any) -> Settings:
    """Settings that notice things soon."""
    own = {"url": url, "discover_every": "300ms", "heartbeat": "300ms", "connect_timeout": 2, **source}
    return settings_for(url, folder, source=own)


def state_of(settings: Settings) -> LakeState:
    """What the log says."""
    return ManifestLog(open_store(settings.lake), lambda: datetime.now(UTC)).load()


@contextmanager
def workload(url: str) -> Iterator[Workload]:
    """Changes without a pause, from another thread, until the block ends."""
    work = Workload(url)
    try:
        wait_until(lambda: work.commits > 5)
        yield work
    finally:
        work.end()


def stops_with(
    settings: Settings, kind: type[SmartStreamError], happens: Callable[[], Any]
) -> SmartStreamError:
    """Run a pipeline, let something happen, and return the error that it then stops with."""
    pipeline, found = Pipeline(settings), []

    def work() -> None:
        try:
            pipeline.run(stop=stop)
        except SmartStreamError as error:
            found.append(error)

    stop, thread = threading.Event(), threading.Thread(target=work)
    thread.start()
    try:
        wait_until(lambda: pipeline.ready() or found, 60.0)
        happens()
        wait_until(lambda: found, 60.0)
    finally:
        stop.set()
        thread.join()
    (error,) = found
    assert isinstance(error, kind), error
    return error


def refuses(settings: Settings, kind: type[SmartStreamError], *words: str) -> SmartStreamError:
    """A run is refused, in these words (of the message or the hint)."""
    with pytest.raises(kind) as failed:
        Pipeline(settings).run(once=True)
    said = f"{failed.value} {failed.value.hint}"
    for word in words:
        assert word in said, said
    return failed.value


class Workload:
    """Transactions over table t; when the server goes, it waits for it and goes on."""

    def __init__(self, url: str) -> None:
        self.url, self.commits, self._end = url, 0, threading.Event()
        self._random = random.Random(random.random())
        self._thread = threading.Thread(target=self._work)
        self._thread.start()

    def end(self) -> None:
        self._end.set()
        self._thread.join()

    def more(self, count: int = 10) -> None:
        """Wait until some more transactions are committed."""
        aim = self.commits + count
        wait_until(lambda: self.commits >= aim, 60.0)

    def _work(self) -> None:
        while not self._end.is_set():
            with (
                contextlib.suppress(psycopg.Error),
                psycopg.connect(self.url, connect_timeout=2) as connection,
            ):
                while not self._end.is_set():
                    self._transaction(connection)
            self._end.wait(0.05)

    def _transaction(self, connection: psycopg.Connection[Any]) -> None:
        n, new = self._random.randrange(ROWS), self._random.randrange(ROWS, 10 * ROWS)
        connection.execute("UPDATE t SET v = v + 1 WHERE id %% 10 = %s", (n % 10,))
        connection.execute("INSERT INTO t VALUES (%s, 1, repeat('y', 3000)) ON CONFLICT DO NOTHING", (new,))
        connection.execute("DELETE FROM t WHERE id = %s", (n,))
        connection.commit()
        self.commits += 1
        self._end.wait(0.02)


class Proxy:
    """Passes bytes between loopback ports; can cut connections, or hold them without a word."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._target = (parts.hostname or "", parts.port or 0)
        self._listener = socket.create_server(("127.0.0.1", 0))
        port = self._listener.getsockname()[1]
        self.url = url.replace(f":{parts.port}/", f":{port}/")
        self._open: list[socket.socket] = []
        self._stalled: set[socket.socket] = set()
        self._closed = False
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Close every connection."""
        for one in self._open:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        self._open.clear()

    def stall(self) -> None:
        """Take what comes on the connections that are open, and pass nothing on: to TCP all is well."""
        self._stalled.update(self._open)

    def close(self) -> None:
        self._closed = True
        self.cut()
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while not self._closed:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._target)
                self._open += [client, server]
                for one, other in ((client, server), (server, client)):
                    threading.Thread(target=self._pass, args=(one, other), daemon=True).start()

    def _pass(self, one: socket.socket, other: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := one.recv(1 << 16):
                if one not in self._stalled:
                    other.sendall(data)
        for end in (one, other):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
