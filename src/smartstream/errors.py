"""Every error that SmartStream raises on purpose.

    SmartStreamError
    ├── ConfigError            exit 2: the configuration or the command line
    │   ├── ConfigInvalid      a key or value in smartstream.yaml (file:line)
    │   ├── RuleInvalid        a rule that does not fit its table (file:line)
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
    ├── RuleError              rules while the pipeline runs
    │   ├── RulesBroken        the source changed a column that a rule needs
    │   ├── RuleStop           exit 3: a row breaks a rule that stops
    │   └── HookFailed         ├── RequestFailed (what a command asked of a pipeline)
    ├── QualityError           what a table has promised to its readers
    │   └── QualityStop        ├── SchemaFrozen       ├── ContractInvalid
    ├── AwsError               the stack on AWS
    │   └── EventMalformed     ├── TerraformInvalid   ├── PriceUnknown
    ├── QueryError             a question that ``sql`` or ``why`` can't answer
    │   ├── PastUnknown        ├── NotDurable (moments that the lake does not know)
    │   └── KeyNotFound        a row that never was
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


class RuleInvalid(ConfigError):
    """A rule in smartstream.yaml does not fit the table that it is for."""

    hint = "Correct the rule; `smartstream validate --explain` shows what the rules of each table do."


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


class RuleError(SmartStreamError):
    """Rules while the pipeline runs."""


class RulesBroken(RuleError):
    """The source renamed, dropped or changed a column that a rule needs."""

    hint = "Correct the table's rules in smartstream.yaml, then start again; nothing is lost meanwhile."


class RuleStop(RuleError):
    """A row breaks a rule whose `on_fail` is stop."""

    exit_code = ExitCode.DEGRADED
    hint = (
        "Correct the row in the source, or the rule in smartstream.yaml, then start again; nothing is lost."
    )


class HookFailed(RuleError):
    """A Python hook raises too often, or gives a table of another shape than it says."""

    hint = "Correct the function that `hook` names, then start again; nothing is lost meanwhile."


class RequestFailed(RuleError):
    """A pipeline could not do what a command asked of it."""

    hint = "Do what the message says, then ask again; `smartstream status` shows where the table stands."


class QualityError(SmartStreamError):
    """What a table has promised to its readers."""

    exit_code = ExitCode.DEGRADED
    hint = "Look at the quality checks and the contract of the table in smartstream.yaml."


class QualityStop(QualityError):
    """A quality check failed that stops the pipeline, or too many rows were held back."""

    hint = "Look at the rows in the quarantine and at the source; correct rule or data, then start again."


class SchemaFrozen(QualityError):
    """The source changed a table in a way that its contract does not allow."""

    hint = "Undo the change in the source, or allow it with `contract:` in smartstream.yaml; nothing is lost."


class ContractInvalid(QualityError):
    """A data contract (ODCS) is not one, or says something that cannot be."""

    exit_code = ExitCode.CONFIGURATION
    hint = "Correct the file as the Open Data Contract Standard v3.1 says, then try again."


class AwsError(SmartStreamError):
    """The stack on AWS."""

    hint = "Look at the function's log group in CloudWatch, and at the alarms of the stack."


class EventMalformed(AwsError):
    """A Lambda function was called with an event that is not the one it is there for."""

    retry = Retry.NEVER
    hint = "The message ends in the dead-letter queue: look at it there, and find out what sends it."


class TerraformInvalid(AwsError):
    """A Terraform variable, or a file that sets variables, is wrong."""

    exit_code = ExitCode.CONFIGURATION
    hint = "Correct it as terraform/variables.tf describes the variable, then try again."


class PriceUnknown(AwsError):
    """The price file has no price for something in the configuration."""

    exit_code = ExitCode.CONFIGURATION
    hint = "Choose a class that has a price, or add its price to src/smartstream/aws/cost/prices.json."


class QueryError(SmartStreamError):
    """A statement or a question about the lake cannot be answered."""

    hint = "`smartstream tables` lists the tables and their columns."


class PastUnknown(QueryError):
    """The lake does not know enough of a table to say how it was then."""

    hint = "A table's past is known from the end of its first copy on: ask for a later moment."


class NotDurable(QueryError):
    """A moment that the lake has not reached yet."""

    hint = "Leave --as-of out for the newest rows; `smartstream status` shows how far the lake is."


class KeyNotFound(QueryError):
    """No change that the lake holds is about a row with this key."""

    hint = "Give the values of the key's columns in their order: 7, or 7,x, or id=7,code=x."


class VerifyError(SmartStreamError):
    """Source and lake cannot be compared."""

    hint = "Run `smartstream run --once` to bring the lake to the source's position, then verify again."
