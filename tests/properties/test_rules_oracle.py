"""Random rules over random rows give what plain Python gives for each row by itself."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pytest

from smartstream.transform.rules import Verdict
from tests.rule_setting import batch, compiled, run
from tests.slow_rules import (
    KEY,
    SPACES,
    SlowRow,
    cast,
    digest,
    in_range,
    instant,
    keep_null,
    masked,
    replaced,
)

COLUMNS = {
    "s": "text", "r": "text", "n": "integer", "m": "numeric(8,2)", "d": "date", "t": "timestamp",
    "b": "boolean",
}  # fmt: skip
TEXT, ZONES = ("s", "r"), ("Europe/Berlin", "America/New_York", "UTC")
Slow = Callable[[SlowRow], None]


@dataclass
class Made:
    """A rule as the file says it, and what it does to a row."""

    rule: dict[str, Any]
    slow: Slow
    where: str = "clean"


def text_value() -> str:
    """Texts that some rule cares about."""
    day = datetime(2026, random.choice((3, 10, 11)), 1) + timedelta(minutes=random.randrange(32 * 1440))
    choice = random.randrange(8)
    if choice == 0:
        return random.choice(SPACES) * random.randrange(3) + random.choice(("a", "Ab", "é", "", "x y")) + " "
    if choice == 1:
        return f"{day:%d.%m.%Y %H:%M}"
    if choice == 2:
        return random.choice(("29.03.2026 02:30", "25.10.2026 2:59", "08.03.2026 02:00", "01.11.2026 01:30"))
    if choice == 3:
        return str(random.choice((0, -1, 2**31, 10**6, 10**9))) + random.choice(
            ("", ".5", ".50", ".125", ".")
        )
    if choice == 4:
        return random.choice(("2026-02-28", "2026-02-30", "0001-01-01", "2026-1-1", "٣"))
    return "".join(random.choices("abAB12 .-😀ž@", k=random.randrange(6)))


VALUES: dict[str, Callable[[], Any]] = {
    "s": text_value,
    "r": text_value,
    "n": lambda: random.choice((0, 1, 7, -5, 2**31 - 1, -(2**31), random.randrange(100))),
    "m": lambda: Decimal(random.choice(("0.00", "0.01", "1.50", "999999.99", "-2.50"))),
    "d": lambda: date(2026, 1, 1) + timedelta(days=random.randrange(100)),
    "t": lambda: datetime(2026, 10, 25) + timedelta(minutes=random.randrange(0, 300, 15)),
    "b": lambda: random.random() < 0.5,
}


def row() -> dict[str, Any]:
    """A random row; dates and times may be infinity."""
    values = {name: None if random.random() < 0.15 else make() for name, make in VALUES.items()}
    flags = {name: random.choice(("infinity", "-infinity")) for name in "dt" if random.random() < 0.1}
    return {**values, **dict.fromkeys(flags), **({"_flags": flags} if flags else {})}


def rule(name: str, types: dict[str, str]) -> Made | None:
    """A random rule that fits columns with these types, which it changes; None if it finds none."""
    fail = random.choice(("quarantine", "quarantine", "drop", "warn"))
    option = {"name": name, "on_fail": fail}
    texts = [column for column, kind in types.items() if kind == "text"]
    column = random.choice(list(types))
    text = random.choice(texts) if texts else None
    kind = random.choice(list(MAKERS))
    return MAKERS[kind](name, fail, option, types, column, text)


def _simple(kind: str, function: Callable[[str], str]) -> Callable[..., Made | None]:
    """trim, lower, upper."""

    def make(name: str, fail: str, option: Any, types: Any, column: str, text: str | None) -> Made | None:
        if text is None:
            return None
        return Made({kind: text, **option}, lambda row: row.change(name, fail, text, keep_null(function)))

    return make


def _replace(name: str, fail: str, option: Any, types: Any, column: str, text: str | None) -> Made | None:
    if text is None:
        return None
    patterns = (r"[0-9]+", r"(a|b)(.)", r"^.", r"\.", "ž|😀", "[a-zA-Z]$")
    options = {
        "pattern": random.choice(patterns),
        "with": random.choice(("", "-", "x")),
        "first_only": random.random() < 0.5,
    }
    slow = keep_null(lambda value: replaced(value, options))
    return Made(
        {"replace": {"column": text, **options}, **option}, lambda row: row.change(name, fail, text, slow)
    )


def _mask(name: str, fail: str, option: Any, types: Any, column: str, text: str | None) -> Made | None:
    if text is None:
        return None
    options = {"keep_first": random.randrange(3), "keep_last": random.randrange(3)}
    slow = keep_null(lambda value: masked(value, options))
    return Made(
        {"mask": {"column": text, **options}, **option}, lambda row: row.change(name, fail, text, slow)
    )


def _null_if(name: str, fail: str, option: Any, types: Any, column: str, text: str | None) -> Made | None:
    known = {
        "text": ["", "a", "-"],
        "integer": [0, 7],
        "boolean": [True],
        "date": ["infinity", date(2026, 1, 5)],
    }
    if types[column] not in known:
        return None
    listed = [value for value in known[types[column]] if value != "infinity" or column == "d"]

    def slow(row: SlowRow) -> None:
        if row.flagged(column) and row.flags[column] in listed:
            del row.flags[column]
        elif not row.flagged(column) and row.values[column] in listed:
            row.values[column] = None

    return Made({"null_if": {column: [str(v) if isinstance(v, date) else v for v in listed]}, **option}, slow)


def _default(name: str, fail: str, option: Any, types: Any, column: str, text: str | None) -> Made | None:
    known = {
        "text": "none",
        "integer": 5,
        "boolean": False,
        "date": date(2000, 1, 1),
        "numeric(8,2)": Decimal("1.50"),
    }
    if types[column] not in known:
        return None
    value = known[types[column]]
    written = str(value) if isinstance(value, date | Decimal) else value
    slow: Slow = lambda row: row.change(name, fail, column, lambda old: value if old is None else old)  # noqa: E731
    return Made({"default": {column: written}, **option}, slow)


def _cast(name: str, fail: str, option: Any, types: Any, column: str, text: str | None) -> Made | None:
    targets = {
        "text": ["integer", "decimal(8,2)", "date"],
        "integer": ["text", "decimal(8,2)"],
        "numeric(8,2)": ["integer", "text"],
        "date": ["text"],
        "boolean": ["text"],
    }.get(types[column], [])
    if not targets:
        return None
    target, was = random.choice(targets), types[column]
    types[column] = {"decimal(8,2)": "numeric(8,2)"}.get(target, target)

    def slow(row: SlowRow) -> None:
        if row.flagged(column) and target == "text":
            row.values[column] = row.flags.pop(column)
            return
        row.change(name, fail, column, keep_null(lambda value: cast(value, target)))

    assert was != target
    return Made({"cast": {column: target}, **option}, slow)


def _parse(name: str, fail: str, option: Any, types: Any, column: str, text: str | None) -> Made | None:
    column = text if text is not None and random.random() < 0.7 else "t"
    if types.get(column) not in ("text", "timestamp"):
        return None
    options: dict[str, Any] = {
        "zone": random.choice(ZONES), "gap": random.choice(("reject", "shift")),
        "fold": random.choice(("reject", "earlier", "later")),
    }  # fmt: skip
    formats = {"formats": ["%d.%m.%Y %H:%M", "epoch_s"]} if types[column] == "text" else {}
    types[column] = "timestamptz"
    slow = keep_null(lambda value: instant(value, options))
    rule = {"parse_timestamp": {"column": column, **options, **formats}, **option}
    return Made(rule, lambda row: row.change(name, fail, column, slow))


def _digest(kind: str) -> Callable[..., Made | None]:
    def make(name: str, fail: str, option: Any, types: Any, column: str, text: str | None) -> Made | None:
        if types[column] in ("timestamp", "timestamptz"):
            return None  # the oracle does not print them

        def slow(row: SlowRow) -> None:
            row.change(name, fail, column, keep_null(lambda value: digest(value, kind)))

        types[column] = "text"
        return Made({kind: {"column": column, "key": KEY}, **option}, slow)

    return make


def _required(name: str, fail: str, option: Any, types: Any, column: str, text: str | None) -> Made:
    def slow(row: SlowRow) -> None:
        row.test(name, fail, row.values[column] is not None or row.flagged(column))

    return Made({"required": column, **option}, slow)


def _drop(name: str, fail: str, option: Any, types: Any, column: str, text: str | None) -> Made | None:
    if len(types) < 3:
        return None
    del types[column]

    def slow(row: SlowRow) -> None:
        del row.values[column]
        row.flags.pop(column, None)

    return Made({"drop": column, **option}, slow)


def _compute(name: str, fail: str, option: Any, types: Any, column: str, text: str | None) -> Made | None:
    if text is None:
        return None
    added = f"c{name}"
    types[added] = "text"

    def slow(row: SlowRow) -> None:
        value = row.values[text]
        row.values[added] = None if value is None else value[::-1] + "!"
        if value and value[0] == "a":
            row.values[added] = None
            row.broken.append((name, fail))

    sql = (
        f"CASE WHEN {text}[1] = 'a' THEN CAST('x' || {text} AS INTEGER)::TEXT ELSE reverse({text}) || '!' END"
    )
    return Made({"compute": {"column": added, "sql": sql}, **option}, slow)


MAKERS: dict[str, Callable[..., Made | None]] = {
    "trim": _simple("trim", lambda value: value.strip(SPACES)),
    "lower": _simple("lower", str.lower),
    "upper": _simple("upper", str.upper),
    "replace": _replace,
    "mask": _mask,
    "null_if": _null_if,
    "default": _default,
    "cast": _cast,
    "parse_timestamp": _parse,
    "hash": _digest("hash"),
    "tokenise": _digest("tokenise"),
    "required": _required,
    "drop": _drop,
    "compute": _compute,
}


def checks(types: dict[str, str]) -> list[Made]:
    """Random checks of what is left."""
    made = []
    for number, (column, kind) in enumerate(types.items()):
        name, fail = f"q{number}", random.choice(("quarantine", "drop", "warn"))
        if kind == "integer":
            body, low, high = {"range": {"column": column, "min": -5, "max": 50}}, -5, 50
        elif kind == "date":
            body, low, high = {"range": {"column": column, "max": "2026-02-10"}}, None, date(2026, 2, 10)
        else:
            continue

        def slow(row: SlowRow, args: Any = (name, fail, column, low, high)) -> None:
            label, fails, one, least, most = args
            row.test(label, fails, not row.flagged(one) and in_range(row.values[one], least, most))

        made.append(Made({**body, "name": name, "on_fail": fail}, slow, "quality"))
    return made


def verdict_of(row: SlowRow) -> Verdict:
    """The worst."""
    fails = {fail for _, fail in row.broken}
    return Verdict.DROP if "drop" in fails else Verdict.QUARANTINE if "quarantine" in fails else Verdict.GOOD


@pytest.mark.parametrize("attempt", range(60))
def test_the_pass_equals_the_rules_row_by_row(attempt: int, seed: str) -> None:
    types = dict(COLUMNS)
    made = [found for number in range(random.randrange(1, 9)) if (found := rule(f"r{number}", types))]
    made += checks(types)
    rows = [row() for _ in range(random.choice((1, 60, 300)))]
    slow = [
        SlowRow({k: v for k, v in one.items() if k != "_flags"}, dict(one.get("_flags", {}))) for one in rows
    ]
    for one in slow:
        for step in made:
            step.slow(one)
    parts = {part: [one.rule for one in made if one.where == part] for part in ("clean", "quality")}
    if not any(parts.values()):
        return
    rules = compiled(COLUMNS, **parts)
    assert [column.name for column in rules.output] == ["id", *types]
    result = run(rules, rows)
    for number, (one, found) in enumerate(zip(slow, result.rows, strict=True)):
        hint = f"{seed}: row {rows[number]} through {parts}"
        assert result.verdicts[number] == verdict_of(one), hint
        assert [name for name, _ in result.broken[number]] == [n for n, f in one.broken if f != "warn"], hint
        warned = [name for name, fail in one.broken if fail == "warn"]
        assert json.loads(found["_quality"] or '{"warn": []}') == {"warn": warned}, hint
        if verdict_of(one) is Verdict.GOOD and not warned:
            assert {name: _utc(found[name]) for name in types} == one.values, hint
            assert json.loads(found["_untyped"] or "{}") == one.flags, hint
    _assert_cuts_do_not_matter(rules, rows, seed)


def _utc(value: Any) -> Any:
    return value.astimezone(UTC) if isinstance(value, datetime) and value.tzinfo else value


def _assert_cuts_do_not_matter(rules: Any, rows: list[dict[str, Any]], seed: str) -> None:
    """The same rows in another order and in other batches: the same results."""
    numbered = [{"id": number, "_lsn": number, **one} for number, one in enumerate(rows)]
    whole = rules.apply(batch(rules.schema, numbered))
    order = random.sample(range(len(rows)), len(rows))
    cut = random.randrange(len(rows) + 1)
    parts = [
        rules.apply(batch(rules.schema, [numbered[i] for i in some])) for some in (order[:cut], order[cut:])
    ]
    pieces = [text for part in parts for text in part.violations.to_pylist()]
    texts = whole.violations.to_pylist()
    assert pieces == [texts[i] for i in order], seed
    expected = whole.rows.to_pylist()
    assert [row for part in parts for row in part.rows.to_pylist()] == [expected[i] for i in order], seed
    assert np.array_equal(np.concatenate([part.verdict for part in parts]), whole.verdict[order]), seed
