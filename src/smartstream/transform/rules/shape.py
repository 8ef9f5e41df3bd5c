"""The working shape of a table while its rules are compiled: what each rule finds and leaves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa

from smartstream.schema import Column, Kind, TableSchema

OWN_PREFIX = "~"
"""Columns of ours in the pass begin with it; no column of a table with rules may."""

_ALWAYS_HELD = frozenset(
    {
        Kind.INT2,
        Kind.INT4,
        Kind.INT8,
        Kind.FLOAT4,
        Kind.FLOAT8,
        Kind.BOOL,
        Kind.TEXT,
        Kind.BPCHAR,
        Kind.BYTEA,
        Kind.UUID,
        Kind.JSON,
        Kind.ENUM,
        Kind.OTHER,
    }
)
_PLAIN_TEXT = frozenset({Kind.TEXT, Kind.BPCHAR})


@dataclass(frozen=True, slots=True)
class Slot:
    """A column as the rules so far leave it.

    Attributes:
        origin: the source column of which it is a cleaned form; None when it was computed.
        sources: the source columns that decide its value.
        inputs: the columns, itself included, whose values went into it.
        may_flag: whether some null may stand for a value that only ``_untyped`` holds.
    """

    name: str
    type: pa.DataType
    origin: Column | None
    sources: frozenset[str]
    inputs: frozenset[str]
    may_flag: bool = False

    @property
    def is_prose(self) -> bool:
        """Whether it holds free text: no uuid, no enum, no JSON, nothing that has a form."""
        if not pa.types.is_string(self.type):
            return False
        return self.origin is None or self.origin.type.kind in _PLAIN_TEXT


Shape = Mapping[str, Slot]


def shape_of(schema: TableSchema) -> dict[str, Slot]:
    """Return the shape that the first rule finds."""
    return {column.name: _slot(column) for column in schema.columns}


def _slot(column: Column) -> Slot:
    """A column as the source has it."""
    own = frozenset({column.name})
    return Slot(column.name, column.type.arrow, column, own, own, may_flag(column))


def may_flag(column: Column) -> bool:
    """Whether the source can hold values in a column that Arrow can't."""
    return not pa.types.is_string(column.type.arrow) and column.type.kind not in _ALWAYS_HELD


def flag_of(column: str) -> str:
    """Our column that tells in which rows ``_untyped`` holds the value of a source column."""
    return f"{OWN_PREFIX}flag {column}"


def text_of(column: str) -> str:
    """Our column with that text."""
    return f"{OWN_PREFIX}text {column}"
