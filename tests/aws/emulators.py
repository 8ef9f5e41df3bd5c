"""Emulators of AWS on this machine: ministack for most services, moto for some, our stand-in for DMS.

Each service goes to the emulator that loses least of what it is told.  ministack carries
the data path, because there a record really travels from the stream to the function.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

from smartstream.testing.local_dms import LocalDms, Quirks, serve
from smartstream.testing.local_dms.__main__ import clients_at
from tests.aws.terraform_runner import Terraform

HERE = Path(__file__).resolve().parent
REGION = "eu-north-1"
ACCOUNT = "000000000000"

# By the SDK's name of the service, as in AWS_ENDPOINT_URL_<SERVICE>.
MOTO_SERVICES = ("cloudwatch", "glue")
# boto3 calls some services otherwise.
SDK_NAMES = {"dms": "database_migration_service"}

START_SECONDS_MAX = 30
STOP_SECONDS_MAX = 5

# The provider must not look for virtual hosts of buckets, which no resolver knows.  A file
# named …_override.tf adds to the provider's block without a change in the stack's own files.
OVERRIDE = """
provider "aws" {
  s3_use_path_style = true
}
"""


class EmulatorFailed(AssertionError):
    """An emulator did not start; the text holds the end of its log."""


@dataclass(frozen=True)
class Emulators:
    """Addresses of running emulators."""

    default: str
    services: Mapping[str, str]

    def attach(self, terraform: Terraform) -> Terraform:
        """The same stack, talking to these; its files stay as they are."""
        (terraform.folder / "emulators_override.tf").write_text(OVERRIDE, encoding="utf-8")
        return terraform.with_endpoints(self.default, **self.services)

    def client(self, service: str) -> Any:
        """A client of boto3, for example for ``s3``."""
        return boto3.client(
            service,
            endpoint_url=self.services.get(SDK_NAMES.get(service, service), self.default),
            region_name=REGION,
            aws_access_key_id="test",
            aws_secret_access_key="test",
            config=Config(retries={"max_attempts": 1}, connect_timeout=5, read_timeout=30),
        )


@contextmanager
def running_emulators(
    folder: Path, *, hosts: Mapping[str, str] | None = None, quirks: Quirks | None = None
) -> Iterator[Emulators]:
    """All of them, until the block ends; their logs and data are below ``folder``.

    Args:
        hosts, quirks: of the stand-in for DMS: local servers for hosts of endpoints, and what
            goes wrong on purpose.
    """
    with ExitStack() as cleanup:
        moto = cleanup.enter_context(_server(folder, "moto", _moto))
        ministack = cleanup.enter_context(running_ministack(folder, {"glue": moto}))
        local_dms = LocalDms(
            REGION,
            ACCOUNT,
            clients=clients_at(ministack, REGION),
            hosts=hosts,
            quirks=quirks,
            is_hasty=True,
        )
        dms = cleanup.enter_context(serve(local_dms))
        services = dict.fromkeys(MOTO_SERVICES, moto) | {"database_migration_service": dms}
        yield Emulators(ministack, services)


@contextmanager
def running_ministack(folder: Path, elsewhere: Mapping[str, str] | None = None) -> Iterator[str]:
    """The address of ministack alone, until the block ends.

    Args:
        elsewhere: addresses of services that functions find at another emulator.
    """
    others = {f"AWS_ENDPOINT_URL_{service.upper()}": url for service, url in (elsewhere or {}).items()}

    def program(port: int, data: Path) -> tuple[list[str], dict[str, str]]:
        command, settings = _ministack(port, data)
        return command, settings | others

    with _server(folder, "ministack", program) as address:
        yield address


def _ministack(port: int, data: Path) -> tuple[list[str], dict[str, str]]:
    """How ministack is started, and its settings."""
    settings = {
        "BIND_HOST": "127.0.0.1",
        "MINISTACK_HOST": "127.0.0.1",
        "GATEWAY_PORT": str(port),
        "MINISTACK_REGION": REGION,
        "MINISTACK_ACCOUNT_ID": ACCOUNT,
        "LAMBDA_EXECUTOR": "local",
        # No listeners besides the one, and no containers.
        "IOT_MTLS_ENABLED": "0",
        "SFTP_ENABLED": "0",
        "DOCKER_HOST": f"unix://{data / 'no-docker'}",
        "S3_DATA_DIR": str(data / "s3"),
        "STATE_DIR": str(data / "state"),
    }
    return [sys.executable, str(HERE / "emulator_ministack.py")], settings


def _moto(port: int, data: Path) -> tuple[list[str], dict[str, str]]:
    """How moto is started, and its settings."""
    settings = {"MOTO_ACCOUNT_ID": ACCOUNT, "MOTO_EC2_LOAD_DEFAULT_AMIS": "false"}
    program = [sys.executable, str(HERE / "emulator_moto.py"), "-H", "127.0.0.1", "-p", str(port)]
    return program, settings


@contextmanager
def _server(
    folder: Path, name: str, program: Callable[[int, Path], tuple[list[str], dict[str, str]]]
) -> Iterator[str]:
    """A server's address; its process group is gone when the block ends."""
    data = folder / name
    data.mkdir(parents=True)
    port = _free_port()
    command, settings = program(port, data)
    log = folder / f"{name}.log"
    # Nothing of this machine's environment but where programs are.
    environment = {"PATH": os.environ["PATH"], "HOME": str(data), "TMPDIR": str(data)}
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=data,
            env=environment | settings,
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            # A group of its own: ministack starts a process for each function that it runs.
            start_new_session=True,
        )
    try:
        _wait_until_answering(process, port, log)
        yield f"http://127.0.0.1:{port}"
    finally:
        _stop(process)


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def _wait_until_answering(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    """Wait for any answer, an error among them: it is the server that matters.

    Raises:
        EmulatorFailed: it ended, or has not answered in time.
    """
    deadline = time.monotonic() + START_SECONDS_MAX
    while time.monotonic() < deadline and process.poll() is None:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=2).close()
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.1)
        else:
            return
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    raise EmulatorFailed("\n".join([f"{process.args} doesn't answer", *lines[-30:]]))


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Ask it to end, and end whatever of its group has not after a while."""
    assert process.stdin is not None
    process.terminate()
    try:
        process.wait(STOP_SECONDS_MAX)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(STOP_SECONDS_MAX)
    finally:
        process.stdin.close()
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
