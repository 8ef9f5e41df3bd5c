# Catalogue, queries, logs and alarms.
# One run for each way to be wrong, and one for the values just inside.

mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  dms_source_password = "made-up-for-tests"
}

run "accepts_the_least_of_operation" {
  command = plan
  variables {
    crawler_schedule     = null
    athena_scan_limit_mb = 10
    log_retention_days   = 1
    alarm_email          = null
  }
}

run "accepts_the_most_of_operation" {
  command = plan
  variables {
    crawler_schedule     = "cron(0/5 * ? * * *)"
    athena_scan_limit_mb = 10485760
    log_retention_days   = 3653
    alarm_email          = "first.last+alarms@data.example.co.uk"
  }
}

run "rejects_a_rate_for_a_crawler" {
  command = plan
  variables {
    crawler_schedule = "rate(1 day)"
  }
  expect_failures = [var.crawler_schedule]
}

run "rejects_a_crontab_line_for_a_crawler" {
  command = plan
  variables {
    crawler_schedule = "0 3 * * *"
  }
  expect_failures = [var.crawler_schedule]
}

run "rejects_an_empty_crawler_schedule" {
  command = plan
  variables {
    crawler_schedule = ""
  }
  expect_failures = [var.crawler_schedule]
}

run "rejects_a_crawler_schedule_without_a_question_mark" {
  command = plan
  variables {
    crawler_schedule = "cron(0 3 * * * *)"
  }
  expect_failures = [var.crawler_schedule]
}

run "rejects_a_crawler_schedule_with_two_question_marks" {
  command = plan
  variables {
    crawler_schedule = "cron(0 3 ? * ? *)"
  }
  expect_failures = [var.crawler_schedule]
}

run "rejects_mb_to_scan_below_10" {
  command = plan
  variables {
    athena_scan_limit_mb = 9
  }
  expect_failures = [var.athena_scan_limit_mb]
}

run "rejects_mb_to_scan_above_10485760" {
  command = plan
  variables {
    athena_scan_limit_mb = 10485761
  }
  expect_failures = [var.athena_scan_limit_mb]
}

run "rejects_a_fraction_of_mb_to_scan" {
  command = plan
  variables {
    athena_scan_limit_mb = 10.5
  }
  expect_failures = [var.athena_scan_limit_mb]
}

run "rejects_two_days_of_logs" {
  command = plan
  variables {
    log_retention_days = 2
  }
  expect_failures = [var.log_retention_days]
}

run "rejects_logs_for_ever" {
  command = plan
  variables {
    log_retention_days = 0
  }
  expect_failures = [var.log_retention_days]
}

run "rejects_a_year_and_a_day_of_logs" {
  command = plan
  variables {
    log_retention_days = 366
  }
  expect_failures = [var.log_retention_days]
}

run "rejects_more_than_ten_years_of_logs" {
  command = plan
  variables {
    log_retention_days = 3654
  }
  expect_failures = [var.log_retention_days]
}

run "rejects_an_address_without_a_domain" {
  command = plan
  variables {
    alarm_email = "someone"
  }
  expect_failures = [var.alarm_email]
}

run "rejects_an_address_without_a_dot" {
  command = plan
  variables {
    alarm_email = "someone@example"
  }
  expect_failures = [var.alarm_email]
}

run "rejects_two_addresses" {
  command = plan
  variables {
    alarm_email = "a@example.org,b@example.org"
  }
  expect_failures = [var.alarm_email]
}

run "rejects_an_address_with_a_space" {
  command = plan
  variables {
    alarm_email = "some one@example.org"
  }
  expect_failures = [var.alarm_email]
}

run "rejects_an_empty_address" {
  command = plan
  variables {
    alarm_email = ""
  }
  expect_failures = [var.alarm_email]
}

run "rejects_a_domain_that_starts_with_a_hyphen" {
  command = plan
  variables {
    alarm_email = "a@-example.org"
  }
  expect_failures = [var.alarm_email]
}
