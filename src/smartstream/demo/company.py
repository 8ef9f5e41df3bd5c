"""A company's database: its tables and their first rows, all made by the server."""

from __future__ import annotations

import psycopg

DEPARTMENT_COUNT = 40

SCHEMA = """
CREATE TYPE employment AS ENUM ('full time', 'part time', 'contract');
CREATE TABLE departments (
    id integer PRIMARY KEY, name text NOT NULL UNIQUE, budget numeric(14,2), opened date);
CREATE TABLE employees (
    id integer PRIMARY KEY, department_id integer NOT NULL REFERENCES departments,
    manager_id integer, name text NOT NULL, email text, title varchar(60), employment employment,
    salary numeric(10,2), rating real, active boolean NOT NULL DEFAULT true,
    profile jsonb, biography text, hired timestamptz NOT NULL);
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

_LOAD = (
    """INSERT INTO departments
       SELECT n, 'Department ' || n, 100000 + n * 1234.56, date '1990-01-01' + n * 37
       FROM generate_series(1, {departments}) n""",
    """INSERT INTO employees
       SELECT n, 1 + n % {departments}, nullif(n / 10, 0), 'Employee ' || n, 'e' || n || '@example.com',
              (ARRAY['Engineer','Analyst','Manager','Clerk'])[1 + n % 4],
              (ARRAY['full time','part time','contract'])[1 + n % 3]::employment,
              30000 + n % 70000, (n % 50) / 10.0, true,
              jsonb_build_object('level', n % 7, 'skills', jsonb_build_array('sql', n % 5)),
              CASE WHEN n % 50 = 0
                   THEN (SELECT string_agg(md5((n * 100 + i)::text), ' ') FROM generate_series(1, 100) i)
                   ELSE 'Joined as number ' || n END,
              timestamptz '2015-01-01' + n * interval '37 minutes'
       FROM generate_series(1, {rows}) n""",
    """INSERT INTO salaries
       SELECT n, date '2020-01-01' + n % 365, 30000 + n % 70000, 'hired' FROM generate_series(1, {rows}) n""",
    """INSERT INTO attendance
       SELECT n, date '2026-01-05', time '07:30' + n % 90 * interval '1 minute', 8 - n % 5 / 4.0, NULL
       FROM generate_series(1, {rows}) n""",
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
