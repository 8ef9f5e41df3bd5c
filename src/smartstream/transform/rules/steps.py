"""Steps of the pass over a batch, and their order: as few SQL statements as their dependences allow.

A rule becomes steps, each reading and writing columns by name.  Steps that do not
touch the same columns commute, so those in SQL are gathered into one statement and
those that need Arrow kernels come between two statements only when one of the
second needs their result.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from smartstream.sql_text import quoted
from smartstream.transform.rules.engine import ROWS

Columns = Mapping[str, pa.ChunkedArray]
ROW = "~row"
"""Our column with the number of each row: what comes back is in this order, or the pass is wrong."""


@dataclass(frozen=True, slots=True)
class SqlStep:
    """Sets columns to expressions over the columns before the step, all at once."""

    label: str
    sets: Mapping[str, str]
    reads: frozenset[str]

    @property
    def writes(self) -> frozenset[str]:
        """The columns that it sets."""
        return frozenset(self.sets)


@dataclass(frozen=True, slots=True)
class ArrowStep:
    """Sets columns by Arrow kernels.

    Attributes:
        run: columns → the columns that it sets.
    """

    label: str
    reads: frozenset[str]
    writes: frozenset[str]
    run: Callable[[Columns], Mapping[str, pa.ChunkedArray | pa.Array]] = field(compare=False)


Step = SqlStep | ArrowStep


@dataclass(frozen=True, slots=True)
class Statement:
    """Several SQL steps as one statement over the columns ``takes``."""

    sql: str
    takes: tuple[str, ...]
    gives: tuple[str, ...]


Stage = Statement | ArrowStep


def stages_of(steps: Sequence[Step], wanted: Iterable[str]) -> tuple[Stage, ...]:
    """Order the steps into stages that give the columns ``wanted``."""
    pending: list[Step] = list(steps)
    stages: list[Stage] = []
    while pending:
        ready, pending = _ready(pending, ArrowStep)
        stages.extend(step for step in ready if isinstance(step, ArrowStep))
        ready, pending = _ready(pending, SqlStep)
        if ready:
            later = frozenset(wanted).union(*(step.reads for step in pending))
            stages.append(_statement([step for step in ready if isinstance(step, SqlStep)], later))
    return tuple(stages)


def _ready(steps: Sequence[Step], kind: type[Step]) -> tuple[list[Step], list[Step]]:
    """The steps of a kind that need not wait for any of the others, and all the rest."""
    ready: list[Step] = []
    rest: list[Step] = []
    read: set[str] = set()
    written: set[str] = set()
    for step in steps:
        free = not (step.reads | step.writes) & written and not step.writes & read
        if isinstance(step, kind) and free:
            ready.append(step)
            continue
        rest.append(step)
        read |= step.reads
        written |= step.writes
    return ready, rest


def _statement(steps: Sequence[SqlStep], later: frozenset[str]) -> Statement:
    """Steps as a chain of common table expressions, each over the one before."""
    takes: dict[str, None] = {}
    present: set[str] = set()
    for step in steps:
        takes.update(dict.fromkeys(sorted(step.reads - present)))
        present |= step.reads | step.writes
    gives = tuple(sorted({name for step in steps for name in step.sets if name in later}))
    parts = [f"s0 AS (SELECT {_list([ROW, *takes])} FROM {ROWS})"]
    present = {ROW, *takes}
    for number, level in enumerate(_levels(steps), 1):
        parts.append(f"s{number} AS (SELECT {_assignments(level, present)}\n  FROM s{number - 1})")
        present |= {name for step in level for name in step.sets}
    chain = ",\n".join(parts)
    sql = f"WITH {chain}\nSELECT {_list([ROW, *gives])} FROM s{len(parts) - 1}"
    return Statement(sql, tuple(takes), gives)


def _levels(steps: Sequence[SqlStep]) -> list[list[SqlStep]]:
    """The steps in as few groups as can be; those of a group see the columns before it."""
    levels: list[list[SqlStep]] = []
    written: dict[str, int] = {}
    read: dict[str, int] = {}
    for step in steps:
        after = [written[name] for name in step.reads | step.writes if name in written]
        beside = [read[name] for name in step.writes if name in read]
        level = max([0, *(number + 1 for number in after), *beside])
        if level == len(levels):
            levels.append([])
        levels[level].append(step)
        written.update(dict.fromkeys(step.writes, level))
        for name in step.reads:
            read[name] = max(level, read.get(name, 0))
    return levels


def _assignments(steps: Sequence[SqlStep], present: set[str]) -> str:
    """The columns before, some replaced, and new ones; each with the rule that it comes from."""
    replaced: list[str] = []
    added: list[str] = []
    for step in steps:
        for name, expression in step.sets.items():
            target = replaced if name in present else added
            label = step.label.replace("*/", "* /")
            target.append(f"\n    /* {label} */ {expression} AS {quoted(name)}")
    star = f"* REPLACE ({','.join(replaced)})" if replaced else "*"
    return ",".join([star, *added])


def _list(names: Iterable[str]) -> str:
    """Names for a SELECT."""
    return ", ".join(map(quoted, names))
