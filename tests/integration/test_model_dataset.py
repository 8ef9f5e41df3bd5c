"""Training sets: each row's features are those of its own moment, never of a later one."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from smartstream.config import Settings
from smartstream.errors import FeaturesInvalid
from smartstream.inference.dataset import dataset
from tests.running_pipeline import once, settings_for

FEATURES = """
WITH w AS (SELECT customer, sum(amount) AS spent, count(*) AS orders FROM orders GROUP BY customer)
SELECT c.id, c.grade, coalesce(w.spent, 0) AS spent, coalesce(w.orders, 0) AS orders
FROM customers c LEFT JOIN w ON w.customer = c.id
"""
MODEL = {"name": "m", "uri": "m.onnx", "features": "f.sql", "key": ["id"]}


@pytest.fixture
def admin(database: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("CREATE TABLE customers (id integer PRIMARY KEY, grade integer)")
        connection.execute("CREATE TABLE orders (id integer PRIMARY KEY, customer integer, amount integer)")
        connection.execute("INSERT INTO customers SELECT i, 0 FROM generate_series(1, 5) i")
        yield connection


@pytest.fixture
def settings(admin: Any, database: str, tmp_path: Path) -> Settings:
    (tmp_path / "f.sql").write_text(FEATURES)
    found = settings_for(database, tmp_path, models=[MODEL])
    found._path = tmp_path / "smartstream.yaml"
    once(found)
    return found


def truth(admin: Any) -> tuple[datetime, dict[int, tuple[int, ...]]]:
    """Now, by the source's clock, and the features of now by the source itself."""
    (moment,) = admin.execute("SELECT clock_timestamp()").fetchone()
    return moment, {row[0]: row[1:] for row in admin.execute(FEATURES).fetchall()}


def written(folder: Path, rows: list[dict[str, Any]], **types: pa.DataType) -> Path:
    fields = {"id": pa.int32(), "at": pa.timestamp("us", tz="UTC"), "left": pa.bool_()} | types
    pq.write_table(pa.Table.from_pylist(rows, pa.schema(list(fields.items()))), folder / "labels.parquet")
    return folder / "labels.parquet"


def test_every_row_has_the_features_of_its_own_moment(
    admin: Any, settings: Settings, tmp_path: Path, seed: str
) -> None:
    rng, states = random.Random(seed), []
    for number in range(12):
        admin.execute("UPDATE customers SET grade = %s WHERE id = %s", (number, rng.randint(1, 5)))
        admin.execute(
            "INSERT INTO orders VALUES (%s, %s, %s)", (number, rng.randint(1, 5), rng.randint(1, 9))
        )
        if number % 3 == 2:
            admin.execute("DELETE FROM orders WHERE id = %s", (rng.randrange(number),))
        if number == 6:
            admin.execute("DELETE FROM customers WHERE id = 4")
        states.append(truth(admin))
    once(settings)
    asked = [(moment, key, state.get(key)) for moment, state in states for key in range(1, 7)]
    rng.shuffle(asked)
    labels = written(tmp_path, [{"id": key, "at": moment, "left": True} for moment, key, _ in asked])
    report = dataset(settings, settings.models[0], labels, tmp_path / "set.parquet", as_of="at")
    rows = pq.read_table(tmp_path / "set.parquet").to_pylist()
    found = [(row["at"], row["id"], (row["grade"], row["spent"], row["orders"])) for row in rows]
    assert found == [(moment, key, state) for moment, key, state in asked if state is not None]
    assert (report.rows, report.rows_left_out) == (len(found), len(asked) - len(found))
    assert report.rows_left_out >= 12 and report.moments == 12
    assert (report.first, report.last) == (states[0][0], states[-1][0])
    assert report.features == ("grade", "spent", "orders") and all(row["left"] for row in rows)


def test_before_the_first_copy_nothing_is_known(admin: Any, settings: Settings, tmp_path: Path) -> None:
    long_ago = datetime(2020, 1, 1, tzinfo=UTC)
    later = truth(admin)[0] + timedelta(days=1)
    labels = written(tmp_path, [{"id": 1, "at": long_ago}, {"id": 1, "at": later}])
    report = dataset(settings, settings.models[0], labels, tmp_path / "set.parquet", as_of="at")
    assert (report.rows, report.rows_left_out) == (1, 1)


def test_labels_that_do_not_fit_are_refused(settings: Settings, tmp_path: Path) -> None:
    then, grade = datetime(2026, 1, 1, tzinfo=UTC), {"grade": pa.int32()}
    wrong: list[tuple[dict[str, Any], dict[str, pa.DataType], str, str]] = [
        ({"id": 1, "at": 1}, {"at": pa.int64()}, "at", "not a time"),
        ({"id": 1, "at": then}, {}, "when", "no column when"),
        ({"id": 1, "at": None}, {}, "at", "1 rows of .* have no at"),
        ({"id": 1, "at": then, "grade": 1}, grade, "at", "both have the column grade"),
    ]
    for row, types, as_of, says in wrong:
        labels = written(tmp_path, [row], **types)
        with pytest.raises(FeaturesInvalid, match=says):
            dataset(settings, settings.models[0], labels, tmp_path / "set.parquet", as_of=as_of)
        assert not (tmp_path / "set.parquet").exists()


def test_a_table_whose_past_is_not_one_row_a_key_is_refused(
    database: str, settings: Settings, tmp_path: Path
) -> None:
    first = {"clean": [{"dedupe": {"key": ["grade"], "by": "id"}}]}
    rules = {"public.customers": first, "public.orders": {}}
    ruled = settings_for(database, tmp_path, models=[MODEL], tables=rules)
    ruled._path = tmp_path / "smartstream.yaml"
    labels = written(tmp_path, [{"id": 1, "at": datetime(2026, 1, 1, tzinfo=UTC)}])
    with pytest.raises(FeaturesInvalid, match="deduplicated"):
        dataset(ruled, ruled.models[0], labels, tmp_path / "set.parquet", as_of="at")
