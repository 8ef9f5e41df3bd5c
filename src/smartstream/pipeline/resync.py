"""Resync: record that tables shall be copied anew; the next run does it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from threading import Event

from smartstream.capture import publication, slot
from smartstream.capture.catchup import current_wal_lsn
from smartstream.capture.connect import connect
from smartstream.config import Settings
from smartstream.errors import NoTables, SlotInUse
from smartstream.manifest import EntryKind
from smartstream.pipeline.admission import admitted, has_begun
from smartstream.pipeline.copy_loop import CopyLoop
from smartstream.pipeline.journal import Journal
from smartstream.pipeline.pipeline import discover
from smartstream.pipeline.progress import Meter
from smartstream.raw.manifest_log import ManifestLog
from smartstream.raw.store import open_store
from smartstream.raw.writer import RawWriter


def resync(settings: Settings, tables: Sequence[str] = (), *, clock: Callable[[], datetime]) -> list[str]:
    """Begin a new generation of ``tables`` (all when empty) and return their names.

    For all tables the slot is created anew too: changes between the old slot's end and
    the new one's beginning are in the copies.  The order makes a crash harmless: first
    every table is marked, then the slot moves, then the log follows it.

    Raises:
        SlotInUse: a pipeline is running; two writers would meet in the manifest.
        NoTables: a name in ``tables`` is not a captured table.
    """
    store = open_store(settings.lake)
    log = ManifestLog(store, clock)
    log.load()
    journal = Journal(log, payload_bytes_max=0)
    copies = CopyLoop(settings, journal=journal, writer=RawWriter(store, clock), meter=Meter(), stop=Event())
    with connect(settings.source) as connection:
        info = slot.inspect(connection, settings.source.slot.name)
        if info is not None and info.active:
            raise SlotInUse(
                f"slot {settings.source.slot.name} is being read: a pipeline is running",
                hint="Stop `smartstream run`, resync, and start it again.",
            )
        found = {schema.id: schema for schema in discover(connection, settings)}
        unknown = [name for name in tables if name not in found]
        if unknown:
            raise NoTables(f"not among the captured tables: {', '.join(unknown)}")
        if tables:
            followed = [found[name] for name in tables]
        else:
            lsn, known = current_wal_lsn(connection), log.state.tables
            wanted = [found[name] for name in sorted(found)]
            followed = admitted(settings, wanted, known, lsn=lsn, begun=has_begun(known))
        for schema in followed:
            copies.start(schema, accept=True)
        if not tables:
            publication.ensure(connection, settings.source.publication, followed)
            if info is not None:
                slot.drop(connection, settings.source.slot.name)
            created = slot.create(connection, settings.source.slot.name)
            journal.append(EntryKind.CHANGES, lsn=created, detail={"reset": True})
    log.save_checkpoint(log.state, log.applied_seq)
    return [schema.id for schema in followed]
