"""How much the slot has not sent yet, and whether reading it in bulk pays."""

from __future__ import annotations

from typing import Any

import psycopg

from smartstream.capture import slot
from smartstream.capture.catchup import flushed_wal_lsn, restart_is_near
from smartstream.errors import SlotLost
from smartstream.manifest import LakeState


def catching_up_pays(
    connection: psycopg.Connection[Any], name: str, state: LakeState, least_bytes: int
) -> bool:
    """Whether the backlog is larger than ``least_bytes``, and the server need not decode much more for it.

    Raises:
        SlotLost, SlotAhead, …: the slot is not what it was; see ``slot.check``.
    """
    info = slot.check(connection, name, state)
    if info is None or info.restart_lsn is None:
        raise SlotLost(f"slot {name} is gone")
    backlog = flushed_wal_lsn(connection) - info.confirmed_flush_lsn
    return backlog > least_bytes and restart_is_near(info.confirmed_flush_lsn - info.restart_lsn, backlog)


def is_near(connection: psycopg.Connection[Any], name: str, flushed_lsn: int) -> bool:
    """Whether the server would decode little more than the backlog; True for a slot that is gone."""
    info = slot.inspect(connection, name)
    if info is None or info.restart_lsn is None:
        return True
    confirmed = info.confirmed_flush_lsn
    return restart_is_near(confirmed - info.restart_lsn, flushed_lsn - confirmed)
