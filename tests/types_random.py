"""Random tables of all types, random rows and random changes of them; everything follows from one Random."""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from tests.types_table import ARRAYS, SCALARS, TypeCase, array_of

LETTERS = "aZ09 _-.,;:'\"\\/{}[]()<>|&%$#@!?~^`*+=\t\n\r\x01\x7fžß€漢😀\u202e\u00a0"
NAMES = (
    "select",
    "Table",
    "a b",
    'quo"te',
    "apo'strophe",
    "semi;colon--",
    "per%s",
    "back\\slash",
    "sla/sh",
    "dot.ted",
    "žluťoučký",
    "漢字",
    "😀",
    " lead",
    "$1",
    "x" * 63,
    "ž" * 31,
    "{brace}",
    "a,b",
    "a~b",
    "__",
    "1st",
    "new\nline",
)
KEY_TYPES = frozenset(
    {
        *("smallint", "integer", "bigint", "text", "varchar(20)", "char(5)", "name", "uuid", "bytea"),
        *("boolean", "date", "timestamptz", "numeric", "numeric(10,2)", "double precision", "mood"),
        *("inet", "positive", "int4range", "interval", "jsonb", "pair"),
    }
)
CHOICES = tuple(case for case in (*SCALARS, *ARRAYS) if not case.needs)


def literal(text: str) -> str:
    """A string constant."""
    return "'" + text.replace("'", "''") + "'"


def quoted(name: str) -> str:
    """A quoted name."""
    return '"' + name.replace('"', '""') + '"'


def _text(rng: random.Random) -> str:
    """Any text without NUL, now and then one that is TOASTed."""
    if rng.random() < 0.05:
        return literal("".join(rng.choices(LETTERS, k=50)) * rng.randint(50, 200))
    return literal("".join(rng.choices(LETTERS, k=rng.randint(0, 20))))


def _integer(bits: int) -> Callable[[random.Random], str]:
    """Integers of every length."""

    def made(rng: random.Random) -> str:
        number = rng.getrandbits(rng.randint(1, bits - 1))
        return f"({-number if rng.random() < 0.5 else number})"

    return made


def _float(code: str, integer: str) -> Callable[[random.Random], str]:
    """Any bits."""

    def made(rng: random.Random) -> str:
        (number,) = struct.unpack(code, struct.pack(integer, rng.getrandbits(8 * struct.calcsize(code))))
        return f"'{number!r}'"

    return made


def _numeric(whole: int, places: int) -> Callable[[random.Random], str]:
    """Up to so many digits before and behind the point."""

    def made(rng: random.Random) -> str:
        sign = "-" if rng.random() < 0.5 else ""
        before = rng.randrange(10 ** rng.randint(1, whole)) if whole else 0
        behind = "".join(rng.choices("0123456789", k=rng.randint(0, places)))
        return f"'{sign}{before}.{behind}0'" if behind else f"'{sign}{before}'"

    return made


def _stamp(kind: str) -> Callable[[random.Random], str]:
    """Mostly our times, sometimes PostgreSQL's whole range."""

    def made(rng: random.Random) -> str:
        far = rng.random() < 0.3
        day = rng.randint(-2_451_000, 106_000_000) if far else rng.randint(-30_000, 30_000)
        if kind == "date":
            return f"'2000-01-01'::date + ({day})"
        micros = rng.choice((0, rng.randrange(86_400) * 1_000_000, rng.randrange(86_400_000_000)))
        return f"'2000-01-01 00:00:00+00'::{kind} + '{day} days'::interval + '{micros} us'::interval"

    return made


def _json(rng: random.Random) -> str:
    """A small document."""
    value = {
        "".join(rng.choices(LETTERS, k=3)): rng.choice(
            [None, True, rng.random(), "".join(rng.choices(LETTERS, k=5))]
        )
        for _ in range(rng.randint(0, 4))
    }
    return literal(json.dumps(value, ensure_ascii=rng.random() < 0.5))


def _interval(rng: random.Random) -> str:
    """Any mixture of months, days and microseconds."""
    months, days, micros = (rng.randint(-limit, limit) for limit in (99_999, 99_999, 10**14))
    return f"'{months} months {days} days {micros} us'"


GENERATORS: dict[str, Callable[[random.Random], str]] = {
    "smallint": _integer(16),
    "integer": _integer(32),
    "bigint": _integer(64),
    "real": _float("<f", "<I"),
    "double precision": _float("<d", "<Q"),
    "numeric": _numeric(60, 45),
    "numeric(10,2)": _numeric(8, 2),
    "numeric(38,10)": _numeric(28, 10),
    "numeric(4,4)": _numeric(0, 4),
    "text": _text,
    "json": _json,
    "jsonb": _json,
    "bytea": lambda rng: f"'\\x{rng.randbytes(rng.randint(0, 30)).hex()}'",
    "uuid": lambda rng: f"'{rng.randbytes(16).hex()}'",
    "date": _stamp("date"),
    "timestamp": _stamp("timestamp"),
    "timestamptz": _stamp("timestamptz"),
    "time": lambda rng: f"'{rng.randrange(86_400_000_000)} us'::interval::time",
    "interval": _interval,
    "inet": lambda rng: f"'{'.'.join(str(byte) for byte in rng.randbytes(4))}/{rng.randint(0, 32)}'",
    "int4range": lambda rng: (
        f"int4range({rng.randint(-9, 0)}, {rng.randint(0, 9)}, '{rng.choice(('[)', '(]', '[]', '()'))}')"
    ),
    "bigint[]": lambda rng: f"ARRAY[{', '.join(_integer(64)(rng) for _ in range(rng.randint(1, 5)))}]",
    "pair": lambda rng: f"ROW({rng.randint(-9, 9)}, {_text(rng)})::pair",
}
"""For types of which random values say more than those of the table."""

_ELEMENTS = {array_of(case).sql: case for case in SCALARS if not case.sql.endswith("[]")}


def value(rng: random.Random, case: TypeCase, *, flagged: bool = True) -> str:
    """SQL for a value of a type.

    Args:
        flagged: also such as the lake can't hold.
    """
    known = case.values + (case.flagged if flagged else ())
    choose = GENERATORS.get(case.sql)
    if case.sql in _ELEMENTS and flagged and rng.random() < 0.5:
        elements = [value(rng, _ELEMENTS[case.sql]) for _ in range(rng.randint(1, 6))]
        made = f"ARRAY[{', '.join(elements)}]"
        return f"({made})::{case.sql}" if rng.random() < 0.9 else f"(ARRAY[{made}, {made}])::{case.sql}"
    may_be_flagged = bool(case.flagged) and case.sql != "numeric(10,2)"
    if choose is None or (may_be_flagged and not flagged) or rng.random() < 0.3:
        return f"({rng.choice(known)})::{case.sql}"
    return f"({choose(rng)})::{case.sql}"


@dataclass
class RandomTable:
    """A table with an ``id``, a key and other columns, and statements that change it.

    Attributes:
        columns: name → type, without ``id``.
        key: of these; ``id`` is the key if there are none.
    """

    rng: random.Random
    name: str
    columns: dict[str, TypeCase]
    key: tuple[str, ...]
    ids: list[int] = field(default_factory=list)
    _next: int = 1

    def create(self) -> list[str]:
        """Statements that make the table."""
        listed = "".join(f", {quoted(name)} {case.sql}" for name, case in self.columns.items())
        key = ", ".join(map(quoted, self.key)) or "id"
        own = quoted(self.name)
        made = [f"CREATE TABLE {own} (id integer NOT NULL{listed}, PRIMARY KEY ({key}))"]
        if self.rng.random() < 0.3:
            made.append(f"ALTER TABLE {own} REPLICA IDENTITY FULL")
        made += [
            f"ALTER TABLE {own} ALTER {quoted(name)} SET STORAGE EXTERNAL"
            for name, case in self.columns.items()
            if case.sql in ("text", "numeric", "text[]", "jsonb") and self.rng.random() < 0.5
        ]
        return made

    def insert(self) -> str:
        """A row with random values, some null."""
        self.ids.append(self._next)
        self._next += 1
        values = [self._value(name) for name in self.columns]
        return f"INSERT INTO {quoted(self.name)} VALUES ({', '.join([str(self.ids[-1]), *values])})"

    def change(self) -> str:
        """An insert, an update of some columns, a delete, or rarely a TRUNCATE."""
        kind = self.rng.random()
        if kind < 0.35 or not self.ids:
            return self.insert()
        if kind > 0.995:
            return f"TRUNCATE {quoted(self.name)}"
        number = self.rng.choice(self.ids)
        if kind > 0.85 or not self.columns:
            return f"DELETE FROM {quoted(self.name)} WHERE id = {number}"
        names = self.rng.sample(list(self.columns), self.rng.randint(1, min(4, len(self.columns))))
        sets = ", ".join(f"{quoted(name)} = {self._value(name)}" for name in names)
        return f"UPDATE {quoted(self.name)} SET {sets} WHERE id = {number}"

    def _value(self, name: str) -> str:
        """A random value of a column."""
        if name in self.key:
            return value(self.rng, self.columns[name], flagged=False)
        return "NULL" if self.rng.random() < 0.1 else value(self.rng, self.columns[name])


def random_table(rng: random.Random, name: str, columns_max: int = 25) -> RandomTable:
    """A table of random columns, some of them with strange names."""
    strange = rng.sample([one for one in NAMES if one.casefold() != "id"], k=min(6, columns_max))
    chosen = rng.choices(CHOICES, k=rng.randint(0, columns_max))
    columns = {
        (strange[number] if number < len(strange) else f"c{number}"): case
        for number, case in enumerate(chosen)
    }
    able = [column for column, case in columns.items() if case.sql in KEY_TYPES]
    for sql in rng.sample(sorted(KEY_TYPES), k=rng.randint(0, 2)):
        columns[f"k_{sql}"] = next(case for case in CHOICES if case.sql == sql)
        able.append(f"k_{sql}")
    key = tuple(rng.sample(able, k=min(len(able), rng.randint(0, 3))))
    return RandomTable(rng, name, columns, key)


def random_tables(rng: random.Random, count: int) -> Sequence[RandomTable]:
    """Tables whose names differ in more than case."""
    return [random_table(rng, name) for name in rng.sample(NAMES, k=count)]
