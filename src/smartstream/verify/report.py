"""What verify has found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from smartstream.lsn import format_lsn


@dataclass(frozen=True, slots=True)
class DifferingKey:
    """A row that is not the same on both sides.

    Attributes:
        kind: ``missing`` (not in the lake), ``extra`` (only in the lake) or ``different``;
            of the quarantine of a table with rules: ``not held`` (but must be), ``held``
            (but must not be) or ``held otherwise`` (for another reason).
        key: key column → its text.
    """

    kind: str
    key: Mapping[str, str | None]


@dataclass(frozen=True, slots=True)
class TableReport:
    """One table.

    Attributes:
        source_rows, lake_rows: None where it could not be counted.
        held_rows: in the quarantine; None for a table without rules.
        source_checksum, lake_checksum: sums of row hashes, the same for the same
            rows in any order; hexadecimal.
        pending_changes: changes in raw that the trusted table did not hold yet at the
            common LSN; they were taken into account.
        reason: why it differs or could not be compared, as far as known.
        differing: a sample, with ``rows``.
    """

    table: str
    source_rows: int | None
    lake_rows: int | None
    equal: bool
    source_checksum: str | None = None
    lake_checksum: str | None = None
    pending_changes: int = 0
    reason: str | None = None
    differing: tuple[DifferingKey, ...] = ()
    held_rows: int | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """All tables.

    Attributes:
        source_lsn: the source was read as of this LSN.
        lake_lsn: everything that committed before it is in the lake; where it is less
            than ``source_lsn``, the lake was compared as it was, behind by the difference.
        left_out: tables that match the configuration but have no key.
    """

    ok: bool
    source_lsn: int
    lake_lsn: int
    tables: tuple[TableReport, ...]
    left_out: tuple[str, ...] = ()

    @property
    def behind_bytes(self) -> int:
        """WAL between what the lake holds and what the source was read at."""
        return max(0, self.source_lsn - self.lake_lsn)

    def to_dict(self) -> dict[str, Any]:
        """For JSON: LSNs in PostgreSQL's notation."""
        return {
            "ok": self.ok,
            "source_lsn": format_lsn(self.source_lsn),
            "lake_lsn": format_lsn(self.lake_lsn),
            "behind_bytes": self.behind_bytes,
            "tables": [asdict(table) for table in self.tables],
            "left_out": list(self.left_out),
        }
