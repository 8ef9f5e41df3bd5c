"""The time that one run may take."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import duckdb

from smartstream.errors import FeaturesInvalid, ModelTimeout


@contextmanager
def time_limit(
    seconds: float, what: str, connection: duckdb.DuckDBPyConnection
) -> Iterator[Callable[[], None]]:
    """Interrupt the connection's query when the time is over; yield what a loop calls to see whether it is.

    A call into a model's library that does not come back is not interrupted: models that
    are other people's code run in a process of their own, with a limit of its own.

    Raises:
        ModelTimeout: in the block, or by the function.
    """
    passed = threading.Event()

    def end() -> None:
        passed.set()
        connection.interrupt()

    def check() -> None:
        if passed.is_set():
            raise ModelTimeout(f"{what}: the run took longer than {seconds:g} s")

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        yield check
    except (duckdb.Error, FeaturesInvalid):
        check()
        raise
    finally:
        timer.cancel()
