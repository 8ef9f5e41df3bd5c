"""The builder: what a rule can do to the working shape, and how it says that it does not fit."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import pyarrow as pa

from smartstream.errors import RuleInvalid
from smartstream.rules_config import CheckRule, CleanRule, Place, TableRules, pattern_expression
from smartstream.schema import RESERVED_NAMES, TRUSTED_LSN, TableSchema
from smartstream.sql_text import quoted
from smartstream.transform.rules import types
from smartstream.transform.rules.shape import Slot, flag_of, shape_of
from smartstream.transform.rules.steps import ArrowStep, SqlStep, Step
from smartstream.transform.rules.verdict import OnFail, Test
from smartstream.transform.shape import QUALITY

NOT_REPRESENTABLE = "the value is not representable in its type (see _untyped)"
RESERVED = RESERVED_NAMES | {QUALITY, TRUSTED_LSN}

Accepts = Callable[[Slot], bool]


@dataclass(frozen=True, slots=True)
class Failure:
    """A condition (SQL, over the old value and the new one) under which a row breaks the rule, and why."""

    condition: str
    reason: str


@dataclass(slots=True)
class Builder:
    """A table's rules on their way to steps.

    Attributes:
        shape: the columns as the rules so far leave them.
        watched: source columns of which ``_untyped`` must be looked at; ``texts`` also for its texts.
        required: columns that must not become null.
    """

    schema: TableSchema
    table: TableRules
    shape: dict[str, Slot] = field(init=False)
    steps: list[Step] = field(default_factory=list)
    tests: list[Test] = field(default_factory=list)
    watched: set[str] = field(default_factory=set)
    texts: set[str] = field(default_factory=set)
    required: set[str] = field(default_factory=set)
    _rule: CleanRule | CheckRule | None = None
    _kind: str = "metric"
    _names: set[str] = field(default_factory=set)
    _made: int = 0

    def __post_init__(self) -> None:
        self.shape = shape_of(self.schema)

    @property
    def place(self) -> Place:
        """Where the rule stands that is compiled."""
        return self._rule.place if self._rule else Place()

    def begin(self, rule: CleanRule | CheckRule | str) -> None:
        """Go on to the next rule, or to what acts like one and is called so."""
        self._rule, self._kind = (None, rule) if isinstance(rule, str) else (rule, rule.kind)

    def wrong(self, message: str, *inner: str | int) -> RuleInvalid:
        """The error of a rule that does not fit the table, at its line."""
        kind = [self._rule.kind] if self._rule else []
        what = f" {kind[0]}:" if kind else ""
        return RuleInvalid(f"{self.place.where(*kind, *inner)}: {self.schema.id}:{what} {message}")

    # Finding columns

    def slots(
        self,
        names: Iterable[str],
        accepts: Accepts,
        wanted: str,
        *,
        change: bool = True,
        wild: Accepts | None = None,
        option: str = "column",
    ) -> Iterator[Slot]:
        """The columns that ``names`` mean, as they are when each is asked for.

        A name with ``*`` that no column has means those columns that the rule can take.

        Args:
            accepts, wanted: which columns the rule can take, in code and in words.
            change: whether the rule changes them, which keys forbid.
            wild: which of these a name with ``*`` means, if not all.
            option: where in the rule the names stand.
        Raises:
            RuleInvalid: there is no such column, or the rule can't take it.
        """
        for name in names:
            if name not in self.shape and "*" in name:
                taken = self._matching(name, wild or accepts, change=change)
                yield from (self.shape[found] for found in taken)
                continue
            slot = self.slot(name, option)
            if slot is None:
                continue
            if change:
                self.refuse_key(name)
            if not accepts(slot):
                raise self.wrong(f"{name} is {types.name_of(slot.type)}; the rule takes {wanted}", option)
            yield slot

    def _matching(self, pattern: str, accepts: Accepts, *, change: bool) -> list[str]:
        """The columns that a name with ``*`` means."""
        expression = pattern_expression(pattern)
        found = [slot for slot in self.shape.values() if expression.fullmatch(slot.name) and accepts(slot)]
        return [slot.name for slot in found if not (change and self.is_key(slot.name))]

    def slot(self, name: str, *inner: str | int) -> Slot | None:
        """The column ``name``; None if it is missing and the rule says ``if_present``."""
        if name in self.shape:
            return self.shape[name]
        if self._rule is not None and self._rule.if_present:
            return None
        raise self.wrong(f"there is no column {name}{self._suggestion(name)}", *inner)

    def _suggestion(self, name: str) -> str:
        """What may have been meant."""
        if any(column.name == name for column in self.schema.columns):
            return " any more: a rule above drops it"
        close = difflib.get_close_matches(name, self.shape, n=1, cutoff=0.6)
        return f"; did you mean {close[0]}?" if close else f"; there are {', '.join(self.shape)}"

    def is_key(self, name: str) -> bool:
        """Whether a column identifies the row."""
        return name in self.schema.key

    def refuse_key(self, name: str) -> None:
        """Raise RuleInvalid for a key column: nothing may change it."""
        if self.is_key(name):
            raise self.wrong(f"{name} is a key column: it says which row this is, so no rule may change it")

    def refuse_name(self, name: str) -> None:
        """Raise RuleInvalid for a name that a new column can't have."""
        if name in RESERVED or name.startswith("~"):
            raise self.wrong(f"the name {name} is reserved")
        same = [known for known in self.shape if known.lower() == name.lower()]
        if same:
            raise self.wrong(
                f"there is a column {same[0]} already; choose another name, or say replace: true"
            )

    # Making steps

    def flagged(self, slots: Iterable[Slot]) -> tuple[str, frozenset[str]]:
        """SQL that tells whether a value stands in ``_untyped`` instead, and what it reads."""
        names = sorted(slot.name for slot in slots if slot.may_flag)
        self.watched.update(names)
        flags = [flag_of(name) for name in names]
        return " OR ".join(map(quoted, flags)) or "false", frozenset(flags)

    def fresh(self, what: str) -> str:
        """A name for a column of our own."""
        self._made += 1
        return f"~{self._made} {what}"

    def sql(self, sets: Mapping[str, str], reads: Iterable[str]) -> None:
        """Add a SQL step."""
        self.steps.append(SqlStep(self.label, dict(sets), frozenset(reads)))

    def arrow(self, step: ArrowStep) -> None:
        """Add a step of Arrow kernels."""
        self.steps.append(step)

    @property
    def kind(self) -> str:
        """The name of the rule."""
        return self._kind

    @property
    def label(self) -> str:
        """The rule and its line, for ``--explain``."""
        line = self.place.where().rpartition(":")[2]
        return f"{self.kind}, line {line}" if line.isdigit() else self.kind

    def test(
        self,
        column: str,
        reasons: Sequence[str],
        slots: Iterable[Slot],
        *,
        on_fail: OnFail | None = None,
        name: str | None = None,
        heals: bool = True,
    ) -> str:
        """Add something that a row can fail; return the column for its codes.

        Args:
            column: what it is about.
            slots: all that it looks at.
            heals: whether the row is good once ``column`` is null.
        """
        rule = self._rule
        code = self.fresh("code")
        known = name or (rule.name if rule and rule.name else f"{self.kind}:{column}".rstrip(":"))
        unique, number = known, 1
        while unique in self._names:
            number += 1
            unique = f"{known}#{number}"
        self._names.add(unique)
        fails = on_fail or (rule.on_fail if rule else "quarantine")
        sources = frozenset().union(*(slot.sources for slot in slots))
        healing = (column,) if heals else None
        self.tests.append(Test(unique, column, fails, tuple(reasons), code, sources, healing))
        return code

    def change(
        self,
        slot: Slot,
        value: str,
        kind: pa.DataType | None = None,
        *,
        lost: Sequence[Failure] = (),
        kept: Sequence[Failure] = (),
    ) -> None:
        """Set a column to a SQL expression over it, and test what came out.

        A value that stands in ``_untyped`` can't be changed: it fails.

        Args:
            lost: why a value may have become null; the last reason is that of all others.
            kept: what may be wrong with a value that has not.  In the conditions ``{old}`` and
                ``{new}`` are the value before and after.
        """
        self.shape[slot.name] = replace(slot, type=kind or slot.type, may_flag=False)
        if not lost and not kept and not slot.may_flag:
            self.sql({slot.name: value}, [slot.name])
            return
        fresh = self.fresh(slot.name)
        self.sql({fresh: value}, [slot.name])
        reasons = [failure.reason for failure in (*lost, *kept)]
        flagged, flags = self.flagged([slot])
        if slot.may_flag:
            reasons.append(NOT_REPRESENTABLE)
        code = self.test(slot.name, reasons, [slot])
        new = quoted(fresh)
        number = change_code(quoted(slot.name), new, lost, kept, flagged if slot.may_flag else None)
        self.sql({code: number}, [slot.name, fresh, *flags])
        # A value that was rounded, or is not there, must not pass for one: not even with a warning.
        self.sql({slot.name: f"CASE WHEN {quoted(code)} = 0 THEN {new} END"}, [fresh, code])


def change_code(
    old: str, new: str, lost: Sequence[Failure], kept: Sequence[Failure], flagged: str | None = None
) -> str:
    """SQL for what is wrong with a changed value: 0 or 1 + its place among ``lost``, ``kept`` and flagged.

    Most values are good, so what tells bad ones apart is looked at only where it matters.
    """

    def numbers(failures: Sequence[Failure], first: int, rest: int) -> str:
        filled = [f.condition.replace("{old}", old).replace("{new}", new) for f in failures]
        whens = [f"WHEN {condition} THEN {number}" for number, condition in enumerate(filled, first)]
        return f"CASE {' '.join(whens)} ELSE {rest} END" if whens else str(rest)

    flag = f"WHEN {flagged} THEN {len(lost) + len(kept) + 1} " if flagged else ""
    good = numbers(kept, len(lost) + 1, 0)
    gone = f"WHEN {old} IS NOT NULL THEN {numbers(lost[:-1], 1, len(lost))} " if lost else ""
    return f"CAST(CASE {flag}WHEN {new} IS NOT NULL THEN {good} {gone}ELSE 0 END AS UTINYINT)"


def codes(conditions: Sequence[str]) -> str:
    """SQL for the number of the first condition that holds, 0 if none does; null conditions do not."""
    whens = " ".join(f"WHEN {condition} THEN {number}" for number, condition in enumerate(conditions, 1))
    return f"CAST(CASE {whens} ELSE 0 END AS UTINYINT)"
