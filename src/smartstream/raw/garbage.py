"""Raw files that no manifest entry names: what crashes leave behind."""

from __future__ import annotations

from datetime import datetime, timedelta

from smartstream.raw.manifest_log import CHECKPOINT, PREFIX, ManifestLog
from smartstream.raw.store import Store


def collect_orphans(store: Store, log: ManifestLog, *, now: datetime, grace: timedelta) -> int:
    """Delete files older than ``grace`` that no entry names; return their number.

    Reads the whole log: for now and then, not for every turn.
    """
    candidates = [
        found.key
        for found in store.list("raw/")
        if now - found.modified > grace and not found.key.startswith(PREFIX) and found.key != CHECKPOINT
    ]
    named = {file.path for entry in log.entries(0) for file in entry.files}
    orphans = [key for key in candidates if key not in named]
    for key in orphans:
        store.delete(key)
    return len(orphans)
