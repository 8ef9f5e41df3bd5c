"""What endpoints and tasks are told, as far as the stand-in heeds it, with DMS's defaults."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from smartstream.testing.local_dms.control_tables import enabled_tables


@dataclass(frozen=True)
class KinesisOptions:
    """Settings of a Kinesis endpoint; names are those of DMS's ``KinesisSettings``."""

    stream_arn: str
    json_unformatted: bool
    include_transaction_details: bool
    include_partition_value: bool
    partition_include_schema_table: bool
    include_table_alter_operations: bool
    include_control_details: bool
    include_null_and_empty: bool
    no_hex_prefix: bool
    use_large_integer_value: bool

    @staticmethod
    def read(settings: Mapping[str, Any]) -> KinesisOptions:
        """Return the options in an endpoint's ``KinesisSettings``."""

        def on(name: str) -> bool:
            return bool(settings.get(name, False))

        return KinesisOptions(
            str(settings["StreamArn"]),
            settings.get("MessageFormat", "json") == "json-unformatted",
            on("IncludeTransactionDetails"),
            on("IncludePartitionValue"),
            on("PartitionIncludeSchemaTable"),
            on("IncludeTableAlterOperations"),
            on("IncludeControlDetails"),
            on("IncludeNullAndEmpty"),
            on("NoHexPrefix"),
            on("UseLargeIntegerValue"),
        )


@dataclass(frozen=True)
class SourceOptions:
    """Settings of a PostgreSQL endpoint; names are those of DMS's ``PostgreSQLSettings``."""

    map_boolean_as_boolean: bool
    trim_space_in_char: bool
    fail_tasks_on_lob_truncation: bool
    heartbeat_enable: bool
    heartbeat_frequency_minutes: int
    heartbeat_schema: str
    capture_ddls: bool
    ddl_artifacts_schema: str
    slot_name: str | None

    @staticmethod
    def read(settings: Mapping[str, Any]) -> SourceOptions:
        """Return the options in an endpoint's ``PostgreSQLSettings``."""
        return SourceOptions(
            bool(settings.get("MapBooleanAsBoolean", False)),
            bool(settings.get("TrimSpaceInChar", True)),
            bool(settings.get("FailTasksOnLobTruncation", False)),
            bool(settings.get("HeartbeatEnable", False)),
            int(settings.get("HeartbeatFrequency", 5)),
            str(settings.get("HeartbeatSchema", "public")),
            bool(settings.get("CaptureDdls", True)),
            str(settings.get("DdlArtifactsSchema", "public")),
            settings.get("SlotName"),
        )


@dataclass(frozen=True)
class TaskOptions:
    """Settings of a task.

    Attributes:
        lob_kb_max: ``LobMaxSize``; longer large objects are cut off. None: they are left out.
        before_image: the record's field for keys before an update, None without.
        before_image_columns: ``pk-only``, ``non-lob`` or ``all``.
        changes_by_primary_key: parallel threads apply changes, so these are partitioned by key too.
        stop_on_data_error: what can't be written stops the task instead of being left out.
        fail_on_no_tables: no table is selected when the task starts: it fails.
        own_tables: DMS's tables that it writes into the stream.
        reconnects_max: in a row to a source that is gone, -1 without end.
    """

    lob_kb_max: int | None
    before_image: str | None
    before_image_columns: str
    changes_by_primary_key: bool
    stop_on_data_error: bool
    fail_on_no_tables: bool
    own_tables: tuple[str, ...]
    reconnects_max: int
    reconnect_seconds: float

    @staticmethod
    def read(text: str) -> TaskOptions:
        """Return the options in a task's settings, JSON as DMS takes it.

        Raises:
            ValueError: it is no JSON object, or asks for what DMS refuses.
        """
        settings = json.loads(text or "{}")
        if not isinstance(settings, dict):
            raise ValueError("task settings are a JSON object")
        target, before = settings.get("TargetMetadata", {}), settings.get("BeforeImageSettings") or {}
        errors = settings.get("ErrorBehavior", {})
        enabled = bool(before.get("EnableBeforeImage", False))
        if enabled and not before.get("FieldName"):
            raise ValueError("a before image needs a FieldName")
        if target.get("FullLobMode"):
            raise ValueError("Kinesis takes no LOBs of unlimited size: FullLobMode can't be true")
        return TaskOptions(
            int(target.get("LobMaxSize", 32)) if target.get("SupportLobs", True) else None,
            str(before["FieldName"]) if enabled else None,
            str(before.get("ColumnFilter", "pk-only")),
            int(target.get("ParallelApplyThreads", 0)) > 0,
            errors.get("DataErrorPolicy", "LOG_ERROR") == "STOP_TASK",
            bool(errors.get("FailOnNoTablesCaptured", True)),
            enabled_tables(settings.get("ControlTablesSettings", {})),
            int(errors.get("RecoverableErrorCount", -1)),
            float(errors.get("RecoverableErrorInterval", 5)),
        )


@dataclass(frozen=True)
class Quirks:
    """What goes wrong on purpose, and what documentation leaves open; the defaults do no harm.

    Attributes:
        duplicate_ratio: of records put, 0 to 1, the share that is put once more, a batch later.
        delay_seconds: before each batch is put.
        seed: what random choices follow from.
        replay_on_resume: a resumed task sends its last batch of changes again.
        toast_as_null: an unchanged TOASTed value is null; False leaves the column out.
        tables_without_key: ``error`` skips them, with the state "Table error"; ``inserts`` is what
            the documentation says: rows and inserts are replicated, updates and deletes ignored.
        heartbeat_seconds: in place of the endpoint's minutes.
        poll_seconds: between looks for changes where there were none.
        batch_rows: of changes that are read at a time; whole transactions, so it may be more.
    """

    duplicate_ratio: float = 0.0
    delay_seconds: float = 0.0
    seed: int = 0
    replay_on_resume: bool = False
    toast_as_null: bool = True
    tables_without_key: str = "error"
    heartbeat_seconds: float | None = None
    poll_seconds: float = 0.2
    batch_rows: int = 5_000
