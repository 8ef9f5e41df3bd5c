"""Every error that SmartStream raises on purpose.

    SmartStreamError
    ├── ConfigError            exit 2: the configuration or the command line
    │   ├── ConfigInvalid      a key or value in smartstream.yaml (file:line)
    │   └── ConfigMissing      no smartstream.yaml, or an unset secret reference
    ├── SourceError            the PostgreSQL side
    │   ├── SourceUnreachable  ├── SourceAuthFailed   ├── SourceGone (connection lost)
    │   ├── WalLevelTooLow     ├── MissingRight       ├── SourceVersionUnsupported
    │   ├── NoFreeSlot         ├── SlotInUse          ├── SlotLost
    │   ├── SlotAhead          ├── SourceRewound      ├── PublicationMissing
    │   ├── TableWithoutKey    ├── TableRewritten     ├── NoTables
    │   ├── DatabaseMissing    ├── SourceBusy
    │   └── ProtocolError      bytes that are not pgoutput
    ├── SchemaError            a change of a table that cannot be followed
    ├── LakeError              the lake side
    │   ├── LakeNotWritable    ├── DiskFull           ├── StoreUnavailable
    │   ├── RawCorrupt         ├── ManifestConflict   ├── CatalogUnavailable
    │   ├── CommitConflict     └── TableCorrupt
    ├── QueryError             a statement given to ``smartstream sql``
    └── VerifyError            source and lake differ, or cannot be compared

A message says what, where and why; ``hint`` says what to do next.  ``retry``
tells the pipeline whether trying again can help.  Row values and secrets never
enter a message.
"""

from __future__ import annotations

from enum import Enum


class Retry(Enum):
    """What can make the failed step succeed."""

    TRANSIENT = "transient"  # time: try again with backoff
    OPERATOR = "operator"  # a person: stop and say what to do
    NEVER = "never"  # nothing: a defect or lost data; stop
    VERIFY = "verify"  # unknown outcome: reload, look whether it happened, then go on


class ExitCode:
    """Exit codes of the command line."""

    OK = 0
    FAILED = 1
    CONFIGURATION = 2
    DEGRADED = 3


class SmartStreamError(Exception):
    """Base of the tree; never raised itself."""

    retry: Retry = Retry.OPERATOR
    hint: str = ""
    exit_code: int = ExitCode.FAILED

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        if hint is not None:
            self.hint = hint


class ConfigError(SmartStreamError):
    """The configuration or the command line."""

    exit_code = ExitCode.CONFIGURATION
    hint = "Correct smartstream.yaml, then run `smartstream validate`."


class ConfigInvalid(ConfigError):
    """A key or a value in smartstream.yaml is wrong."""


class ConfigMissing(ConfigError):
    """There is no configuration, or a secret it refers to is not set."""

    hint = "Create one with `smartstream init DIR --from postgresql://user@host/database`."


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
    hint = (
        "Stop the other SmartStream that runs on this slot, or give this one a source.slot.name of its own."
    )


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


class LakeError(SmartStreamError):
    """The lake side."""

    hint = "Run `smartstream doctor` to check the lake."


class LakeNotWritable(LakeError):
    """The warehouse refuses writes."""

    hint = "Check lake.warehouse and the rights of the user that runs SmartStream."


class DiskFull(LakeError):
    """No space left where the lake lies."""

    hint = "Free space on the warehouse's disk; SmartStream continues where it stopped, nothing is lost."


class StoreUnavailable(LakeError):
    """The object store does not answer."""

    retry = Retry.TRANSIENT
    hint = "SmartStream tries again by itself; check the network and the store's credentials."


class RawCorrupt(LakeError):
    """A file of the raw changelog is damaged or missing."""

    retry = Retry.NEVER
    hint = "Restore the file from a backup, or run `smartstream resync TABLE` to copy the table again."


class ManifestConflict(LakeError):
    """Another process wrote the manifest entry that was ours to write."""

    retry = Retry.NEVER
    hint = "Two SmartStream processes write to one lake: stop one of them."


class CatalogUnavailable(LakeError):
    """The Iceberg catalog does not answer."""

    retry = Retry.TRANSIENT
    hint = "SmartStream tries again by itself; check lake.catalog."


class CommitConflict(LakeError):
    """An Iceberg commit lost a race or its outcome is unknown."""

    retry = Retry.VERIFY
    hint = "SmartStream reloads the table and looks whether the commit happened."


class TableCorrupt(LakeError):
    """A trusted table's metadata or files do not hold together."""

    retry = Retry.NEVER
    hint = "Run `smartstream resync TABLE` to build the table again."


class QueryError(SmartStreamError):
    """A statement given to ``smartstream sql`` cannot be run."""

    hint = "`smartstream tables` lists the tables and their columns."


class VerifyError(SmartStreamError):
    """Source and lake cannot be compared."""

    hint = "Run `smartstream run --once` to bring the lake to the source's position, then verify again."
