"""Adopt: go on from the cluster that pg_upgrade has made of the source, without copying a row.

The new cluster has another system identifier.  But databases, tables and files keep their numbers, its WAL
goes on behind the old one's, and from PostgreSQL 17 on the slot comes along.  pg_upgrade takes a slot along
only if it had been sent every change, and what is written to the new cluster is in the slot again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import psycopg

from smartstream.capture import identity, publication, slot
from smartstream.capture.connect import connect
from smartstream.capture.row_stamp import RowStamp, from_dict, read_stamps
from smartstream.config import Settings
from smartstream.errors import SlotInUse, UpgradeUnfit
from smartstream.lsn import format_lsn
from smartstream.manifest import EntryKind, LakeState
from smartstream.pipeline.admission import discover
from smartstream.raw.manifest_log import ManifestLog
from smartstream.raw.store import open_store
from smartstream.schema import TableSchema


@dataclass(frozen=True, slots=True)
class Adopted:
    """What came of it.

    Attributes:
        cluster: the system identifier that the lake follows now.
        kept: tables that go on as they are.
        rewritten: tables that are not what the lake has seen last: the next run copies them anew.
    """

    cluster: str
    kept: tuple[str, ...]
    rewritten: tuple[str, ...]


def adopt(settings: Settings, *, clock: Callable[[], datetime]) -> Adopted:
    """Make the lake follow an upgraded cluster; writes one entry, and nothing on the server.

    Raises:
        UpgradeUnfit: it is not the upgraded cluster, or the slot did not come along.
        SlotInUse, SlotForeign, SlotLost: the slot can't be gone on from.
        SourceReadOnly: a standby.
    """
    log = ManifestLog(open_store(settings.lake), clock)
    state = log.load()
    with connect(settings.source) as connection:
        mark = identity.look(connection)
        if state.source is None or mark.system == state.source.system:
            raise UpgradeUnfit(
                f"the lake follows cluster {mark.system} already"
                if state.source
                else "the lake follows no cluster yet"
            )
        if mark.database != state.source.database:
            raise UpgradeUnfit(
                f"database {connection.info.dbname} has oid {mark.database}, "
                f"but the one that the lake follows had {state.source.database}: pg_upgrade keeps it"
            )
        lsn = _slot_position(connection, settings, state)
        tables = _tables(connection, settings, state)
        stamps = read_stamps(connection, tables.values())
        kept = {name: oid for name, oid in tables.items() if _as_before(state, stamps.get(str(oid)), oid)}
        found = publication.membership(connection, settings.source.publication, list(kept.values()))
    detail = {
        "source": asdict(mark),
        "published": found,
        "stamps": {str(oid): stamps[str(oid)].to_dict() for oid in kept.values()},
    }
    log.append(EntryKind.CHANGES, lsn=lsn, files=(), table=None, detail=detail)
    return Adopted(mark.system, tuple(sorted(kept)), tuple(sorted(tables.keys() - kept.keys())))


def _slot_position(connection: psycopg.Connection[Any], settings: Settings, state: LakeState) -> int:
    """From where the upgraded slot sends changes."""
    name = settings.source.slot.name
    info = slot.inspect(connection, name)
    if info is None:
        raise UpgradeUnfit(
            f"there is no slot {name}: pg_upgrade takes slots along from PostgreSQL 17 on, "
            "into a cluster with wal_level = logical"
        )
    slot.check_ours(connection, info)
    if info.active:
        raise SlotInUse(f"slot {name} is being read: a pipeline is running")
    slot.check_kept(info)
    if info.confirmed_flush_lsn < state.durable_lsn:
        raise UpgradeUnfit(
            f"slot {name} stands at {format_lsn(info.confirmed_flush_lsn)}, before the lake's end at "
            f"{format_lsn(state.durable_lsn)}: an upgraded cluster's WAL goes on behind the old one's"
        )
    return info.confirmed_flush_lsn


def _tables(connection: psycopg.Connection[Any], settings: Settings, state: LakeState) -> dict[str, int]:
    """The lake's tables that are there, with their oids.

    Raises:
        UpgradeUnfit: one of them has another oid, so that this is another database; or there is none.
    """
    logged = {name: TableSchema.from_json(table.schema).oid for name, table in state.tables.items()}
    found = discover(connection, settings, state.tables, strict=False)
    present = {schema.id: schema.oid for schema in found if schema.id in logged}
    others = [name for name in present if present[name] != logged[name]]
    other = [f"{name} has oid {present[name]}, not {logged[name]}" for name in others]
    if other or not present:
        why = "; ".join(other) or "it has none of the lake's tables"
        raise UpgradeUnfit(f"this is not the cluster that was upgraded: {why}")
    return present


def _as_before(state: LakeState, stamp: RowStamp | None, oid: int) -> bool:
    """Whether a table's rows are those that the lake has seen last."""
    known = state.stamps.get(str(oid))
    if known is None or stamp is None:
        return False
    before = from_dict(known)
    return (before.files, before.types) == (stamp.files, stamp.types)
