"""Checks of the models: whether each could run now."""

from __future__ import annotations

from collections.abc import Iterator

from smartstream.config import Settings
from smartstream.doctor.check import Check, Status, failed
from smartstream.inference.examine import examine_models


def fit(settings: Settings) -> Iterator[Check]:
    """A check for each model: its file, its hash, and its inputs beside the columns of its features."""
    for one in examine_models(settings):
        name = f"model {one.model}"
        if one.error is not None:
            yield failed(name, one.error)
        elif one.notes:
            yield Check(name, Status.WARN, "; ".join([one.found, *one.notes]), fix=_AGAIN)
        else:
            yield Check(name, Status.OK, one.found)


_AGAIN = "Run `smartstream doctor` again once `smartstream run` has made the tables."
