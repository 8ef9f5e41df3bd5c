"""The mailbox: what the command line has left in the lake for the pipeline that runs."""

from __future__ import annotations

import logging
from datetime import datetime

from smartstream.capture.connect import connect
from smartstream.config import Settings
from smartstream.errors import NoTables, SmartStreamError, StoreUnavailable, TablesPaused
from smartstream.pipeline.admission import discover
from smartstream.pipeline.apply_loop import ApplyLoop
from smartstream.pipeline.drift import Drift
from smartstream.pipeline.requests import (
    ANSWERS_KEPT,
    Answer,
    Request,
    RequestKind,
    answer,
    forget_answers,
    pending,
)
from smartstream.raw.pause import paused_since
from smartstream.raw.store import Store

_LOG = logging.getLogger(__name__)


class Mailbox:
    """Looks for requests and for the mark of a pause; a store that is away for a while is looked at again."""

    def __init__(
        self, settings: Settings, store: Store, apply: ApplyLoop, drift: Drift, *, once: bool
    ) -> None:
        self._settings, self._store, self._apply, self._drift = settings, store, apply, drift
        self._once = once
        self._resyncs: dict[Request, int] = {}  # → the generation that is to be followed by another

    def look(self) -> None:
        """Carry out what is asked for, or hand it on to who can; stand still, or go on, as the lake says.

        Raises:
            TablesPaused: the run is to end when all is applied, which would not come.
        """
        self.answer_resyncs()
        try:
            since = paused_since(self._store)
            for request in pending(self._store):
                if request.kind is RequestKind.RESYNC:
                    self._resync(request)
                else:
                    self._apply.ask(request)
        except StoreUnavailable as error:
            _LOG.warning("could not look for requests: %s", error)
            return
        if since is not None and self._once:
            raise TablesPaused(f"trusted tables are paused since {since:%Y-%m-%d %H:%M:%S} UTC")
        if self._apply.paused != (since is not None):
            self._apply.paused = since is not None
            _LOG.warning("trusted tables %s", "are paused; changes go on into raw" if since else "go on")

    def forget_answers(self, now: datetime) -> None:
        """Remove answers that nobody has come for."""
        try:
            forget_answers(self._store, before=now - ANSWERS_KEPT)
        except StoreUnavailable as error:
            _LOG.warning("could not remove old answers: %s", error)

    def answer_resyncs(self) -> None:
        """Answer those that were asked for a copy which has begun: not before, a stop would forget it."""
        for request, before in list(self._resyncs.items()):
            if self._generation(request.table) == before:
                continue
            try:
                answer(self._store, request, Answer())
                del self._resyncs[request]
            except StoreUnavailable as error:
                _LOG.warning("could not answer a request, trying again: %s", error)

    def _generation(self, table: str) -> int:
        """Of a table, 0 before its first one."""
        known = self._apply.known().get(table)
        return known.generation if known else 0

    def _resync(self, request: Request) -> None:
        """Have a table copied beside all else; readers keep the old rows until its swap."""
        if request in self._resyncs:
            return
        try:
            with connect(self._settings.source, impatient=True) as connection:
                followed = discover(connection, self._settings, self._apply.known(), strict=False)
            found = {one.id: one for one in followed}
            if request.table not in found:
                raise NoTables(f"{request.table} is not a captured table")
        except SmartStreamError as error:
            _LOG.warning("resync of %s failed: %s", request.table, error)
            answer(self._store, request, Answer(error=str(error)))
            return
        _LOG.info("table %s is copied anew, as asked", request.table)
        self._resyncs[request] = self._generation(request.table)
        self._drift.ask_copy(found[request.table], accept=True)
