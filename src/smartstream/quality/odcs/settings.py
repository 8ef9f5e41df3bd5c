"""The settings that a contract asks for, pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from smartstream.quality.config import Metric, OnFail, QualityCheck, SchemaContract
from smartstream.quality.odcs.document import Contract, Property, SchemaObject
from smartstream.quality.odcs.entries import check_settings, from_odcs

_LIMITS = ("pattern", "minLength", "maxLength", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")


@dataclass(slots=True)
class Wanted:
    """What a contract asks of one table.

    Attributes:
        left_out: what SmartStream can't hold, and why, in words.
    """

    table: str
    checks: list[QualityCheck] = field(default_factory=list)
    contract: SchemaContract | None = None
    left_out: list[str] = field(default_factory=list)

    def settings(self) -> dict[str, Any]:
        """As they stand under ``tables:`` in smartstream.yaml."""
        made: dict[str, Any] = {}
        if self.contract is not None:
            words = self.contract.model_dump()
            same = len(set(words.values())) == 1
            made["contract"] = next(iter(words.values())) if same else words
        if self.checks:
            made["quality"] = [check_settings(check) for check in self.checks]
        return made


def not_yet(existing: Sequence[Any], checks: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the checks that are not in the file yet, under whatever name.

    Args:
        existing: what stands under ``quality:`` in the file.
        checks: as ``Wanted.settings`` gives them.
    """
    there = [_nameless(one) for one in existing]
    return [dict(check) for check in checks if _nameless(check) not in there]


def _nameless(said: Any) -> QualityCheck | None:
    """A check of the file without what does not matter to what it checks; None if it is none of ours."""
    try:
        check = QualityCheck.model_validate(said)
    except ValidationError:
        return None
    return check.model_copy(update={"id": None, "description": None})


def wanted(contract: Contract, *, on_fail: OnFail = OnFail.WARN) -> list[Wanted]:
    """Return what a contract asks for, table by table.

    Besides ``quality``: ``required`` (no nulls), ``unique`` (no duplicates) and the limits in
    ``logicalTypeOptions``, where no entry of ``quality`` says so already.

    Args:
        on_fail: for checks of which the contract does not say what happens on failure; where it
            can't be that (thresholds, duplicates), warn.
    """
    return [_of_table(one, on_fail) for one in contract.objects]


def _of_table(said: SchemaObject, on_fail: OnFail) -> Wanted:
    """One table."""
    found = Wanted(said.table_id)
    promised = said.custom_value("schemaContract")
    if promised is not None:
        try:
            found.contract = SchemaContract.model_validate(promised)
        except ValidationError:
            found.left_out.append(
                f"{said.name}: schemaContract is not evolve, freeze, discard_row or discard_value"
            )
    for entry in said.quality:
        _take(found, said.name, from_odcs(entry, None, on_fail))
    for column in said.properties:
        path = f"{said.name}.{column.name}"
        explicit = [from_odcs(entry, column.name, on_fail) for entry in column.quality]
        for one in explicit:
            _take(found, path, one)
        stated = [one for one in explicit if isinstance(one, QualityCheck)]
        for check in _implied(column, said.key, stated, on_fail):
            _take(found, path, check)
    return found


def _take(found: Wanted, path: str, one: QualityCheck | str) -> None:
    """Keep a check, or the reason why it is none."""
    if isinstance(one, str):
        found.left_out.append(f"{path}: {one}")
    else:
        found.checks.append(one)


def _implied(
    column: Property, key: tuple[str, ...], stated: list[QualityCheck], on_fail: OnFail
) -> Iterator[QualityCheck | str]:
    """The checks that the description of a column amounts to."""
    said = {check.metric for check in stated if check.operator == "mustBe" and check.bounds == (0,)}
    by_row = {"column": column.name, "mustBe": 0, "on_fail": on_fail}
    null_said = said & {Metric.NULL_VALUES, Metric.MISSING_VALUES}
    if column.required and column.name not in key and not null_said:
        yield QualityCheck.model_validate({**by_row, "metric": "nullValues"})
    if column.unique and key != (column.name,) and Metric.DUPLICATE_VALUES not in said:
        later = on_fail if on_fail in (OnFail.WARN, OnFail.STOP) else OnFail.WARN
        yield QualityCheck.model_validate({**by_row, "metric": "duplicateValues", "on_fail": later})
    limits = {name: column.options[name] for name in _LIMITS if name in column.options}
    if f"({limits.get('maxLength')})" in (column.physical_type or ""):
        del limits["maxLength"]  # the type holds to that by itself
    if limits and Metric.INVALID_VALUES not in said:
        yield from_odcs({"metric": "invalidValues", "arguments": limits, "mustBe": 0}, column.name, on_fail)
    for name in ("multipleOf", "uniqueItems", "minItems", "maxItems"):
        if column.options.get(name):
            yield f"logicalTypeOptions.{name} is not checked"
