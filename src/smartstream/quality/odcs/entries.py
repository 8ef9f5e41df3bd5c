"""Quality checks to and from the quality entries of a contract, pure.

The metrics of ODCS's library are written as such.  Ours, which the standard does not know, are
``type: custom`` with ``engine: smartstream``; what happens on failure is a custom property.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime, time
from typing import Any

from pydantic import ValidationError

from smartstream.quality.config import (
    ODCS_METRICS,
    OPERATORS,
    Metric,
    Named,
    OnFail,
    QualityCheck,
    default_name,
)

ENGINE = "smartstream"
ON_FAIL = "onFail"

_DIMENSIONS = {
    Metric.NULL_VALUES: "completeness",
    Metric.MISSING_VALUES: "completeness",
    Metric.INVALID_VALUES: "conformity",
    Metric.DUPLICATE_VALUES: "uniqueness",
    Metric.ROW_COUNT: "coverage",
    Metric.FRESHNESS: "timeliness",
    Metric.VOLUME: "coverage",
    Metric.FOREIGN_KEY: "consistency",
}


def to_odcs(one: Named) -> dict[str, Any]:
    """A check as an entry of ``quality``; its column is said by where the entry stands."""
    name, check = one
    operator = {check.operator: _operand(check)}
    arguments = {key: _plain(value) for key, value in check.arguments.given().items()}
    entry: dict[str, Any] = {"name": name}
    if check.metric in ODCS_METRICS:
        entry |= {"type": "library", "metric": check.metric.value, **operator, "unit": check.unit}
        entry |= {"arguments": arguments} if arguments else {}
    else:
        said = {"metric": check.metric.value, **operator, "unit": check.unit, "arguments": arguments}
        entry |= {"type": "custom", "engine": ENGINE, "implementation": said}
    entry |= {"description": check.description} if check.description else {}
    return entry | {
        "dimension": _DIMENSIONS[check.metric],
        "severity": check.severity,
        "customProperties": [{"property": ON_FAIL, "value": check.on_fail.value}],
    }


def from_odcs(entry: Mapping[str, Any], column: str | None, on_fail: OnFail) -> QualityCheck | str:
    """An entry of ``quality`` as a check; or in words why SmartStream can't hold it.

    Args:
        column: the property that the entry stands at; None at the table.
        on_fail: for entries that say nothing about it; warn where it can't be that.
    """
    kind = entry.get("type", "library")
    said: Any = entry
    if kind == "custom" and entry.get("engine") == ENGINE:
        said = entry.get("implementation")
    elif kind != "library":
        return f"type {kind} is for people or other tools"
    if not isinstance(said, Mapping):
        return "the implementation is not a mapping"
    values = {key: said[key] for key in ("metric", "unit", "arguments", *OPERATORS.values()) if key in said}
    if "rule" in said and "metric" not in said:
        values["metric"] = said["rule"]  # its name before v3.1
    values |= {"column": column} if column else {}
    values |= {key: entry[key] for key in ("severity", "description") if key in entry}
    values |= {"id": entry["name"]} if _is_id(entry.get("name")) else {}
    stated = _stated(entry)
    for choice in dict.fromkeys([stated or on_fail.value, *([] if stated else ["warn"])]):
        try:
            check = QualityCheck.model_validate({**values, "on_fail": choice})
            return check.model_copy(update={"id": None}) if check.id == default_name(check) else check
        except ValidationError as error:
            problem = str(error.errors()[0]["msg"]).removeprefix("Value error, ")
    return problem


def check_settings(check: QualityCheck) -> dict[str, Any]:
    """A check as smartstream.yaml says it, without what is the default."""
    arguments = {key: _plain(value) for key, value in check.arguments.given().items()}
    said = {
        "id": check.id,
        "column": check.column,
        "metric": check.metric.value,
        "arguments": arguments or None,
        check.operator: _operand(check),
        "unit": check.unit if check.unit != "rows" else None,
        "on_fail": check.on_fail.value,
        "severity": check.severity if check.severity != "error" else None,
        "description": check.description,
    }
    return {key: value for key, value in said.items() if value is not None}


def _operand(check: QualityCheck) -> Any:
    """What the operator compares with, as it was written."""
    name = next(name for name in OPERATORS if getattr(check, name) is not None)
    value = getattr(check, name)
    return list(value) if isinstance(value, tuple) else value


def _stated(entry: Mapping[str, Any]) -> str | None:
    """What the entry says about failure."""
    for custom in entry.get("customProperties") or ():
        if isinstance(custom, Mapping) and custom.get("property") == ON_FAIL:
            return str(custom.get("value"))
    return None


def _is_id(name: Any) -> bool:
    """Whether a check can have this name as its id."""
    return (
        isinstance(name, str)
        and bool(name)
        and all(c.isascii() and (c.isalnum() or c in "_.-") for c in name)
    )


def _plain(value: Any) -> Any:
    """A value as JSON has it."""
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return value.isoformat() if isinstance(value, date | datetime | time) else value
