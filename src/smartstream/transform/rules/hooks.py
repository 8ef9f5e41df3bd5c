"""The rule ``hook``: a Python function of the user's, from Arrow table to Arrow table."""

from __future__ import annotations

import hashlib
import importlib
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from smartstream.errors import HookFailed
from smartstream.rule_options import Hook
from smartstream.transform.rules import types
from smartstream.transform.rules.builder import NOT_REPRESENTABLE, Builder
from smartstream.transform.rules.shape import Slot
from smartstream.transform.rules.steps import ArrowStep, Columns

HOOK_FAILURES_MAX = 1_000
"""Calls that may raise for one batch: beyond that the hook is broken, not the rows."""

Function = Callable[[pa.Table], Any]
_DIGESTS: WeakKeyDictionary[ModuleType, str] = WeakKeyDictionary()
RAISED = "the hook raises an error for this row"


@dataclass(frozen=True, slots=True)
class _Call:
    """A hook with the tables that it takes and gives.

    Attributes:
        keys: columns that it must give back as they were, which shows that rows are in order.
    """

    name: str
    table: str
    function: Function
    takes: pa.Schema
    gives: pa.Schema
    keys: tuple[str, ...]


def hook(builder: Builder, rule: Hook) -> str:
    """Add a call; return a digest of the code, for the version of the rules.

    Raises:
        RuleInvalid: code is not allowed, the function is missing, or gives something
            else than it says, or raises, for a table without rows.
    """
    if not builder.table.allow_code:
        raise builder.wrong("say allow_code: true in the table's rules to let Python code run", "call")
    function, digest = _load(builder, rule)
    slots = _inputs(builder, rule)
    returned = _returned(builder, rule)
    takes = pa.schema([pa.field(slot.name, slot.type) for slot in slots])
    given = {**{slot.name: slot.type for slot in slots}, **returned}
    gives = pa.schema([pa.field(name, kind) for name, kind in given.items()])
    call = _Call(rule.call, builder.schema.id, function, takes, gives, builder.schema.key)
    _rehearse(builder, call)
    _add(builder, call, slots)
    return digest


def _load(builder: Builder, rule: Hook) -> tuple[Function, str]:
    """The function, and a digest of the file that it comes from."""
    module_name, _, name = rule.call.partition(":")
    folder = builder.place.folder
    if folder is not None and str(folder) not in sys.path:
        sys.path.append(str(folder))
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        raise builder.wrong(f"{module_name} can't be imported: {type(error).__name__}", "call") from error
    function = getattr(module, name, None)
    if not callable(function):
        raise builder.wrong(f"{module_name} has no function {name}", "call")
    return function, _digest_of(module)


def _digest_of(module: ModuleType) -> str:
    """A digest of a module's file as it was when the module was first used: that is the code that runs."""
    if module not in _DIGESTS:
        path = getattr(module, "__file__", None)
        _DIGESTS[module] = hashlib.sha256(Path(path).read_bytes()).hexdigest() if path else ""
    return _DIGESTS[module]


def _inputs(builder: Builder, rule: Hook) -> list[Slot]:
    """The columns that the hook sees: the key, and those that it asks for, in the table's order."""
    if rule.column is None:
        return list(builder.shape.values())
    asked = {slot.name for slot in builder.slots(rule.column, lambda _: True, "any", change=False)}
    return [slot for slot in builder.shape.values() if slot.name in asked or builder.is_key(slot.name)]


def _returned(builder: Builder, rule: Hook) -> dict[str, pa.DataType]:
    """The columns that the hook adds or whose type it changes."""
    found = {}
    for name, wanted in rule.returns.items():
        kind = types.parse(wanted)
        if kind is None:
            raise builder.wrong(f"there is no type {wanted}; there are {types.KNOWN}", "returns", name)
        builder.refuse_key(name)
        if name not in builder.shape:
            builder.refuse_name(name)
        found[name] = kind
    return found


def _rehearse(builder: Builder, call: _Call) -> None:
    """Call the hook with a table without rows: there its errors can quote no values."""
    try:
        _checked(call, call.function(call.takes.empty_table()), call.takes.empty_table())
    except HookFailed as error:
        raise builder.wrong(str(error), "call") from error
    except Exception as error:
        raise builder.wrong(
            f"{call.name} raises {type(error).__name__} for a table without rows: {error}"
        ) from error


def _add(builder: Builder, call: _Call, slots: list[Slot]) -> None:
    """The step, and the shape after it."""
    code = builder.test("", [RAISED, NOT_REPRESENTABLE], slots, heals=False)
    _, flags = builder.flagged(slots)
    sources = frozenset().union(*(slot.sources for slot in slots))
    inputs = frozenset().union(*(slot.inputs for slot in slots))
    changed = [field for field in call.gives if field.name not in call.keys]
    for field in changed:
        before = builder.shape.get(field.name, Slot(field.name, field.type, None, sources, inputs))
        builder.shape[field.name] = replace(
            before, type=field.type, sources=sources, inputs=inputs | {field.name}, may_flag=False
        )

    def run(columns: Columns) -> Mapping[str, pa.ChunkedArray | pa.Array]:
        return _run(call, columns, code, flags)

    reads = frozenset(call.takes.names) | flags
    writes = frozenset({code, *(field.name for field in changed)})
    builder.arrow(ArrowStep(f"{builder.label}: {call.name}", reads, writes, run))


def _run(
    call: _Call, columns: Columns, code: str, flags: frozenset[str]
) -> Mapping[str, pa.ChunkedArray | pa.Array]:
    """Call the hook for a batch; rows for which it raises get nulls and a code."""
    rows = pa.table([columns[name] for name in call.takes.names], schema=call.takes)
    result, failed = (
        _isolated(call, rows) if rows.num_rows else (call.gives.empty_table(), np.zeros(0, np.bool_))
    )
    numbers = failed.astype(np.uint8)
    for name in flags:
        numbers[(numbers == 0) & columns[name].to_numpy().astype(np.bool_)] = 2
    given = {name: result[name] for name in call.gives.names if name not in call.keys}
    return {**given, code: pa.array(numbers)}


def _isolated(call: _Call, rows: pa.Table) -> tuple[pa.Table, npt.NDArray[np.bool_]]:
    """What the hook gives, and for which rows it raises: found by halving, so batches don't matter.

    Raises:
        HookFailed: it gives a wrong shape, or raises too often.
    """
    failed = np.zeros(rows.num_rows, np.bool_)
    found: list[pa.Table] = []
    pending, failures = [(0, rows.num_rows)], 0
    while pending:
        begin, count = pending.pop()
        part = rows.slice(begin, count)
        try:
            returned = call.function(part)
        except Exception as error:
            failures += 1
            if failures > HOOK_FAILURES_MAX:
                kind = type(error).__name__
                # Not chained: what the hook says may quote rows.
                raise HookFailed(
                    f"{call.table}: {call.name} raised {kind} and others {failures} times"
                ) from None
            if count > 1:
                half = count // 2
                pending += [(begin + half, count - half), (begin, half)]
            else:
                failed[begin] = True
                found.append(_blank(call, part))
            continue
        found.append(_checked(call, returned, part))
    return pa.concat_tables(found), failed


def _blank(call: _Call, rows: pa.Table) -> pa.Table:
    """Rows with nothing but their keys."""
    arrays = [
        rows[field.name] if field.name in call.keys else pa.nulls(len(rows), field.type)
        for field in call.gives
    ]
    return pa.table(arrays, schema=call.gives)


def _checked(call: _Call, returned: Any, rows: pa.Table) -> pa.Table:
    """What the hook gave, if it is what it should be; HookFailed if not."""
    if not isinstance(returned, pa.Table):
        raise HookFailed(f"{call.table}: {call.name} gives {type(returned).__name__}, not a pyarrow.Table")
    if returned.num_rows != rows.num_rows:
        raise HookFailed(f"{call.table}: {call.name} gives {returned.num_rows} rows for {rows.num_rows}")
    names = returned.column_names
    if sorted(names) != sorted(call.gives.names):
        missing = sorted(set(call.gives.names) - set(names))
        extra = sorted(set(names) - set(call.gives.names))
        says = [f"lacks {', '.join(missing)}"] if missing else []
        says += [f"has {', '.join(extra)} too much"] if extra else []
        raise HookFailed(f"{call.table}: what {call.name} gives {' and '.join(says) or 'has a column twice'}")
    for field in call.gives:
        kind = returned.schema.field(field.name).type
        if kind != field.type:
            what = f"{field.name} as {kind} instead of {field.type}"
            raise HookFailed(f"{call.table}: {call.name} gives {what}")
    result = returned.select(call.gives.names)
    for name in call.keys:
        if not result[name].equals(rows[name]):
            raise HookFailed(f"{call.table}: {call.name} changes {name}, a key column, or the order of rows")
    return pa.table(result.columns, schema=call.gives)
