"""What a case of the table of schema changes is made of."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Effect(Enum):
    """What SmartStream does about a change."""

    FOLLOWED = "follows it"
    COPIED = "copies the table anew"
    EITHER = "follows it, or copies the table anew where the stream leaves a doubt"
    IGNORED = "nothing: rows are as before"


THREE = "CREATE TABLE {t} (id integer PRIMARY KEY, v text, n integer, "
COLUMNS = "(id integer PRIMARY KEY, v text, n integer)"
ROWS = "INSERT INTO {t} SELECT g, 'v' || g, g FROM generate_series(1, 200) g"


@dataclass(frozen=True, slots=True)
class Case:
    """One change of a table that is written to all the while.

    In statements ``{t}`` is the table, ``{s}`` the schema that it is in, ``{name}`` its bare name
    there. The writer inserts, updates and deletes with ``id`` alone when ``v`` and ``n`` fail.
    """

    name: str
    change: str
    effect: Effect
    statements: tuple[str, ...]
    sees: str
    setup: tuple[str, ...] = (f"CREATE TABLE {{t}} {COLUMNS}", ROWS)
    needs: int = 0  # the first version of PostgreSQL that has it
    down: bool = False  # while the pipeline is down, too: the effect is the same
