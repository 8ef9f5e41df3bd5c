"""Raw files that no manifest entry names: what crashes leave behind."""

from __future__ import annotations

from datetime import datetime, timedelta

from smartstream.raw.manifest_log import ManifestLog
from smartstream.raw.store import Store


def collect_orphans(store: Store, log: ManifestLog, *, now: datetime, grace: timedelta) -> int:
    """Delete raw files that no entry names; return their number.

    Only what is older than ``grace`` goes, and only what was written before ``log`` was
    loaded: this process may hold files of a large transaction uncommitted for longer
    than any grace.  So it must be called by the process that writes the lake, with the
    log it appends to, and what this process itself leaves behind waits for the next.

    Touches nothing but Parquet files and unfinished writes.  Reads the whole log: for
    now and then, not for every turn.

    Raises:
        RawCorrupt: the log is damaged; nothing was deleted.
    """
    assert log.loaded_at is not None, "the log was never loaded"
    before = min(now, log.loaded_at) - grace
    # List first, then read the log: a file committed in between is seen as named.
    candidates = [
        found.key
        for found in store.list("raw/")
        if found.modified < before and found.key.endswith(".parquet")
    ]
    named = {file.path for entry in log.entries(0) for file in entry.files} if candidates else set()
    orphans = [key for key in candidates if key not in named]
    for key in orphans:
        store.delete(key)
    store.discard_unfinished("raw/", before=before)
    return len(orphans)
