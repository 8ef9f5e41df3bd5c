# Athena: a workgroup that limits what a query may cost, and queries to begin with.

resource "aws_athena_workgroup" "this" {
  name          = local.name
  description   = "Queries over the ${local.name} lake"
  force_destroy = var.force_destroy_buckets

  configuration {
    # Whoever queries can't choose another place for results, or none of the limits.
    enforce_workgroup_configuration    = true
    publish_cloudwatch_metrics_enabled = true
    bytes_scanned_cutoff_per_query     = var.athena_scan_limit_mb * 1048576

    # Version 3 reads Iceberg's position deletes.
    engine_version {
      selected_engine_version = "Athena engine version 3"
    }
    result_configuration {
      output_location       = "s3://${aws_s3_bucket.this["athena_results"].id}/results/"
      expected_bucket_owner = local.account_id
      encryption_configuration {
        encryption_option = var.use_customer_managed_key ? "SSE_KMS" : "SSE_S3"
        kms_key_arn       = local.data_key_arn
      }
    }
  }
}

# They fit the tables of "smartstream demo".
locals {
  named_queries = {
    employees_by_department = {
      database = "trusted"
      about    = "Headcount and pay of each department, from the trusted tables"
      query    = <<-SQL
        SELECT d.name AS department,
               count(*) AS employees,
               round(avg(e.salary), 2) AS salary_mean,
               d.budget
        FROM employees e
        JOIN departments d ON d.id = e.department_id
        WHERE e.active
        GROUP BY d.name, d.budget
        ORDER BY employees DESC, department
      SQL
    }
    salary_history = {
      database = "trusted"
      about    = "How the pay of the best paid has changed"
      query    = <<-SQL
        SELECT e.id, e.name, s.valid_from, s.amount, s.reason,
               s.amount - lag(s.amount) OVER (PARTITION BY e.id ORDER BY s.valid_from) AS rise
        FROM employees e
        JOIN salaries s ON s.employee_id = e.id
        WHERE e.id IN (SELECT id FROM employees ORDER BY salary DESC LIMIT 20)
        ORDER BY e.id, s.valid_from
      SQL
    }
    employees_yesterday = {
      database = "trusted"
      about    = "The table as it was a day ago, if it is that old"
      query    = <<-SQL
        SELECT count(*) AS employees, sum(salary) AS payroll
        FROM employees FOR TIMESTAMP AS OF (current_timestamp - INTERVAL '1' DAY)
      SQL
    }
    employees_commits = {
      database = "trusted"
      about    = "When the trusted table changed last, and by how much"
      query    = <<-SQL
        SELECT committed_at, operation,
               summary['added-records'] AS rows_added,
               summary['added-position-deletes'] AS rows_deleted
        FROM "employees$snapshots"
        ORDER BY committed_at DESC
        LIMIT 50
      SQL
    }
    raw_operations = {
      database = "raw"
      about    = "What DMS sent for a table today, by operation"
      query    = <<-SQL
        SELECT json_extract_scalar(metadata, '$.operation') AS operation,
               count(*) AS records,
               max(json_extract_scalar(metadata, '$.timestamp')) AS newest
        FROM raw_cdc
        WHERE source_schema = 'public' AND source_table = 'employees'
          AND dt = date_format(current_timestamp AT TIME ZONE 'UTC', '%Y-%m-%d')
        GROUP BY 1
        ORDER BY records DESC
      SQL
    }
    raw_deletes = {
      database = "raw"
      about    = "Rows that were deleted in the source today, and in which transaction"
      query    = <<-SQL
        SELECT json_extract_scalar(data, '$.id') AS id,
               json_extract_scalar(metadata, '$["commit-timestamp"]') AS committed_at,
               json_extract_scalar(metadata, '$["transaction-id"]') AS transaction_id
        FROM raw_cdc
        WHERE source_schema = 'public' AND source_table = 'employees'
          AND dt = date_format(current_timestamp AT TIME ZONE 'UTC', '%Y-%m-%d')
          AND json_extract_scalar(metadata, '$.operation') = 'delete'
        LIMIT 100
      SQL
    }
  }
}

resource "aws_athena_named_query" "this" {
  for_each = local.named_queries

  name        = "${local.name}-${replace(each.key, "_", "-")}"
  description = each.value.about
  workgroup   = aws_athena_workgroup.this.id
  database    = aws_glue_catalog_database.zone[each.value.database].name
  query       = each.value.query
}
