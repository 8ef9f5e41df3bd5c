"""A note in the lake that a large transaction is on its way in, for those who look from outside."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from smartstream.raw.store import NotFound, Store

KEY = "raw/_receiving.json"


@dataclass(frozen=True, slots=True)
class Receiving:
    """A transaction larger than a batch, of which a part is in the raw zone, not yet committed.

    Attributes:
        changes, size_bytes: written so far, size as Parquet.
        since: when its first part was written.
    """

    changes: int
    size_bytes: int
    since: datetime

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"changes": self.changes, "size_bytes": self.size_bytes, "since": self.since.isoformat()}


def note(store: Store, receiving: Receiving) -> None:
    """Leave the note, or bring it up to date."""
    store.put(KEY, json.dumps(receiving.to_dict()).encode())


def forget(store: Store) -> None:
    """Remove it: the transaction is durable, or is read again."""
    store.delete(KEY)


def read(store: Store) -> Receiving | None:
    """The note, if there is one that can be read.  A process that was killed leaves its own behind."""
    try:
        value = json.loads(store.get(KEY))
        since = datetime.fromisoformat(value["since"])
        return Receiving(int(value["changes"]), int(value["size_bytes"]), since)
    except (NotFound, ValueError, KeyError, TypeError):
        return None
