"""Evolution: what changed between two schemas of a table, and whether values survive it."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from smartstream.schema import Column, TableSchema


@dataclass(frozen=True, slots=True)
class Evolution:
    """The difference between two schemas of one table, by attnum.

    ``retyped`` holds only changes whose Arrow type differs and cannot be widened:
    existing rows must be read again (``needs_copy``).
    """

    added: tuple[Column, ...] = ()
    dropped: tuple[Column, ...] = ()
    renamed: tuple[tuple[Column, Column], ...] = ()
    widened: tuple[tuple[Column, Column], ...] = ()
    retyped: tuple[tuple[Column, Column], ...] = ()
    key_changed: bool = False

    @property
    def needs_copy(self) -> bool:
        """Existing rows of the trusted table can't be kept as they are."""
        return bool(self.retyped)

    def __bool__(self) -> bool:
        return any((self.added, self.dropped, self.renamed, self.widened, self.retyped, self.key_changed))


def compare(old: TableSchema, new: TableSchema) -> Evolution:
    """Return what leads from ``old`` to ``new``; falsy when the lake sees no difference.

    A table dropped and created again (another oid) keeps no column.
    """
    before = {} if old.oid != new.oid else {c.attnum: c for c in old.columns}
    after = {c.attnum: c for c in new.columns}
    kept = [(before[n], after[n]) for n in after if n in before]
    differing = [(a, b) for a, b in kept if a.type.arrow != b.type.arrow or _text_changed(a, b)]
    return Evolution(
        added=tuple(c for n, c in after.items() if n not in before),
        dropped=tuple(c for c in old.columns if c.attnum not in after or not before),
        renamed=tuple((a, b) for a, b in kept if a.name != b.name),
        widened=tuple((a, b) for a, b in differing if can_widen(a.type.arrow, b.type.arrow)),
        retyped=tuple((a, b) for a, b in differing if not can_widen(a.type.arrow, b.type.arrow)),
        key_changed=old.key != new.key,
    )


def can_widen(old: pa.DataType, new: pa.DataType) -> bool:
    """Whether Iceberg promotes ``old`` to ``new`` without rewriting a file."""
    if pa.types.is_int32(old):
        return bool(pa.types.is_int64(new))
    if pa.types.is_float32(old):
        return bool(pa.types.is_float64(new))
    if pa.types.is_decimal(old) and pa.types.is_decimal(new):
        return bool(old.scale == new.scale and old.precision <= new.precision)
    return False


def _text_changed(old: Column, new: Column) -> bool:
    """A new type with the same Arrow type whose values may print otherwise."""
    if old.type.kind is new.type.kind:
        # char(5) to char(8) pads anew; varchar(5) to varchar(8) changes no value.
        return old.type.kind in ("bpchar", "other") and old.type.name != new.type.name
    text_kinds = {"text", "enum", "int2", "int4"}
    return not {old.type.kind.value, new.type.kind.value} <= text_kinds
