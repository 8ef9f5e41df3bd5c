"""The stack as it is written: the blocks of its files, read without Terraform."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import hcl2
from hcl2.utils import SerializationOptions

from tests.aws.terraform_runner import STACK

PROFILES = ("dev", "prod", "low-cost")

_MENTIONED = re.compile(r'(?:(?:data\.)?aws_\w+\.\w+(?:\["[^"]+"\]|\[\d+\])?|local\.\w+)')
_OPTIONS = SerializationOptions(with_comments=False, explicit_blocks=False, strip_string_quotes=True)


def parse(text: str) -> dict[str, Any]:
    """A file's blocks and values; an expression is its text inside ``${}``."""
    document: dict[str, Any] = hcl2.loads(text, serialization_options=_OPTIONS)
    return document


@cache
def stack_files() -> dict[str, str]:
    """The text of each .tf file, by its name."""
    return {path.name: path.read_text(encoding="utf-8") for path in sorted(STACK.glob("*.tf"))}


@cache
def stack_blocks(kind: str) -> dict[str, dict[str, Any]]:
    """All blocks of a kind with one label (variable, output), by their label."""
    return {
        name: body
        for text in stack_files().values()
        for block in parse(text).get(kind, ())
        for name, body in block.items()
    }


@cache
def stack_resources() -> tuple[tuple[str, str, dict[str, Any]], ...]:
    """Type, name and body of each resource block."""
    return tuple(
        (kind, name, body)
        for text in stack_files().values()
        for block in parse(text).get("resource", ())
        for kind, named in block.items()
        for name, body in named.items()
    )


@cache
def runs_of(path: Path) -> dict[str, dict[str, Any]]:
    """The ``run`` blocks of a test file, with ``variables`` as one dictionary."""
    runs = {}
    for block in parse(path.read_text(encoding="utf-8")).get("run", ()):
        for name, body in block.items():
            runs[name] = {**body, "variables": dict(*body.get("variables", ()))}
    return runs


@cache
def profile(name: str) -> dict[str, Any]:
    """What an example's file sets."""
    return parse((STACK / "examples" / f"{name}.tfvars").read_text(encoding="utf-8"))


@cache
def locals_mention() -> dict[str, list[str]]:
    """What each local value's expression mentions: resources, data sources and other locals."""
    return {
        name: _MENTIONED.findall(str(value))
        for text in stack_files().values()
        for block in parse(text).get("locals", ())
        for name, value in block.items()
    }


def validations(text: str) -> Iterator[tuple[str, int]]:
    """The variable and the line of each ``validation`` block."""
    variable = ""
    for number, line in enumerate(text.splitlines(), 1):
        if found := re.match(r'variable "(\w+)"', line):
            variable = found[1]
        elif re.match(r"\s+validation \{", line):
            yield variable, number
