"""Doctor: what the source, the lake and this machine lack, each with its fix.

``diagnose`` runs every check that can be run; a failing one never hides another.
``source`` looks at the server, ``tables`` at the captured tables, ``lake`` at the
warehouse and this machine, ``models`` at the models.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from functools import partial

import psycopg

from smartstream.capture.catalog import Discovery
from smartstream.capture.connect import connect, map_error
from smartstream.capture.published import discover
from smartstream.config import Settings, matches
from smartstream.doctor import lake, models, rules, source, tables
from smartstream.doctor.check import Check, Patient, Status, failed
from smartstream.errors import ConfigError, SmartStreamError
from smartstream.manifest import LakeState
from smartstream.raw.manifest_log import ManifestLog
from smartstream.raw.store import open_store

__all__ = ["Check", "Status", "diagnose", "sql_script"]

SOURCE_CHECKS: tuple[tuple[str, Callable[[Patient], Check]], ...] = (
    ("version", source.version),
    ("wal_level", source.wal_level),
    ("identity", source.same_source),
    ("replication right", source.replication_right),
    ("encoding", source.encoding),
    ("tables", tables.found),
    ("patterns", tables.patterns),
    ("names", tables.names),
    ("keys", tables.keys),
    ("rules", rules.fit),
    ("select rights", tables.select_rights),
    ("row security", tables.row_security),
    ("publication", tables.publication),
    ("free slots", source.free_slots),
    ("free senders", source.free_senders),
    ("slot", source.slot_state),
    ("open transactions", source.open_transactions),
    ("max_slot_wal_keep_size", source.wal_keep_size),
    ("clock", source.clock_difference),
    ("disk space", lake.disk_space),
)
LAKE_CHECKS: tuple[tuple[str, Callable[[Settings], Check]], ...] = (
    ("lake", lake.writable),
    ("catalog", lake.catalog),
    ("packages", lake.packages),
)


def _now() -> datetime:
    """The wall clock, in UTC."""
    return datetime.now(UTC)


def diagnose(settings: Settings, *, clock: Callable[[], datetime] = _now) -> list[Check]:
    """Run every check.  Changes nothing on the source; writes and deletes an object in the lake.

    A missing warehouse folder and catalog are created, as ``run`` would.
    """
    checks = [_guarded(name, partial(check, settings)) for name, check in LAKE_CHECKS]
    return [*_examine_source(settings, _lake_state(settings, clock), clock), *checks, *_models(settings)]


def sql_script(checks: Sequence[Check]) -> str:
    """The statements of all fixes in one block, each once; a comment if there are none."""
    lines: list[str] = []
    for check in checks:
        if check.sql:
            lines += [f"-- {check.name}: {' '.join(check.found.split())}", *check.sql]
    return "\n".join(dict.fromkeys(lines)) if lines else "-- Nothing to do on the source."


def _examine_source(
    settings: Settings, state: LakeState | None, clock: Callable[[], datetime]
) -> Iterator[Check]:
    """The connection, and if there is one, what is behind it."""
    try:
        connection = connect(settings.source)
    except SmartStreamError as error:
        yield failed("connect", error)
        return
    with connection:
        info = connection.info
        where = f"{info.host or 'the local socket'}:{info.port}, database {info.dbname}, as {info.user}"
        yield Check("connect", Status.OK, where)
        try:
            discovery = discover(connection, settings.source, partial(matches, settings))
        except SmartStreamError as error:
            yield failed("catalog of tables", error)
            discovery = Discovery((), ())
        patient = Patient(settings, connection, info.user, discovery, state, clock)
        for name, check in SOURCE_CHECKS:
            yield _guarded(name, partial(check, patient))


def _models(settings: Settings) -> list[Check]:
    """The checks of the models; without a catalog there is one, which says so."""
    try:
        return list(models.fit(settings))
    except SmartStreamError as error:
        return [failed("models", error)]


def _guarded(name: str, check: Callable[[], Check]) -> Check:
    """Run one check; an error in it is what it found."""
    try:
        return check()
    except SmartStreamError as error:
        return failed(name, error)
    except psycopg.Error as error:
        return failed(name, map_error(error, f"checking {name}"))


def _lake_state(settings: Settings, clock: Callable[[], datetime]) -> LakeState | None:
    """What the lake has; the checks of the lake say why it cannot be read."""
    try:
        return ManifestLog(open_store(settings.lake), clock).load()
    except ConfigError:
        raise
    except SmartStreamError:
        return None
