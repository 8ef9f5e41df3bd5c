"""Resync: have tables copied anew, by the pipeline that runs, or by the next run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import datetime
from threading import Event
from typing import Any

from smartstream.capture import identity, publication, slot
from smartstream.capture.catchup import current_wal_lsn
from smartstream.capture.connect import connect
from smartstream.config import Settings
from smartstream.errors import NoTables, RequestFailed, SlotInUse
from smartstream.manifest import EntryKind
from smartstream.pipeline.admission import admitted, discover, has_begun
from smartstream.pipeline.copy_loop import CopyLoop
from smartstream.pipeline.drift import Drift
from smartstream.pipeline.errand import POLL_S
from smartstream.pipeline.journal import Journal
from smartstream.pipeline.progress import Meter
from smartstream.pipeline.requests import RequestKind, post, take_answer, withdraw
from smartstream.pipeline.successor import follow
from smartstream.raw.manifest_log import ManifestLog
from smartstream.raw.store import open_store
from smartstream.raw.writer import RawWriter

TAKEN_WITHIN_S = 60.0
"""A pipeline looks for requests every two seconds, when it is not waiting for its source."""


def ask_resync(
    settings: Settings, tables: Sequence[str], *, stop: Event, timeout_s: float = TAKEN_WITHIN_S
) -> list[str]:
    """Have the pipeline that runs copy ``tables`` anew; return those that it has begun with.

    Raises:
        RequestFailed: it could not, or did not take the request in time.
    """
    store = open_store(settings.lake)
    begun: list[str] = []
    for table in tables:
        request = post(store, RequestKind.RESYNC, table)
        try:
            given = take_answer(store, request)
            for _ in range(round(timeout_s / POLL_S)):
                if given is not None or stop.wait(POLL_S):
                    break
                given = take_answer(store, request)
        finally:
            withdraw(store, request)
        if given is None and stop.is_set():
            return begun
        if given is None:
            raise RequestFailed(
                f"the running pipeline did not begin to copy {table} within {timeout_s:.0f} s"
            )
        if given.error is not None:
            raise RequestFailed(given.error)
        begun.append(table)
    return begun


def resync(settings: Settings, tables: Sequence[str] = (), *, clock: Callable[[], datetime]) -> list[str]:
    """Begin a new generation of ``tables`` (all when empty) and return their names.

    For all tables the slot is created anew too: changes between the old slot's end and
    the new one's beginning are in the copies.  The order makes a crash harmless: first
    every table is marked, then the slot moves, then the log follows it.

    Raises:
        SlotForeign: the slot belongs to something else.
        SlotInUse: a pipeline is running; two writers would meet in the manifest.
        NoTables: a name in ``tables`` is not a captured table.
    """
    store = open_store(settings.lake)
    log = ManifestLog(store, clock)
    log.load()
    journal = Journal(log, payload_bytes_max=0)
    around: dict[str, Any] = {"meter": Meter(), "stop": Event(), "drift": Drift()}
    copies = CopyLoop(settings, journal=journal, writer=RawWriter(store, clock), **around)
    with connect(settings.source) as connection:
        mark = identity.check(settings.source, connection, log.state) if tables else identity.look(connection)
        info = slot.inspect(connection, settings.source.slot.name)
        if info is not None:
            slot.check_ours(connection, info)
        if info is not None and info.active:
            raise SlotInUse(
                f"slot {settings.source.slot.name} is being read: a pipeline is running",
                hint="Stop `smartstream run`, resync, and start it again; one by one, tables need no stop.",
            )
        found = {schema.id: schema for schema in discover(connection, settings, log.state.tables)}
        unknown = [name for name in tables if name not in found]
        if unknown:
            raise NoTables(f"not among the captured tables: {', '.join(unknown)}")
        if tables:
            followed = [found[name] for name in tables]
        else:
            lsn, known = current_wal_lsn(connection), log.state.tables
            wanted = [found[name] for name in sorted(found)]
            followed = admitted(settings, wanted, known, lsn=lsn, begun=has_begun(known))
        moved = log.state.source not in (None, mark)
        if moved and tables:
            follow(settings.source, mark, journal)
        elif moved:
            # Positions of another server say nothing: the copies must not count from there.
            journal.append(EntryKind.CHANGES, lsn=current_wal_lsn(connection), detail={"reset": True})
        for schema in followed:
            copies.start(schema, accept=True)
        if not tables:
            if settings.source.manage_publication:
                publication.ensure(connection, settings.source.publication, followed)
            if info is not None:
                slot.drop(connection, settings.source.slot.name)
            oids = [schema.oid for schema in followed]
            name, failover = settings.source.slot.name, settings.source.slot.failover
            created = slot.create(connection, name, failover=failover)
            published = publication.membership(connection, settings.source.publication, oids)
            detail = {"reset": True, "source": asdict(mark), "published": published}
            journal.append(EntryKind.CHANGES, lsn=created, detail=detail)
    log.save_checkpoint(log.state, log.applied_seq)
    return [schema.id for schema in followed]
