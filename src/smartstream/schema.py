"""Tables, columns and types as PostgreSQL declares them, and their Arrow form.

Everything here is frozen and does no I/O.  A column is identified by its
``attnum`` (PostgreSQL never reuses one within a table), not by its name: that is
what lets a rename keep its Iceberg field id.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Any

import pyarrow as pa

from smartstream.change import CHANGE_FIELDS, OLD_KEY, UNTYPED

TRUSTED_LSN = "_lsn"
"""Column of every trusted row: commit LSN of the change that made the row."""

RESERVED_NAMES = frozenset({*(f.name for f in CHANGE_FIELDS), OLD_KEY, UNTYPED, TRUSTED_LSN})

DECIMAL_DIGITS_MAX = 38
BARE_NUMERIC_SCALE = 20
"""A ``numeric`` without precision is carried as decimal(38, 20), room for a quotient; see ``_untyped``."""


class Kind(StrEnum):
    """The type families that are carried in their own Arrow type."""

    INT2 = "int2"
    INT4 = "int4"
    INT8 = "int8"
    FLOAT4 = "float4"
    FLOAT8 = "float8"
    BOOL = "bool"
    TEXT = "text"  # text, varchar, name
    BPCHAR = "bpchar"  # char(n), padded, as PostgreSQL prints it
    BYTEA = "bytea"
    UUID = "uuid"
    DATE = "date"
    TIME = "time"
    TIMESTAMP = "timestamp"
    TIMESTAMPTZ = "timestamptz"
    JSON = "json"  # json and jsonb, as text
    NUMERIC = "numeric"
    ENUM = "enum"
    ARRAY = "array"
    OTHER = "other"  # every other type, in PostgreSQL's own text form


_ARROW: dict[Kind, pa.DataType] = {
    Kind.INT2: pa.int32(),  # Iceberg has no 16-bit integer
    Kind.INT4: pa.int32(),
    Kind.INT8: pa.int64(),
    Kind.FLOAT4: pa.float32(),
    Kind.FLOAT8: pa.float64(),
    Kind.BOOL: pa.bool_(),
    Kind.BYTEA: pa.binary(),
    Kind.DATE: pa.date32(),
    Kind.TIME: pa.time64("us"),
    Kind.TIMESTAMP: pa.timestamp("us"),
    Kind.TIMESTAMPTZ: pa.timestamp("us", tz="UTC"),
}


@dataclass(frozen=True, slots=True)
class PgType:
    """One PostgreSQL type, resolved through its domains to what is stored.

    Attributes:
        name: as ``format_type`` prints it, ``numeric(10,2)``.
        kind: the family that decides how values are carried.
        output: qualified SQL name of the output function, ``pg_catalog.int4out``:
            the snapshot copy calls it so that its text equals the stream's.
        precision, scale: of ``numeric(p,s)``; both None for bare ``numeric``.
        element: of an array.
    """

    name: str
    kind: Kind
    output: str = "pg_catalog.textout"
    precision: int | None = None
    scale: int | None = None
    element: PgType | None = None

    @property
    def arrow(self) -> pa.DataType:
        """The Arrow type that values of this type are carried in."""
        if self.kind is Kind.ARRAY:
            assert self.element is not None
            return pa.list_(pa.field("element", self.element.arrow))
        if self.kind is Kind.NUMERIC:
            if self.precision is None or self.scale is None:
                return pa.decimal128(DECIMAL_DIGITS_MAX, BARE_NUMERIC_SCALE)
            if self.precision <= DECIMAL_DIGITS_MAX and 0 <= self.scale <= self.precision:
                return pa.decimal128(self.precision, self.scale)
            return pa.string()
        return _ARROW.get(self.kind, pa.string())

    @staticmethod
    def from_dict(value: dict[str, Any]) -> PgType:
        """Inverse of ``dataclasses.asdict``."""
        element = value["element"]
        return PgType(
            name=value["name"],
            kind=Kind(value["kind"]),
            output=value["output"],
            precision=value["precision"],
            scale=value["scale"],
            element=PgType.from_dict(element) if element else None,
        )


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a source table; ``attnum`` is its identity for life."""

    name: str
    attnum: int
    type: PgType
    nullable: bool = True


@dataclass(frozen=True, slots=True)
class TableSchema:
    """A source table as of one moment of the stream.

    ``key`` names the replica identity columns (the primary key, or the index of
    REPLICA IDENTITY USING INDEX), in index order; never empty.
    """

    oid: int
    schema: str
    name: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]

    @property
    def id(self) -> str:
        """``schema.name``, unquoted: for messages, paths and the manifest."""
        return f"{self.schema}.{self.name}"

    @property
    def lake_name(self) -> str:
        """The table's name in the lake: ``name``, or ``schema__name`` outside ``public``."""
        return self.name if self.schema == "public" else f"{self.schema}__{self.name}"

    def column(self, name: str) -> Column:
        """Return the column called ``name``; KeyError when there is none."""
        for column in self.columns:
            if column.name == name:
                return column
        raise KeyError(name)

    def key_columns(self) -> tuple[Column, ...]:
        """The key's columns, in key order."""
        return tuple(self.column(name) for name in self.key)

    def arrow_schema(self) -> pa.Schema:
        """The table's own columns, typed, in attnum order; keys are never null."""
        return pa.schema([pa.field(c.name, c.type.arrow, nullable=True) for c in self.columns])

    def changelog_schema(self) -> pa.Schema:
        """The changelog's Arrow schema (docs/formats/raw.md): change fields, then columns."""
        old_key = pa.struct([pa.field(c.name, c.type.arrow) for c in self.key_columns()])
        return pa.schema(
            [
                *CHANGE_FIELDS,
                pa.field(OLD_KEY, old_key),
                pa.field(UNTYPED, pa.string()),
                *self.arrow_schema(),
            ]
        )

    def trusted_schema(self) -> pa.Schema:
        """The trusted table's Arrow schema: columns, then ``_lsn`` and ``_untyped``."""
        return pa.schema(
            [*self.arrow_schema(), pa.field(TRUSTED_LSN, pa.int64()), pa.field(UNTYPED, pa.string())]
        )

    def to_json(self) -> str:
        """One line of JSON; ``from_json`` is its inverse."""
        return json.dumps(asdict(self), separators=(",", ":"))

    @staticmethod
    @lru_cache(maxsize=2048)  # the log's schemas are asked for again and again, and may be wide
    def from_json(text: str) -> TableSchema:
        """Inverse of ``to_json``."""
        value = json.loads(text)
        columns = tuple(
            Column(c["name"], c["attnum"], PgType.from_dict(c["type"]), c["nullable"])
            for c in value["columns"]
        )
        return TableSchema(value["oid"], value["schema"], value["name"], columns, tuple(value["key"]))
