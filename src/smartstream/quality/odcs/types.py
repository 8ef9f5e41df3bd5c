"""PostgreSQL's types in the words of ODCS, pure."""

from __future__ import annotations

import re
from typing import Any

from smartstream.schema import Kind, PgType

_LOGICAL: dict[Kind, tuple[str, dict[str, Any]]] = {
    Kind.INT2: ("integer", {"format": "i16"}),
    Kind.INT4: ("integer", {"format": "i32"}),
    Kind.INT8: ("integer", {"format": "i64"}),
    Kind.FLOAT4: ("number", {"format": "f32"}),
    Kind.FLOAT8: ("number", {"format": "f64"}),
    Kind.NUMERIC: ("number", {}),
    Kind.BOOL: ("boolean", {}),
    Kind.BYTEA: ("string", {"format": "binary"}),
    Kind.UUID: ("string", {"format": "uuid"}),
    Kind.DATE: ("date", {}),
    Kind.TIME: ("time", {}),
    Kind.TIMESTAMP: ("timestamp", {"timezone": False}),
    Kind.TIMESTAMPTZ: ("timestamp", {"timezone": True}),
    Kind.ARRAY: ("array", {}),
}
_SYNONYMS = {
    "int2": "smallint",
    "int": "integer",
    "int4": "integer",
    "int8": "bigint",
    "float4": "real",
    "float8": "double precision",
    "double": "double precision",
    "bool": "boolean",
    "decimal": "numeric",
    "varchar": "character varying",
    "char": "character",
    "bpchar": "character",
    "string": "text",
    "time": "time without time zone",
    "timestamp": "timestamp without time zone",
    "timestamptz": "timestamp with time zone",
}
_WIDER = {
    "smallint": {"integer", "bigint"},
    "integer": {"bigint"},
    "real": {"double precision"},
}


def logical_type(kind: PgType) -> tuple[str, dict[str, Any]]:
    """Return ODCS's logicalType and logicalTypeOptions of a type; text of any kind is a string."""
    name, options = _LOGICAL.get(kind.kind, ("string", {}))
    length = re.fullmatch(r"character(?: varying)?\((\d+)\)", kind.name)
    return name, {**options, **({"maxLength": int(length[1])} if length else {})}


def normal_name(physical: str) -> str:
    """A physicalType as PostgreSQL prints it: ``VARCHAR (20)`` → ``character varying(20)``."""
    text = re.sub(r"\s+", " ", physical.strip().lower())
    text = re.sub(r"\s*([(),])\s*", r"\1", text)
    found = re.fullmatch(r"([a-z_][a-z0-9_ ]*?)(\(.*\))?((?:\[\])*)", text)
    if found is None:
        return text
    name, size, dimensions = found[1], found[2] or "", found[3]
    return f"{_SYNONYMS.get(name, name)}{size}{'[]' if dimensions else ''}"


def same_physical(one: str, other: str) -> bool:
    """Whether two physicalTypes mean the same."""
    return normal_name(one) == normal_name(other)


def widens(old: str, new: str) -> bool:
    """Whether every value of the physicalType ``old`` is one of ``new``, of the same nature."""
    before, after = normal_name(old), normal_name(new)
    if after in _WIDER.get(before, ()):
        return True
    a, b = _sized(before), _sized(after)
    if a[0] != b[0]:
        return a[0] == "character varying" and after == "text"
    if a[0] == "numeric" and len(a[1]) == len(b[1]) == 2:
        return a[1][1] == b[1][1] and a[1][0] <= b[1][0]
    return a[0] in ("character varying", "numeric") and (not b[1] or (bool(a[1]) and a[1][0] <= b[1][0]))


def _sized(name: str) -> tuple[str, tuple[int, ...]]:
    """A type's name and the numbers in its parentheses."""
    found = re.fullmatch(r"(.*?)\((\d+(?:,\d+)*)\)", name)
    return (found[1], tuple(int(part) for part in found[2].split(","))) if found else (name, ())
