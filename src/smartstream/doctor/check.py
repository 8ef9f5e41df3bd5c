"""What a check has found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

import psycopg

from smartstream.capture.catalog import Discovery
from smartstream.config import Settings
from smartstream.errors import SmartStreamError
from smartstream.manifest import LakeState


class Status(StrEnum):
    """How grave it is; ``fail`` means that ``run`` cannot work."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that SmartStream needs, and whether it is so.

    Attributes:
        found: what is there now, in a few words.
        why: what it is needed for; empty when all is well.
        fix: what to do; empty when there is nothing to do.
        sql: statements that do it, for whoever may run them; names are quoted.
    """

    name: str
    status: Status
    found: str
    why: str = ""
    fix: str = ""
    sql: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "status": self.status.value, "sql": list(self.sql)}


@dataclass(frozen=True, slots=True)
class Patient:
    """What the checks of the source look at.

    Attributes:
        role: the role that SmartStream connects as.
        state: what the lake has; None if it cannot be read.
    """

    settings: Settings
    connection: psycopg.Connection[tuple[Any, ...]]
    role: str
    discovery: Discovery
    state: LakeState | None
    clock: Callable[[], datetime]

    def row(self, statement: str, *arguments: object) -> tuple[Any, ...]:
        """The one row of a query."""
        found = self.rows(statement, *arguments)
        assert len(found) == 1
        return found[0]

    def rows(self, statement: str, *arguments: object) -> list[tuple[Any, ...]]:
        """The rows of a query."""
        return self.connection.execute(statement.encode(), arguments or None).fetchall()

    def setting(self, name: str) -> str:
        """A server setting; empty if the server has none of this name."""
        return str(self.row("SELECT coalesce(pg_catalog.current_setting(%s, true), '')", name)[0])


def failed(name: str, error: SmartStreamError) -> Check:
    """A check that ended in one of our errors."""
    return Check(name, Status.FAIL, str(error), why=type(error).__name__, fix=error.hint)


def ok(name: str, found: str) -> Check:
    """A check with nothing to say."""
    return Check(name, Status.OK, found)
