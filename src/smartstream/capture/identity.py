"""Which server this is: the cluster, its timeline, the database.

A lake that goes on from another cluster, or from a history that has parted from its own,
would mix the rows of two databases without an error anywhere: positions in WAL are mere
numbers.  So the lake remembers whom it follows, and this is asked before anything else.
"""

from __future__ import annotations

from typing import Any, LiteralString

import psycopg
from psycopg import pq

from smartstream.capture.connect import Source, connect, map_error
from smartstream.errors import SourceDiverged, SourceReadOnly, SourceReplaced
from smartstream.lsn import format_lsn, parse_lsn
from smartstream.manifest import LakeState, SourceMark

Connection = psycopg.Connection[tuple[Any, ...]]


def look(connection: Connection) -> SourceMark:
    """Return whom a connection reaches.

    Raises:
        SourceReadOnly: a standby: it gives no changes.
    """
    where = f"{connection.info.host or 'the local socket'}:{connection.info.port}"
    try:
        row = connection.execute(_STANDBY).fetchone()
        if row == (True,):
            raise SourceReadOnly(f"{where} is a standby")
        row = connection.execute(_MARK).fetchone()
    except psycopg.Error as error:
        raise map_error(error, f"asking {where} who it is") from error
    assert row is not None
    return SourceMark(system=row[0], timeline=int(row[1], 16), database=row[2])


def check(source: Source, connection: Connection, state: LakeState) -> SourceMark:
    """Return whom the lake goes on from: whom it has followed, or who has taken over from that one.

    A lake that remembers nobody accepts any.

    Raises:
        SourceReadOnly: as ``look``.
        SourceReplaced: another cluster, or another of its databases.
        SourceDiverged: this server's history left that of the lake before the lake's end.
    """
    mark, known = look(connection), state.source
    if known is None:
        return mark
    where = f"{connection.info.host or 'the local socket'}:{connection.info.port}"
    if mark.system != known.system:
        raise SourceReplaced(
            f"{where} is cluster {mark.system}, but the lake follows cluster {known.system} "
            f"and has its changes up to {format_lsn(state.durable_lsn)}"
        )
    if mark.database != known.database:
        raise SourceReplaced(
            f"database {connection.info.dbname} on {where} has oid {mark.database}, "
            f"but the lake follows the one with oid {known.database}"
        )
    if mark.timeline != known.timeline:
        _check_history(source, where, mark, known, state.durable_lsn)
    return mark


def left_at(source: Source, mark: SourceMark, known: SourceMark) -> int | None:
    """Where a server's history left the timeline that the lake followed; None when it never did."""
    if mark.timeline == 1:
        return None
    with connect(source, replication=True) as walsender:
        result = walsender.pgconn.exec_(f"TIMELINE_HISTORY {mark.timeline}".encode())
        if result.status != pq.ExecStatus.TUPLES_OK:
            error = psycopg.errors.error_from_result(result)
            raise map_error(error, f"reading the history of timeline {mark.timeline}") from error
        lines = (result.get_value(0, 1) or b"").decode(errors="replace").splitlines()
    fields = (line.split("\t") for line in lines if line[:1].isdigit())
    return {int(field[0]): parse_lsn(field[1]) for field in fields}.get(known.timeline)


def _check_history(source: Source, where: str, mark: SourceMark, known: SourceMark, durable: int) -> None:
    """Refuse a timeline that does not contain what the lake has."""
    end = left_at(source, mark, known)
    if end is None:
        raise SourceDiverged(
            f"{where} is on timeline {mark.timeline}, which did not come from timeline {known.timeline} "
            "of the lake: perhaps it is the old primary"
        )
    if durable > end:
        raise SourceDiverged(
            f"the lake has changes of timeline {known.timeline} up to {format_lsn(durable)}, but {where} "
            f"left that timeline at {format_lsn(end)} (it is on timeline {mark.timeline} now): "
            "what was committed in between is not there"
        )


_STANDBY: LiteralString = "SELECT pg_catalog.pg_is_in_recovery()"

# A WAL file's name begins with the timeline, in hexadecimal.
_MARK: LiteralString = """
SELECT system_identifier::text,
       pg_catalog.substr(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn()), 1, 8),
       (SELECT oid::int8 FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())
FROM pg_catalog.pg_control_system()
"""
