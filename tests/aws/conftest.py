"""The stack, initialised once for each test process; skipped where Terraform or its provider is missing."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

import pytest
from moto.server import ThreadedMotoServer

from tests.aws.emulators import running_ministack
from tests.aws.local_dms_setup import Replication, Start, prepared_source, replication
from tests.aws.terraform_runner import MIRROR_VARIABLE, Terraform, TerraformFailed, find_mirror


@pytest.fixture(scope="session")
def initialized_stack(tmp_path_factory: pytest.TempPathFactory) -> Terraform:
    """A copy of the stack with its provider installed; read it, ``fork`` it, don't change it."""
    if shutil.which("terraform") is None:
        pytest.skip("terraform is not on the PATH")
    mirror = find_mirror()
    stack = Terraform.in_copy(tmp_path_factory.mktemp("stack"), mirror=mirror)
    try:
        stack.init()
    except TerraformFailed:
        if mirror is not None:
            raise
        pytest.skip(f"no provider mirror ({MIRROR_VARIABLE}), and Terraform's registry is out of reach")
    return stack


@pytest.fixture
def terraform(initialized_stack: Terraform, tmp_path: Path) -> Terraform:
    """A fresh, initialised copy of the stack for one test to change, plan, apply and destroy in."""
    return initialized_stack.fork(tmp_path / "stack")


@pytest.fixture(scope="session")
def account_answers() -> Iterator[str]:
    """The address of an emulator that knows the account and its zones, which is all that a plan asks for."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        yield f"http://{host}:{port}"
    finally:
        server.stop()


@pytest.fixture(scope="session")
def default_plan(
    initialized_stack: Terraform, account_answers: str, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """The plan of the stack with its defaults, from nothing, by the real provider."""
    stack = initialized_stack.fork(tmp_path_factory.mktemp("plan") / "stack")
    return stack.with_endpoints(account_answers).plan_json()


@pytest.fixture(scope="session")
def ministack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """ministack, alone."""
    pytest.importorskip("ministack")
    with running_ministack(tmp_path_factory.mktemp("ministack")) as address:
        yield address


@pytest.fixture
def begin(database: str, ministack: str) -> Iterator[Start]:
    """Makes tables, and a task that has loaded them."""
    with ExitStack() as cleanup:

        def start(*tables: str, **options: Any) -> Replication:
            cleanup.enter_context(prepared_source(database))
            found: AbstractContextManager[Replication] = replication(database, ministack, **options)
            task = cleanup.enter_context(found)
            for statement in tables:
                task.source.execute(statement)
            assert {one["Status"] for one in task.connect()} == {"successful"}
            task.start()
            return task

        yield start
