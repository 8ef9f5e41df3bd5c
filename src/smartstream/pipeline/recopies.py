"""Tables to be copied anew, each once the stream has passed the moment at which that was found.

An earlier change, read after the copy, would be applied to rows that are newer than it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import psycopg

from smartstream.capture.catchup import reached_lsn
from smartstream.manifest import EntryKind
from smartstream.pipeline.journal import Journal
from smartstream.schema import TableSchema


@dataclass(frozen=True, slots=True)
class Finding:
    """A table that is to be copied anew.

    Attributes:
        mark: what the log remembers of the table once the copy has begun.
        lsn: its rows are to be had from here on.
    """

    schema: TableSchema
    mark: Any
    lsn: int


@dataclass(slots=True)
class Recopies:
    """The findings of one kind; the thread that looks adds them, the one that captures closes them.

    Attributes:
        name: of the marks in an entry's detail.
        still_needed: asked when a finding is closed: a copy of another reason may have come before.
        found: by table.
        lock: held while ``found`` is changed and what goes with it is written to the log.
    """

    journal: Journal
    name: str
    copy_anew: Callable[[TableSchema], None]
    still_needed: Callable[[Finding], bool] = lambda finding: True
    found: dict[str, Finding] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, connection: psycopg.Connection[Any], marks: Mapping[TableSchema, Any]) -> None:
        """Note tables as found at this moment of the source; ``lock`` is held."""
        lsn = reached_lsn(connection)
        self.found.update({schema.id: Finding(schema, mark, lsn) for schema, mark in marks.items()})

    def close(self, passed_lsn: int) -> None:
        """Copy the tables whose finding the stream has passed; between transactions, all before durable."""
        if not self.found:
            return
        with self.lock:  # until it is in the log: a look in between would find the same again
            closed = [finding for finding in self.found.values() if finding.lsn <= passed_lsn]
            if not closed:
                return
            # What is before the copies must not be read again after them.
            self.journal.append_end(passed_lsn)
            for finding in closed:
                if self.still_needed(finding):
                    self.copy_anew(finding.schema)
            self.remember({str(finding.schema.oid): finding.mark for finding in closed})
            for finding in closed:
                del self.found[finding.schema.id]

    def remember(self, marks: Mapping[str, Any]) -> None:
        """Write marks, by oid, to the log."""
        self.journal.append(EntryKind.CHANGES, lsn=self.journal.state.durable_lsn, detail={self.name: marks})
