"""A company's database: its tables and their first rows, all made by the server.

It is sample data. Who has left, and who is paid by mistake, is drawn by the formulas
below, so that a model has something to learn and its answers can be checked. The draws
are hashes of the employee's number: the same on every server, however many rows there are.
"""

from __future__ import annotations

import psycopg

DEPARTMENT_COUNT = 40

SCHEMA = """
CREATE TYPE employment AS ENUM ('full time', 'part time', 'contract');
CREATE TABLE departments (
    id integer PRIMARY KEY, name text NOT NULL UNIQUE, budget numeric(14,2), opened date,
    reference_pay numeric(10,2) NOT NULL, reviewed date NOT NULL);
CREATE TABLE employees (
    id integer PRIMARY KEY, department_id integer NOT NULL REFERENCES departments,
    manager_id integer, name text NOT NULL, email text, title varchar(60), employment employment,
    salary numeric(10,2), rating real, active boolean NOT NULL DEFAULT true,
    profile jsonb, biography text, hired timestamptz NOT NULL, grade smallint NOT NULL DEFAULT 1,
    left_on date);
CREATE TABLE salaries (
    employee_id integer, valid_from date, amount numeric(10,2) NOT NULL, reason text,
    PRIMARY KEY (employee_id, valid_from));
CREATE TABLE attendance (
    employee_id integer, day date, arrived time, hours double precision, note text,
    PRIMARY KEY (employee_id, day));
CREATE TABLE badges (code text PRIMARY KEY, employee_id integer, issued timestamp);
CREATE TABLE all_types (
    id bigint PRIMARY KEY, small smallint, big bigint, ratio real, exact numeric, price numeric(20,6),
    flag boolean, word text, padded char(8), raw bytea, token uuid, born date, at_time time,
    local timestamp, instant timestamptz, plain json, binary_json jsonb, kind employment,
    numbers integer[], words text[], span interval, address inet, range int4range, score double precision);
"""


def _draw(seed: int) -> str:
    """A number from [0, 1) that follows from ``n``, evenly spread; another seed, another number.

    PostgreSQL keeps this hash as it is: its hash-partitioned tables rest on it.
    """
    return f"((hashint8extended(n, {seed}) & 4294967295)::float8 / 4294967296)"


def _normal(seed: int) -> str:
    """About normal, with mean 0 and deviation 1: three even draws have a variance of a quarter."""
    return f"(2 * ({_draw(seed)} + {_draw(seed + 1)} + {_draw(seed + 2)} - 1.5))"


MISPAID = f"{_draw(70)} < 0.006"
"""SQL over ``n``, an employee's number: whether the salary was made wrong on purpose.

No column says so, as in life; it is known to who measures what finds the mistakes.
"""

# Most are off by some grades, up or down, one in six by a digit.
_MISTAKE = f"""CASE WHEN NOT {MISPAID} THEN 1
    WHEN {_draw(71)} < 1 / 6.0 THEN CASE WHEN {_draw(72)} < 0.5 THEN 10 ELSE 0.1 END
    ELSE exp(sign({_draw(72)} - 0.5) * (0.15 + 0.7 * {_draw(73)})) END"""

_OVERTIME = _normal(10)  # what a person is used to, in deviations
_DAYS = f"(40 + 4000 * {_draw(13)} ^ 2)::integer"  # from being hired to the end of 2025
_DAYS_SAME_PAY = f"least({_DAYS}, 1200 * {_draw(14)} ^ 2)::integer"

# OFFSET 0 keeps the planner from merging the steps, which would compute every draw many times.
_PEOPLE = f"""
    SELECT n, department, days, days / year AS years, {_DAYS_SAME_PAY} / year AS years_same_pay,
           1 + floor(5 * {_draw(20)})::integer + (ARRAY[1, 0, 2, 0])[1 + n % 4] AS grade,
           CASE WHEN days >= 150 THEN round(least(5, greatest(0, 3 + 0.9 * {_normal(30)}))::numeric, 1) END
               AS rating
    FROM (SELECT n, 1 + n % {{departments}} AS department, {_DAYS} AS days, 365.25::float8 AS year
          FROM generate_series(1, {{rows}}) n OFFSET 0) hired OFFSET 0"""
_PAID = f"""
    SELECT person.*, reviewed, reference_pay * 1.15::float8 ^ (grade - 3) AS usual,
           least(9999999, reference_pay * 1.15::float8 ^ (grade - 3)
               * exp(0.012 * years + 0.03 * (coalesce(rating, 3)::float8 - 3) + 0.07 * {_normal(40)})
               * {_MISTAKE}) AS salary
    FROM ({_PEOPLE}) person JOIN departments ON departments.id = department OFFSET 0"""

# People leave who are new, badly paid or badly rated, who work long and saw no raise for long;
# and for reasons that no table knows.
_LEAVES = f"""{_draw(50)} < 1 / (1 + exp(-(
    -3.1 + 1.6 * exp(-years / 1.5) - 6 * ln(salary / usual) - 0.7 * (coalesce(rating, 3)::float8 - 3)
    + 0.7 * {_OVERTIME} + 0.5 * years_same_pay
    + CASE WHEN n % 3 = 2 THEN 0.6 ELSE 0 END + 0.5 * {_normal(60)})))"""

_LOAD = (
    f"""INSERT INTO departments
       SELECT n, 'Department ' || n, 100000 + n * 1234.56, date '1990-01-01' + n * 37,
              round((42000 + 26000 * {_draw(1)})::numeric, -2), date '2026-03-15' + n % 14
       FROM generate_series(1, {{departments}}) n""",
    f"""INSERT INTO employees
       SELECT n, department, nullif(n / 10, 0), 'Employee ' || n, 'e' || n || '@example.com',
              (ARRAY['Engineer','Analyst','Manager','Clerk'])[1 + n % 4],
              (ARRAY['full time','part time','contract'])[1 + n % 3]::employment,
              salary, rating, left_on IS NULL,
              jsonb_build_object('level', n % 7, 'skills', jsonb_build_array('sql', n % 5)),
              CASE WHEN n % 50 = 0
                   THEN (SELECT string_agg(md5((n * 100 + i)::text), ' ') FROM generate_series(1, 100) i)
                   ELSE 'Joined as number ' || n END,
              timestamptz '2026-01-01 08:00+00' - days * interval '24 hours', grade, left_on
       FROM (SELECT *, CASE WHEN {_LEAVES} THEN reviewed + 1 + (179 * {_draw(51)})::integer END AS left_on
             FROM ({_PAID}) paid OFFSET 0) person""",
    f"""INSERT INTO salaries
       SELECT n, date '2026-01-01' - {_DAYS_SAME_PAY}, salary,
              CASE WHEN {_DAYS_SAME_PAY} < {_DAYS} THEN 'raise' ELSE 'hired' END
       FROM (SELECT id AS n, salary FROM employees) person""",
    f"""INSERT INTO attendance
       SELECT n, date '2026-01-05', time '07:30' + n % 90 * interval '1 minute',
              greatest(0, round(4 * (8 + 0.8 * {_OVERTIME} + 0.5 * {_normal(80)})) / 4), NULL
       FROM generate_series(1, {{rows}}) n""",
    """INSERT INTO badges
       SELECT 'B' || n, n, timestamp '2026-01-01' + n * interval '1 minute' FROM generate_series(1, 500) n""",
    """INSERT INTO all_types
       SELECT n, n - 500, n * 10000000019,
              CASE n % 50 WHEN 0 THEN 'NaN' WHEN 1 THEN '-Infinity' ELSE n / 7.0 END,
              CASE WHEN n % 90 = 0 THEN 'NaN' ELSE n / 7::numeric END, n / 13.0,
              n % 2 = 0, repeat('wörd ', n % 4), 'c' || n, decode(md5(n::text), 'hex'), md5(n::text)::uuid,
              CASE WHEN n % 80 = 0 THEN 'infinity' ELSE date '0300-02-28' + n * 1000 END,
              CASE WHEN n % 70 = 0 THEN '24:00' ELSE time '00:00' + n * interval '0.5 second' END,
              timestamp '1969-12-31' + n * interval '13.000001 hours', now(), '{{"a":  1}}',
              jsonb_build_object('n', n), 'part time', ARRAY[n, NULL, -n],
              ARRAY['plain', 'with "quotes"', NULL, ''], n * interval '1 day 2.5 seconds',
              ('10.0.0.' || n % 256)::inet, int4range(n, n + 5),
              CASE WHEN n % 60 = 0 THEN '-0'::float8 ELSE 1.0 / n END
       FROM generate_series(1, 1000) n""",
)


def create(url: str, rows: int) -> None:
    """Create the tables and fill them: ``rows`` employees, salaries and days of attendance."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(SCHEMA)
        for statement in _LOAD:
            connection.execute(statement.format(rows=int(rows), departments=DEPARTMENT_COUNT).encode())
        connection.execute("ANALYZE")
