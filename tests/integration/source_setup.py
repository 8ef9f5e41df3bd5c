"""What the tests of the source side share: a Source of a URL, and quick catalog look-ups."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import psycopg

from smartstream.capture import catalog
from smartstream.capture.connect import connect
from smartstream.schema import TableSchema


@dataclass(frozen=True)
class SlotName:
    """Stands for config.Slot."""

    name: str = "smartstream_test"
    failover: bool = True


@dataclass(frozen=True)
class FakeSource:
    """Stands for config.Source."""

    dsn: str
    connect_timeout: float = 5.0
    silence_max: float = 60.0
    publication: str = "smartstream_test"
    slot: SlotName = field(default_factory=SlotName)


@contextmanager
def connected(url: str) -> Iterator[psycopg.Connection[tuple[Any, ...]]]:
    """A connection as the pipeline has it."""
    with connect(FakeSource(url)) as connection:
        yield connection


def run_sql(url: str, *statements: str) -> None:
    """Run statements as any application would, in a session of its own."""
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement)  # type: ignore[call-overload]


def table(connection: psycopg.Connection[tuple[Any, ...]], name: str) -> TableSchema:
    """The schema of ``public.name``."""
    (found,) = catalog.discover(connection, lambda id_: id_ == f"public.{name}").tables
    return found
