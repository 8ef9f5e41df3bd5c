"""The PostgreSQL side, and changes of its tables."""

from __future__ import annotations

from smartstream.errors.base import ExitCode, Retry, SmartStreamError


class SourceError(SmartStreamError):
    """The PostgreSQL side."""

    hint = "Run `smartstream doctor` to see what the source lacks."


class SourceUnreachable(SourceError):
    """No server answers at the configured address."""

    retry = Retry.TRANSIENT
    hint = "Check that the server runs and that host, port and firewall let this machine in."


class SourceAuthFailed(SourceError):
    """The server refused the role or its password."""

    hint = "Check user and password in source.url, and pg_hba.conf on the server."


class DatabaseMissing(SourceError):
    """The server has no database of the configured name."""

    hint = "Check the database name in source.url."


class SourceBusy(SourceError):
    """The server refuses for now: a lock, a limit or an open transaction is in the way."""

    retry = Retry.TRANSIENT
    hint = "SmartStream tries again by itself; if this repeats, look at pg_stat_activity on the server."


class SourceGone(SourceError):
    """An open connection broke."""

    retry = Retry.TRANSIENT
    hint = "SmartStream reconnects by itself; if this repeats, look at the server's log."


class SourceVersionUnsupported(SourceError):
    """The server is older than PostgreSQL 13."""

    hint = "Upgrade the server to PostgreSQL 13 or later."


class WalLevelTooLow(SourceError):
    """wal_level is not logical."""

    hint = "ALTER SYSTEM SET wal_level = logical; then restart the server."


class MissingRight(SourceError):
    """The role lacks a right."""

    hint = "`smartstream doctor --print-sql` prints the GRANT and ALTER ROLE statements."


class NoFreeSlot(SourceError):
    """max_replication_slots or max_wal_senders is used up."""

    hint = "Drop a slot that nobody reads (pg_replication_slots), or raise max_replication_slots and restart."


class SlotInUse(SourceError):
    """Another process reads the slot."""

    retry = Retry.TRANSIENT
    hint = "Stop the other SmartStream on this slot, or give this one a source.slot.name of its own."


class SlotLost(SourceError):
    """The slot is missing or its WAL was removed: changes are lost."""

    retry = Retry.NEVER
    hint = "Run `smartstream resync` to create a new slot and copy the tables again."


class SlotAhead(SourceError):
    """The slot stands past what was saved: something else consumed changes."""

    retry = Retry.NEVER
    hint = "Run `smartstream resync` to copy the tables again; find out who else reads this slot."


class SourceRewound(SourceError):
    """The server's WAL ends before the saved position: another or a restored server."""

    retry = Retry.NEVER
    hint = "Check that source.url names the right server; after a restore, run `smartstream resync`."


class PublicationMissing(SourceError):
    """The publication does not exist and may not be created."""

    hint = "`smartstream doctor --print-sql` prints the CREATE PUBLICATION statement."


class TableWithoutKey(SourceError):
    """A table has neither primary key nor REPLICA IDENTITY USING INDEX."""

    exit_code = ExitCode.CONFIGURATION
    hint = "Add a primary key (ALTER TABLE … ADD PRIMARY KEY (…)), or exclude the table in smartstream.yaml."


class NoTables(SourceError):
    """No table of the source matches the configuration."""

    exit_code = ExitCode.CONFIGURATION
    hint = "Look at `tables:` in smartstream.yaml: patterns are schema.table, with * as wildcard."


class TableRewritten(SourceError):
    """A table was rewritten while it was being copied; its copy starts over."""

    retry = Retry.TRANSIENT
    hint = "The copy starts over by itself; avoid VACUUM FULL and CLUSTER during the first copy."


class ProtocolError(SourceError):
    """Bytes that are not pgoutput."""

    retry = Retry.NEVER
    hint = "This is a defect or an unsupported server: keep the message and report it."


class SchemaError(SmartStreamError):
    """A change of a table that cannot be followed."""

    hint = "Run `smartstream resync TABLE` to copy the table with its new shape."
