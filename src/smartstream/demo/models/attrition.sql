-- One row for each person who is still there. Plain SQL, the same in DuckDB and Athena.
-- Nothing here looks at the clock: how long is counted to the department's last review.
WITH pay AS (
    SELECT employee_id, max(valid_from) AS since
    FROM salaries
    GROUP BY employee_id
),
worked AS (
    -- A sum of decimals is the same whatever the order of the rows; one of doubles is not.
    SELECT employee_id, CAST(sum(CAST(hours AS decimal(12, 2))) AS double) / count(*) AS hours_a_day
    FROM attendance
    GROUP BY employee_id
)
SELECT
    e.id AS employee_id,
    greatest(0, date_diff('day', CAST(e.hired AS date), d.reviewed)) / 365.25E0 AS tenure_years,
    CAST(e.salary AS double) / CAST(d.reference_pay AS double) AS pay_ratio,
    CAST(e.grade AS double) AS grade,
    CAST(e.rating AS double) AS rating,
    w.hours_a_day,
    greatest(0, date_diff('day', p.since, d.reviewed)) / 365.25E0 AS years_same_pay,
    CASE WHEN e.employment = 'contract' THEN 1E0 ELSE 0E0 END AS on_contract
FROM employees e
JOIN departments d ON d.id = e.department_id
LEFT JOIN pay p ON p.employee_id = e.id
LEFT JOIN worked w ON w.employee_id = e.id
WHERE e.active
