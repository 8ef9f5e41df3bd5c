"""The replication slot: where the source keeps what was not saved yet."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, LiteralString, Protocol

import psycopg

from smartstream.capture.connect import map_error
from smartstream.capture.transactions import END_IT, in_progress
from smartstream.errors import (
    SlotAhead,
    SlotForeign,
    SlotInUse,
    SlotLost,
    SlotTwoPhase,
    SourceBusy,
    SourceRewound,
    WalLevelTooLow,
)
from smartstream.lsn import format_lsn, parse_lsn
from smartstream.manifest import LakeState

Connection = psycopg.Connection[tuple[Any, ...]]

PLUGIN = "pgoutput"
RELEASE_WAIT_S = 10.0
CREATE_WAIT_S = 60.0
_POLL_S = 0.05


@dataclass(frozen=True, slots=True)
class SlotInfo:
    """A logical replication slot as the server shows it.

    Attributes:
        plugin, database: what it decodes with, and where.
        active_pid: the server process that reads it; None if nobody does.
        confirmed_flush_lsn: what was acknowledged: the stream goes on from here.
        restart_lsn: WAL is kept from here on; None once the slot is lost.
        wal_status: reserved, extended, unreserved or lost.
        safe_wal_size: bytes that can still be written before the slot is lost;
            None without max_slot_wal_keep_size.
        invalidation: why the server gave the slot up; None if it did not.
        retained_bytes: WAL kept for the slot.
        two_phase: it gives a prepared transaction's changes before they are committed.
        failover: standbys that synchronise slots keep a copy of it.
    """

    name: str
    plugin: str
    database: str
    active_pid: int | None
    confirmed_flush_lsn: int
    restart_lsn: int | None
    wal_status: str
    safe_wal_size: int | None
    invalidation: str | None
    retained_bytes: int
    two_phase: bool = False
    failover: bool = False

    @property
    def active(self) -> bool:
        """Whether a process reads it now."""
        return self.active_pid is not None

    @property
    def lost(self) -> bool:
        """Whether changes that were not read yet are gone."""
        return self.wal_status == "lost" or self.invalidation is not None


def inspect(connection: Connection, name: str) -> SlotInfo | None:
    """Return what the server says about the slot; None if there is none."""
    with _mapped(f"looking at slot {name}"):
        row = connection.execute(_SLOT, (name,)).fetchone()
    if row is None:
        return None
    slot, retained = row
    conflict = "conflict with recovery" if slot.get("conflicting") else None
    return SlotInfo(
        name=name,
        plugin=slot["plugin"] or "",
        database=slot["database"] or "",
        active_pid=slot["active_pid"],
        confirmed_flush_lsn=parse_lsn(slot["confirmed_flush_lsn"] or "0/0"),
        restart_lsn=parse_lsn(slot["restart_lsn"]) if slot["restart_lsn"] else None,
        wal_status=slot["wal_status"] or "lost",
        safe_wal_size=slot["safe_wal_size"],
        invalidation=slot.get("invalidation_reason") or conflict,
        retained_bytes=int(retained or 0),
        two_phase=bool(slot.get("two_phase")),
        failover=bool(slot.get("failover")),
    )


class Source(Protocol):
    """What this needs of the configuration."""

    @property
    def slot(self) -> Settings: ...


class Settings(Protocol):
    """The slot's name, and whether standbys shall have it too."""

    @property
    def name(self) -> str: ...
    @property
    def failover(self) -> bool: ...


def ensure(
    connection: Connection,
    source: Source,
    state: LakeState,
    *,
    release_wait_s: float = RELEASE_WAIT_S,
    create_wait_s: float = CREATE_WAIT_S,
) -> SlotInfo:
    """Return the slot that the lake goes on from; created if lake and slot are both new.

    A new slot's ``confirmed_flush_lsn`` is its consistent point: every transaction
    that commits after it will be in the stream.

    Args:
        release_wait_s: for another reader to let go, such as one that was just killed.
        create_wait_s: for the transactions that are running when the slot is created.
    Raises:
        as ``check`` and ``create``.
    """
    pause = threading.Event()
    for _ in range(round(release_wait_s / _POLL_S)):
        try:
            info = check(connection, source.slot.name, state)
        except SlotInUse:
            pause.wait(_POLL_S)
        else:
            break
    else:
        info = check(connection, source.slot.name, state)
    if info is None:
        create(connection, source.slot.name, failover=source.slot.failover, timeout_s=create_wait_s)
        info = inspect(connection, source.slot.name)
        assert info is not None, "just created"
    return info


def check(connection: Connection, name: str, state: LakeState) -> SlotInfo | None:
    """Return the slot if the lake can go on from it; None if neither exists.

    A slot that is older than an empty lake is accepted: the lake begins where it stands.

    Raises:
        SourceRewound: the server's WAL ends before what the lake has.
        SlotLost: the slot is missing, or the server gave it up.
        SlotAhead: it moved past what the lake has.
        SlotForeign: it belongs to something else.
        SlotInUse: another process reads it.
        SlotTwoPhase: it gives changes when they are prepared, which may never be committed.
    """
    needed = _needed_lsn(state)
    with _mapped("reading wal_level"):
        _check_wal_level(connection)
    end = _wal_end(connection)
    if end < state.durable_lsn:
        raise SourceRewound(
            f"the lake has changes up to {format_lsn(state.durable_lsn)}, "
            f"but the server's WAL ends at {format_lsn(end)}"
        )
    info = inspect(connection, name)
    if info is None:
        if needed is None:
            return None
        raise SlotLost(
            f"slot {name} does not exist, but the lake goes on from {format_lsn(needed)}", hint=_NO_SLOT
        )
    check_ours(connection, info)
    if info.active_pid is not None:  # first: while it moves, positions say nothing
        raise SlotInUse(f"slot {name} is read by server process {_who(connection, info.active_pid)}")
    if info.two_phase:
        raise SlotTwoPhase(f"slot {name} was created for two-phase decoding", hint=_one_phase(name))
    _check_position(info, needed)
    return info


def check_ours(connection: Connection, info: SlotInfo) -> None:
    """Refuse a slot that decodes another database, or with another plugin.

    Raises:
        SlotForeign: it does.
    """
    if info.plugin != PLUGIN or info.database != connection.info.dbname:
        raise SlotForeign(
            f"slot {info.name} decodes database {info.database or '(none)'} "
            f"with {info.plugin or 'no plugin'}: it belongs to something else"
        )


def check_opened(connection: Connection, name: str, state: LakeState) -> None:
    """Look once more, now that nobody else can move the slot: between ``check`` and opening it
    another consumer may have been there, or have created it anew.

    Raises:
        SlotLost, SlotAhead: as ``check``.
    """
    info = inspect(connection, name)
    if info is None:
        raise SlotLost(f"slot {name} was dropped while it was opened", hint=_NO_SLOT)
    _check_position(info, _needed_lsn(state))


def check_kept(info: SlotInfo) -> None:
    """Refuse a slot that the server gave up.

    Raises:
        SlotLost: it did; with the reason.
    """
    if info.lost:
        why = info.invalidation or "wal_removed"
        raise SlotLost(f"the server gave up slot {info.name} ({why}): {_WHY_LOST.get(why, 'see its log')}")


def _check_position(info: SlotInfo, needed: int | None) -> None:
    """Refuse a slot that lacks changes which the lake needs."""
    check_kept(info)
    if needed is not None and info.confirmed_flush_lsn > needed:
        raise SlotAhead(
            f"slot {info.name} stands at {format_lsn(info.confirmed_flush_lsn)}, "
            f"but the lake goes on from {format_lsn(needed)}: somebody else read it, or created it anew"
        )


def create(
    connection: Connection, name: str, *, failover: bool = True, timeout_s: float = CREATE_WAIT_S
) -> int:
    """Create the slot; returns its consistent point, from which on the stream is complete.

    The server waits for the transactions that are running.

    Args:
        failover: let standbys keep a copy of it, where the server can (from PostgreSQL 17 on).
    Raises:
        WalLevelTooLow, NoFreeSlot, MissingRight: the server does not let us.
        SlotInUse: there is a slot of this name.
        SourceBusy: a transaction did not end within ``timeout_s``; names its process.
    """
    with _mapped(f"creating slot {name}"):
        _check_wal_level(connection)
        synced = failover and connection.info.server_version >= 170000
        try:
            connection.execute(f"SET statement_timeout = {round(timeout_s * 1000)}")
            row = connection.execute(_CREATE_SYNCED if synced else _CREATE, (name, PLUGIN)).fetchone()
        except psycopg.errors.QueryCanceled as error:
            holders = in_progress(connection)
            raise SourceBusy(
                f"creating slot {name} waited {timeout_s:g} s for running transactions: {holders}",
                hint=END_IT,
            ) from error
        except psycopg.errors.DuplicateObject as error:
            raise SlotInUse(f"there is a slot {name} already") from error
        finally:
            if not connection.closed:
                connection.execute("SET statement_timeout = 0")
    assert row is not None
    return parse_lsn(row[0])


def drop(connection: Connection, name: str) -> None:
    """Drop the slot if there is one; what it held back is lost.

    Raises:
        SlotInUse: a process reads it.
    """
    with _mapped(f"dropping slot {name}"):
        connection.execute(
            "SELECT pg_catalog.pg_drop_replication_slot(slot_name) "
            "FROM pg_catalog.pg_replication_slots WHERE slot_name = %s",
            (name,),
        )


def _check_wal_level(connection: Connection) -> None:
    """Refuse a server whose WAL lacks what decoding needs."""
    level = connection.execute("SELECT pg_catalog.current_setting('wal_level')").fetchone()
    if level != ("logical",):
        raise WalLevelTooLow(f"wal_level is {level[0] if level else 'unknown'}")


def _needed_lsn(state: LakeState) -> int | None:
    """From where the lake needs the stream; None for a lake without a table."""
    if state.durable_lsn > 0:
        return state.durable_lsn
    return min((table.copy_lsn for table in state.tables.values()), default=None)


def _one_phase(name: str) -> str:
    """How to have transactions when they are committed: a copy of a slot gives them so."""
    copy, drop = "pg_copy_logical_replication_slot", "pg_drop_replication_slot"
    old, kept = f"'{name}'", f"'{name[:50]}_one_phase'"
    return (
        f"Put a copy in its place: SELECT {copy}({old}, {kept}); SELECT {drop}({old});"
        f" SELECT {copy}({kept}, {old}); SELECT {drop}({kept});"
    )


def _wal_end(connection: Connection) -> int:
    """The server's end of WAL."""
    with _mapped("reading the end of WAL"):
        row = connection.execute(_WAL_END).fetchone()
    assert row is not None
    return parse_lsn(row[0])


def _who(connection: Connection, pid: int) -> str:
    """Whose a server process is."""
    with _mapped("looking at the slot's reader"):
        row = connection.execute(_WHO, (pid,)).fetchone()
    return row[0] if row else f"{pid}, gone by now"


@contextmanager
def _mapped(doing: str) -> Iterator[None]:
    """Raise psycopg's errors as ours."""
    try:
        yield
    except psycopg.Error as error:
        raise map_error(error, doing) from error


_NO_SLOT = (
    "It was dropped, or the server was promoted from a standby, restored or upgraded without its slots "
    "(before PostgreSQL 17 they never come along). Run `smartstream resync` to create it and copy the "
    "tables again."
)
_WHY_LOST = {
    "wal_removed": "it fell further behind than max_slot_wal_keep_size allows",
    "idle_timeout": "nobody read it for idle_replication_slot_timeout",
    "wal_level_insufficient": "wal_level was lowered",
    "rows_removed": "rows that decoding needs were removed",
}

_CREATE_SYNCED: LiteralString = (
    "SELECT lsn::text FROM pg_catalog.pg_create_logical_replication_slot(%s, %s, false, false, true)"
)
_CREATE: LiteralString = "SELECT lsn::text FROM pg_catalog.pg_create_logical_replication_slot(%s, %s)"

# to_jsonb, because which columns there are depends on the server's version.
_SLOT: LiteralString = """
SELECT to_jsonb(s), CASE WHEN pg_catalog.pg_is_in_recovery() THEN 0
       ELSE pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_lsn(), s.restart_lsn) END
FROM pg_catalog.pg_replication_slots s WHERE slot_name = %s
"""

_WAL_END: LiteralString = """
SELECT (CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_replay_lsn()
        ELSE pg_catalog.pg_current_wal_lsn() END)::text
"""

_WHO: LiteralString = """
SELECT pg_catalog.format('%%s (%%s, role %%s, at %%s)', pid,
                         coalesce(nullif(application_name, ''), 'no name'),
                         coalesce(usename, 'unknown'), coalesce(client_addr::text, 'the local socket'))
FROM pg_catalog.pg_stat_activity WHERE pid = %s
"""
