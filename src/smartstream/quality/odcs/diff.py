"""What changed from one version of a contract to the next, and whether it breaks a reader, pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from smartstream.quality.config import OnFail, QualityCheck
from smartstream.quality.odcs.document import Contract, Property, SchemaObject
from smartstream.quality.odcs.settings import wanted
from smartstream.quality.odcs.types import same_physical, widens
from smartstream.quality.threshold import implies, threshold_text


@dataclass(frozen=True, slots=True)
class Change:
    """One change.

    Attributes:
        breaking: whether a reader who relies on the old contract can be let down by the new one.
    """

    path: str
    what: str
    breaking: bool

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def diff(old: Contract, new: Contract) -> list[Change]:
    """Return the changes, the breaking ones first.

    Promises that get weaker break: a table or column that goes, another type, ``required`` or
    ``unique`` no more, another key, a threshold that lets more pass.  What is added or gets
    stricter does not.
    """
    return sorted(_changes(old, new), key=lambda change: (not change.breaking, change.path))


def version_advice(old: Contract, new: Contract, changes: list[Change]) -> str | None:
    """What is wrong with the new version number, None if nothing: breaking changes need a major step."""
    before, after = _numbers(old.version), _numbers(new.version)
    if before is None or after is None or not changes:
        return None
    if after <= before:
        return f"version {new.version} does not follow {old.version}"
    if any(change.breaking for change in changes) and after[0] == before[0]:
        return f"breaking changes need version {before[0] + 1}.0.0, it is {new.version}"
    return None


def _changes(old: Contract, new: Contract) -> Iterator[Change]:
    """Every change."""
    before = {one.table_id: one for one in old.objects}
    after = {one.table_id: one for one in new.objects}
    if old.status != new.status:
        yield Change("status", f"{old.status} → {new.status}", new.status in ("deprecated", "retired"))
    for name, one in before.items():
        if name not in after:
            yield Change(name, "the table is gone", True)
        else:
            yield from _of_table(name, one, after[name])
    for name in after:
        if name not in before:
            yield Change(name, "a new table", False)
    yield from _of_quality(old, new, set(before) & set(after))


def _of_table(name: str, old: SchemaObject, new: SchemaObject) -> Iterator[Change]:
    """Changes of a table's columns."""
    if old.key != new.key:
        yield Change(name, f"primary key ({', '.join(old.key)}) → ({', '.join(new.key)})", True)
    before = {one.name: one for one in old.properties}
    after = {one.name: one for one in new.properties}
    for column, one in before.items():
        if column not in after:
            yield Change(f"{name}.{column}", "the column is gone", True)
        else:
            yield from _of_column(f"{name}.{column}", one, after[column])
    for column in after:
        if column not in before:
            yield Change(f"{name}.{column}", "a new column", False)


def _of_column(path: str, old: Property, new: Property) -> Iterator[Change]:
    """Changes of one column's type."""
    a, b = old.physical_type, new.physical_type
    if old.logical_type != new.logical_type:
        yield Change(
            path, f"logicalType {old.logical_type} → {new.logical_type}", old.logical_type is not None
        )
    elif a is not None and b is not None and not same_physical(a, b):
        wider = widens(a, b)
        yield Change(path, f"physicalType {a} → {b}{' (wider)' if wider else ''}", not wider)
    elif (a is None) != (b is None):
        yield Change(path, f"physicalType {a} → {b}", b is None)


def _of_quality(old: Contract, new: Contract, tables: set[str]) -> Iterator[Change]:
    """Changes of what is promised about values, ``required`` and ``unique`` among them."""
    before, after = _promises(old, tables), _promises(new, tables)
    for key, check in before.items():
        if key not in after:
            yield Change(key[0], f"no longer promised: {_said(check)}", True)
            continue
        now = after[key]
        if _said(now) == _said(check):
            continue
        kept = implies((now.operator, now.bounds), (check.operator, check.bounds))
        kept = kept and _arguments_kept(check, now)
        yield Change(key[0], f"{_said(check)} → {_said(now)}", not kept)
    for key, check in after.items():
        if key not in before:
            yield Change(key[0], f"newly promised: {_said(check)}", False)


def _promises(contract: Contract, tables: set[str]) -> dict[tuple[str, ...], QualityCheck]:
    """The checks by what they measure: path, metric, unit, and the how-manieth of its kind."""
    found: dict[tuple[str, ...], QualityCheck] = {}
    for one in wanted(contract, on_fail=OnFail.WARN):
        for check in one.checks if one.table in tables else ():
            path = ".".join([one.table, *([", ".join(check.names)] if check.names else [])])
            number = 0
            while (key := (path, check.metric.value, check.unit, str(number))) in found:
                number += 1
            found[key] = check
    return found


def _arguments_kept(old: QualityCheck, new: QualityCheck) -> bool:
    """Whether all that passes the new check's arguments passes the old one's."""
    before, after = old.arguments.given(), new.arguments.given()
    return all(name in after and _kept(name, value, after[name]) for name, value in before.items())


def _kept(name: str, old: Any, new: Any) -> bool:
    """Whether an argument lets pass nothing that it did not before."""
    if name == "validValues":
        return {*map(repr, new)} <= {*map(repr, old)}
    if name == "missingValues":
        return {*map(repr, old)} <= {*map(repr, new)}
    numbers = isinstance(old, int | float) and isinstance(new, int | float)
    if numbers or type(old) is type(new):
        if name in ("minLength", "minimum", "exclusiveMinimum"):
            return bool(new >= old)
        if name in ("maxLength", "maximum", "exclusiveMaximum"):
            return bool(new <= old)
    return bool(new == old)


def _said(check: QualityCheck) -> str:
    """A check in words."""
    arguments = check.arguments.given()
    threshold = threshold_text(check.operator, check.bounds)
    return f"{check.metric} {threshold} {check.measured_in}{f' {arguments}' if arguments else ''}"


def _numbers(version: str) -> tuple[int, ...] | None:
    """A version's numbers."""
    found = re.fullmatch(r"v?(\d+)(?:\.(\d+))?(?:\.(\d+))?", version)
    return tuple(int(part or 0) for part in found.groups()) if found else None
