"""A plan as ``terraform show -json`` tells it, in a form that rules can be asked of.

A plan doesn't know what only AWS can say, the ARN of a new bucket for one. Such a value is
``None`` here, and ``refers_to`` says where it will come from.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

_REFERENCE = re.compile(r"^(data\.)?[a-z0-9_]+\.[a-z0-9_]+")


@dataclass(frozen=True)
class Resource:
    """One instance of a resource, or of a data source that is read while applying."""

    address: str
    kind: str
    name: str
    index: str | int | None
    values: dict[str, Any]
    unknown: dict[str, Any]
    block: dict[str, Any]

    @property
    def block_address(self) -> str:
        """The address without the instance's index."""
        return f"{self.kind}.{self.name}"

    def refers_to(self, attribute: str) -> tuple[str, ...]:
        """What an attribute's expression mentions."""
        return tuple(_references(self.block.get("expressions", {}).get(attribute, {})))

    def is_set(self, attribute: str) -> bool:
        """Whether an attribute has a value, or will get one from another resource."""
        return bool(self.values.get(attribute)) or bool(
            self.unknown.get(attribute) and self.refers_to(attribute)
        )

    def is_of(self, other: Resource, attribute: str) -> bool:
        """Whether ``attribute`` names ``other``: the same instance, or the instance of the same index."""
        named = set(self.refers_to(attribute))
        quoted = f'["{other.index}"]' if isinstance(other.index, str) else f"[{other.index}]"
        if any(reference.startswith(f"{other.block_address}{quoted}") for reference in named):
            return True
        each = tuple(_references(self.block.get("for_each_expression", {})))
        by_each = "each.value" in named and other.block_address in each
        by_key = other.block_address in named and any(name.startswith("each.") for name in named)
        if by_each or by_key:
            return self.index == other.index
        return other.index is None and other.block_address in named


@dataclass(frozen=True)
class Statement:
    """One statement of a policy; a resource that is not known yet is ``None``."""

    where: str
    effect: str
    actions: tuple[str, ...]
    not_actions: tuple[str, ...]
    resources: tuple[str | None, ...]
    principals: tuple[tuple[str, str | None], ...]
    conditions: tuple[tuple[str, str, tuple[str | None, ...]], ...]


class Plan:
    """What a plan will make."""

    def __init__(self, document: dict[str, Any], locals_mention: Mapping[str, Sequence[str]]) -> None:
        """Read a plan.

        Args:
            document: the plan; not changed.
            locals_mention: what each local value's expression mentions, because plans don't tell.
        """
        self.document = document
        module = copy.deepcopy(document["configuration"]["root_module"])
        for mentioned in _mentions(module):
            _follow_locals(mentioned, locals_mention)
        self._blocks: dict[str, dict[str, Any]] = {block["address"]: block for block in module["resources"]}

    def variable(self, name: str) -> Any:
        """A variable's value."""
        return self.document["variables"][name]["value"]

    @cached_property
    def everything(self) -> tuple[Resource, ...]:
        """All instances, data sources that are read while applying included."""
        return tuple(
            self._resource(change, change["change"]["after"] or {}, change["change"]["after_unknown"] or {})
            for change in self.document["resource_changes"]
        )

    def _resource(self, found: dict[str, Any], values: dict[str, Any], unknown: dict[str, Any]) -> Resource:
        kind = f"data.{found['type']}" if found["mode"] == "data" else found["type"]
        block = self._blocks.get(f"{kind}.{found['name']}", {})
        return Resource(found["address"], kind, found["name"], found.get("index"), values, unknown, block)

    def resources(self, *kinds: str) -> list[Resource]:
        """The instances of some kinds; of all that Terraform will manage, without a kind."""
        if not kinds:
            return [found for found in self.everything if not found.kind.startswith("data.")]
        return [found for found in self.everything if found.kind in kinds]

    def one(self, kind: str) -> Resource:
        """The only instance of its kind."""
        (found,) = self.resources(kind)
        return found

    def companions(self, of: Resource, kind: str, attribute: str) -> list[Resource]:
        """The instances of a kind whose attribute names this one."""
        return [found for found in self.resources(kind) if found.is_of(of, attribute)]

    @cached_property
    def documents(self) -> dict[str, list[Statement]]:
        """The statements of each aws_iam_policy_document, and of each policy written in JSON, by address."""
        found = {
            source.address: [
                _from_block(source.address, block) for block in source.values.get("statement") or ()
            ]
            for source in self.resources("data.aws_iam_policy_document")
        }
        read = self.document.get("prior_state", {}).get("values", {}).get("root_module", {})
        for source in read.get("resources", ()):
            if source["type"] == "aws_iam_policy_document":
                statements = source["values"].get("statement") or ()
                found[source["address"]] = [_from_block(source["address"], block) for block in statements]
        for resource in self.resources():
            for attribute, value in resource.values.items():
                if attribute.endswith("policy") and isinstance(value, str) and '"Statement"' in value:
                    where = f"{resource.address}.{attribute}"
                    found[where] = [
                        _from_json(where, block) for block in _listed(json.loads(value)["Statement"])
                    ]
        return found

    @property
    def statements(self) -> Iterator[Statement]:
        """Every statement of every policy."""
        return (statement for document in self.documents.values() for statement in document)

    def users_of(self, address: str, attribute: str) -> set[str]:
        """The kinds of resources, planned or not, whose attribute mentions the block at an address."""
        return {
            block["type"]
            for block in self._blocks.values()
            if any(
                name.startswith(address)
                for name in _references(block.get("expressions", {}).get(attribute, {}))
            )
        }

    def waits_for(self, later: Resource, address: str) -> bool:
        """Whether ``later`` waits for the block at an address, directly or through others."""
        return address in self._closure(later.block_address)

    def _closure(self, address: str) -> set[str]:
        seen: set[str] = set()
        todo = [address]
        while todo:
            for reference in _references(self._blocks.get(todo.pop(), {})):
                matched = _REFERENCE.match(reference)
                if matched and matched[0] in self._blocks and matched[0] not in seen:
                    seen.add(matched[0])
                    todo.append(matched[0])
        return seen


def _mentions(node: Any) -> Iterator[list[str]]:
    """Every list of what a part of the configuration mentions, depends_on included."""
    if isinstance(node, dict):
        for key, value in node.items():
            if key in ("references", "depends_on"):
                yield value
            else:
                yield from _mentions(value)
    elif isinstance(node, list):
        for value in node:
            yield from _mentions(value)


def _references(node: Any) -> Iterator[str]:
    return (reference for mentioned in _mentions(node) for reference in mentioned)


def _follow_locals(mentioned: list[str], locals_mention: Mapping[str, Sequence[str]]) -> None:
    """Add what the local values that are mentioned mention themselves."""
    for reference in mentioned:  # grows while it is walked, so locals of locals are followed too
        name = reference.removeprefix("local.").split(".")[0].split("[")[0]
        if reference.startswith("local."):
            mentioned += [other for other in locals_mention.get(name, ()) if other not in mentioned]


def _from_block(where: str, block: dict[str, Any]) -> Statement:
    return Statement(
        where=where,
        effect=block.get("effect") or "Allow",
        actions=tuple(block.get("actions") or ()),
        not_actions=tuple(block.get("not_actions") or ()),
        resources=tuple(block.get("resources") or ()),
        principals=tuple(
            (principal["type"], identifier)
            for principal in block.get("principals") or ()
            for identifier in principal["identifiers"] or (None,)
        ),
        conditions=tuple(
            (condition["test"], condition["variable"], tuple(condition["values"] or (None,)))
            for condition in block.get("condition") or ()
        ),
    )


def _from_json(where: str, block: dict[str, Any]) -> Statement:
    principal = block.get("Principal", {})
    named = {"*": principal} if isinstance(principal, str) else principal
    return Statement(
        where=where,
        effect=block["Effect"],
        actions=tuple(_listed(block.get("Action", ()))),
        not_actions=tuple(_listed(block.get("NotAction", ()))),
        resources=tuple(_listed(block.get("Resource", ()))),
        principals=tuple((kind, name) for kind, names in named.items() for name in _listed(names)),
        conditions=tuple(
            (test, variable, tuple(_listed(values)))
            for test, variables in block.get("Condition", {}).items()
            for variable, values in variables.items()
        ),
    )


def _listed(value: Any) -> Sequence[Any]:
    """A list as it is, one value as a list of one."""
    return value if isinstance(value, list | tuple) else [value]
