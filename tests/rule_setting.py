"""What the tests of the rules share: a table in a few words, rules as the file has them, rows as dicts."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from smartstream.config import Settings, rules_of
from smartstream.rules_config import TableRules
from smartstream.schema import Column, Kind, PgType, TableSchema
from smartstream.transform.rules import CompiledRules, Verdict, compile_rules

_KINDS = {
    "smallint": Kind.INT2,
    "integer": Kind.INT4,
    "bigint": Kind.INT8,
    "real": Kind.FLOAT4,
    "double precision": Kind.FLOAT8,
    "boolean": Kind.BOOL,
    "text": Kind.TEXT,
    "varchar": Kind.TEXT,
    "char(5)": Kind.BPCHAR,
    "bytea": Kind.BYTEA,
    "uuid": Kind.UUID,
    "date": Kind.DATE,
    "time": Kind.TIME,
    "timestamp": Kind.TIMESTAMP,
    "timestamptz": Kind.TIMESTAMPTZ,
    "jsonb": Kind.JSON,
    "mood": Kind.ENUM,
    "inet": Kind.OTHER,
}


def pg_type(name: str) -> PgType:
    """A type by its name in PostgreSQL."""
    if name.endswith("[]"):
        return PgType(name, Kind.ARRAY, element=pg_type(name[:-2]))
    found = re.fullmatch(r"numeric(?:\((\d+),(\d+)\))?", name)
    if found:
        precision, scale = (int(part) if part else None for part in found.groups())
        return PgType(name, Kind.NUMERIC, precision=precision, scale=scale)
    return PgType(name, _KINDS[name])


def table(columns: Mapping[str, str], *, key: Sequence[str] = ("id",), name: str = "t") -> TableSchema:
    """``public.t`` with these columns; an integer ``id`` comes first if it is the key."""
    wanted = {**({"id": "integer"} if key == ("id",) and "id" not in columns else {}), **columns}
    listed = (
        Column(column, number, pg_type(kind)) for number, (column, kind) in enumerate(wanted.items(), 1)
    )
    return TableSchema(1, "public", name, tuple(listed), tuple(key))


def settings_of(**rules: Any) -> TableRules:
    """Rules as they are after the file is read."""
    tables = {"public.*": rules}
    return rules_of(Settings.model_validate({"source": {"url": "x"}, "tables": tables}), "public.t")


def compiled(columns: Mapping[str, str], *, key: Sequence[str] = ("id",), **rules: Any) -> CompiledRules:
    """The rules for a table with these columns."""
    found = compile_rules(table(columns, key=key), settings_of(**rules))
    assert found is not None
    return found


def batch(schema: TableSchema, rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Rows as the pipeline has them; ``id`` and ``_lsn`` count from 1 where they are not given.

    ``_flags`` (column → text) says what ``_untyped`` holds.
    """
    full = []
    for number, row in enumerate(rows, 1):
        flags = row.get("_flags")
        made = {"id": number, "_lsn": number, "_untyped": json.dumps(flags) if flags else None, **row}
        made.pop("_flags", None)
        full.append({name: made.get(name) for name in schema.trusted_schema().names})
    return pa.Table.from_pylist(full, schema=schema.trusted_schema())


@dataclass(frozen=True)
class Result:
    """What the rules made of rows.

    Attributes:
        broken: of each row the (rule, reason) pairs.
    """

    rows: list[dict[str, Any]]
    verdicts: list[Verdict]
    broken: list[list[tuple[str, str]]]
    bad_columns: list[list[str] | None]
    counts: dict[str, int]

    def column(self, name: str) -> list[Any]:
        """The values of one column."""
        return [row[name] for row in self.rows]

    @property
    def reasons(self) -> list[str]:
        """Of each row the reasons, joined; empty when it is good."""
        return [", ".join(reason for _, reason in one) for one in self.broken]


def run(
    rules: CompiledRules, rows: Sequence[Mapping[str, Any]], known: Mapping[str, Sequence[bool]] | None = None
) -> Result:
    """Apply rules to rows, and check that the result has the shape that it should have."""
    given = batch(rules.schema, rows)
    masks = {name: np.array(mask, np.bool_) for name, mask in (known or {}).items()}
    cleaned = rules.apply(given, masks)
    assert cleaned.rows.schema == rules.output_schema()
    assert cleaned.rows.num_rows == len(rows) == len(cleaned.verdict) == len(cleaned.violations)
    broken = [
        [(one["rule"], one["reason"]) for one in json.loads(text)] if text else []
        for text in cleaned.violations.to_pylist()
    ]
    verdicts = [Verdict(int(number)) for number in cleaned.verdict]
    assert [verdict is Verdict.GOOD for verdict in verdicts] == [not one for one in broken]
    return Result(cleaned.rows.to_pylist(), verdicts, broken, cleaned.bad_columns.to_pylist(), cleaned.counts)


def through(kind: str, rule: Mapping[str, Any], values: Sequence[Any]) -> Result:
    """What one rule of ``clean`` makes of the values of a column ``x``."""
    return run(compiled({"x": kind}, clean=[rule]), [{"x": value} for value in values])
