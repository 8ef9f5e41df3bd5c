"""Compiled rules: one pass over a batch that cleans its rows and judges them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from smartstream.change import UNTYPED
from smartstream.errors import RuleStop
from smartstream.lsn import format_lsn
from smartstream.rules_config import OnBadUpdate
from smartstream.schema import TRUSTED_LSN, Column, TableSchema
from smartstream.transform.rules.dedupe import Dedupe
from smartstream.transform.rules.digests import Key
from smartstream.transform.rules.engine import evaluate
from smartstream.transform.rules.flags import Flags
from smartstream.transform.rules.shape import flag_of, text_of
from smartstream.transform.rules.steps import ROW, ArrowStep, Stage, Statement
from smartstream.transform.rules.verdict import Codes, Test, judge
from smartstream.transform.shape import QUALITY

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class OutputColumn:
    """A column that the rules leave.

    Attributes:
        origin: the source column of which it is the cleaned form, with the same name; None
            when it was computed.
        sources: the source columns that decide its value.
    """

    name: str
    type: pa.DataType
    origin: Column | None
    sources: frozenset[str]


@dataclass(frozen=True, slots=True)
class Cleaned:
    """What the rules make of n rows, in the same order.

    Attributes:
        rows: (n, ``output_schema``); the values of bad rows are unspecified.
        verdict: (n,) int8, a ``Verdict`` each.
        violations: (n,) JSON text, a list of {rule, column, reason}; null for good rows.
        bad_columns: (n,) list of the output columns that must become null to make the row
            good; null where that does not help, and for good rows.
        counts: rule → rows that broke it, those included that are only warned of.
    """

    rows: pa.Table
    verdict: npt.NDArray[np.int8]
    violations: pa.Array
    bad_columns: pa.Array
    counts: dict[str, int]


@dataclass(frozen=True, slots=True)
class CompiledRules:
    """The rules of a table at one schema.  Thread-safe.

    Attributes:
        version: of rules and what they look at; results of the same version are the same.
        output: the columns of the trusted table, without ``_lsn``, ``_untyped`` and ``_quality``.
        required: output columns that must not become null.
        sql: the pass, for people to read.
    """

    schema: TableSchema
    version: str
    output: tuple[OutputColumn, ...]
    dedupe: Dedupe | None
    on_bad_update: OnBadUpdate
    required: frozenset[str]
    tests: tuple[Test, ...]
    stages: tuple[Stage, ...]
    watched: frozenset[str]
    texts: frozenset[str]
    keys: tuple[Key, ...] = field(default=(), repr=False)

    @property
    def sql(self) -> str:
        """The statements and the steps between them."""
        parts = [
            f"-- Arrow: {stage.label}" if isinstance(stage, ArrowStep) else f"{stage.sql};"
            for stage in self.stages
        ]
        return "\n\n".join(parts)

    def output_schema(self) -> pa.Schema:
        """The columns of ``Cleaned.rows``."""
        return pa.schema(
            [
                *(pa.field(column.name, column.type) for column in self.output),
                pa.field(TRUSTED_LSN, pa.int64()),
                pa.field(UNTYPED, pa.string()),
                pa.field(QUALITY, pa.string()),
            ]
        )

    def carries(self, column: str) -> bool:
        """Whether an unchanged value of a source column may be taken from the trusted row in clean form.

        That is so where its cleaned value and its tests depend on nothing but it.  Where a
        row may be in the trusted table although the value failed (a warning, a null in its
        place, a row that is kept) the value must be looked up.
        """
        alone = frozenset({column})
        outputs = [one for one in self.output if column in one.sources]
        if any(one.sources != alone or one.name != column for one in outputs):
            return False
        tests = [test for test in self.tests if column in test.sources]
        if any(test.sources != alone or test.on_fail == "warn" for test in tests):
            return False
        return self.on_bad_update == "remove" or not self.tests

    def prepare(self) -> None:
        """Read the secret keys now, instead of with the first batch.

        Raises:
            ConfigMissing, ConfigInvalid: a key is missing or too short.
        """
        for key in self.keys:
            key.pads()

    def apply(self, rows: pa.Table, known: Mapping[str, Mask] | None = None) -> Cleaned:
        """Clean and judge rows; each by itself, so the result does not depend on the batch.

        Args:
            rows: (n, ``schema.trusted_schema()``).
            known: source column that ``carries`` → (n,) rows whose value is unchanged and not
                in ``rows``.  It is not judged and null in the result, for the caller to fill in.
        Raises:
            RuleStop: a row breaks a rule whose ``on_fail`` is stop.
            HookFailed: a hook does not do what it says.
            ConfigMissing, ConfigInvalid: see ``prepare``.
        """
        known = known or {}
        assert all(self.carries(column) for column in known), "only columns that are carried can be known"
        flags = Flags(rows[UNTYPED])
        columns = self._run(rows, flags)
        codes = [self._codes(test, columns, known) for test in self.tests]
        self._stop(codes, rows)
        judged = judge(self.tests, codes, rows.num_rows)
        arrays = [self._finished(column, columns, known) for column in self.output]
        untyped = self._untyped(flags, columns)
        cleaned = pa.table([*arrays, rows[TRUSTED_LSN], untyped, judged.quality], schema=self.output_schema())
        return Cleaned(cleaned, judged.verdict, judged.violations, judged.bad_columns, judged.counts)

    def _run(self, rows: pa.Table, flags: Flags) -> dict[str, pa.ChunkedArray]:
        """The columns after all steps."""
        columns = dict(zip(rows.column_names, rows.columns, strict=True))
        for name in self.watched:
            columns[flag_of(name)] = pa.chunked_array([pa.array(flags.mask(name))])
        for name in self.texts:
            columns[text_of(name)] = pa.chunked_array([flags.text(name)])
        for stage in self.stages:
            if isinstance(stage, Statement):
                columns.update(_query(stage, columns, rows.num_rows, self.schema.id))
            else:
                columns.update({name: _chunked(array) for name, array in stage.run(columns).items()})
        return columns

    def _codes(self, test: Test, columns: Mapping[str, pa.ChunkedArray], known: Mapping[str, Mask]) -> Codes:
        """What a test says of each row, 0 for good ones and those it can't judge."""
        codes: Codes = columns[test.code].to_numpy().astype(np.uint8)
        for column, mask in known.items():
            if test.sources == {column}:
                codes = np.where(mask, np.uint8(0), codes)
        return codes

    def _stop(self, codes: list[Codes], rows: pa.Table) -> None:
        """Raise RuleStop for the first rule that says so."""
        for test, one in zip(self.tests, codes, strict=True):
            if test.on_fail == "stop" and one.any():
                first = int(np.flatnonzero(one)[0])
                lsn, reason = rows[TRUSTED_LSN][first].as_py(), test.reasons[int(one[first]) - 1]
                where = f"at {format_lsn(lsn)}" if lsn is not None else ""
                raise RuleStop(
                    f"{self.schema.id}: {np.count_nonzero(one)} rows break {test.rule}, the first {where}:"
                    f" {test.column} {reason}"
                )

    def _finished(
        self, column: OutputColumn, columns: Mapping[str, pa.ChunkedArray], known: Mapping[str, Mask]
    ) -> pa.ChunkedArray:
        """An output column, null where it is known."""
        array = columns[column.name]
        array = array if array.type == column.type else array.cast(column.type)
        mask = known.get(column.name)
        if mask is None or not mask.any():
            return array
        if array.filter(pa.array(mask)).null_count == int(mask.sum()):
            return array
        # Not if_else: it lacks lists.
        index = pa.array(np.arange(len(mask)), mask=mask)
        return array.take(index)

    def _untyped(self, flags: Flags, columns: Mapping[str, pa.ChunkedArray]) -> pa.Array:
        """The texts of values that still are what they were in the source."""
        left = {column.name for column in self.output if column.origin is not None}
        gone = {column.name for column in self.schema.columns} - left
        settled = {}
        for name in self.watched - gone:
            before, after = flags.mask(name), columns[flag_of(name)].to_numpy().astype(np.bool_)
            if (before & ~after).any():
                settled[name] = before & ~after
        return flags.without(gone, settled)


def no_rules(schema: TableSchema, on_bad_update: OnBadUpdate) -> CompiledRules:
    """Return rules that leave every row as it is."""
    output = tuple(
        OutputColumn(column.name, column.type.arrow, column, frozenset({column.name}))
        for column in schema.columns
    )
    nothing: frozenset[str] = frozenset()
    return CompiledRules(schema, "", output, None, on_bad_update, nothing, (), (), nothing, nothing)


def _query(
    statement: Statement, columns: Mapping[str, pa.ChunkedArray], count: int, table: str
) -> dict[str, pa.ChunkedArray]:
    """Run one statement over the batch."""
    numbers = np.arange(count)
    taken = {ROW: pa.array(numbers), **{name: columns[name] for name in statement.takes}}
    try:
        found = evaluate(statement.sql, pa.table(taken))
    except duckdb.Error as error:
        # Every expression that can fail for a row is guarded.  The message may quote values.
        raise AssertionError(f"{table}: the pass of the rules fails: {type(error).__name__}") from None
    assert np.array_equal(found[ROW].to_numpy(), numbers), "DuckDB has changed the order of rows"
    return {name: found[name] for name in statement.gives}


def _chunked(array: pa.ChunkedArray | pa.Array) -> pa.ChunkedArray:
    """An array as a column."""
    return array if isinstance(array, pa.ChunkedArray) else pa.chunked_array([array])
