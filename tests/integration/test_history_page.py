"""The examples of docs/history.md do what the page says."""

from __future__ import annotations

import re
from datetime import datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest

from smartstream.query import open_lake, parse_moment
from tests.integration.history_setup import fetched
from tests.running_pipeline import once, settings_for

PAGE = Path(__file__).resolve().parents[2] / "docs" / "history.md"
EXAMPLES = re.findall(r"<!-- test -->\n```sql\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)


def answers(database: str, folder: Path) -> list[list[tuple[Any, ...]]]:
    """What the examples give on a small lake."""
    settings = settings_for(database, folder)
    with psycopg.connect(database, autocommit=True) as admin:
        admin.execute("CREATE TABLE orders (id int PRIMARY KEY, status text, amount int)")
        admin.execute("CREATE TABLE events (event_id int PRIMARY KEY, order_id int, happened_at timestamptz)")
        admin.execute("INSERT INTO events VALUES (1, 1, '2001-01-01')")  # before anything is known
        admin.execute("INSERT INTO orders VALUES (1, 'new', 10), (2, 'new', 20)")
        once(settings)
        event = "INSERT INTO events VALUES (%s, 1, clock_timestamp())"
        admin.execute(event, (2,))
        admin.execute("UPDATE orders SET status = 'paid', amount = 11 WHERE id = 1")
        admin.execute(event, (3,))
        admin.execute("DELETE FROM orders WHERE id = 1")
        admin.execute(event, (4,))
        once(settings)
    with open_lake(settings, " ".join(EXAMPLES)) as lake:
        return [fetched(lake, example) for example in EXAMPLES]


def test_examples_give_what_was_true_at_each_event(database: str, tmp_path: Path) -> None:
    versions, latest, alive, counts = answers(database, tmp_path)
    assert versions == [(1, "new", True, False, "r"), (1, "paid", True, False, "u")]
    assert [(n, *rest) for n, _, *rest in latest] == [
        (1, None, None),
        (2, "new", 10),
        (3, "paid", 11),
        (4, "paid", 11),
    ]
    assert [(n, *rest) for n, _, *rest in alive] == [
        (1, None, None),
        (2, "new", 10),
        (3, "paid", 11),
        (4, None, None),
    ]
    assert counts == [(1, 0), (2, 1), (3, 2), (4, 2)]
    assert all(isinstance(when, datetime) for _, when, *_ in latest)


@pytest.mark.parametrize("moment", ["16/B374D848", "2026-03-04 12:00:00+01:00"])
def test_moments_of_the_page_are_understood(moment: str) -> None:

    assert moment in PAGE.read_text(encoding="utf-8")
    assert parse_moment(moment) is not None
