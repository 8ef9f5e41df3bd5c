"""The position of a trusted table: how far of the stream it holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

_LSN = "smartstream.lsn"
_SEQ = "smartstream.seq"
_GENERATION = "smartstream.generation"
_RULES = "smartstream.rules"
_NOTE = "smartstream.note."


@dataclass(frozen=True, slots=True)
class Position:
    """What a trusted table holds, stored in the same metadata swap as its rows.

    Attributes:
        lsn: every transaction that committed at or before it is in the table.
        seq: last entry of the manifest that was applied.
        generation: of the snapshot copy that the table is built on.
        rules: version of the rules that its rows went through; empty without rules.
        notes: what else its writer wants to find again, name and text.
    """

    lsn: int
    seq: int
    generation: int
    rules: str = ""
    notes: tuple[tuple[str, str], ...] = ()

    def covers(self, other: Position) -> bool:
        """Whether a table at this position needs nothing that ``other`` would bring."""
        same = (self.generation, self.rules) == (other.generation, other.rules)
        return same and self.seq >= other.seq

    def properties(self) -> dict[str, str]:
        """As Iceberg properties: decimal numbers as text."""
        return {
            _LSN: str(self.lsn),
            _SEQ: str(self.seq),
            _GENERATION: str(self.generation),
            _RULES: self.rules,
            **{f"{_NOTE}{name}": text for name, text in self.notes},
        }

    @staticmethod
    def from_properties(properties: Mapping[str, str]) -> Position:
        """Inverse of ``properties``; a table without them is at (0, 0, 0)."""
        return Position(
            lsn=int(properties.get(_LSN, "0")),
            seq=int(properties.get(_SEQ, "0")),
            generation=int(properties.get(_GENERATION, "0")),
            rules=properties.get(_RULES, ""),
            notes=tuple(
                sorted((n.removeprefix(_NOTE), text) for n, text in properties.items() if n.startswith(_NOTE))
            ),
        )
