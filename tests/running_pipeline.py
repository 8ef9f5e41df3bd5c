"""Pipelines in this process, on a real server, for the tests."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from smartstream.config import Settings
from smartstream.pipeline import Pipeline
from smartstream.query import open_lake
from smartstream.verify import verify


def settings_for(url: str, folder: Path, **sections: Any) -> Settings:
    return Settings.model_validate(
        {
            "source": {"url": url, "discover_every": "300ms", "heartbeat": "300ms"},
            "lake": {"warehouse": str(folder / "lake")},
            "defaults": {"flush": {"every": "100ms"}},
            **sections,
        }
    )


def assert_equal(settings: Settings) -> None:
    """Equal; a pipeline that runs gets a few moments to follow the last change of a schema."""
    pause = threading.Event()
    for _ in range(20):
        report = verify(settings, rows=True)
        if report.ok or not any(table.reason for table in report.tables):
            break
        pause.wait(0.5)
    assert report.ok, report.to_dict()


def once(settings: Settings) -> None:
    Pipeline(settings).run(once=True)


def query(settings: Settings, statement: str) -> list[tuple[Any, ...]]:
    with open_lake(settings) as lake:
        return lake.execute(statement).fetchall()


@contextmanager
def running(settings: Settings, *, ready: bool = True) -> Iterator[Pipeline]:
    """A pipeline in a thread of its own; ``ready``: wait first until its tables are exact."""
    pipeline, stop, errors = Pipeline(settings), threading.Event(), []

    def work() -> None:
        try:
            pipeline.run(stop=stop)
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        wait_until(lambda: not ready or pipeline.ready() or bool(errors))
        yield pipeline
    except TimeoutError as error:  # perhaps only because the pipeline has stopped
        raise (errors or [error])[0] from error
    finally:
        stop.set()
        thread.join()
    if errors:
        raise errors[0]


def wait_until(done: Any, timeout_s: float = 30.0) -> None:
    pause = threading.Event()
    for _ in range(int(timeout_s / 0.05)):
        if done():
            return
        pause.wait(0.05)
    raise TimeoutError
