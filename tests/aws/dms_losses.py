"""What DMS loses of PostgreSQL's changes: one table, run by the tests and shown in docs/formats/dms.md."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import ROUND_HALF_UP, Decimal, localcontext

from smartstream.delivery.records.options import INEXACT, LOB_CUT

LOB_BYTES = 65_536


@dataclass(frozen=True)
class Loss:
    """Something that the path through DMS shows otherwise than the source.

    Attributes:
        name: of the table that shows it, ``lost_<name>`` with the key ``id``.
        what, becomes: for the page.
        columns: of the table, besides ``id``.
        key: the type of ``id``.
        loaded: rows that are there before the task; tuples of SQL.
        statements: what is done to the table while the task runs; ``{t}`` is its name.
        trusted: the rows of the lake's table at the end: ``id`` → column → value as text.
        damaged: ``id`` → the reason for which its record is in the quarantine.
    """

    name: str
    what: str
    becomes: str
    columns: str
    loaded: tuple[str, ...] = ()
    statements: tuple[str, ...] = ()
    trusted: dict[int, dict[str, str | None]] = field(default_factory=dict)
    damaged: dict[int, str] = field(default_factory=dict)
    key: str = "integer"

    @property
    def shown(self) -> set[str]:
        """The columns that ``trusted`` tells of."""
        return {name for row in self.trusted.values() for name in row}


LOSSES = (
    Loss(
        "toast",
        "a large value (TOAST) that an update left as it was",
        "null, until a change sets it; not with `REPLICA IDENTITY FULL`",
        "body text, n integer",
        ("(1, repeat('a', 9000), 1)",),
        (
            "ALTER TABLE {t} ALTER body SET STORAGE EXTERNAL",
            "UPDATE {t} SET body = repeat('b', 9000)",
            "UPDATE {t} SET n = 2",
        ),
        {1: {"body": None, "n": "2"}},
    ),
    Loss(
        "large_text",
        "text, json, xml or an array of 32,767 characters and more (`LobMaxSize` 64 KB)",
        f"quarantined: {LOB_CUT}",
        "body text",
        ("(1, 'whole')", "(2, 'whole')"),
        ("UPDATE {t} SET body = repeat('a', 40000) WHERE id = 1",),
        {2: {"body": "whole"}},
        {1: LOB_CUT},
    ),
    Loss(
        "large_bytes",
        "bytea of 65,536 bytes and more",
        f"quarantined: {LOB_CUT}",
        "body bytea",
        ("(1, decode(repeat('00', 70000), 'hex'))", "(2, decode(repeat('00', 65535), 'hex'))"),
        (),
        {2: {"body": "\0" * 65_535}},
        {1: LOB_CUT},
    ),
    Loss(
        "long_varchar",
        "`varchar` without a length, of 8,000 characters and more",
        f"quarantined: {LOB_CUT}",
        "body varchar",
        ("(1, repeat('a', 9000))", "(2, repeat('a', 7999))"),
        ("INSERT INTO {t} VALUES (3, repeat('b', 8001))",),
        {2: {"body": "a" * 7999}},
        {1: LOB_CUT, 3: LOB_CUT},
    ),
    Loss(
        "bigint",
        "a bigint of more than 18 digits",
        f"quarantined: {INEXACT}",
        "n bigint",
        ("(1, 9223372036854775807)", "(2, 999999999999999999)"),
        (
            "UPDATE {t} SET n = -999999999999999999 WHERE id = 2",
            "INSERT INTO {t} VALUES (3, -1000000000000000000)",
        ),
        {2: {"n": "-999999999999999999"}},
        {1: INEXACT, 3: INEXACT},
    ),
    Loss(
        "numeric",
        "`numeric` without precision",
        "rounded to six digits behind the point",
        "n numeric",
        ("(1, 1.0000005)", "(2, -0.1234564)", "(3, 'NaN')"),
        (),
        {1: {"n": "1.000001"}, 2: {"n": "-0.123456"}, 3: {"n": None, "_untyped": '{"n": "NaN"}'}},
    ),
    Loss(
        "large_numeric",
        "`numeric` without precision, of more than 22 digits before the point",
        f"quarantined: {INEXACT}",
        "n numeric",
        ("(1, 1e22)", "(2, 9e17)"),
        (),
        {2: {"n": "900000000000000000"}},
        {1: INEXACT},
    ),
    Loss(
        "numeric_key",
        "keys that are `numeric` without precision, and differ behind the sixth digit",
        "one row, as its last change left it",
        "n integer",
        ("(1, 1)",),
        ("INSERT INTO {t} VALUES (1.0000001, 2)",),
        {1: {"n": "2"}},
        key="numeric",
    ),
    Loss(
        "infinity",
        "the dates and timestamps `infinity` and `-infinity`",
        "the last second of the year 9999; 4713 BC, which is held as text",
        "d date, t timestamp, z timestamptz",
        ("(1, 'infinity', 'infinity', 'infinity')", "(2, '-infinity', '-infinity', '-infinity')"),
        (),
        {
            1: {"d": "9999-12-31", "t": "9999-12-31 23:59:59", "z": "9999-12-31 23:59:59+00:00"},
            2: {
                "d": None,
                "_untyped": '{"d": "4713-01-01 BC", "t": "4713-01-01 00:00:00 BC",'
                ' "z": "4713-01-01 00:00:00+00 BC"}',
            },
        },
    ),
    Loss(
        "timetz",
        "`timetz`",
        "without its zone",
        "c timetz",
        ("(1, '12:30:00.5+02')",),
        (),
        {1: {"c": "12:30:00.500000"}},
    ),
    Loss(
        "money",
        "`money`",
        "without its currency and separators",
        "c money",
        ("(1, '-1234.5')",),
        (),
        {1: {"c": "-1234.50"}},
    ),
    Loss(
        "names",
        "names of objects (`regclass` and its like)",
        "without their schema, where that is on the search path of DMS's login",
        "c regclass",
        ("(1, 'public.lost_names')",),
        (),
        {1: {"c": "lost_names"}},
    ),
    Loss(
        "truncate",
        "TRUNCATE",
        "rows stay",
        "n integer",
        ("(1, 1)", "(2, 2)"),
        ("TRUNCATE {t}", "INSERT INTO {t} VALUES (2, 3)"),
        {1: {"n": "1"}, 2: {"n": "3"}},
    ),
    Loss(
        "added",
        "a column added with a default, in rows that were there before",
        "null, until the row changes",
        "n integer",
        ("(1, 1)", "(2, 2)"),
        ("ALTER TABLE {t} ADD COLUMN more integer DEFAULT 7", "UPDATE {t} SET n = 3 WHERE id = 2"),
        {1: {"n": "1", "more": None}, 2: {"n": "3", "more": "7"}},
    ),
    Loss(
        "dropped",
        "a column dropped",
        "stays: rows keep their values, and have null after their next change",
        "n integer, gone integer",
        ("(1, 1, 1)", "(2, 2, 2)"),
        ("ALTER TABLE {t} DROP COLUMN gone", "UPDATE {t} SET n = 3 WHERE id = 2"),
        {1: {"n": "1", "gone": "1"}, 2: {"n": "3", "gone": None}},
    ),
    Loss(
        "renamed",
        "a column renamed",
        "a new column beside the old one, as if it had been dropped and added",
        "n integer, old integer",
        ("(1, 1, 1)", "(2, 2, 2)"),
        ("ALTER TABLE {t} RENAME COLUMN old TO new", "UPDATE {t} SET n = 3 WHERE id = 2"),
        {1: {"old": "1", "new": None}, 2: {"old": None, "new": "2"}},
    ),
)


def _rounded(text: str) -> Decimal:
    with localcontext(prec=200_000):
        return Decimal(text).quantize(Decimal("0.000001"), ROUND_HALF_UP)


def _numeric(source: str, found: str | None) -> bool:
    return found is not None and source[-1].isdigit() and Decimal(found) == _rounded(source)


def _infinity(source: str, found: str | None) -> bool:
    wanted = {"infinity": "9999-12-31", "-infinity": "4713-01-01"}.get(source)
    return wanted is not None and found is not None and found.startswith(wanted)


def _money(source: str, found: str | None) -> bool:
    return re.sub(r"[^0-9.-]", "", source) == found


def _timetz(source: str, found: str | None) -> bool:
    clock = re.match(r"\d\d:\d\d:\d\d", source)
    return (
        clock is not None
        and found is not None
        and found.startswith(clock[0])
        and not re.search("[+-]", found)
    )


def _named(source: str, found: str | None) -> bool:
    return source.replace("public.", "") == found


EXPLAINED: dict[str, Callable[[str, str | None], bool]] = {
    "numeric": _numeric,
    "date": _infinity,
    "timestamp": _infinity,
    "timestamp(0)": _infinity,
    "timestamptz": _infinity,
    "money": _money,
    "money[]": lambda source, found: source == found,
    "timetz": _timetz,
    **{
        f"reg{kind}{more}": _named
        for kind in (
            "class",
            "proc",
            "procedure",
            "type",
            "operator",
            "oper",
            "config",
            "dictionary",
            "collation",
            "role",
            "namespace",
        )
        for more in ("", "[]")
    },
}
"""By the type: whether what DMS's path has as text is what DMS makes of a text of the source."""


def page_table() -> str:
    """The table of docs/formats/dms.md."""
    rows = [f"| {loss.what} | {loss.becomes} |\n" for loss in LOSSES]
    return "".join(["| in PostgreSQL | in the lake |\n|---|---|\n", *rows])


if __name__ == "__main__":
    sys.stdout.write(page_table())
