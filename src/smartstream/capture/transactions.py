"""Transactions that are open on the source: whom a copy waits for, and who holds WAL back."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, LiteralString

import psycopg

from smartstream.capture.connect import map_error
from smartstream.errors import SourceBusy

Connection = psycopg.Connection[tuple[Any, ...]]

_POLL_S = 0.05
END_IT = "End it (SELECT pg_terminate_backend(pid), or COMMIT PREPARED), or wait until it has ended."


@dataclass(frozen=True, slots=True)
class OpenTransaction:
    """A transaction that has written something and has not ended.

    Attributes:
        pid: the server process; None for a prepared transaction.
        gid: the global identifier of a prepared transaction, None for others.
        who: application, role and address; or who prepared it.
        state: of the process, as pg_stat_activity shows it, or ``prepared``.
        age: since it began, or since it was prepared.
    """

    pid: int | None
    gid: str | None
    who: str
    state: str
    age: timedelta

    def __str__(self) -> str:
        """What it is, for messages."""
        name = f"prepared transaction '{self.gid}'" if self.gid is not None else f"process {self.pid}"
        shown = "" if self.gid is not None else f"{self.state}, "
        return f"{name} ({shown}{self.who})"

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        age_s = round(self.age.total_seconds(), 1)
        return {"pid": self.pid, "gid": self.gid, "state": self.state, "who": self.who, "age_s": age_s}

    @property
    def end_it(self) -> str:
        """The statement that ends it."""
        if self.gid is not None:
            text = self.gid.replace("'", "''")
            return f"COMMIT PREPARED '{text}';  -- or ROLLBACK PREPARED, in the database it was prepared in"
        return f"SELECT pg_terminate_backend({self.pid});"


def oldest_open(connection: Connection) -> OpenTransaction | None:
    """The oldest transaction of the server, whatever its database: slots keep WAL from its begin on.

    Whose session this role may not look at has an unknown state.
    """
    try:
        row = connection.execute(_OLDEST).fetchone()
    except psycopg.Error as error:
        raise map_error(error, "looking for open transactions") from error
    return OpenTransaction(*row) if row else None


@dataclass(frozen=True, slots=True)
class Barrier:
    """A moment of the source: a transaction number greater than all in progress, and its clock."""

    xid: str
    at: datetime


def barrier(connection: Connection) -> Barrier:
    """This moment; the connection is in autocommit."""
    try:
        row = connection.execute(_BARRIER).fetchone()
    except psycopg.Error as error:
        raise map_error(error, "asking for a transaction number") from error
    assert row is not None
    return Barrier(*row)


def wait_until_copyable(
    connection: Connection,
    table: int,
    since: Barrier,
    timeout_s: float,
    *,
    stop: threading.Event | None = None,
) -> None:
    """Wait until a table's rows and the stream from before ``since`` on have every change between them.

    Two kinds of transactions of before are in neither.  A commit is in WAL before
    snapshots show it (they are far apart where it waits for a synchronous standby).
    And what was written to a table before it was published is not in the stream, though
    its commit is.  All others, however old, will be in the stream when they commit.

    Args:
        connection: in autocommit.
        table: its oid.
        since: taken when the table was published and the stream's position known.
        stop: ends the wait early, without error.
    Raises:
        SourceBusy: one did not end in time; names the process or the prepared transaction.
    """
    stop = stop or threading.Event()
    holders: list[str] = []
    given = {"xid": since.xid, "at": since.at, "table": table}
    try:
        for _ in range(max(1, round(timeout_s / _POLL_S))):
            holders = [name for (name,) in connection.execute(_IN_THE_WAY, given)]
            if not holders or stop.wait(_POLL_S):
                return
    except psycopg.Error as error:
        raise map_error(error, "waiting for older transactions") from error
    raise SourceBusy(
        f"a transaction did not end within {timeout_s:g} s: {_named(holders)}",
        hint=END_IT,
    )


def in_progress(connection: Connection) -> str:
    """The transactions that are in progress now, whatever their database, in words; see ``_named``."""
    given = {"xid": barrier(connection).xid}
    holders = [name for (name,) in connection.execute(_IN_PROGRESS, given)]
    return _named(holders) or "it has ended by now"


def _named(holders: list[str]) -> str:
    """The transactions in the way; more than three are counted."""
    more = f" and {len(holders) - 3} more" if len(holders) > 3 else ""
    return f"{', '.join(holders[:3])}{more}"


# A transaction number greater than all that are in progress, and the moment.
_BARRIER: LiteralString = """
SELECT pg_catalog.pg_current_xact_id()::text, pg_catalog.clock_timestamp()
"""

# Every transaction with an xid holds a lock on it.
_IN_PROGRESS: LiteralString = """
SELECT CASE WHEN p.gid IS NOT NULL THEN pg_catalog.format('prepared transaction %%L', p.gid)
            ELSE pg_catalog.format('process %%s (%%s)', coalesce(l.pid::text, 'unknown'),
                                   coalesce(a.state, 'unknown state'))
       END
FROM pg_catalog.pg_snapshot_xip(pg_catalog.pg_current_snapshot()) AS x(xid)
LEFT JOIN pg_catalog.pg_locks l ON l.locktype = 'transactionid' AND l.mode = 'ExclusiveLock' AND l.granted
                               AND l.transactionid = x.xid::xid
LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
LEFT JOIN pg_catalog.pg_prepared_xacts p ON p.transaction = x.xid::xid
WHERE x.xid < %(xid)s::xid8
"""

# It holds a writer's lock, too, on each table that it wrote to, until its end.  A process that is idle now
# commits later, if ever.  COMMIT PREPARED stands alone in its statement, and other processes' texts may be
# hidden or cut off: whoever may be in such a statement since before is taken to be.
_IN_THE_WAY: LiteralString = (
    _IN_PROGRESS
    + """
  AND coalesce(p.database, a.datname, pg_catalog.current_database()) = pg_catalog.current_database()
  AND CASE WHEN EXISTS (
               SELECT FROM pg_catalog.pg_locks w
               WHERE w.virtualtransaction = l.virtualtransaction AND w.locktype = 'relation' AND w.granted
                 AND w.mode = 'RowExclusiveLock'
                 AND w.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
                 AND (w.relation = %(table)s
                      OR w.relation IN (SELECT relid FROM pg_catalog.pg_partition_tree(%(table)s::oid))))
           THEN true
           WHEN p.gid IS NULL
           THEN coalesce(a.state, '') NOT IN ('idle in transaction', 'idle in transaction (aborted)')
           ELSE EXISTS (
               SELECT FROM pg_catalog.pg_stat_activity b
               WHERE b.datname = pg_catalog.current_database() AND b.pid <> pg_catalog.pg_backend_pid()
                 AND coalesce(b.state, '') NOT LIKE 'idle%%'
                 AND coalesce(b.query_start <= %(at)s, true)
                 AND coalesce(b.backend_type, '') <> 'walsender'
                 AND (coalesce(b.query, '') IN ('', '<insufficient privilege>') OR b.query ~* 'prepared'
                      OR pg_catalog.octet_length(b.query) + 4 >= (
                          SELECT setting::integer FROM pg_catalog.pg_settings
                          WHERE name = 'track_activity_query_size')))
      END
"""
)

# The number of a prepared transaction is in pg_prepared_xacts, a running one's in its process's backend_xid.
_OLDEST: LiteralString = """
SELECT pid, gid, who, state, age FROM (
    SELECT a.pid, NULL::text AS gid,
           pg_catalog.format('%s, role %s, database %s', coalesce(nullif(a.application_name, ''), 'no name'),
                             coalesce(a.usename, 'unknown'), coalesce(a.datname, 'unknown')) AS who,
           coalesce(a.state, 'unknown state') AS state,
           coalesce(pg_catalog.clock_timestamp() - a.xact_start, interval '0') AS age,
           pg_catalog.age(coalesce(a.backend_xid, l.transactionid)) AS xid_age
    FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
    WHERE l.locktype = 'transactionid' AND l.mode = 'ExclusiveLock' AND l.granted
      AND l.pid <> pg_catalog.pg_backend_pid()
    UNION ALL
    SELECT NULL, p.gid, pg_catalog.format('of role %s, database %s', p.owner, p.database), 'prepared',
           pg_catalog.clock_timestamp() - p.prepared, pg_catalog.age(p.transaction)
    FROM pg_catalog.pg_prepared_xacts p
) AS open ORDER BY xid_age DESC LIMIT 1
"""
