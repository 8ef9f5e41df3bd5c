"""Leases in the lake's store: one holder, taken over when its time is over."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from smartstream.errors import ModelBusy
from smartstream.inference.leases import Leases
from smartstream.raw.local_store import LocalStore


class Clock:
    def __init__(self) -> None:
        self.now = datetime(2026, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


def leases(folder: Path, clock: Clock) -> Leases:
    return Leases(LocalStore(folder), clock=clock, lease_s=60)


def test_a_second_run_is_refused_until_the_first_has_ended(tmp_path: Path) -> None:
    clock = Clock()
    with leases(tmp_path, clock).hold("risk"):
        with pytest.raises(ModelBusy), leases(tmp_path, clock).hold("risk"):
            pass
        with leases(tmp_path, clock).hold("pay"):
            pass
    with leases(tmp_path, clock).hold("risk"):
        pass


def test_a_run_that_fails_gives_its_lease_back(tmp_path: Path) -> None:
    clock = Clock()
    with pytest.raises(ZeroDivisionError), leases(tmp_path, clock).hold("risk"):
        raise ZeroDivisionError
    with leases(tmp_path, clock).hold("risk"):
        pass


def test_the_lease_of_a_process_that_died_is_taken_over(tmp_path: Path) -> None:
    clock = Clock()
    died = leases(tmp_path, clock).hold("risk")
    died.__enter__()
    clock.now += timedelta(seconds=59)
    with pytest.raises(ModelBusy), leases(tmp_path, clock).hold("risk"):
        pass
    clock.now += timedelta(seconds=1)
    with (
        leases(tmp_path, clock).hold("risk"),
        pytest.raises(ModelBusy),
        leases(tmp_path, clock).hold("risk"),
    ):
        pass


def test_of_many_at_once_one_holds_it(tmp_path: Path) -> None:
    clock, begin, inside = Clock(), threading.Barrier(8), []
    ended = threading.Barrier(8)

    def run(number: int) -> None:
        begin.wait()
        try:
            with leases(tmp_path, clock).hold("risk"):
                inside.append(number)
                ended.wait()
        except ModelBusy:
            ended.wait()

    threads = [threading.Thread(target=run, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=20)
    assert len(inside) == 1


def test_old_leases_are_forgotten(tmp_path: Path) -> None:
    clock = Clock()
    for _ in range(10):
        with leases(tmp_path, clock).hold("risk"):
            pass
    assert len(list(LocalStore(tmp_path).list("control/models/risk/"))) <= 4
