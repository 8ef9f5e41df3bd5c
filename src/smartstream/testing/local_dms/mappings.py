"""Table mappings: which tables a task replicates, and by what their records are spread over shards."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

PARTITION_KEY_TYPES = ("schema-table", "primary-key")


class MappingsInvalid(ValueError):
    """DMS doesn't take these mappings, or the stand-in doesn't know them."""


@dataclass(frozen=True)
class Locator:
    """Patterns of a schema's and a table's name: ``%`` any text, ``_`` any character, ``[_]`` itself."""

    schema: str
    table: str

    def matches(self, schema: str, table: str) -> bool:
        """Tell whether a table is meant; upper and lower case differ."""
        return bool(_pattern(self.schema).fullmatch(schema) and _pattern(self.table).fullmatch(table))


@dataclass(frozen=True)
class TableMappings:
    """The rules of a task."""

    included: tuple[Locator, ...]
    excluded: tuple[Locator, ...]
    partitions: tuple[tuple[Locator, str], ...]

    @staticmethod
    def read(text: str) -> TableMappings:
        """Return the rules of ``text``, JSON as DMS takes it.

        Raises:
            MappingsInvalid: it is none, includes nothing, or has a rule that this stand-in doesn't know.
        """
        try:
            rules = json.loads(text)["rules"]
            found = [_rule(rule) for rule in rules]
        except (ValueError, KeyError, TypeError) as error:
            if isinstance(error, MappingsInvalid):
                raise
            raise MappingsInvalid("Invalid table mappings document") from error
        mappings = TableMappings(
            tuple(locator for action, locator, _ in found if action == "include"),
            tuple(locator for action, locator, _ in found if action == "exclude"),
            tuple((locator, key) for action, locator, key in found if action == "map-record-to-record"),
        )
        if not mappings.included:
            raise MappingsInvalid("No selection rule includes a table")
        return mappings

    def selects(self, schema: str, table: str) -> bool:
        """Tell whether a task replicates a table."""
        return any(locator.matches(schema, table) for locator in self.included) and not any(
            locator.matches(schema, table) for locator in self.excluded
        )

    def partition_key_type(self, schema: str, table: str) -> str | None:
        """Return what a rule says of a table's partition key, None where none does."""
        return next((key for locator, key in self.partitions if key and locator.matches(schema, table)), None)


def _rule(rule: Mapping[str, Any]) -> tuple[str, Locator, str]:
    """A rule's action, whom it is about, and its partition key (or nothing)."""
    kind, action = rule["rule-type"], rule["rule-action"]
    locator = Locator(rule["object-locator"]["schema-name"], rule["object-locator"]["table-name"])
    if kind == "selection" and action in ("include", "exclude"):
        if rule.get("filters"):
            raise MappingsInvalid("the stand-in for DMS has no filters")
        return action, locator, ""
    if kind == "object-mapping" and action == "map-record-to-record":
        parameters = rule.get("mapping-parameters", {})
        key = parameters.get("partition-key-type", "")
        if set(parameters) - {"partition-key-type"} or (key and key not in PARTITION_KEY_TYPES):
            raise MappingsInvalid(f"the stand-in for DMS doesn't know these parameters: {sorted(parameters)}")
        return action, locator, key
    raise MappingsInvalid(f"the stand-in for DMS has no rule {kind} with the action {action}")


@cache
def _pattern(text: str) -> re.Pattern[str]:
    """DMS's pattern as a regular expression."""
    parts = re.findall(r"\[.\]|.", text, flags=re.DOTALL)
    signs = {"%": ".*", "_": "."}
    return re.compile(
        "".join(re.escape(part[1]) if len(part) == 3 else signs.get(part, re.escape(part)) for part in parts),
        re.DOTALL,
    )
