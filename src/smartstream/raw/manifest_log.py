"""The manifest on its store: append, replay, checkpoint."""

from __future__ import annotations

import json
import logging
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import datetime
from typing import Any

from smartstream.errors import LakeError, ManifestConflict, RawCorrupt, StoreUnavailable
from smartstream.manifest import Entry, EntryKind, LakeState, RawFile, SourceMark, TableState
from smartstream.raw.store import AlreadyExists, NotFound, Store

_LOG = logging.getLogger(__name__)

PREFIX = "raw/_manifest/"
CHECKPOINT = "raw/_checkpoint.json"

_ENTRY_KEY = re.compile(re.escape(PREFIX) + r"(\d{20})\.json")
_MALFORMED = (ValueError, KeyError, TypeError, AttributeError, AssertionError, IndexError)


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
        self._loaded_at: datetime | None = None
        self._in_doubt: Entry | None = None  # may be written, now or later

    @property
    def state(self) -> LakeState:
        """The state after the last entry known here."""
        return self._state

    @property
    def applied_seq(self) -> int:
        """From the checkpoint: entries up to this one are in the trusted tables."""
        return self._applied_seq

    @property
    def loaded_at(self) -> datetime | None:
        """When ``load`` was last called: what this process writes is younger."""
        return self._loaded_at

    def load(self) -> LakeState:
        """Read the checkpoint and the entries behind it.

        Raises:
            RawCorrupt: an entry is damaged or missing.
        """
        with self._lock:
            self._loaded_at = self._clock()
            self._state, self._applied_seq = self._load_checkpoint()
            if self._state.seq:
                self._read(self._state.seq)  # a checkpoint without its log is no state to build on
            for entry in self.entries(self._state.seq):
                try:
                    self._state = self._state.apply(entry)
                except _MALFORMED as error:
                    key = entry_key(entry.seq)
                    raise RawCorrupt(f"manifest entry {key} does not follow: {error}") from error
            return self._state

    def entries(self, after_seq: int) -> Iterator[Entry]:
        """The entries behind ``after_seq``, in order.

        Raises:
            RawCorrupt: an entry is damaged or missing.
        """
        expected = after_seq + 1
        for found in self._store.list(PREFIX, after=entry_key(after_seq)):
            match = _ENTRY_KEY.fullmatch(found.key)
            # A folder listed while it grows may leave a name out: only reading shows a gap.
            while match and expected <= int(match[1]):
                yield self._read(expected)
                expected += 1

    def entry(self, seq: int) -> Entry:
        """One entry.

        Raises:
            RawCorrupt: it is damaged or missing.
        """
        return self._read(seq)

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

        A store that does not say whether it wrote is asked again.  When that does not
        help, the entry stays in doubt: the same append may be repeated; any other
        succeeds only if the entry was not written, and else asks for ``load``.

        Raises:
            ManifestConflict: another process has written this entry.
            StoreUnavailable: nothing is known; see above.
            DiskFull, LakeNotWritable: the entry was not written.
        """
        with self._lock:
            seq = self._state.seq + 1
            entry = Entry(seq, kind, lsn, self._clock(), tuple(files), table, detail or {})
            doubted = self._in_doubt
            if doubted is not None and replace(doubted, written_at=entry.written_at) == entry:
                entry = doubted  # byte for byte what may be there already
            state = self._state.apply(entry)
            self._commit(entry)
            self._state, self._in_doubt = state, None
            return entry

    def save_checkpoint(self, state: LakeState, applied_seq: int) -> None:
        """Save the state so that a restart need not replay the whole log."""
        assert 0 <= applied_seq <= state.seq, (applied_seq, state.seq)
        value = {"applied_seq": applied_seq, "state": _state_to_dict(state)}
        self._store.put(CHECKPOINT, json.dumps(value, indent=1).encode())

    def _commit(self, entry: Entry) -> None:
        """Write the entry unless one is there; return only when ours is."""
        key, data = entry_key(entry.seq), entry.to_json()
        failure: LakeError | None = None
        try:
            self._store.put(key, data, if_absent=True)
            return
        except AlreadyExists:
            pass  # perhaps ours: a store's client that repeats a request finds what it wrote itself
        except LakeError as error:
            failure = error
        found = self._found(key)
        if found == data and (failure is None or isinstance(failure, StoreUnavailable)):
            return
        if found is not None and found != data:
            if self._in_doubt is not None and found == self._in_doubt.to_json():
                raise StoreUnavailable(f"{key} was written after all: load the log again")
            raise ManifestConflict(f"{key} was written by another process") from failure
        if isinstance(failure, StoreUnavailable | None) or found == data:
            self._in_doubt = entry
        raise failure or StoreUnavailable(f"{key} exists and can't be read")

    def _found(self, key: str) -> bytes | None:
        """What stands under the key, as far as the store says."""
        try:
            return self._store.get(key)
        except (NotFound, LakeError):
            return None

    def _load_checkpoint(self) -> tuple[LakeState, int]:
        """The saved state, or the empty one: a checkpoint only saves time."""
        try:
            value = json.loads(self._store.get(CHECKPOINT))
            state, applied_seq = _state_from_dict(value["state"]), value["applied_seq"]
            if not 0 <= applied_seq <= state.seq:
                raise ValueError("applied_seq lies outside the log")
            if not all(table.reference and table.copy_schema for table in state.tables.values()):
                return LakeState(), applied_seq  # saved by an older SmartStream: the log knows the rest
            return state, applied_seq
        except NotFound:
            return LakeState(), 0
        except _MALFORMED as error:
            _LOG.warning("the checkpoint is damaged (%s); replaying the whole manifest", type(error).__name__)
            return LakeState(), 0

    def _read(self, seq: int) -> Entry:
        """One entry."""
        key = entry_key(seq)
        try:
            entry = Entry.from_json(self._store.get(key))
            if entry.seq != seq:
                raise ValueError(f"it holds entry {entry.seq}")
            return entry
        except NotFound:
            raise RawCorrupt(f"manifest entry {key} is missing") from None
        except _MALFORMED as error:
            raise RawCorrupt(f"manifest entry {key} is damaged: {error}") from error


def _state_to_dict(state: LakeState) -> dict[str, Any]:
    """JSON's view of a state."""
    tables = {
        name: {**asdict(table), "chunks_done": sorted(table.chunks_done)}
        for name, table in state.tables.items()
    }
    source = asdict(state.source) if state.source else None
    return {
        "seq": state.seq,
        "durable_lsn": state.durable_lsn,
        "tables": tables,
        "source": source,
        "published": dict(state.published),
        "stamps": dict(state.stamps),
    }


def _state_from_dict(value: dict[str, Any]) -> LakeState:
    """Inverse of ``_state_to_dict``."""
    tables = {
        name: TableState(
            **{
                **table,
                "chunks": tuple((str(c[0]), int(c[1]), int(c[2])) for c in table["chunks"]),
                "chunks_done": frozenset(table["chunks_done"]),
            }
        )
        for name, table in value["tables"].items()
    }
    source = SourceMark(**value["source"]) if value.get("source") else None
    published, stamps = dict(value.get("published", {})), dict(value.get("stamps", {}))
    return LakeState(int(value["seq"]), int(value["durable_lsn"]), tables, source, published, stamps)
