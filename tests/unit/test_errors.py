"""Every error says whether trying again can help, and what to do next."""

from __future__ import annotations

import re

import pytest

from smartstream import errors
from smartstream.cli.docs import leaves
from smartstream.errors import Retry, SmartStreamError


def classes(base: type[SmartStreamError] = SmartStreamError) -> list[type[SmartStreamError]]:
    return [base, *(kind for below in base.__subclasses__() for kind in classes(below))]


ALL = [kind for kind in dict.fromkeys(classes()) if kind.__module__.startswith(f"{errors.__name__}.")]
LEAVES = [kind for kind in leaves(SmartStreamError) if kind.__module__.startswith(f"{errors.__name__}.")]


@pytest.mark.parametrize("kind", LEAVES)
def test_every_leaf_has_a_policy_and_a_hint(kind: type[SmartStreamError]) -> None:
    assert isinstance(kind.retry, Retry)
    assert kind.hint.endswith("."), "a sentence"
    codes = (errors.ExitCode.FAILED, errors.ExitCode.CONFIGURATION, errors.ExitCode.DEGRADED)
    assert kind.exit_code in codes
    assert kind.__doc__


def test_every_class_stands_in_the_drawing_and_nothing_else() -> None:
    drawing = (errors.__doc__ or "").split("A message says")[0]
    drawn = re.findall(r"\b(?:[A-Z][a-z]+){2,}\b", drawing)
    assert sorted(set(drawn) - {"PostgreSQL", "SmartStream"}) == sorted(kind.__name__ for kind in ALL)


def test_no_two_errors_have_the_same_name() -> None:
    names = [kind.__name__ for kind in ALL]
    assert len(set(names)) == len(names)


def test_every_error_of_the_package_is_in_this_tree() -> None:
    assert all(kind.__module__.startswith(f"{errors.__name__}.") for kind in classes())


def test_an_error_can_have_a_hint_of_its_own() -> None:
    assert errors.SlotLost("gone", hint="Do this.").hint == "Do this."
    assert errors.SlotLost("gone").hint == errors.SlotLost.hint


@pytest.mark.parametrize("kind", LEAVES)
def test_hints_name_commands_that_exist(kind: type[SmartStreamError]) -> None:
    from smartstream.cli.app import COMMANDS

    for command in re.findall(r"`smartstream ([a-z]+)", kind.hint):
        assert command in COMMANDS
