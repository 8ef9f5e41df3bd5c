"""People at work: transactions of many kinds against the company's database."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from typing import Any

import psycopg
from psycopg import sql

GROUP = 25  # rows that most statements touch


class Workload:
    """Random transactions at about ``rate`` changes a second until stopped.

    Inserts, updates with and without TOASTed columns, deletes, key changes, truncates,
    transactions over several tables, rolled back savepoints, and while it runs a
    column is added and another renamed.
    """

    def __init__(
        self,
        url: str,
        *,
        rows: int,
        rate: int = 5000,
        seed: int = 1,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._url, self._rate, self._monotonic = url, rate, monotonic
        self._random = random.Random(seed)
        self._next_employee = self._first_new = rows + 1
        self._rows = rows
        self._title = "title"
        self._days = 1
        self._ddl: list[Callable[[Any], int]] = [self._add_column, self._rename_column]
        self.change_count = 0

    def run(self, stop: threading.Event, seconds: float) -> None:
        """Work until ``stop`` is set or the time is over; schema changes come at a third and at two."""
        begin = self._monotonic()
        ddl_at = [begin + seconds / 3, begin + seconds * 2 / 3]
        with psycopg.connect(self._url) as connection:
            while not stop.is_set() and (now := self._monotonic()) < begin + seconds:
                if ddl_at and now >= ddl_at[0]:
                    ddl_at.pop(0)
                    self._transact(connection, self._ddl.pop(0))
                self._transact(connection, self._pick())
                ahead_s = self.change_count / self._rate - (self._monotonic() - begin)
                if ahead_s > 0:
                    stop.wait(ahead_s)

    def _pick(self) -> Callable[[Any], int]:
        """A kind of work, the frequent ones more often."""
        kinds: list[tuple[int, Callable[[Any], int]]] = [
            (30, self._attend),
            (20, self._raise_salaries),
            (15, self._hire),
            (15, self._retitle),
            (8, self._correct_days),
            (6, self._leave),
            (3, self._change_types),
            (2, self._change_minds),
            (1, self._new_badges),
        ]
        return self._random.choices(kinds, [weight for weight, _ in kinds])[0][1]

    def _transact(self, connection: psycopg.Connection[Any], work: Callable[[Any], int]) -> None:
        """Run one piece of work as a transaction."""
        changes = work(connection)
        connection.commit()
        self.change_count += changes

    def _some(self) -> list[int]:
        """Employees, in order (so that transactions don't lock each other out)."""
        return sorted({self._random.randrange(1, self._next_employee) for _ in range(GROUP)})

    def _attend(self, connection: psycopg.Connection[Any]) -> int:
        """People come to work; who has come already stays longer."""
        day = self._random.randrange(1, 40)
        return connection.execute(
            """INSERT INTO attendance
               SELECT e, date '2026-02-01' + %s, time '08:00' + %s * interval '1 second', 7.5, 'came'
               FROM unnest(%s::integer[]) e
               ON CONFLICT (employee_id, day) DO UPDATE SET hours = attendance.hours + 0.25""",
            (day, self._random.randrange(3600), self._some()),
        ).rowcount

    def _raise_salaries(self, connection: psycopg.Connection[Any]) -> int:
        """A transaction over two tables."""
        people = self._some()
        changed = connection.execute(
            "UPDATE employees SET salary = least(salary * 1.01, 9999999) WHERE id = ANY(%s)", (people,)
        ).rowcount
        return (
            changed
            + connection.execute(
                """INSERT INTO salaries
               SELECT id, date '2024-01-01' + %s, salary, 'raise' FROM employees WHERE id = ANY(%s)
               ON CONFLICT (employee_id, valid_from) DO UPDATE SET amount = excluded.amount""",
                (self._random.randrange(900), people),
            ).rowcount
        )

    def _hire(self, connection: psycopg.Connection[Any]) -> int:
        """New people with their first salary; one in five with a long biography."""
        first, self._next_employee = self._next_employee, self._next_employee + GROUP
        people = list(range(first, first + GROUP))
        long = "".join(chr(self._random.randrange(97, 123)) for _ in range(4000))
        return sum(
            connection.execute(statement, {"people": people, "long": long}).rowcount
            for statement in (
                """INSERT INTO employees (id, department_id, name, salary, profile, biography, hired)
                   SELECT e, d.id, 'Employee ' || e, round(d.reference_pay * 0.75, 2), '{"level": 0}',
                          CASE WHEN e %% 5 = 0 THEN %(long)s ELSE '' END, now()
                   FROM unnest(%(people)s::integer[]) e JOIN departments d ON d.id = 1 + e %% 40""",
                """INSERT INTO salaries SELECT id, '2026-11-01', salary, 'hired' FROM employees
                   WHERE id = ANY(%(people)s)""",
            )
        )

    def _retitle(self, connection: psycopg.Connection[Any]) -> int:
        """Updates that leave long biographies as they are."""
        title = self._random.choice(["Engineer", "Architect", "Director", None])
        people = [50 * self._random.randrange(1, max(2, self._rows // 50)) for _ in range(GROUP)]
        return connection.execute(
            sql.SQL("UPDATE employees SET {} = %s, rating = %s WHERE id = ANY(%s)").format(
                sql.Identifier(self._title)
            ),
            (title, self._random.random() * 5, people),
        ).rowcount

    def _correct_days(self, connection: psycopg.Connection[Any]) -> int:
        """Updates of a key column."""
        self._days += 1
        return connection.execute(
            """UPDATE attendance SET day = day + 3650 + %s WHERE employee_id = ANY(%s) AND day < '2030-01-01'
               AND day >= '2026-02-01'""",
            (self._days * 60, self._some()),
        ).rowcount

    def _leave(self, connection: psycopg.Connection[Any]) -> int:
        """People leave, with all that belongs to them: one transaction over three tables."""
        people = self._some()[:10]
        return sum(
            connection.execute(statement, (people,)).rowcount
            for statement in (
                "DELETE FROM attendance WHERE employee_id = ANY(%s)",
                "DELETE FROM salaries WHERE employee_id = ANY(%s)",
                "DELETE FROM employees WHERE id = ANY(%s)",
            )
        )

    def _change_types(self, connection: psycopg.Connection[Any]) -> int:
        """Edge values come and go."""
        return connection.execute(
            """UPDATE all_types SET born = CASE WHEN born = 'infinity' THEN '2000-01-01' ELSE born END,
                   exact = CASE WHEN id %% 3 = 0 THEN 'NaN' ELSE id / 3::numeric END, score = -score,
                   words = words || ARRAY['more'], instant = now(), at_time = '24:00'
               WHERE id %% 100 = %s""",
            (self._random.randrange(100),),
        ).rowcount

    def _change_minds(self, connection: psycopg.Connection[Any]) -> int:
        """What a rolled back savepoint did never happened."""
        people = self._some()
        update = "UPDATE employees SET active = NOT active WHERE id = ANY(%s)"
        changed = connection.execute(update, (people,)).rowcount
        with connection.transaction(force_rollback=True):  # a savepoint: a transaction is open
            connection.execute("DELETE FROM salaries WHERE employee_id = ANY(%s)", (people,))
        return changed

    def _new_badges(self, connection: psycopg.Connection[Any]) -> int:
        """All badges are taken back and given out anew."""
        connection.execute("TRUNCATE badges")
        return (
            1
            + connection.execute(
                "INSERT INTO badges SELECT 'N' || e, e, now() FROM unnest(%s::integer[]) e", (self._some(),)
            ).rowcount
        )

    def _add_column(self, connection: psycopg.Connection[Any]) -> int:
        """A new column, which existing rows show with its default."""
        connection.execute("ALTER TABLE employees ADD COLUMN office text DEFAULT 'headquarters'")
        return 0

    def _rename_column(self, connection: psycopg.Connection[Any]) -> int:
        """A column under another name."""
        connection.execute("ALTER TABLE employees RENAME COLUMN title TO job_title")
        self._title = "job_title"
        return 0
