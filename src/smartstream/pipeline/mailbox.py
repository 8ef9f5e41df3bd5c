"""The mailbox: what the command line has left in the lake for the pipeline that runs."""

from __future__ import annotations

import logging
from datetime import datetime

from smartstream.capture.connect import connect
from smartstream.config import Settings
from smartstream.errors import NoTables, SmartStreamError, StoreUnavailable, TablesPaused
from smartstream.pipeline.admission import discover
from smartstream.pipeline.apply_loop import ApplyLoop
from smartstream.pipeline.copy_loop import CopyLoop
from smartstream.pipeline.requests import ANSWERS_KEPT, Answer, RequestKind, answer, forget_answers, pending
from smartstream.raw.pause import paused_since
from smartstream.raw.store import Store

_LOG = logging.getLogger(__name__)


class Mailbox:
    """Looks for requests and for the mark of a pause; a store that is away for a while is looked at again."""

    def __init__(
        self, settings: Settings, store: Store, apply: ApplyLoop, copies: CopyLoop, *, once: bool
    ) -> None:
        self._settings, self._store, self._apply, self._copies = settings, store, apply, copies
        self._once = once

    def look(self) -> None:
        """Carry out what is asked for, or hand it on to who can; stand still, or go on, as the lake says.

        Raises:
            TablesPaused: the run is to end when all is applied, which would not come.
        """
        try:
            since = paused_since(self._store)
            for request in pending(self._store):
                if request.kind is RequestKind.RESYNC:
                    answer(self._store, request, self._resync(request.table))
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

    def _resync(self, table: str) -> Answer:
        """Begin a new generation of a table beside all else; readers keep the old rows until its swap."""
        try:
            with connect(self._settings.source, impatient=True) as connection:
                followed = discover(connection, self._settings, self._apply.known(), strict=False)
            found = {one.id: one for one in followed}
            if table not in found:
                raise NoTables(f"{table} is not a captured table")
            self._copies.start(found[table], accept=True)
        except SmartStreamError as error:
            _LOG.warning("resync of %s failed: %s", table, error)
            return Answer(error=str(error))
        _LOG.info("table %s is copied anew, as asked", table)
        return Answer()
