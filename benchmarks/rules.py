"""What rules cost: a batch folded, cleaned and written, beside the same batch without rules; no server."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa

from smartstream.change import COMMIT_LSN, COMMIT_TS, OP, ORDINAL, XID
from smartstream.config import Lake
from smartstream.rules_config import TableRules
from smartstream.schema import Column, Kind, PgType, TableSchema
from smartstream.transform.fold import fold
from smartstream.transform.rules import CompiledRules, compile_rules
from smartstream.transform.shape import ruled_schema
from smartstream.trusted.catalog import open_catalog
from smartstream.trusted.table import Position, TrustedTable

SEED = 1
REPEATS = 9
CHUNK_ROWS = 250_000
CUSTOMERS = 20_000
"""Different e-mail addresses: a digest is computed once for each."""

_TEXT = PgType("text", Kind.TEXT)
_TYPES = {
    "id": PgType("integer", Kind.INT4),
    "customer": PgType("integer", Kind.INT4),
    "email": _TEXT,
    "phone": _TEXT,
    "amount": _TEXT,
    "placed": _TEXT,
    "quantity": PgType("integer", Kind.INT4),
    "price": PgType("numeric(12,2)", Kind.NUMERIC, precision=12, scale=2),
    "status": _TEXT,
    "note": _TEXT,
    "weight": PgType("double precision", Kind.FLOAT8),
}
SALES = TableSchema(
    oid=1,
    schema="public",
    name="sales",
    columns=tuple(Column(name, number, kind) for number, (name, kind) in enumerate(_TYPES.items(), 1)),
    key=("id",),
)
RULES: dict[str, Any] = {
    "clean": [
        {"trim": "email"},
        {"lower": "email"},
        {"null_if": {"phone": ["", "n/a"]}},
        {"cast": {"amount": "decimal(12,2)"}},
        {"parse_timestamp": {"column": "placed", "zone": "Europe/Berlin", "gap": "shift", "fold": "later"}},
        {"default": {"quantity": 0}},
        {"compute": {"column": "total", "sql": "price * quantity"}},
        {"mask": {"column": "phone", "keep_last": 2}},
        {"hash": {"column": "email", "key": "a key of 16 bytes or more"}},
        {"required": "email"},
    ],
}


def run(rows: int, batch: int) -> dict[str, Any]:
    """The median times of one batch of updates, with rules and without, and of the rule pass alone.

    ``with_for_without`` is of all that the pipeline does with a batch: fold, clean, locate,
    write, commit; ``fold_write_with_for_without`` leaves out what depends on the table's size.
    """
    rules = compile_rules(SALES, TableRules.model_validate(RULES))
    assert rules is not None
    changelog = _changelog(np.random.default_rng(SEED).choice(rows, batch, replace=False))
    upserts = fold(changelog, SALES).upserts
    assert not rules.apply(upserts).verdict.any(), "every row is good, so that both write as many"
    with tempfile.TemporaryDirectory(prefix="smartstream-bench-") as folder:
        plain = _Side(f"{folder}/plain", None, rows)
        ruled = _Side(f"{folder}/ruled", rules, rows)
        times = _medians(
            {
                "without_rules_ms": lambda: plain.apply(changelog),
                "with_rules_ms": lambda: ruled.apply(changelog),
                "fold_write_ms": lambda: plain.prepare(changelog),
                "fold_clean_write_ms": lambda: ruled.prepare(changelog),
                "rule_pass_ms": lambda: rules.apply(upserts),
            }
        )
    whole = times["with_rules_ms"] / times["without_rules_ms"]
    part = times["fold_clean_write_ms"] / times["fold_write_ms"]
    return {
        "rows": rows,
        "batch": batch,
        "rules": len(RULES["clean"]),
        **{name: round(seconds * 1e3) for name, seconds in times.items()},
        "with_for_without": round(whole, 2),
        "fold_write_with_for_without": round(part, 2),
    }


class _Side:
    """A trusted table with or without rules."""

    def __init__(self, folder: str, rules: CompiledRules | None, rows: int) -> None:
        shape = ruled_schema(SALES, rules.output) if rules else SALES
        self._rules, self._seq = rules, 1
        self._table = TrustedTable.open(open_catalog(Lake(warehouse=folder)), shape)
        files = [
            file
            for first in range(0, rows, CHUNK_ROWS)
            for file in self.prepare(_changelog(np.arange(first, min(rows, first + CHUNK_ROWS))))
        ]
        self._table.commit(add=files, delete=None, position=Position(1, 1, 1), replace_all=True)

    def prepare(self, changelog: pa.Table) -> list[Any]:
        """Fold, clean and write."""
        upserts = fold(changelog, SALES).upserts
        return list(self._table.write(self._rules.apply(upserts).rows if self._rules else upserts))

    def apply(self, changelog: pa.Table) -> None:
        """All that the pipeline does with a batch."""
        self._seq += 1
        files = self.prepare(changelog)
        located = self._table.locate(changelog.select(list(SALES.key)))
        self._table.commit(add=files, delete=[located], position=Position(self._seq, self._seq, 1))


def _medians(works: dict[str, Callable[[], object]]) -> dict[str, float]:
    """The median of the seconds of each work; they take turns, so that other load meets all alike."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(REPEATS):
        for name, work in works.items():
            begin = time.perf_counter()
            work()
            times[name].append(time.perf_counter() - begin)
    return {name: statistics.median(seconds) for name, seconds in times.items()}


def _changelog(ids: np.ndarray) -> pa.Table:
    """Updates of some rows, with each of which the rules have something to do."""
    count = len(ids)
    seconds = np.datetime64("2026-01-01T00:00:00") + ids % 100_000 * np.timedelta64(311, "s")
    texts = pa.array(ids).cast(pa.string()).to_pylist()
    columns: dict[str, Any] = {
        "id": ids,
        "customer": ids % CUSTOMERS,
        "email": [f" Customer.{number % CUSTOMERS}@Example.com " for number in ids],
        "phone": [f"+49 30 {text}" for text in texts],
        "amount": [f"{text}.50" for text in texts],
        "placed": [f"{second}".replace("T", " ") for second in seconds],
        "quantity": ids % 10,
        "price": pa.array(ids % 1000, pa.int32()).cast(pa.decimal128(12, 2)),
        "status": np.where(ids % 2 == 0, "new", "paid"),
        "note": [f"order number {text}" for text in texts],
        "weight": ids / 7.0,
        OP: np.full(count, "u"),
        COMMIT_LSN: np.full(count, 1),
        ORDINAL: np.arange(count),
        COMMIT_TS: pa.array(np.zeros(count, np.int64)).cast(pa.timestamp("us", tz="UTC")),
        XID: np.full(count, 1),
    }
    schema = SALES.changelog_schema()
    made = {name: pa.array(values) for name, values in columns.items()}
    return pa.table([made.get(f.name, pa.nulls(count, f.type)).cast(f.type) for f in schema], schema)
