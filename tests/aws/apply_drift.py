"""What a second plan on emulators wants to change, although nothing did: reviewed, each with its reason.

All of it is an emulator that forgets or rewords what it was told.  The test compares in
both directions: drift that isn't listed fails it, and so does an entry that no longer drifts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

# By address, then by field.  A field stands for itself and for what lies below it.
EXPECTED_DRIFT: Mapping[str, Mapping[str, str]] = {
    "aws_db_instance.source": {
        "backup_window": "ministack answers 03:00-04:00 whatever it was told",
        "enabled_cloudwatch_logs_exports": "ministack's answer has an empty list whatever it was told",
    },
    "aws_flow_log.this[0]": {
        "iam_role_arn": "ministack doesn't keep a flow log's role; a change of it makes a new flow log",
        "deliver_cross_account_role": "ministack answers an empty text where EC2 answers nothing",
        "max_aggregation_interval": "ministack doesn't keep it",
        "tags": "ministack looks for tags of a flow-log, and EC2's type is called vpc-flow-log",
        "tags_all": "as tags",
    },
    "aws_kinesis_firehose_delivery_stream.raw": {
        "extended_s3_configuration.custom_time_zone": "ministack's answer leaves it out",
        "extended_s3_configuration.file_extension": "ministack's answer leaves it out, though it uses it",
    },
    "aws_vpc_endpoint.s3": {
        "policy": "ministack keeps an endpoint's policy when it is changed, but not when it is made",
    },
}


def drift_of(plan: Mapping[str, Any]) -> frozenset[tuple[str, str]]:
    """Each (address, field) that a plan would change, outputs among them."""
    found = {
        (resource["address"], field)
        for resource in plan.get("resource_changes", ())
        if resource["change"]["actions"] != ["no-op"]
        for field in _changed_fields(resource["change"])
    }
    outputs = plan.get("output_changes", {})
    found |= {(f"output.{name}", "") for name, change in outputs.items() if change["actions"] != ["no-op"]}
    return frozenset(found)


def is_expected(address: str, field: str) -> bool:
    """Whether the list above has it."""
    return any(covers(listed, field) for listed in EXPECTED_DRIFT.get(address, ()))


def covers(listed: str, field: str) -> bool:
    """Whether a listed field is this one or holds it."""
    return field == listed or field.startswith(f"{listed}.")


def _changed_fields(change: Mapping[str, Any]) -> Iterator[str]:
    """The fields that differ; the whole resource counts as one where there is no before or after."""
    if change["before"] is None or change["after"] is None:
        yield "(all of it)"
        return
    unknown = {name for name, value in (change.get("after_unknown") or {}).items() if value is True}
    # What is made anew gets new ids and the like: those are no reason, what makes it so is.
    if "delete" not in change["actions"]:
        yield from sorted(unknown)
    before = {name: value for name, value in change["before"].items() if name not in unknown}
    yield from _differing(before, {name: change["after"].get(name) for name in before})


def _differing(before: Any, after: Any, path: str = "") -> Iterator[str]:
    """Paths of values that differ, without the positions in lists."""
    if isinstance(before, dict) and isinstance(after, dict):
        for name in sorted({*before, *after}):
            yield from _differing(before.get(name), after.get(name), f"{path}.{name}".lstrip("."))
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after) == 1:
        yield from _differing(before[0], after[0], path)
    elif before != after:
        yield path
