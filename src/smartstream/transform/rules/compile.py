"""Compile: a table's rules, type-checked against its schema, as one pass."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from smartstream.rules_config import CheckRule, CleanRule, TableRules, canonical
from smartstream.schema import TableSchema
from smartstream.transform.rules import casts, checks, computed, digests, hooks, nulls, text, timestamps
from smartstream.transform.rules.builder import Builder
from smartstream.transform.rules.compiled import CompiledRules, OutputColumn
from smartstream.transform.rules.dedupe import Dedupe, dedupe
from smartstream.transform.rules.shape import OWN_PREFIX, Slot, flag_of
from smartstream.transform.rules.steps import stages_of
from smartstream.transform.rules.unrepresentable import concerns, unrepresentable
from smartstream.transform.rules.verdict import Test

FORMAT = 1
"""Raise it when the same rules give other results than before: tables are then rebuilt."""

Adds = Callable[[Builder, Any], object]

_CLEAN: Mapping[str, Adds] = {
    "trim": text.trim,
    "lower": text.lower,
    "upper": text.upper,
    "replace": text.replace,
    "mask": text.mask,
    "null_if": nulls.null_if,
    "default": nulls.default,
    "required": nulls.required,
    "parse_timestamp": timestamps.parse_timestamp,
    "cast": casts.cast,
    "hash": digests.hash_values,
    "tokenise": digests.tokenise,
    "drop": computed.drop,
    "compute": computed.compute,
    "hook": hooks.hook,
}
_QUALITY: Mapping[str, Adds] = {
    "not_null": nulls.required,
    "range": checks.in_range,
    "one_of": checks.one_of,
    "matches": checks.matches,
    "check": computed.check,
}


def compile_rules(schema: TableSchema, table: TableRules) -> CompiledRules | None:
    """Return the rules of a table as one pass over its rows; None when it has none that concern rows.

    Reads no secret: that happens with the first batch, or in ``CompiledRules.prepare``.
    Hooks are imported, and called with a table without rows.

    Raises:
        RuleInvalid: a rule does not fit the table; the message begins with ``file:line``.
    """
    of_rows = [check for check in table.metrics if check.of_rows]
    if not (table.clean or table.row_rules or of_rows or concerns(schema, table)):
        return None
    builder = Builder(schema, table)
    _refuse_names(builder)
    once, keys, digests_ = None, [], []
    for rule in table.clean:
        builder.begin(rule)
        if rule.kind == "dedupe":
            once = _once(builder, once, rule)
            continue
        result = _CLEAN[rule.kind](builder, rule.body)
        keys += result if isinstance(result, list) else []
        digests_ += [result] if isinstance(result, str) else []
    unrepresentable(builder)
    for check in table.row_rules:
        builder.begin(check)
        _QUALITY[check.kind](builder, check.body)
    builder.begin("metric")
    checks.metrics(builder, table.metrics)
    business_key = _dedupe(builder, once)
    return _compiled(builder, business_key, tuple(keys), _version(builder, digests_))


def _once(builder: Builder, before: CleanRule | None, rule: CleanRule) -> CleanRule:
    """A second ``dedupe`` would have to know what the first one leaves."""
    if before is not None:
        raise builder.wrong("a table has one rule dedupe at most")
    return rule


def _dedupe(builder: Builder, rule: CleanRule | None) -> Dedupe | None:
    """The business key, over the columns that all rules leave."""
    if rule is None:
        return None
    builder.begin(rule)
    return dedupe(builder, rule)


def _refuse_names(builder: Builder) -> None:
    """Raise RuleInvalid for tables whose columns the pass could not tell apart, or from its own."""
    seen: dict[str, str] = {}
    for name in builder.shape:
        if name.startswith(OWN_PREFIX):
            raise builder.wrong(
                f"rules can't be used with a column whose name begins with {OWN_PREFIX}: {name}"
            )
        other = seen.setdefault(name.lower(), name)
        if other != name:
            raise builder.wrong(f"rules can't tell {other} from {name}: names differ in capital letters only")


def _compiled(
    builder: Builder, business_key: Dedupe | None, keys: tuple[digests.Key, ...], version: str
) -> CompiledRules:
    """The parts put together."""
    output = tuple(_output(slot) for slot in builder.shape.values())
    wanted = {
        *builder.shape,
        *(test.code for test in builder.tests),
        *map(flag_of, builder.watched),
    }
    return CompiledRules(
        schema=builder.schema,
        version=version,
        output=output,
        dedupe=business_key,
        on_bad_update=builder.table.on_bad_update,
        required=frozenset(builder.required & set(builder.shape)),
        tests=tuple(_healing(test, builder) for test in builder.tests),
        stages=stages_of(builder.steps, wanted),
        watched=frozenset(builder.watched),
        texts=frozenset(builder.texts),
        keys=keys,
    )


def _output(slot: Slot) -> OutputColumn:
    """A column of the last shape."""
    return OutputColumn(slot.name, slot.type, slot.origin, slot.sources)


def _healing(test: Test, builder: Builder) -> Test:
    """The test, with all columns that must be null with its own, because it went into them."""
    if test.heals is None:
        return test
    touched = sorted(slot.name for slot in builder.shape.values() if test.column in slot.inputs)
    fixed = set(touched) & (builder.required | set(builder.schema.key))
    return replace(test, heals=None if fixed or builder.is_key(test.column) else tuple(touched))


def _version(builder: Builder, code: Sequence[str]) -> str:
    """A short digest of the rules, of the columns that they look at, and of the code that they call."""
    table = builder.table
    looked_at = {name for test in builder.tests for name in test.sources}
    looked_at |= {name for slot in builder.shape.values() if slot.origin is None for name in slot.sources}
    looked_at |= {name for step in builder.steps for name in step.reads}
    columns = [
        [c.name, c.attnum, c.type.name, str(c.type.arrow)]
        for c in builder.schema.columns
        if c.name in looked_at
    ]
    said = {
        "format": FORMAT,
        "clean": [canonical(rule) for rule in table.clean],
        "quality": [canonical(item) for item in table.quality if isinstance(item, CheckRule) or item.of_rows],
        "on_bad_update": table.on_bad_update,
        "columns": columns,
        "key": list(builder.schema.key),
        "code": list(code),
    }
    if concerns(builder.schema, table):
        said["unrepresentable"] = table.unrepresentable
    text_ = json.dumps(said, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text_.encode()).hexdigest()[:16]
