"""Connections to the source, and its errors as ours.

Every connection has the same session settings.  The text of a value depends on
them (dates, floats, bytea, names of objects), and the snapshot copy and the
stream must print a value alike.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any, Protocol

import adbc_driver_manager
import adbc_driver_postgresql.dbapi as adbc
import psycopg
import pyarrow as pa
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from smartstream.errors import (
    ConfigInvalid,
    DatabaseMissing,
    MissingRight,
    NoFreeSlot,
    PublicationLost,
    SlotInUse,
    SlotLost,
    SourceAuthFailed,
    SourceBusy,
    SourceError,
    SourceGone,
    SourceReadOnly,
    SourceStopping,
    SourceUnreachable,
    SourceVersionUnsupported,
    ValueTooLarge,
    WalLevelTooLow,
)

SERVER_VERSION_MIN = 130000

SESSION_SETTINGS = {
    "DateStyle": "ISO",
    "IntervalStyle": "postgres",
    "TimeZone": "UTC",
    "extra_float_digits": "3",
    "bytea_output": "hex",
    # Names of objects inside values (regclass, …) are printed relative to it; and
    # nothing but pg_catalog can be called by an unqualified name.
    "search_path": "pg_catalog",
    # Quoted, they would read otherwise; and ADBC would not find its own functions.
    "quote_all_identifiers": "off",
    # A policy that filters rows must fail, not leave rows out of the copy.
    "row_security": "off",
    # A role's or database's own timeouts must not cut a long read.
    "statement_timeout": "0",
    "lock_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
}

ADBC_ERRORS: tuple[type[Exception], ...] = (adbc_driver_manager.Error, OSError, pa.ArrowException)
"""What reading through ADBC can raise: while batches are streamed, errors come as pyarrow's."""

_KEEPALIVE = {"keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3}


class Source(Protocol):
    """What a connection needs of the configuration."""

    @property
    def dsn(self) -> str:
        """URL or key=value string, with the password; never shown."""

    @property
    def connect_timeout(self) -> float:
        """Seconds to wait for an answer, for each address."""

    @property
    def silence_max(self) -> float:
        """Seconds after which a server that does not answer is given up."""


class _Impatient(psycopg.Connection[tuple[Any, ...]]):
    """A connection for questions that are answered at once: a longer silence means that it is broken."""

    silence_max_s = 60.0

    def wait(self, gen: Any, *arguments: Any, **options: Any) -> Any:
        """As psycopg's, but with an end."""
        try:
            return super().wait(_bounded(gen, self.silence_max_s), *arguments, **options)
        except _Silent:
            self.close()  # its answer may still come: nothing else can be asked
            raise


class _Silent(psycopg.OperationalError):
    """The server has not answered in time."""


def _bounded(steps: Any, seconds: float) -> Any:
    """The steps of a conversation with the server, which must not take longer."""
    deadline = time.monotonic() + seconds
    try:
        wanted = next(steps)
        while True:
            ready = yield wanted
            if not ready and time.monotonic() > deadline:
                raise _Silent(f"the connection is lost: no answer within {seconds:g} s")
            wanted = steps.send(ready)
    except StopIteration as end:
        return end.value


def connect(
    source: Source, *, replication: bool = False, impatient: bool = False
) -> psycopg.Connection[tuple[Any, ...]]:
    """Open a connection with the session settings, in autocommit.

    Args:
        replication: open a walsender session for the database; it understands
            replication commands and SQL without parameters.
        impatient: for quick questions only: SourceGone when one is not answered within
            ``silence_max``.
    Raises:
        ConfigInvalid: the URL is not one.
        SourceUnreachable, SourceAuthFailed, DatabaseMissing, MissingRight, NoFreeSlot,
        SourceVersionUnsupported: see errors/.
    """
    parameters = _parameters(source)
    if replication:
        parameters["replication"] = "database"
    kind = _Impatient if impatient else psycopg.Connection
    try:
        connection = kind.connect(**parameters, autocommit=True)
    except psycopg.Error as error:
        # Without the cause: libpq may have quoted the connection string in it.
        raise map_error(error, _whereabouts(parameters), connecting=True) from None
    if isinstance(connection, _Impatient):
        connection.silence_max_s = source.silence_max
    version = connection.info.server_version
    if version < SERVER_VERSION_MIN:
        connection.close()
        raise SourceVersionUnsupported(f"{_whereabouts(parameters)}: it is PostgreSQL {version // 10000}")
    return connection


def adbc_connect(source: Source) -> adbc.Connection:
    """Open an ADBC connection with the session settings, for bulk reads into Arrow.

    Not in autocommit: the first statement begins a transaction, ``rollback`` ends it.

    Raises:
        as ``connect``, but for SourceVersionUnsupported.
    """
    parameters = _parameters(source)
    try:
        return adbc.connect(make_conninfo(**parameters))
    except adbc_driver_manager.Error as error:
        raise map_error(error, _whereabouts(parameters), connecting=True) from None


def map_error(error: Exception, doing: str, *, connecting: bool = False) -> SourceError:
    """Return our error for one of psycopg or ADBC.

    The message is ``doing`` and the server's primary message; its DETAIL and CONTEXT,
    which may quote values, are left out, and passwords blotted out.

    Args:
        error: of psycopg, or one of ADBC_ERRORS; one of ours is returned as it is.
        doing: what was tried, ``reading slot s``.
        connecting: no session existed yet.
    """
    if isinstance(error, SourceError):
        return error
    reason = _reason(error)
    kind = _classify(getattr(error, "sqlstate", None) or "", reason, connecting)
    if _TOO_LARGE.search(str(error)):  # before 17 the message is "out of memory", and only its DETAIL tells
        kind = ValueTooLarge
    return kind(f"{doing}: {_redact(reason)}")


def _parameters(source: Source) -> dict[str, Any]:
    """libpq parameters: the URL's, then ours."""
    try:
        parameters: dict[str, Any] = dict(conninfo_to_dict(source.dsn))
    except psycopg.ProgrammingError:
        # Without the reason: libpq quotes the URL, password and all.
        raise _not_a_url() from None
    if not re.fullmatch(r"[0-9,]*", str(parameters.get("port") or "")):
        raise _not_a_url()
    settings = " ".join(f"-c {name}={value}" for name, value in SESSION_SETTINGS.items())
    parameters["options"] = f"{parameters.get('options') or ''} {settings}".strip()
    parameters["client_encoding"] = "UTF8"
    parameters["application_name"] = "smartstream"
    parameters["connect_timeout"] = max(2, round(source.connect_timeout))
    # What was sent and never acknowledged by the other machine: milliseconds.
    parameters.setdefault("tcp_user_timeout", round(source.silence_max * 1000))
    return {**_KEEPALIVE, **parameters}


def _not_a_url() -> ConfigInvalid:
    """The error for a URL that libpq does not understand."""
    return ConfigInvalid(
        "source.url is not a PostgreSQL connection URL",
        hint="Write it as postgresql://user:password@host:5432/database, with %-escapes in the password.",
    )


def _whereabouts(parameters: dict[str, Any]) -> str:
    """Where a connection goes, without the password."""
    host = parameters.get("host") or parameters.get("hostaddr") or "the local socket"
    port, user = parameters.get("port") or 5432, parameters.get("user") or "the default role"
    database = parameters.get("dbname") or "the default database"
    return f"connecting to {host}:{port}, database {database}, as {user}"


def _reason(error: Exception) -> str:
    """The server's or the driver's primary message, on one line."""
    primary = error.diag.message_primary if isinstance(error, psycopg.Error) else None
    text = primary or str(error)
    for mark in ("DETAIL:", "CONTEXT:", "HINT:", "LINE 1:", "\nSQLSTATE"):
        text = text.split(mark)[0]
    return " ".join(text.split()).rstrip(".")


def _redact(text: str) -> str:
    """Blot out what can be a password."""
    text = re.sub(r"://[^/@\s]*:[^@\s]*@", "://***@", text)
    return re.sub(r"(?i)\b((?:ssl)?password\s*=\s*)('(?:[^'\\]|\\.)*'|\S+)", r"\1***", text)


def _classify(sqlstate: str, text: str, connecting: bool) -> type[SourceError]:
    """Our error class for an SQLSTATE, or for the text where libpq gives no SQLSTATE."""
    by_state = _BY_STATE.get(sqlstate)
    if by_state is not None:
        return by_state(text)
    for pattern, kind in _BY_TEXT:
        if re.search(pattern, text):
            return kind
    if sqlstate[:2] == "08":
        return SourceUnreachable if connecting else SourceGone
    if sqlstate[:2] in ("40", "53"):
        return SourceBusy
    if connecting:
        return SourceUnreachable
    return SourceError if sqlstate else _without_state(text)


def _without_state(text: str) -> type[SourceError]:
    """What the driver itself reports is nearly always a broken connection."""
    broken = r"closed|lost|terminat|consuming input|could not (receive|send)|SSL|EOF|timed? ?out"
    return SourceGone if re.search(broken, text) else SourceError


def _busy_or_slot(text: str) -> type[SourceError]:
    """55006, object in use."""
    return SlotInUse if "slot" in text else SourceBusy


def _wrong_state(text: str) -> type[SourceError]:
    """55000, object not in prerequisite state."""
    if "wal_level" in text:
        return WalLevelTooLow
    return SlotLost if "slot" in text else SourceError


def _undefined_object(text: str) -> type[SourceError]:
    """42704, undefined object."""
    if "publication" in text:
        return PublicationLost
    return SlotLost if "slot" in text else SourceError


def _too_many(text: str) -> type[SourceError]:
    """53300 and 53400: a configured limit is used up."""
    return NoFreeSlot if re.search(r"max_wal_senders|replication slots", text) else SourceBusy


_TOO_LARGE = re.compile(
    "invalid memory alloc request size|annot enlarge string buffer|string buffer exceeds maximum"
)

_BY_STATE: dict[str, Callable[[str], type[SourceError]]] = {
    "25006": lambda _: SourceReadOnly,
    "28P01": lambda _: SourceAuthFailed,
    "28000": lambda _: SourceAuthFailed,
    "3D000": lambda _: DatabaseMissing,
    "42501": lambda _: MissingRight,
    "42704": _undefined_object,
    "53300": _too_many,
    "53400": _too_many,
    "54000": lambda _: ValueTooLarge,
    "55000": _wrong_state,
    "55006": _busy_or_slot,
    "55P03": lambda _: SourceBusy,
    "57014": lambda _: SourceBusy,
    "57P01": lambda _: SourceGone,
    "57P02": lambda _: SourceGone,
    "57P03": lambda text: SourceStopping if "shutting down" in text else SourceUnreachable,
    "58P01": lambda text: SlotLost if "WAL segment" in text else SourceError,
}

_BY_TEXT: tuple[tuple[str, type[SourceError]], ...] = (
    (r"authentication failed|no password supplied|pg_hba\.conf (entry|rejects)", SourceAuthFailed),
    (r"role \".*\" (does not exist|is not permitted)", SourceAuthFailed),
    (r"FATAL:\s+database \".*\" does not exist", DatabaseMissing),
    (r"permission denied|must be superuser|must have the REPLICATION", MissingRight),
    (r"max_wal_senders|all replication slots are in use", NoFreeSlot),
    (r"too many (clients|connections)|remaining connection slots", SourceBusy),
    (r"can no longer (get|access)|WAL segment .* has already been removed", SlotLost),
    (r"replication slot \".*\" is active", SlotInUse),
    (r"terminating connection", SourceGone),
    (r"database system is shutting down", SourceStopping),
)
