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


class SourceStopping(SourceError):
    """The server is shutting down; a smart shutdown waits until sessions have ended."""

    retry = Retry.TRANSIENT
    hint = "SmartStream lets its sessions go, and reconnects by itself when the server is back."


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


class SlotTwoPhase(SourceError):
    """The slot gives prepared transactions before they are committed."""

    hint = "Create the slot anew without two_phase, or let `smartstream run` create it."


class SlotForeign(SourceError):
    """The slot decodes another database or with another plugin: it belongs to something else."""

    hint = "Give this SmartStream a source.slot.name of its own, and check the database in source.url."


class SourceReplaced(SourceError):
    """Another database cluster, or another database, than the one that the lake follows."""

    retry = Retry.NEVER
    hint = (
        "Check source.url. After pg_upgrade from 17 or later run `smartstream adopt`: nothing is copied. "
        "If this database takes the other's place in another way (a dump restored), run "
        "`smartstream resync`: all tables are copied again, readers keep the old rows until then."
    )


class UpgradeUnfit(SourceError):
    """The lake can't go on from this cluster as from the old one upgraded."""

    retry = Retry.NEVER
    hint = "Check source.url; if it is right, run `smartstream resync`: all tables are copied again."


class SourceDiverged(SourceError):
    """The lake has changes that this server never had: a standby was promoted before it had them all."""

    retry = Retry.NEVER
    hint = (
        "Run `smartstream resync` to copy the tables again from this server. Before that, look whether "
        "the old primary still has what was committed last."
    )


class SourceReadOnly(SourceError):
    """The server takes no writes: it is a standby, or set to read-only."""

    retry = Retry.TRANSIENT
    hint = "Point source.url at the primary, promote this standby, or end default_transaction_read_only."


class SourceRewound(SourceError):
    """The server's WAL ends before the saved position: another or a restored server."""

    retry = Retry.NEVER
    hint = "Check that source.url names the right server; after a restore, run `smartstream resync`."


class PublicationMissing(SourceError):
    """The publication does not exist and may not be created."""

    hint = "`smartstream doctor --print-sql` prints the CREATE PUBLICATION statement."


class PublicationUnfit(SourceError):
    """A publication that SmartStream does not manage sends too little to keep a table by."""

    exit_code = ExitCode.CONFIGURATION
    hint = (
        "ALTER PUBLICATION … SET (…) with what the message says, or SET TABLE with the key in its columns; "
        "or let SmartStream keep a publication: source.manage_publication: true."
    )


class PublicationLost(SourceError):
    """The stream has come to a change from a time when the publication did not exist.

    Before PostgreSQL 18 the server can't decode past that time, even when the publication is there again.
    """

    retry = Retry.NEVER
    hint = "Run `smartstream resync`: it creates publication and slot anew and copies the tables again."


class TableWithoutKey(SourceError):
    """Nothing that changes carry names a table's rows."""

    exit_code = ExitCode.CONFIGURATION
    hint = (
        "Add a primary key (ALTER TABLE … ADD PRIMARY KEY (…)), or ALTER TABLE … REPLICA IDENTITY DEFAULT "
        "where there is one, or REPLICA IDENTITY FULL where a unique index has no nullable column, "
        "or exclude the table in smartstream.yaml."
    )


class TablesClash(SourceError):
    """Two tables of the source would be one table in the lake, where names don't tell case apart."""

    exit_code = ExitCode.CONFIGURATION
    hint = "Rename one of the tables, or exclude it in smartstream.yaml (`schema.table: {exclude: true}`)."


class NoTables(SourceError):
    """No table of the source matches the configuration."""

    exit_code = ExitCode.CONFIGURATION
    hint = "Look at `tables:` in smartstream.yaml: patterns are schema.table, with * as wildcard."


class TableRewritten(SourceError):
    """A table was rewritten while it was being copied; its copy starts over."""

    retry = Retry.TRANSIENT
    hint = "The copy starts over by itself; avoid VACUUM FULL and CLUSTER during the first copy."


class CopyFailed(SourceError):
    """A table's snapshot copy fails again and again, though the table does not change."""

    retry = Retry.OPERATOR
    hint = (
        "The message says what PostgreSQL answered. Put that right (a function that a type needs, "
        "say), or exclude the table in smartstream.yaml, and start SmartStream again."
    )


class ValueTooLarge(SourceError):
    """A row is larger than PostgreSQL can send: 1 GB as text, where a bytea takes two digits a byte."""

    retry = Retry.OPERATOR
    hint = (
        "Make the value smaller, or exclude its table in smartstream.yaml; then run `smartstream resync`: "
        "the change stays in the WAL, and no reader can get past it."
    )


class ProtocolError(SourceError):
    """Bytes that are not pgoutput."""

    retry = Retry.NEVER
    hint = "This is a defect or an unsupported server: keep the message and report it."


class SchemaError(SmartStreamError):
    """A change of a table that cannot be followed."""

    hint = "Run `smartstream resync TABLE` to copy the table with its new shape."
