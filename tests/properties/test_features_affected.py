"""Every key whose features change is among the affected ones, for queries of many forms."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import duckdb
import pytest

from smartstream.errors import FeaturesInvalid
from smartstream.inference.features import affected
from smartstream.inference.features.query import parse_query

COLUMNS = {
    "people": {"id": "INTEGER", "team": "INTEGER", "pay": "INTEGER"},
    "teams": {"id": "INTEGER", "boss": "INTEGER", "size": "INTEGER"},
    "days": {"person": "INTEGER", "day": "INTEGER", "hours": "INTEGER"},
}
KEYS = {"people": ("id",), "teams": ("id",), "days": ("person", "day")}
UNDERSTOOD = [
    "SELECT id, pay FROM people",
    "SELECT p.id AS id, p.pay + t.size AS x FROM people p JOIN teams t ON t.id = p.team WHERE t.size > 3",
    "SELECT p.id, t.size FROM people p LEFT JOIN teams t ON t.id = p.team",
    "SELECT p.id, b.pay FROM people p LEFT JOIN teams t ON t.id = p.team LEFT JOIN people b ON b.id = t.boss",
    "SELECT p.id, sum(d.hours) AS h FROM people p JOIN days d ON d.person = p.id GROUP BY p.id",
    "SELECT p.id, sum(d.hours) AS h FROM people p LEFT JOIN days d ON d.person = p.id "
    "GROUP BY 1 HAVING h > 3",
    "WITH w AS (SELECT person, sum(hours) AS h, count(*) AS n FROM days GROUP BY person) "
    "SELECT p.id, p.pay, w.h FROM people p LEFT JOIN w ON w.person = p.id AND w.n > 1",
    "WITH a AS (SELECT team, avg(pay) AS mean FROM people GROUP BY team) "
    "SELECT p.id, p.pay / a.mean AS ratio FROM people p JOIN a ON a.team = p.team",
    "WITH l AS (SELECT *, row_number() OVER (PARTITION BY person ORDER BY day DESC) AS r FROM days) "
    "SELECT p.id, l.hours FROM people p LEFT JOIN l ON l.person = p.id AND l.r = 1",
    "WITH l AS (SELECT person, hours FROM days QUALIFY "
    "row_number() OVER (PARTITION BY person ORDER BY day DESC) = 1), "
    "m AS (SELECT p.team, max(l.hours) AS most FROM people p JOIN l ON l.person = p.id GROUP BY p.team) "
    "SELECT p.id, m.most FROM people p LEFT JOIN m ON m.team = p.team",
    "SELECT p.id, t.size FROM (SELECT id, team FROM people WHERE pay > 2) AS p, teams t WHERE t.id = p.team",
    "SELECT p.id, u.size FROM people p LEFT JOIN teams t ON t.id = p.team "
    "JOIN teams u ON u.id = coalesce(t.boss, 1)",
    "SELECT p.id, t.size FROM people p LEFT JOIN teams t ON t.id = p.team WHERE t.id IS NULL",
    "SELECT p.id, count(t.id) AS n FROM people p LEFT JOIN teams t ON t.boss = p.id "
    "GROUP BY p.id HAVING count(t.id) = 0",
    "SELECT p.id, x.size FROM people p LEFT JOIN (SELECT t.id, u.size FROM teams t "
    "LEFT JOIN teams u ON u.id = t.boss WHERE t.size > 1) x ON x.id = p.team",
    "SELECT p.id, sum(hours) AS h FROM people p LEFT JOIN days ON person = id GROUP BY ALL",
]
NOT_UNDERSTOOD = [
    "SELECT p.id, (SELECT max(pay) FROM people) AS m FROM people p",
    "SELECT id, avg(pay) OVER () AS mean FROM people",
    "SELECT id, pay FROM people WHERE team IN (SELECT id FROM teams)",
    "SELECT id, pay FROM people UNION ALL SELECT id, size FROM teams",
    "SELECT p.id, t.size FROM people p FULL JOIN teams t ON t.id = p.team",
    "WITH w AS (SELECT max(pay) AS m FROM people) SELECT p.id, w.m FROM people p, w",
    "SELECT p.id, w.m FROM people p JOIN (SELECT entropy(team) AS m FROM people) w ON w.m * 3 > p.pay",
    "SELECT coalesce(t.id, 7) AS id, count(*) AS n FROM people p "
    "LEFT JOIN teams t ON t.id = p.team GROUP BY 1",
    "WITH w AS (SELECT coalesce(t.boss, 2) AS b, count(*) AS n FROM people p "
    "LEFT JOIN teams t ON t.id = p.team GROUP BY 1) SELECT p.id, w.n FROM people p LEFT JOIN w ON w.b = p.id",
    "SELECT p.id, x.n FROM people p JOIN LATERAL "
    "(SELECT count(*) AS n FROM days d WHERE d.person = p.id HAVING count(*) = 2) x ON true",
]


def query(sql: str) -> Any:
    return affected.qualified(parse_query(sql, Path("f.sql")), COLUMNS)


class Tables:
    """Three tables before and after random changes."""

    def __init__(self, rng: random.Random) -> None:
        self.connection = duckdb.connect(config={"threads": 1})
        self.rng = rng
        for schema in ("before", "trusted", "delta"):
            self.connection.execute(f"CREATE SCHEMA {schema}")
        for name, columns in COLUMNS.items():
            old = {tuple(self._key(name)): self._values(name) for _ in range(rng.randint(0, 9))}
            new, changed = dict(old), set()
            for _ in range(rng.randint(0, 3)):
                key = rng.choice([*old, tuple(self._key(name))])
                changed.add(key)
                if key in new and rng.random() < 0.5:
                    del new[key]
                else:
                    new[key] = self._values(name)
            self._fill("before", name, columns, old)
            self._fill("trusted", name, columns, new)
            keys = dict.fromkeys(KEYS[name], "INTEGER")
            self._fill("delta", name, keys, dict.fromkeys(changed, ()))

    def _key(self, name: str) -> list[int]:
        return [self.rng.randint(1, 6) for _ in KEYS[name]]

    def _values(self, name: str) -> tuple[int | None, ...]:
        count = len(COLUMNS[name]) - len(KEYS[name])
        return tuple(self.rng.choice([None, *range(1, 7)]) for _ in range(count))

    def _fill(self, schema: str, name: str, columns: dict[str, str], rows: dict[Any, Any]) -> None:
        text = ", ".join(f"{column} {kind}" for column, kind in columns.items())
        self.connection.execute(f"CREATE TABLE {schema}.{name} ({text})")
        for key, values in rows.items():
            marks = ", ".join("?" * len(columns))
            self.connection.execute(f"INSERT INTO {schema}.{name} VALUES ({marks})", [*key, *values])

    def features(self, tree: Any, schema: str) -> dict[int, set[Any]]:
        sql = affected.feature_query(tree, ["id"], affected=False).replace('"trusted".', f'"{schema}".')
        found: dict[int, set[Any]] = {}
        for row in self.connection.execute(f"SELECT id, to_json(q) FROM ({sql}) q").fetchall():
            found.setdefault(row[0], set()).add(row[1])
        return found

    def keys(self, queries: list[str]) -> set[int]:
        return {row[0] for sql in queries for row in self.connection.execute(sql).fetchall()}


@pytest.mark.parametrize("sql", UNDERSTOOD)
def test_no_key_that_changes_is_missed(sql: str, seed: str) -> None:
    rng, tree = random.Random(f"{seed}{sql}"), query(sql)
    rounds = changes = 0
    while rounds < 15 or changes < 5:
        rounds += 1
        assert rounds < 200, "the changes must matter"
        tables = Tables(rng)
        queries = []
        for name in COLUMNS:
            made = affected.key_queries(tree, ["id"], name, KEYS[name])
            assert made is not None
            queries += made
        found = tables.keys(queries)
        old, new = tables.features(tree, "before"), tables.features(tree, "trusted")
        changed = {key for key in old.keys() | new.keys() if old.get(key) != new.get(key)}
        assert changed <= found
        changes += len(changed)
        tables.connection.execute("CREATE TABLE affected (id INTEGER)")
        tables.connection.executemany("INSERT INTO affected VALUES (?)", [[key] for key in found or {0}])
        narrowed = affected.feature_query(tree, ["id"], affected=True)
        rows: dict[int, set[Any]] = {}
        for row in tables.connection.execute(f"SELECT id, to_json(q) FROM ({narrowed}) q").fetchall():
            rows.setdefault(row[0], set()).add(row[1])
        assert rows == {key: value for key, value in new.items() if key in found}
        tables.connection.close()


@pytest.mark.parametrize("sql", NOT_UNDERSTOOD)
def test_what_is_not_understood_is_said(sql: str) -> None:
    if " UNION " in sql:
        with pytest.raises(FeaturesInvalid, match="one SELECT"):
            query(sql)
        return
    tree = query(sql)
    asked = [affected.key_queries(tree, ["id"], name, KEYS[name]) for name in COLUMNS]
    assert None in asked


def test_names_keep_the_case_that_they_were_written_in() -> None:
    columns = {"People": {"Id": "INTEGER", "monthly Pay": "INTEGER"}}
    sql = 'WITH w AS (SELECT id, "Monthly Pay" * 2 AS "Twice" FROM people) SELECT *, ID + 1 AS "Next" FROM w'
    tree = affected.qualified(parse_query(sql.replace("people", '"People"'), Path("f.sql")), columns)
    assert [one.alias_or_name for one in tree.expressions] == ["Id", "Twice", "Next"]
    assert affected.columns_used(tree) >= {"id", "monthly pay"}
    with duckdb.connect() as connection:
        connection.execute("CREATE SCHEMA trusted; CREATE SCHEMA delta; CREATE SCHEMA before")
        connection.execute('CREATE TABLE trusted."People" ("Id" INTEGER, "monthly Pay" INTEGER)')
        connection.execute('CREATE TABLE before."People" AS FROM trusted."People"')
        connection.execute("""INSERT INTO trusted."People" VALUES (1, 10), (2, 20)""")
        connection.execute('CREATE TABLE delta."People" AS SELECT 2 AS "Id"')
        found = connection.sql(affected.feature_query(tree, ["Id"], affected=False))
        assert (found.columns, found.fetchall()[1]) == (["Id", "Twice", "Next"], (2, 40, 3))
        queries = affected.key_queries(tree, ["Id"], "People", ["Id"])
        assert queries
        assert {row for sql in queries for row in connection.execute(sql).fetchall()} == {(2,)}


def test_tables_that_differ_in_case_only_are_refused() -> None:
    sql = 'SELECT a.id FROM "T" a JOIN t b ON a.id = b.id'
    with pytest.raises(FeaturesInvalid, match="capital letters"):
        affected.qualified(parse_query(sql, Path("f.sql")), {"T": {"id": "INTEGER"}, "t": {"id": "INTEGER"}})


@pytest.mark.parametrize("call", ["age(born)", "current_setting('threads')", "now()", "current_date"])
def test_what_follows_from_the_moment_is_refused(call: str) -> None:
    with pytest.raises(FeaturesInvalid):
        parse_query(f"SELECT id, {call} AS x FROM people", Path("f.sql"))
    parse_query("SELECT id, age(died, born) AS x FROM people", Path("f.sql"))
