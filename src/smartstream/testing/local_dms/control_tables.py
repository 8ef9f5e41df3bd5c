"""DMS's own tables, which it writes to its target: in a stream they are noise without a schema.

Columns are those of AWS's documentation.  How their rows look in a stream is published only
for the definition of awsdms_apply_exceptions; here a row is a record like any other table's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Definition = Mapping[str, Any]

_TIME: Definition = {"type": "TIMESTAMP", "nullable": False}
_TEXT: Definition = {"type": "STRING", "nullable": False}
_COUNT: Definition = {"type": "INT64", "nullable": False}


def _text(length: int) -> Definition:
    return {"type": "STRING", "nullable": False, "length": length}


# Tells of failed statements; it is made whatever the settings say.
APPLY_EXCEPTIONS = "awsdms_apply_exceptions"
STATUS = "awsdms_status"

TABLES: Mapping[str, Mapping[str, Definition]] = {
    APPLY_EXCEPTIONS: {
        "TASK_NAME": _text(128),
        "TABLE_OWNER": _text(128),
        "TABLE_NAME": _text(128),
        "ERROR_TIME": _TIME,
        "STATEMENT": _TEXT,
        "ERROR": _TEXT,
    },
    STATUS: {
        "server_name": _text(128),
        "task_name": _text(128),
        "task_status": _text(64),
        "status_time": _TIME,
        "pending_changes": _COUNT,
        "disk_swap_size": _COUNT,
        "task_memory": _COUNT,
        "source_current_position": _text(128),
        "source_current_timestamp": _TIME,
    },
    "awsdms_suspended_tables": {
        "server_name": _text(128),
        "task_name": _text(128),
        "table_owner": _text(128),
        "table_name": _text(128),
        "suspend_reason": _text(32),
        "suspend_timestamp": _TIME,
    },
    "awsdms_history": {
        "server_name": _text(128),
        "task_name": _text(128),
        "timeslot_type": _text(32),
        "timeslot": _TIME,
        "timeslot_duration": _COUNT,
        "timeslot_latency": _COUNT,
        "timeslot_records": _COUNT,
        "timeslot_volume": _COUNT,
    },
    "awsdms_full_load_exceptions": {
        "TASK_NAME": _text(128),
        "TABLE_OWNER": _text(128),
        "TABLE_NAME": _text(128),
        "ERROR_TIME": _TIME,
        "STATEMENT": _TEXT,
        "ERROR": _TEXT,
    },
}
# Settings of a task by the table that they make DMS write.
ENABLED_BY: Mapping[str, str] = {
    STATUS: "StatusTableEnabled",
    "awsdms_suspended_tables": "SuspendedTablesTableEnabled",
    "awsdms_history": "HistoryTableEnabled",
    "awsdms_full_load_exceptions": "FullLoadExceptionTableEnabled",
}


def enabled_tables(settings: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the tables that a task's ``ControlTablesSettings`` make DMS write."""
    return APPLY_EXCEPTIONS, *(name for name, setting in ENABLED_BY.items() if settings.get(setting))


def status_row(task_id: str, status: str, now: str, lsn: str) -> dict[str, Any]:
    """A row of awsdms_status.

    Args:
        status: ``FULL LOAD`` or ``CHANGE PROCESSING``.
    """
    return {
        "server_name": "local-dms",
        "task_name": task_id,
        "task_status": status,
        "status_time": now,
        "pending_changes": 0,
        "disk_swap_size": 0,
        "task_memory": 0,
        "source_current_position": lsn,
        "source_current_timestamp": now,
    }
