"""Errand: a request taken to the pipeline that runs, or carried out by one run of our own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from threading import Event

from smartstream.capture import slot
from smartstream.capture.catchup import current_wal_lsn
from smartstream.capture.connect import connect
from smartstream.config import Settings
from smartstream.errors import RequestFailed
from smartstream.pipeline.requests import Answer, RequestKind, post, take_answer, withdraw
from smartstream.raw.manifest_log import ManifestLog
from smartstream.raw.store import Store, open_store

POLL_S = 0.2
LOOK_EVERY_S = 5.0
"""How often to look whether the pipeline that was asked is still there."""
GROWS_WITHIN_S = 2.0
"""A pipeline that reads in bulk leaves the slot alone between steps, but its log grows faster than this."""


def is_kept(settings: Settings, *, clock: Callable[[], datetime], stop: Event) -> bool:
    """Whether a pipeline keeps this lake now.

    Args:
        stop: look no longer; true then.
    Raises:
        SourceError: the source does not answer.
    """
    source = settings.source
    log = ManifestLog(open_store(settings.lake), clock)
    with connect(source) as connection:
        info = slot.inspect(connection, source.slot.name)
        behind = current_wal_lsn(connection) - log.load().durable_lsn
    if info is None or info.active:
        return info is not None
    if behind <= settings.limits.catchup_backlog_bytes:
        return False
    for _ in range(round(GROWS_WITHIN_S / POLL_S)):
        if stop.wait(POLL_S) or next(log.entries(log.state.seq), None) is not None:
            return True
    return False


class Errand:
    """Has one request carried out, by whichever pipeline can.

    Two pipelines must not write to one lake, so one that runs is asked; where none
    runs, ``run_once`` starts one, which finds the request waiting.
    """

    def __init__(
        self, settings: Settings, *, clock: Callable[[], datetime], run_once: Callable[[], None], stop: Event
    ) -> None:
        """
        Args:
            run_once: runs a pipeline until it is up to date; returns early when ``stop`` is set.
            stop: give up, and take the request back if nobody has begun it.
        """
        self._settings, self._clock, self._run_once, self._stop = settings, clock, run_once, stop
        self._store: Store = open_store(settings.lake)

    def is_running(self) -> bool:
        """See ``is_kept``."""
        return is_kept(self._settings, clock=self._clock, stop=self._stop)

    def carry_out(
        self, kind: RequestKind, table: str, keys: Sequence[Sequence[str]] | None = None
    ) -> Answer | None:
        """Return what became of a request; None when ``stop`` came first.

        Raises:
            RequestFailed: a pipeline tried, or came to its end without an answer.
            SmartStreamError: whatever stops a run of our own.
        """
        running = self.is_running()
        request = post(self._store, kind, table, keys)
        try:
            found = self._wait(request) if running else None
            if found is None and not self._stop.is_set():
                self._run_once()
                found = take_answer(self._store, request)
        finally:
            # Carried out or not: nobody waits for it any longer.
            withdraw(self._store, request)
        if found is None and not self._stop.is_set():
            raise RequestFailed(f"the pipeline ended before it could {kind.value} {table}")
        if found is not None and found.error is not None:
            raise RequestFailed(found.error)
        return found

    def _wait(self, request: str) -> Answer | None:
        """The answer of the pipeline that runs; None when it has ended."""
        while True:
            for _ in range(round(LOOK_EVERY_S / POLL_S)):
                found = take_answer(self._store, request)
                if found is not None or self._stop.wait(POLL_S):
                    return found
            if not self.is_running():
                return take_answer(self._store, request)
