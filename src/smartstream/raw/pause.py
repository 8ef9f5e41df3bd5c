"""A mark in the lake: trusted tables shall stand still, while changes go on into the raw zone."""

from __future__ import annotations

from datetime import datetime

from smartstream.raw.store import NotFound, Store

KEY = "control/paused"


def pause(store: Store, at: datetime) -> datetime:
    """Set the mark; returns since when it is there, which may be earlier than ``at``."""
    before = paused_since(store)
    if before is None:
        store.put(KEY, at.isoformat().encode())
    return before or at


def resume(store: Store) -> datetime | None:
    """Take the mark away; returns since when it was there."""
    before = paused_since(store)
    store.delete(KEY)
    return before


def paused_since(store: Store) -> datetime | None:
    """Since when trusted tables stand still; None when they do not."""
    try:
        return datetime.fromisoformat(store.get(KEY).decode())
    except NotFound:
        return None
