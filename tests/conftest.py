"""Real servers for the tests, and randomness that can be repeated.

``--postgres 15`` runs the suite against an installed PostgreSQL 15 instead of the
wheel's; ``--seed N`` repeats the random choices of an earlier run.
"""

from __future__ import annotations

import itertools
import random
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from smartstream.pipeline import pipeline
from smartstream.testing.postgres import PostgresServer, find_external_bin
from smartstream.verify.lake import LakeReader

LONGEST_FIRST = (
    "aws/test_apply.py",
    "faults/test_kill.py",
    "aws/test_terraform_tests.py",
    "acceptance/test_demo.py",
    "integration/test_ddl_under_load.py",
    "integration/test_schema_contracts.py",
    "aws/test_lambda_packages.py",
    "aws/test_checkov.py",
)
"""Begun last, one of these files would keep one process of pytest-xdist busy while the others are done."""

_NUMBERS = itertools.count(1)


def pytest_addoption(parser: pytest.Parser) -> None:
    """The suite's own options."""
    parser.addoption("--postgres", type=int, metavar="MAJOR", help="run against an installed server")
    parser.addoption("--seed", type=int, metavar="N", help="repeat the random choices of a run")


def pytest_configure(config: pytest.Config) -> None:
    """Choose a seed, once: processes of pytest-xdist get the options of the first."""
    if config.option.seed is None:
        config.option.seed = random.SystemRandom().randrange(1 << 32)
    if hasattr(config.option, "loadscopereorder"):
        config.option.loadscopereorder = False  # not by the number of tests: few tests may take long


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files that take longest first; the others stay in order, tests of units last."""
    here = Path(__file__).parent
    rank = {here / name: number for number, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: rank.get(item.path, len(rank)))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say how to repeat the run."""
    terminalreporter.write_line(f"random seed: {config.option.seed} (repeat with --seed)")


@pytest.fixture(autouse=True)
def seed(request: pytest.FixtureRequest) -> str:
    """What this test's random choices follow from; ``random`` is seeded with it."""
    text = f"{request.config.option.seed} {request.node.nodeid}"
    random.seed(text)
    return text


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pipeline looks for requests often; ``verify`` waits for one only if it runs in this process."""
    wait = LakeReader.wait

    def wait_for_ours(reader: LakeReader, *arguments: Any, wait_seconds: float, **others: Any) -> None:
        runs = any(thread.name == "smartstream-capture" for thread in threading.enumerate())
        wait(reader, *arguments, wait_seconds=wait_seconds if runs else 0.0, **others)

    monkeypatch.setattr(LakeReader, "wait", wait_for_ours)
    monkeypatch.setattr(pipeline, "REQUESTS_EVERY_S", 0.2)


@pytest.fixture(scope="session")
def postgres(pytestconfig: pytest.Config) -> Iterator[PostgresServer]:
    """One server for the whole session of a test process."""
    major = pytestconfig.option.postgres
    bin_dir = None if major is None else find_external_bin(major)
    settings = {"fsync": "off", "full_page_writes": "off", "max_prepared_transactions": "20"}
    with PostgresServer.start(bin_dir=bin_dir, settings=settings) as server:
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
