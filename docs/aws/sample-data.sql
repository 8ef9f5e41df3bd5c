-- Three small tables that the stack's named queries fit. Each has a primary key: DMS replicates
-- updates and deletes of no other tables. Run again, it puts back the rows that are missing.
--   psql --single-transaction -v ON_ERROR_STOP=1 -f sample-data.sql

CREATE TABLE IF NOT EXISTS departments (
    id integer PRIMARY KEY,
    name text NOT NULL UNIQUE,
    budget numeric(14, 2)
);
CREATE TABLE IF NOT EXISTS employees (
    id integer PRIMARY KEY,
    department_id integer NOT NULL REFERENCES departments,
    name text NOT NULL,
    salary numeric(10, 2),
    active boolean NOT NULL DEFAULT true,
    hired timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE IF NOT EXISTS salaries (
    employee_id integer,
    valid_from date,
    amount numeric(10, 2) NOT NULL,
    reason text,
    PRIMARY KEY (employee_id, valid_from)
);

INSERT INTO departments
SELECT n, 'Department ' || n, 100000 + n * 1234.56 FROM generate_series(1, 5) n
ON CONFLICT DO NOTHING;
INSERT INTO employees
SELECT n, 1 + n % 5, 'Employee ' || n, 30000 + n * 250 FROM generate_series(1, 100) n
ON CONFLICT DO NOTHING;
INSERT INTO salaries
SELECT n, date '2024-01-01' + n, 30000 + n * 250, 'hired' FROM generate_series(1, 100) n
ON CONFLICT DO NOTHING;
