"""A made-up source table that logs its changes as PostgreSQL would, for tests without a server."""

from __future__ import annotations

import random

from smartstream.schema import Column, Kind, PgType, TableSchema

INT, TEXT = PgType("integer", Kind.INT4), PgType("text", Kind.TEXT)
SCHEMA = TableSchema(
    1,
    "public",
    "t",
    (Column("a", 1, INT), Column("b", 2, TEXT), Column("big", 3, TEXT), Column("n", 4, INT)),
    ("a", "b"),
)
Key = tuple[int, str]


class Source:
    """A table that is changed at random and logs its changes as PostgreSQL would.

    Args:
        whole: log every value with each change, and never truncate.
    """

    def __init__(self, seed: int, *, whole: bool = False) -> None:
        self.random = random.Random(seed)
        self.whole = whole
        self.rows: dict[Key, tuple[str, int]] = {}
        self.log: list[dict[str, object]] = []
        self.lsn = 100

    def step(self) -> None:
        """One transaction of one to four changes."""
        self.lsn += self.random.randint(1, 9)
        for ordinal in range(self.random.randint(1, 4)):
            self.change(ordinal)

    def change(self, ordinal: int) -> None:
        key = (self.random.randint(0, 6), self.random.choice("xy"))
        draw, n = self.random.random(), self.random.randint(0, 10**6)
        if draw < 0.02 and not self.whole:
            self.rows.clear()
            self.emit(ordinal, "t", None, None)
        elif key not in self.rows:
            self.rows[key] = (f"big{n}", n)
            self.emit(ordinal, "i", key, self.rows[key])
        elif draw < 0.2:
            del self.rows[key]
            self.emit(ordinal, "d", key, None)
        else:
            self.update(ordinal, key, n)

    def update(self, ordinal: int, key: Key, n: int) -> None:
        free = [(a, b) for a in range(7) for b in "xy" if (a, b) not in self.rows]
        target = self.random.choice(free) if free and self.random.random() < 0.3 else key
        big, _ = self.rows.pop(key)
        unchanged = self.random.random() < 0.6
        sent = self.whole or not unchanged
        big = big if unchanged else f"big{n}"
        self.rows[target] = (big, n)
        self.emit(
            ordinal,
            "u",
            target,
            (big if sent else None, n),
            old=key if target != key else None,
            unchanged=None if sent else ["big"],
        )

    def emit(self, ordinal: int, op: str, key: Key | None, values: object, **more: object) -> None:
        a, b = key or (None, None)
        big, n = values or (None, None)  # type: ignore[misc]
        old = more.get("old")
        self.log.append(
            {
                "_op": op,
                "_commit_lsn": self.lsn,
                "_ordinal": ordinal,
                "_commit_ts": None,
                "_xid": 1,
                "_unchanged": more.get("unchanged"),
                "_old_key": {"a": old[0], "b": old[1]} if old else None,  # type: ignore[index]
                "_untyped": None,
                "a": a,
                "b": b,
                "big": big,
                "n": n,
            }
        )
