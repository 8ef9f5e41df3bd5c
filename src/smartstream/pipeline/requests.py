"""Requests: what the command line asks of a pipeline, running now or started next.

Each is a small object in the lake, so it needs no port and no signal, and survives a
crash.  Who carries it out replaces it by its answer; who asked reads and removes that;
the pipeline removes what nobody has come for in a day.
Carrying one out twice does no harm.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import uuid4

from smartstream.raw.store import NotFound, Store

_PENDING, _ANSWERED = "control/requests/", "control/answers/"

ANSWERS_KEPT = timedelta(days=1)
"""Who asks waits for the answer: one this old belongs to a command that was killed."""


class RequestKind(StrEnum):
    """What can be asked."""

    REBUILD = "rebuild"  # make a trusted table again from the raw zone
    REPLAY = "replay"  # clean and check held rows again
    DROP = "drop"  # let held rows be: they count as dropped from now on
    RESYNC = "resync"  # copy a table anew from the source


@dataclass(frozen=True, slots=True)
class Request:
    """One request.

    Attributes:
        table: ``schema.name``.
        keys: of the rows it is about, as text in key order; None: all that are held.
    """

    kind: RequestKind
    table: str
    keys: tuple[tuple[str, ...], ...] | None = None
    id: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a request: how many rows, or why nothing."""

    row_count: int = 0
    error: str | None = None


def post(store: Store, kind: RequestKind, table: str, keys: Sequence[Sequence[str]] | None = None) -> str:
    """Leave a request for the pipeline; returns its id."""
    given = None if keys is None else tuple(tuple(key) for key in keys)
    request = Request(kind, table, given, uuid4().hex)
    store.put(f"{_PENDING}{request.id}.json", json.dumps(asdict(request)).encode())
    return request.id


def pending(store: Store) -> list[Request]:
    """The requests that wait; one that vanishes meanwhile was withdrawn."""
    found = []
    for item in list(store.list(_PENDING)):
        try:
            found.append(_request(json.loads(store.get(item.key))))
        except NotFound:
            continue
    return found


def answer(store: Store, request: Request, given: Answer) -> None:
    """Replace a request by its answer."""
    store.put(f"{_ANSWERED}{request.id}.json", json.dumps(asdict(given)).encode())
    store.delete(f"{_PENDING}{request.id}.json")


def take_answer(store: Store, request_id: str) -> Answer | None:
    """The answer to a request, None while there is none; it is gone afterwards."""
    key = f"{_ANSWERED}{request_id}.json"
    try:
        found = Answer(**json.loads(store.get(key)))
    except NotFound:
        return None
    store.delete(key)
    return found


def withdraw(store: Store, request_id: str) -> None:
    """Take a request back that nobody has carried out."""
    store.delete(f"{_PENDING}{request_id}.json")


def forget_answers(store: Store, *, before: datetime) -> int:
    """Remove answers given before a moment, which nobody has come for; returns their number."""
    old = [item.key for item in store.list(_ANSWERED) if item.modified < before]
    for key in old:
        store.delete(key)
    return len(old)


def _request(value: dict[str, Any]) -> Request:
    """A request as it was posted."""
    keys = value["keys"]
    given = None if keys is None else tuple(tuple(key) for key in keys)
    return Request(RequestKind(value["kind"]), value["table"], given, value["id"])
