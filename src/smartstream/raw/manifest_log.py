"""The manifest on its store: append, replay, checkpoint."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from smartstream.errors import ManifestConflict, RawCorrupt
from smartstream.manifest import Entry, EntryKind, LakeState, RawFile, TableState
from smartstream.raw.store import AlreadyExists, NotFound, Store

_LOG = logging.getLogger(__name__)

PREFIX = "raw/_manifest/"
CHECKPOINT = "raw/_checkpoint.json"


def entry_key(seq: int) -> str:
    """The key of an entry; keys sort as sequence numbers do."""
    return f"{PREFIX}{seq:020d}.json"


class ManifestLog:
    """One process's hold of the log.  Thread-safe; another process is found out on append."""

    def __init__(self, store: Store, clock: Callable[[], datetime]) -> None:
        self._store, self._clock = store, clock
        self._lock = threading.Lock()
        self._state = LakeState()
        self._applied_seq = 0

    @property
    def state(self) -> LakeState:
        """The state after the last entry known here."""
        return self._state

    @property
    def applied_seq(self) -> int:
        """From the checkpoint: entries up to this one are in the trusted tables."""
        return self._applied_seq

    def load(self) -> LakeState:
        """Read the checkpoint and the entries behind it.

        Raises:
            RawCorrupt: an entry is damaged or missing.
        """
        with self._lock:
            self._state, self._applied_seq = self._load_checkpoint()
            for entry in self.entries(self._state.seq):
                self._state = self._state.apply(entry)
            return self._state

    def entries(self, after_seq: int) -> Iterator[Entry]:
        """The entries behind ``after_seq``, in order.

        Raises:
            RawCorrupt: an entry is damaged or missing.
        """
        expected = after_seq + 1
        for found in self._store.list(PREFIX, after=entry_key(after_seq)):
            if found.key != entry_key(expected):
                raise RawCorrupt(f"manifest entry {entry_key(expected)} is missing (found {found.key})")
            yield self._read(found.key)
            expected += 1

    def append(
        self,
        kind: EntryKind,
        *,
        lsn: int,
        files: Sequence[RawFile] = (),
        table: str | None = None,
        detail: Mapping[str, Any] | None = None,
    ) -> Entry:
        """Make the next entry durable; only then do its files exist.

        Raises:
            ManifestConflict: another process has written this entry.
        """
        with self._lock:
            seq = self._state.seq + 1
            entry = Entry(seq, kind, lsn, self._clock(), tuple(files), table, detail or {})
            state = self._state.apply(entry)
            data = entry.to_json()
            try:
                self._store.put(entry_key(seq), data, if_absent=True)
            except AlreadyExists:
                # A retried request may find what it wrote itself the first time.
                if self._store.get(entry_key(seq)) != data:
                    raise ManifestConflict(f"{entry_key(seq)} was written by another process") from None
            self._state = state
            return entry

    def save_checkpoint(self, state: LakeState, applied_seq: int) -> None:
        """Save the state so that a restart need not replay the whole log."""
        value = {"applied_seq": applied_seq, "state": _state_to_dict(state)}
        self._store.put(CHECKPOINT, json.dumps(value, indent=1).encode())

    def _load_checkpoint(self) -> tuple[LakeState, int]:
        """The saved state, or the empty one: a checkpoint only saves time."""
        try:
            value = json.loads(self._store.get(CHECKPOINT))
            return _state_from_dict(value["state"]), value["applied_seq"]
        except NotFound:
            return LakeState(), 0
        except (ValueError, KeyError, TypeError) as error:
            _LOG.warning("the checkpoint is damaged (%s); replaying the whole manifest", type(error).__name__)
            return LakeState(), 0

    def _read(self, key: str) -> Entry:
        """One entry."""
        try:
            return Entry.from_json(self._store.get(key))
        except NotFound:
            raise RawCorrupt(f"manifest entry {key} is missing") from None
        except (ValueError, KeyError, TypeError) as error:
            raise RawCorrupt(f"manifest entry {key} is damaged: {error}") from error


def _state_to_dict(state: LakeState) -> dict[str, Any]:
    """JSON's view of a state."""
    tables = {
        name: {**asdict(table), "chunks_done": sorted(table.chunks_done)} for name, table in state.tables.items()
    }
    return {"seq": state.seq, "durable_lsn": state.durable_lsn, "tables": tables}


def _state_from_dict(value: dict[str, Any]) -> LakeState:
    """Inverse of ``_state_to_dict``."""
    tables = {
        name: TableState(
            **{
                **table,
                "chunks": tuple((c[0], c[1], c[2]) for c in table["chunks"]),
                "chunks_done": frozenset(table["chunks_done"]),
            }
        )
        for name, table in value["tables"].items()
    }
    return LakeState(value["seq"], value["durable_lsn"], tables)
