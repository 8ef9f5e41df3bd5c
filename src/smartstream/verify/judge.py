"""Judge: what the rules make of rows of the source, told independently of the pipeline, pure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from smartstream.quality.contracted import Rules
from smartstream.schema import Column, Kind, PgType, TableSchema
from smartstream.sql_text import literal
from smartstream.transform.rules import Cleaned, Verdict
from smartstream.transform.shape import (
    BUSINESS_KEY,
    DISPOSITION,
    DROPPED,
    DUPLICATE,
    QUALITY,
    QUARANTINED,
    VIOLATIONS,
    made_column,
    quarantine_schema,
    ruled_schema,
    with_mark,
)
from smartstream.verify.overlay import column_name

TEXT = PgType("text", Kind.TEXT)
WHY = "why"
"""Column of held rows, beside the key: how they are held, and what they broke."""


@dataclass(frozen=True, slots=True)
class Judged:
    """What becomes of rows.

    Attributes:
        good: (n, the trusted table's columns) rows that the trusted table must have.
        held: (n, key columns and ``why``) rows that must be in the quarantine.
    """

    good: pa.Table
    held: pa.Table


@dataclass(frozen=True, slots=True)
class Judge:
    """The rules of one table.

    Attributes:
        source: what the source calls its columns; ``rules.schema`` has the lake's names.
    """

    rules: Rules
    source: TableSchema

    @property
    def shape(self) -> TableSchema:
        """What the trusted table looks like."""
        return ruled_schema(self.rules.schema, self.rules.output)

    @property
    def held_schema(self) -> TableSchema:
        """What the quarantine looks like."""
        return quarantine_schema(self.rules.schema)

    def judge(self, rows: pa.Table) -> Judged:
        """Say where each row must be; duplicates are not looked for.

        Args:
            rows: (n, ``schema.trusted_schema()``), each the row of its key.
        Raises:
            RuleStop: a row breaks a rule that stops the pipeline.
        """
        cleaned = self.rules.apply(rows)
        healed = self._healed(cleaned)
        good = (cleaned.verdict == Verdict.GOOD) | healed
        table = cleaned.rows.select(self.shape.trusted_schema().names)
        if healed.any():
            table = _with_nulls(table, cleaned, healed)
        bad = pa.array(~good)
        dropped = pa.array(cleaned.verdict == Verdict.DROP).filter(bad)
        how = pc.if_else(dropped, DROPPED, QUARANTINED)
        held = rows.select(list(self.rules.schema.key)).filter(bad)
        why = pc.binary_join_element_wise(how, cleaned.violations.filter(bad), " ")
        return Judged(table.filter(pa.array(good)), held.append_column(WHY, why))

    def held_view(self, view: str) -> str:
        """Return SQL for the same of a quarantine: key columns, and ``why`` as it must be for what is there.

        A row that a person has dropped counts as what it was before.

        Args:
            view: SQL with c<attnum> for each column of ``held_schema``.
        """
        how, violations, business_key = (self._held(name) for name in (DISPOSITION, VIOLATIONS, BUSINESS_KEY))
        drops = [literal(test.rule) for test in self.rules.tests if test.on_fail == "drop"]
        broken = f"CAST(json_extract_string({violations}, '$[*].rule') AS VARCHAR[])"
        drop = f"list_has_any({broken}, [{', '.join(drops)}])" if drops else "false"
        why = (
            f"CASE WHEN {business_key} IS NOT NULL AND {how} IN ('{DUPLICATE}', '{DROPPED}')"
            f" THEN '{DUPLICATE}'"
            f" WHEN {business_key} IS NULL AND {drop} AND {how} = '{DROPPED}'"
            f" THEN '{DROPPED} ' || {violations}"
            f" WHEN {business_key} IS NULL AND NOT {drop} AND {how} IN ('{QUARANTINED}', '{DROPPED}')"
            f" THEN '{QUARANTINED} ' || {violations} ELSE 'wrongly ' || {how} END"
        )
        keys = ", ".join(column_name(column) for column in self.rules.schema.key_columns())
        return f"SELECT {keys}, {why} AS {WHY} FROM ({view})"

    def _held(self, name: str) -> str:
        """The SQL name of a column of the quarantine."""
        return column_name(self.held_schema.column(name))

    def _healed(self, cleaned: Cleaned) -> np.ndarray:
        """Which bad rows become good with nulls in place of what is wrong."""
        healed = np.zeros(len(cleaned.verdict), np.bool_)
        if self.rules.on_bad_update == "null_value":
            able = pc.fill_null(pc.greater(pc.list_value_length(cleaned.bad_columns), 0), False)
            healed = (cleaned.verdict == Verdict.QUARANTINE) & able.to_numpy(zero_copy_only=False)
        return healed


def quality_column() -> Column:
    """The column of marks in trusted tables with rules."""
    return made_column(QUALITY, pa.string())


def _with_nulls(table: pa.Table, cleaned: Cleaned, healed: np.ndarray) -> pa.Table:
    """The rows ``healed`` with nulls, and marks that say so."""
    lists = cleaned.bad_columns.to_pylist()
    for name in {name for columns, yes in zip(lists, healed, strict=True) if yes for name in columns}:
        index = table.schema.get_field_index(name)
        gone = [bool(yes and name in columns) for columns, yes in zip(lists, healed, strict=True)]
        nulls = pa.nulls(len(table), table.schema.field(index).type)
        column = pc.if_else(pa.array(gone), nulls, table[name])
        table = table.set_column(index, table.schema.field(index), column)
    marks = [
        with_mark(text, {"nulled": columns}) if yes else text
        for text, columns, yes in zip(table[QUALITY].to_pylist(), lists, healed, strict=True)
    ]
    index = table.schema.get_field_index(QUALITY)
    return table.set_column(index, table.schema.field(index), pa.array(marks, pa.string()))
