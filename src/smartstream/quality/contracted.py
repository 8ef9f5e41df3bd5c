"""Rules under a contract: rows are brought to the shape that it allows before any rule sees them.

A table is held to its *reference*, the schema that it had when it was copied first, or by
a ``resync``: that is in the log, so a restart decides as before.  Whoever needs the rules
of a table takes them from here, the pipeline's writers and everything that reads or
foretells what they write: so all of them agree.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from smartstream.config import Settings, rules_of
from smartstream.errors import SchemaFrozen
from smartstream.manifest import TableState
from smartstream.quality.config import SchemaContract
from smartstream.quality.schema_contract import Decision, Held, decide, evolves, hold
from smartstream.rules_config import OnBadUpdate, TableRules
from smartstream.schema import TableSchema
from smartstream.transform.dedupe import Mask
from smartstream.transform.rules import (
    Cleaned,
    CompiledRules,
    Dedupe,
    OutputColumn,
    Test,
    Verdict,
    compile_rules,
    no_rules,
)
from smartstream.transform.shape import QUALITY

RULE = "contract"
"""Under this name rows are counted that a contract holds back."""

_BETWEEN = "\0"
"""No name of PostgreSQL has it."""


@dataclass(frozen=True, slots=True)
class ContractedRules:
    """The rules of a table for rows of its source, which a contract first brings to its own shape.

    Attributes:
        rules: for rows of ``decision.schema``.
        decision: by the contract's names.
    """

    rules: CompiledRules
    decision: Decision
    version: str

    @property
    def schema(self) -> TableSchema:
        """Of the rows that ``apply`` takes: the source's columns, by the contract's names."""
        return self.decision.source

    @property
    def output(self) -> tuple[OutputColumn, ...]:
        """See CompiledRules."""
        return self.rules.output

    @property
    def dedupe(self) -> Dedupe | None:
        """See CompiledRules."""
        return self.rules.dedupe

    @property
    def on_bad_update(self) -> OnBadUpdate:
        """See CompiledRules."""
        return self.rules.on_bad_update

    @property
    def tests(self) -> tuple[Test, ...]:
        """See CompiledRules; the contract's own are not among them."""
        return self.rules.tests

    @property
    def sql(self) -> str:
        """See CompiledRules, after a comment for each column that the contract keeps out."""
        decision = self.decision
        held = {column.attnum for column in decision.quarantine}
        said = [
            *(f"-- contract: rows with a value in {one.name} are held" for one in decision.quarantine),
            *(f"-- contract: {one.name} is left out" for one in decision.ignored),
            *(f"-- contract: {one.name} is null" for one in decision.nulled if one.attnum not in held),
        ]
        return "\n".join([*said, self.rules.sql])

    def output_schema(self) -> pa.Schema:
        """See CompiledRules."""
        return self.rules.output_schema()

    def prepare(self) -> None:
        """See CompiledRules."""
        self.rules.prepare()

    def carries(self, column: str) -> bool:
        """See CompiledRules; a value that the contract has to judge must be looked up."""
        judged = (*self.decision.quarantine, *self.decision.nulled)
        return all(one.name != column for one in judged) and self.rules.carries(column)

    def apply(self, rows: pa.Table, known: Mapping[str, Mask] | None = None) -> Cleaned:
        """See CompiledRules; a row that the contract holds back is bad, whatever the rules say."""
        if self.decision.follows:
            return self.rules.apply(rows, known)
        held = hold(rows, self.decision)
        left_out = {column.name for column in self.decision.ignored}
        known = {name: mask for name, mask in (known or {}).items() if name not in left_out}
        cleaned = self.rules.apply(held.rows, known)
        if self.decision.nulled:
            cleaned = replace(cleaned, rows=_marked(cleaned.rows, held.nulled))
        return _joined(cleaned, held) if self.decision.quarantine else cleaned


Rules = CompiledRules | ContractedRules
"""The rules of a table, with a contract among them or not: used alike."""


def rules_under_contract(
    settings: Settings, schema: TableSchema, state: TableState | None, *, seen_lsn: int = 0
) -> Rules | None:
    """Return what rows of a table go through; None without rules and contract.

    Args:
        schema: of the source, or of the rows that the raw zone has.
        state: what the log says about the table, None for one that it does not know:
            then any schema is right.
        seen_lsn: where ``schema`` was seen in the source, for messages about one that the
            log does not have.
    Raises:
        RuleInvalid: a rule does not fit the table, as its contract has it.
        SchemaFrozen: the contract does not allow this schema.
    """
    if state is None:
        return rules_held_to(settings, schema, schema, lsn=seen_lsn)
    reference = TableSchema.from_json(state.reference)
    return rules_held_to(settings, schema, reference, lsn=_begins(schema, state, seen_lsn))


def rules_held_to(
    settings: Settings, schema: TableSchema, reference: TableSchema, *, lsn: int
) -> Rules | None:
    """The same where something else than the log's end says what the contract holds the table to.

    Args:
        lsn: where ``schema`` begins, for messages.
    """
    said = rules_of(settings, schema.id)
    if evolves(said.contract):
        return compile_rules(schema, said)
    decision = decide(said.contract, reference, schema, lsn=lsn)
    rules = compile_rules(decision.schema, said) or no_rules(decision.schema, said.on_bad_update)
    return ContractedRules(rules, decision.by_contract_names(), _version(said, rules, decision))


def decision_on(contract: SchemaContract, schema: TableSchema, state: TableState) -> Decision:
    """Return what a contract makes of a schema of a table that the log knows.

    Raises:
        SchemaFrozen: the contract does not allow it.
    """
    return decide(contract, TableSchema.from_json(state.reference), schema, lsn=state.schema_lsn)


def _begins(schema: TableSchema, state: TableState, seen_lsn: int) -> int:
    """Where a schema begins, as exactly as is known."""
    logged = not seen_lsn or schema == TableSchema.from_json(state.schema)
    return state.schema_lsn if logged else seen_lsn


def in_lake(settings: Settings, state: TableState) -> TableSchema:
    """Return a table's columns by the names that the lake has for them."""
    schema = TableSchema.from_json(state.schema)
    contract = rules_of(settings, schema.id).contract
    if evolves(contract):
        return schema
    try:
        return decision_on(contract, schema, state).by_contract_names().source
    except SchemaFrozen:
        return TableSchema.from_json(state.reference)  # nothing has followed the source since


def _version(said: TableRules, rules: CompiledRules, decision: Decision) -> str:
    """A short digest of what decides how rows come out."""
    judged = sorted({column.attnum for column in (*decision.quarantine, *decision.nulled)})
    words = json.dumps([said.contract.columns, said.contract.data_type, judged, rules.version])
    return hashlib.sha256(words.encode()).hexdigest()[:16]


def _joined(cleaned: Cleaned, held: Held) -> Cleaned:
    """The verdict of the rules, and of the contract."""
    bad = np.asarray(held.bad)
    counts = {**cleaned.counts, RULE: cleaned.counts.get(RULE, 0) + int(np.count_nonzero(bad))}
    if not bad.any():
        return replace(cleaned, counts=counts)
    verdict = np.where(bad, np.maximum(cleaned.verdict, Verdict.QUARANTINE), cleaned.verdict).astype(np.int8)
    both = pc.binary_join_element_wise(
        pc.utf8_slice_codeunits(held.reasons, 0, -1), pc.utf8_slice_codeunits(cleaned.violations, 1), ", "
    )
    lists = cleaned.bad_columns
    return replace(
        cleaned,
        verdict=verdict,
        violations=pc.coalesce(both, held.reasons, cleaned.violations),
        bad_columns=lists.take(pa.array(np.arange(len(bad)), mask=bad)),
        counts=counts,
    )


def _marked(rows: pa.Table, nulled: pa.Array) -> pa.Table:
    """Rows with the names of nulled columns in ``_quality``; rows marked alike share their text."""
    index = rows.schema.get_field_index(QUALITY)
    lists = pc.binary_join(nulled, _BETWEEN)
    before = rows[QUALITY].combine_chunks() if isinstance(rows[QUALITY], pa.ChunkedArray) else rows[QUALITY]
    pairs = pc.binary_join_element_wise(pc.fill_null(before, ""), lists, _BETWEEN).dictionary_encode()
    texts = []
    for pair in pairs.dictionary.to_pylist():
        mark, *names = pair.split(_BETWEEN)
        marks = {**json.loads(mark or "{}"), **({"nulled": names} if names != [""] else {})}
        texts.append(json.dumps(marks, ensure_ascii=False) if marks else None)
    marked = pa.array(texts, pa.string()).take(pairs.indices)
    return rows.set_column(index, rows.schema.field(index), marked)
