"""Handle: raw objects that were announced become changes of trusted tables.

Objects are read one by one; what they hold is applied together, a bounded number of bytes
at a time, so that each table is locked and committed to once for many small objects.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import pyarrow as pa

from smartstream.config import Settings, matches, rules_of
from smartstream.delivery.damaged import DamagedRecords
from smartstream.delivery.definitions import Definitions
from smartstream.delivery.deliver import Deliverer
from smartstream.delivery.lock import TableLocks
from smartstream.delivery.records import Decoded, Options, read_object
from smartstream.errors import ConfigInvalid, DefinitionMissing, SmartStreamError
from smartstream.schema import TableSchema
from smartstream.trusted.catalog import LakeCatalog
from smartstream.trusted.engine import Engine

_LOG = logging.getLogger(__name__)

BATCH_BYTES_MAX = 64 << 20
"""Of Arrow's memory for changes that wait to be applied; one object more may come on top."""

HEALED_MAX = 50
"""Objects that one call reads again for each table whose columns it was told."""


@dataclass(frozen=True, slots=True)
class Announced:
    """An object, and the queue's message that told of it."""

    message: str
    key: str


@dataclass(slots=True)
class _Batch:
    """What some objects hold.

    Attributes:
        parts: changelogs by table.
        messages: that told of them, by table.
    """

    parts: defaultdict[str, list[pa.Table]] = field(default_factory=lambda: defaultdict(list))
    messages: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    schemas: dict[str, TableSchema] = field(default_factory=dict)
    damaged: list[pa.Table] = field(default_factory=list)
    objects: list[Announced] = field(default_factory=list)
    size_bytes: int = 0

    def add(self, announced: Announced, decoded: Decoded) -> None:
        """Take over what an object holds."""
        self.objects.append(announced)
        self.damaged.append(decoded.damaged)
        for name, (schema, changelog) in decoded.changes.items():
            self.parts[name].append(changelog)
            self.messages[name].add(announced.message)
            self.schemas[name] = schema
            self.size_bytes += changelog.nbytes


class Transform:
    """Applies announced objects to the lake's tables."""

    def __init__(
        self,
        settings: Settings,
        catalog: LakeCatalog,
        definitions: Definitions,
        *,
        locks: TableLocks,
        clock: Callable[[], datetime],
        options: Options | None = None,
    ) -> None:
        engine = Engine()
        self._settings, self._definitions, self._clock = settings, definitions, clock
        self._options = options or Options()
        self._deliverer = Deliverer(settings, catalog, engine, locks=locks, clock=clock, look_up=_no_look_up)
        self._damaged = DamagedRecords(catalog, engine, locks)

    def apply(
        self, announced: Iterable[Announced], fetch: Callable[[str], bytes]
    ) -> dict[str, SmartStreamError]:
        """Apply objects; return the messages that must come again, and why.

        What fails is the message of an object that can't be read or has changes of a table that
        can't be written; other tables are written all the same, since doing it twice does no harm.

        Args:
            fetch: the bytes of the object under a key; raises SmartStreamError.
        """
        failed: dict[str, SmartStreamError] = {}
        told = self._apply(_fetched(announced, fetch, failed), failed)
        self._apply(self._damaged_before(told, fetch, failed), failed)
        return failed

    def _apply(
        self, objects: Iterable[tuple[Announced, bytes]], failed: dict[str, SmartStreamError]
    ) -> dict[str, str]:
        """Apply objects, noting what failed; return the tables that were defined, and a message of each."""
        told: dict[str, str] = {}
        batch = _Batch()
        for one, data in objects:
            try:
                decoded = self._decoded(one, data)
            except SmartStreamError as error:
                failed.setdefault(one.message, error)
                continue
            batch.add(one, decoded)
            told |= dict.fromkeys(decoded.told, one.message)
            if decoded.undefined:
                names = ", ".join(sorted(decoded.undefined))
                failed.setdefault(one.message, DefinitionMissing(f"{one.key} has records of {names}"))
            if batch.size_bytes >= BATCH_BYTES_MAX:
                self._flush(batch, failed)
                batch = _Batch()
        self._flush(batch, failed)
        return told

    def _damaged_before(
        self, told: dict[str, str], fetch: Callable[[str], bytes], failed: dict[str, SmartStreamError]
    ) -> Iterator[tuple[Announced, bytes]]:
        """Objects that came before the control records of their columns, once more.

        Their records tell their place in the log, so that reading them late does no harm.
        """
        for table_id, message in told.items():
            try:
                keys = self._damaged.with_unknown_columns([table_id])
            except SmartStreamError as error:
                failed.setdefault(message, error)
                continue
            left = len(keys[HEALED_MAX:])
            for key in keys[:HEALED_MAX]:
                try:
                    yield Announced(message, key), fetch(key)
                except SmartStreamError:
                    left += 1  # Too old perhaps; it stays in the quarantine, with its text.
            if left:
                facts = {"event": "not_healed", "table": table_id, "objects": left}
                _LOG.warning("damaged objects were not read again", extra=facts)

    def _decoded(self, announced: Announced, data: bytes) -> Decoded:
        """One object; what control records say of tables is kept before anything relies on it."""
        decoded = read_object(announced.key, data, self._definitions, self._options)
        # What parsing took, Arrow would keep; a function has little memory, and needs it elsewhere next.
        pa.default_memory_pool().release_unused()
        for schema in decoded.learnt.values():
            self._definitions.put(schema)
        self._leave_out(decoded)
        _LOG.info(
            "raw object read",
            extra={
                "event": "read",
                "key": announced.key,
                "size_bytes": len(data),
                "changes": sum(len(changelog) for _, changelog in decoded.changes.values()),
                "control": decoded.control,
                "ignored": decoded.ignored,
                "damaged": len(decoded.damaged),
            },
        )
        return decoded

    def _leave_out(self, decoded: Decoded) -> None:
        """Forget tables that the configuration does not want; DMS may be told to send more."""

        def is_wanted(name: str) -> bool:
            return matches(self._settings, name)

        decoded.changes = {name: found for name, found in decoded.changes.items() if is_wanted(name)}
        decoded.undefined = {name: count for name, count in decoded.undefined.items() if is_wanted(name)}
        owners = zip(*(decoded.damaged[name].to_pylist() for name in ("schema", "table")), strict=True)
        kept = [schema is None or is_wanted(f"{schema}.{table}") for schema, table in owners]
        decoded.damaged = decoded.damaged.filter(pa.array(kept, pa.bool_()))

    def _flush(self, batch: _Batch, failed: dict[str, SmartStreamError]) -> None:
        """Apply what has been gathered: damaged records first, so that no row goes unexplained."""
        if not batch.objects:
            return
        try:
            keys = [one.key for one in batch.objects]
            self._damaged.keep(keys, pa.concat_tables(batch.damaged), self._clock())
        except SmartStreamError as error:
            for one in batch.objects:
                failed.setdefault(one.message, error)
            return
        for name, parts in batch.parts.items():
            try:
                self._deliver(batch.schemas[name], parts)
            except SmartStreamError as error:
                for message in batch.messages[name]:
                    failed.setdefault(message, error)

    def _deliver(self, schema: TableSchema, parts: Sequence[pa.Table]) -> None:
        """Apply the changes of one table."""
        if any(rule.dedupe for rule in rules_of(self._settings, schema.id).clean):
            raise ConfigInvalid(
                f"{schema.id} has a dedupe rule, which changes from DMS do not support",
                hint="Remove the rule from smartstream.yaml, or deduplicate in a query; docs/formats/dms.md.",
            )
        done = self._deliverer.apply(schema, pa.concat_tables([_shaped(part, schema) for part in parts]))
        facts = {"changes": done.changes, "late": done.late, "quarantined": done.quarantined}
        _LOG.info("table written", extra={"event": "applied", "table": done.table, **facts})


def _fetched(
    announced: Iterable[Announced], fetch: Callable[[str], bytes], failed: dict[str, SmartStreamError]
) -> Iterator[tuple[Announced, bytes]]:
    """Objects with their bytes, one at a time; those that can't be had fail."""
    for one in announced:
        try:
            data = fetch(one.key)
        except SmartStreamError as error:
            failed.setdefault(one.message, error)
            continue
        yield one, data


def _shaped(changelog: pa.Table, schema: TableSchema) -> pa.Table:
    """A changelog from before a control record added columns, with nulls for them."""
    target = schema.changelog_schema()
    if changelog.schema.equals(target):
        return changelog
    names = set(changelog.column_names)
    arrays = [changelog[f.name] if f.name in names else pa.nulls(len(changelog), f.type) for f in target]
    return pa.table(arrays, schema=target)


def _no_look_up(keys: pa.Table, schema: TableSchema, seq: int) -> pa.Table:
    """Rows of the source can't be looked up among Firehose's objects."""
    raise ConfigInvalid(f"{schema.id} has a rule that needs rows of the source, which DMS can't give")
