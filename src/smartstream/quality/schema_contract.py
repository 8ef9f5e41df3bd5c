"""Schema contracts: what a change of columns in the source may do to a trusted table, pure.

A contract holds a table to a *reference schema*.  What the source changes beyond that is
followed (evolve), refused (freeze), or kept out of the trusted table: with the whole row, which
goes to the quarantine (discard_row), or the value alone (discard_value).  The raw zone has
everything in any case.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from smartstream.change import UNTYPED
from smartstream.errors import SchemaFrozen
from smartstream.lsn import format_lsn
from smartstream.quality.config import SchemaContract
from smartstream.schema import Column, TableSchema
from smartstream.transform.evolution import compare


@dataclass(frozen=True, slots=True)
class Decision:
    """What becomes of a table whose source has a new schema.

    Attributes:
        source: the schema that the source has now.
        schema: the one that the trusted table has from here on: columns keep the names
            and types that the contract knows, under the source's attnums.
        ignored: columns of ``source`` that the trusted table does not have.
        quarantine: columns of ``source``; a row with a value in one of them is held back.
        nulled: columns of ``schema`` whose values are null, because their type is another
            now; each row that had a value says so in its mark.
    """

    source: TableSchema
    schema: TableSchema
    ignored: tuple[Column, ...] = ()
    quarantine: tuple[Column, ...] = ()
    nulled: tuple[Column, ...] = ()

    @property
    def follows(self) -> bool:
        """Whether the trusted table is as the source is."""
        return self.schema == self.source

    def by_contract_names(self) -> Decision:
        """The same for rows whose columns are called as in ``schema`` already.

        A column that ``schema`` does not have keeps its name, unless another one has it there.
        """
        names = {column.attnum: column.name for column in self.schema.columns}
        taken = set(names.values())
        for column in self.ignored:
            name = column.name
            while name in taken:
                name = f"{name}_{column.attnum}"
            taken.add(name)
            names[column.attnum] = name
        columns = tuple(replace(column, name=names[column.attnum]) for column in self.source.columns)
        own = {column.attnum: column for column in columns}
        return replace(
            self,
            source=replace(self.source, columns=columns, key=self.schema.key),
            ignored=tuple(own[column.attnum] for column in self.ignored),
            quarantine=tuple(own[column.attnum] for column in self.quarantine),
        )


@dataclass(frozen=True, slots=True)
class Held:
    """Rows brought under a decision's schema.

    Attributes:
        rows: (n, ``schema.trusted_schema()``), one for each row given, in order.
        bad: (n,) bool: rows for the quarantine.
        reasons: (n,) JSON text like the quarantine's violations, null for the others.
        nulled: (n,) list of names: columns that had a value and have none now.
    """

    rows: pa.Table
    bad: pa.Array
    reasons: pa.Array
    nulled: pa.Array


def evolves(contract: SchemaContract) -> bool:
    """Whether a table that is followed may take any shape."""
    return contract.columns == contract.data_type == "evolve"


def admit(contract: SchemaContract, new: TableSchema, *, lsn: int) -> bool:
    """Whether to follow a table that the contract has never seen.

    Raises:
        SchemaFrozen: the contract allows no new tables.
    """
    if contract.tables == "freeze":
        raise SchemaFrozen(
            f"{new.id} is a new table, at {format_lsn(lsn)}, and the contract freezes tables",
            hint="Exclude it under `tables:` in smartstream.yaml, or allow new tables with "
            "`contract: {tables: evolve}`.",
        )
    return contract.tables == "evolve"


def decide(contract: SchemaContract, reference: TableSchema, new: TableSchema, *, lsn: int) -> Decision:
    """Return what a table's new schema does to its trusted table.

    Columns are the same when their attnum is; in a table that was dropped and created again
    (another oid), when their name is.  A rename that is not followed keeps the contract's name:
    nothing is lost.  A column that was dropped, or a new key, can't be kept out by discarding
    anything: only ``columns: evolve`` allows them.

    Args:
        reference: what the contract holds the table to.
        lsn: where in the stream the new schema begins, for messages.
    Raises:
        SchemaFrozen: the change is not allowed; names table, column and LSN.
    """
    known = _aligned(reference, new)
    change = compare(known, new)
    at = f"at {format_lsn(lsn)}"
    if contract.columns != "evolve":
        _refuse_losses(contract, known, new, at)
    if contract.columns == "freeze":
        for column in change.added:
            raise SchemaFrozen(f"{new.id}: column {column.name} was added {at}; the contract freezes columns")
        for before, after in change.renamed:
            raise SchemaFrozen(
                f"{new.id}: column {before.name} was renamed to {after.name} {at}; "
                "the contract freezes columns"
            )
    retyped = [*change.widened, *change.retyped]
    for before, after in retyped:
        if contract.data_type == "freeze" or (contract.data_type != "evolve" and before.name in known.key):
            raise SchemaFrozen(
                f"{new.id}: the type of column {before.name} changed from {before.type.name} to "
                f"{after.type.name} {at}; data_type: {contract.data_type} does not allow it"
            )
    return _decision(contract, known, new, change.added, retyped)


def rejudges(before: Decision, now: Decision, filled: Collection[int]) -> bool:
    """Whether rows that no change is about come out otherwise under the next decision.

    Args:
        filled: attnums of columns that are new and have a value in existing rows.
    """
    old = {column.attnum for column in (*before.quarantine, *before.nulled)}
    new = {column.attnum for column in (*now.quarantine, *now.nulled)}
    there = {column.attnum for column in before.source.columns}
    empty = {column.attnum for column in now.ignored} - there - set(filled)
    return bool(old - new or new - old - empty)


def hold(rows: pa.Table, decision: Decision) -> Held:
    """Bring rows of the source's new schema under the decision's.

    A value that Arrow can't hold (``_untyped``) is a value like any other.

    Args:
        rows: (n, ``decision.source.trusted_schema()``).
    """
    flags = _flags(rows)
    source = {column.attnum: column for column in decision.source.columns}
    arrays: list[pa.Array | pa.ChunkedArray] = []
    gone = {column.attnum for column in decision.nulled}
    for column in decision.schema.columns:
        kept = column.attnum in source and column.attnum not in gone
        arrays.append(
            rows[source[column.attnum].name] if kept else pa.nulls(rows.num_rows, column.type.arrow)
        )
    target = decision.schema.trusted_schema()
    arrays += [rows[target.names[-2]], _renamed_flags(rows, decision, gone)]
    bad, reasons = _violations(rows, flags, decision.quarantine)
    names = [(column.name, source[column.attnum].name) for column in decision.nulled]
    return Held(
        pa.table([array.cast(kind) for array, kind in zip(arrays, target.types, strict=True)], schema=target),
        bad,
        reasons,
        _names_of(rows, flags, names),
    )


def _aligned(reference: TableSchema, new: TableSchema) -> TableSchema:
    """The reference under the attnums of ``new``, when the table was created again."""
    if reference.oid == new.oid:
        return reference
    by_name = {column.name: column.attnum for column in new.columns}
    fresh = max([c.attnum for c in (*reference.columns, *new.columns)], default=0)
    columns = []
    for column in reference.columns:
        fresh += 1
        columns.append(replace(column, attnum=by_name.get(column.name, fresh)))
    columns.sort(key=lambda column: column.attnum)
    return replace(reference, oid=new.oid, columns=tuple(columns))


def _refuse_losses(contract: SchemaContract, known: TableSchema, new: TableSchema, at: str) -> None:
    """Raise for what can't be kept out by discarding something."""
    there = {column.attnum: column for column in new.columns}
    for column in known.columns:
        if column.attnum not in there:
            raise SchemaFrozen(
                f"{new.id}: column {column.name} was dropped {at}; with columns: {contract.columns} "
                "the contract promises it"
            )
    old_key = [known.column(name).attnum for name in known.key]
    new_key = [new.column(name).attnum for name in new.key]
    if old_key != new_key:
        raise SchemaFrozen(
            f"{new.id}: the key changed from ({', '.join(known.key)}) to ({', '.join(new.key)}) {at}; "
            f"columns: {contract.columns} allows no other key"
        )


def _decision(
    contract: SchemaContract,
    known: TableSchema,
    new: TableSchema,
    added: Sequence[Column],
    retyped: Sequence[tuple[Column, Column]],
) -> Decision:
    """The schema that is left when what the contract discards is taken out of ``new``."""
    before = {column.attnum: column for column in known.columns}
    left_out = {column.attnum for column in added} if contract.columns != "evolve" else set()
    held_types = {a.attnum: a.type for a, _ in retyped} if contract.data_type != "evolve" else {}
    columns, names = [], {}
    for column in new.columns:
        if column.attnum in left_out:
            continue
        kept_name = contract.columns != "evolve" and column.attnum in before
        name = before[column.attnum].name if kept_name else column.name
        names[column.name] = name
        columns.append(replace(column, name=name, type=held_types.get(column.attnum, column.type)))
    schema = replace(new, columns=tuple(columns), key=tuple(names[name] for name in new.key))
    ignored = tuple(column for column in new.columns if column.attnum in left_out)
    changed = tuple(column for column in new.columns if column.attnum in held_types)
    quarantine = ignored if contract.columns == "discard_row" else ()
    if contract.data_type == "discard_row":
        quarantine += changed
    nulled = tuple(column for column in columns if column.attnum in held_types)
    return Decision(new, schema, ignored, quarantine, nulled)


def _flags(rows: pa.Table) -> list[frozenset[str]] | None:
    """The columns that each row has as text in ``_untyped``; None when no row has any (most often)."""
    if rows[UNTYPED].null_count == rows.num_rows:
        return None
    return [frozenset(json.loads(text)) if text else frozenset() for text in rows[UNTYPED].to_pylist()]


def _present(rows: pa.Table, flags: list[frozenset[str]] | None, name: str) -> pa.ChunkedArray:
    """Which rows have a value in a column."""
    valid = pc.is_valid(rows[name])
    if flags is None:
        return valid
    return pc.or_(valid, pa.array([name in names for names in flags]))


def _violations(
    rows: pa.Table, flags: list[frozenset[str]] | None, columns: Sequence[Column]
) -> tuple[pa.Array, pa.Array]:
    """Rows with a value in one of the columns, and the constant text that says so."""
    bad = pa.array([False] * rows.num_rows, pa.bool_())
    texts = pa.array([""] * rows.num_rows, pa.string())
    for column in columns:
        present = pc.fill_null(_present(rows, flags, column.name), False)
        reason = {
            "rule": "contract",
            "column": column.name,
            "reason": f"{column.name} ({column.type.name}) is not in the contract",
        }
        one = json.dumps(reason, ensure_ascii=False)
        added = pc.if_else(pc.equal(texts, ""), one, pc.binary_join_element_wise(texts, one, ", "))
        texts = pc.if_else(present, added, texts)
        bad = pc.or_(bad, present)
    listed = pc.binary_join_element_wise("[", texts, "]", "")
    reasons = pc.if_else(bad, listed, pa.scalar(None, pa.string()))
    return _one(bad), _one(reasons)


def _names_of(
    rows: pa.Table, flags: list[frozenset[str]] | None, columns: Sequence[tuple[str, str]]
) -> pa.Array:
    """For each row the names of columns that had a value; (name in the lake, name in the source)."""
    kind = pa.list_(pa.string())
    if not columns or not rows.num_rows:
        return pa.array([[]] * rows.num_rows, kind)
    present = np.stack([np.asarray(_present(rows, flags, source)) for _, source in columns], axis=1)
    offsets = np.concatenate([[0], np.cumsum(present.sum(axis=1))])
    names = pa.array([name for name, _ in columns]).take(pa.array(np.nonzero(present)[1]))
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), names)


def _renamed_flags(rows: pa.Table, decision: Decision, gone: set[int]) -> pa.Array | pa.ChunkedArray:
    """``_untyped`` under the lake's names, without the columns that it does not have; mostly all null."""
    flags = rows[UNTYPED]
    if flags.null_count == rows.num_rows:
        return flags
    attnums = {column.name: column.attnum for column in decision.source.columns}
    names = {column.attnum: column.name for column in decision.schema.columns if column.attnum not in gone}
    texts: list[str | None] = []
    for flag in flags.to_pylist():
        held = json.loads(flag) if flag else {}
        kept = {names[attnums[name]]: text for name, text in held.items() if attnums[name] in names}
        texts.append(json.dumps(kept, ensure_ascii=False) if kept else None)
    return pa.array(texts, pa.string())


def _one(array: pa.Array | pa.ChunkedArray) -> pa.Array:
    """One array of perhaps several chunks."""
    return array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array
