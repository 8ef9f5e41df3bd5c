"""Run the stand-in as a process of its own, which ends by itself.

    python -m smartstream.testing.local_dms --aws http://127.0.0.1:4566 --host '*=host=127.0.0.1 port=5433'

The first line of its output is its address.  It ends with its standard input, with the process
that started it, or when its time is up, whichever is first.
"""

from __future__ import annotations

import argparse
import os
import sys
import threading
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import boto3
from botocore.config import Config

from smartstream.testing.local_dms.api import LocalDms
from smartstream.testing.local_dms.endpoints import Clients
from smartstream.testing.local_dms.server import serve
from smartstream.testing.local_dms.settings import Quirks

SECONDS_MAX = 3600.0
LOOK_SECONDS = 0.5


def clients_at(address: str, region: str) -> Clients:
    """Return a maker of clients for an emulator of AWS, which takes any credentials."""

    def client(service: str) -> Any:
        return boto3.client(
            service,
            endpoint_url=address,
            region_name=region,
            aws_access_key_id="test",
            aws_secret_access_key="test",
            config=Config(retries={"max_attempts": 3}, connect_timeout=5, read_timeout=30),
        )

    return client


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve until there is a reason to end."""
    told = _parser().parse_args(arguments)
    quirks = Quirks(**{item.name: getattr(told, item.name) for item in fields(Quirks)})
    dms = LocalDms(
        told.region,
        told.account,
        clients=clients_at(told.aws, told.region),
        hosts=dict(entry.split("=", 1) for entry in told.host),
        quirks=quirks,
        is_hasty=told.hasty,
    )
    ended = threading.Event()
    threading.Thread(target=_end_with_input, args=(ended,), daemon=True).start()
    parent = os.getppid()
    with serve(dms, told.port) as address:
        sys.stdout.write(f"{address}\n")
        sys.stdout.flush()
        for _ in range(int(told.seconds_max / LOOK_SECONDS)):
            if ended.wait(LOOK_SECONDS) or os.getppid() != parent:
                return


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="local_dms", description="A stand-in for AWS DMS on this machine.")
    parser.add_argument("--aws", required=True, help="address of the emulator with Kinesis and the secrets")
    parser.add_argument(
        "--host",
        action="append",
        default=[],
        metavar="NAME=SETTINGS",
        help="a local server for a host",
    )
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--region", default="eu-north-1")
    parser.add_argument("--account", default="000000000000")
    parser.add_argument("--hasty", action="store_true", help="what is deleted is gone at once")
    parser.add_argument("--seconds-max", type=float, default=SECONDS_MAX)
    for item in fields(Quirks):
        option = f"--{item.name.replace('_', '-')}"
        if isinstance(item.default, bool):
            parser.add_argument(option, action=argparse.BooleanOptionalAction, default=item.default)
        else:
            kind = float if item.default is None else type(item.default)
            parser.add_argument(option, type=kind, default=item.default)
    return parser


def _end_with_input(ended: threading.Event) -> None:
    """Wait for the end of the standard input; nobody writes anything else to it."""
    os.read(sys.stdin.fileno(), 1)
    ended.set()


if __name__ == "__main__":
    main()
