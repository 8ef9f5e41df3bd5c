"""PostgreSQL's types as ours: domains resolved, arrays taken apart.

Pure; catalog.py reads the rows of pg_type that this needs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from smartstream.schema import Kind, PgType

NUMERIC = 1700

# These have fixed oids (src/include/catalog/pg_type.dat).
_KINDS: Mapping[int, Kind] = {
    16: Kind.BOOL,
    17: Kind.BYTEA,
    19: Kind.TEXT,  # name
    20: Kind.INT8,
    21: Kind.INT2,
    23: Kind.INT4,
    25: Kind.TEXT,
    114: Kind.JSON,
    700: Kind.FLOAT4,
    701: Kind.FLOAT8,
    1042: Kind.BPCHAR,
    1043: Kind.TEXT,  # varchar
    1082: Kind.DATE,
    1083: Kind.TIME,
    1114: Kind.TIMESTAMP,
    1184: Kind.TIMESTAMPTZ,
    NUMERIC: Kind.NUMERIC,
    1790: Kind.TEXT,  # refcursor: its output function is text's, and can't be called with it
    2950: Kind.UUID,
    3802: Kind.JSON,  # jsonb
}


@dataclass(frozen=True, slots=True)
class TypeRow:
    """What pg_type says about one type.

    Attributes:
        category: typtype: b base, d domain, e enum, c composite, r range, m multirange.
        base, base_typmod, base_name: of a domain, the type under it.
        element: of a true array, its element's oid; 0 for all other types.
        output: the qualified, quoted name of the output function.
    """

    oid: int
    category: str
    base: int
    base_typmod: int
    base_name: str
    element: int
    output: str


def resolve(rows: Mapping[int, TypeRow], oid: int, typmod: int, name: str) -> PgType:
    """Return the type of a column declared as ``oid`` with ``typmod``.

    Args:
        rows: of the type and all it is made of.
        name: as format_type prints it.
    Raises:
        KeyError: a type is not among ``rows``.
    """
    row = rows[oid]
    if row.category == "d":
        return resolve(rows, row.base, row.base_typmod, row.base_name)
    if row.element:
        element = resolve(rows, row.element, typmod, name.removesuffix("[]"))
        if element.kind in (Kind.OTHER, Kind.ARRAY):
            return PgType(name, Kind.OTHER, row.output)
        return PgType(name, Kind.ARRAY, row.output, element=element)
    if row.category == "e":
        return PgType(name, Kind.ENUM, row.output)
    kind = _KINDS.get(oid, Kind.OTHER)
    if kind is Kind.NUMERIC and typmod >= 0:
        precision, scale = numeric_precision(typmod)
        return PgType(name, kind, row.output, precision, scale)
    return PgType(name, kind, row.output)


def numeric_precision(typmod: int) -> tuple[int, int]:
    """Precision and scale in a numeric's typmod; the scale may be negative.

    Source: PostgreSQL 15, numeric.c, ``make_numeric_typmod``: above the 4 bytes of
    header, 16 bits of precision and 11 of scale in two's complement.
    """
    packed = typmod - 4
    return packed >> 16 & 0xFFFF, (packed & 0x7FF ^ 1024) - 1024
