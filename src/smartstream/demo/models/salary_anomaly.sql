-- One row for each person who is paid. Plain SQL, the same in DuckDB and Athena.
SELECT
    e.id AS employee_id,
    CAST(e.salary AS double) AS salary,
    CAST(d.reference_pay AS double) AS reference_pay,
    CAST(e.grade AS double) AS grade,
    CAST(e.rating AS double) AS rating,
    greatest(0, date_diff('day', CAST(e.hired AS date), d.reviewed)) / 365.25E0 AS tenure_years
FROM employees e
JOIN departments d ON d.id = e.department_id
WHERE e.active
