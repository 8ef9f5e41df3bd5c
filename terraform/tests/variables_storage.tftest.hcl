# What is kept in S3, and how long.
# One run for each way to be wrong, and one for the values just inside.

mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  dms_source_password = "made-up-for-tests"
}

run "accepts_the_shortest_times" {
  command = plan
  variables {
    raw_glacier_after_days     = 30
    raw_expire_after_days      = 31
    athena_results_expire_days = 1
    use_customer_managed_key   = true
    force_destroy_buckets      = true
  }
}

run "accepts_the_longest_times" {
  command = plan
  variables {
    raw_glacier_after_days     = 3649
    raw_expire_after_days      = 3650
    athena_results_expire_days = 365
  }
}

run "rejects_destroyed_buckets_in_prod" {
  command = plan
  variables {
    force_destroy_buckets  = true
    env                    = "prod"
    db_multi_az            = true
    db_deletion_protection = true
  }
  expect_failures = [var.force_destroy_buckets]
}

run "rejects_days_until_glacier_below_30" {
  command = plan
  variables {
    raw_glacier_after_days = 29
    raw_expire_after_days  = 3650
  }
  expect_failures = [var.raw_glacier_after_days]
}

run "rejects_days_until_glacier_above_3650" {
  command = plan
  variables {
    raw_glacier_after_days = 3651
    raw_expire_after_days  = 3652
  }
  expect_failures = [var.raw_glacier_after_days]
}

run "rejects_a_fraction_of_days_until_glacier" {
  command = plan
  variables {
    raw_glacier_after_days = 30.5
    raw_expire_after_days  = 3650
  }
  expect_failures = [var.raw_glacier_after_days]
}

run "rejects_days_until_expiry_above_3650" {
  command = plan
  variables {
    raw_expire_after_days = 3651
  }
  expect_failures = [var.raw_expire_after_days]
}

run "rejects_a_fraction_of_days_until_expiry" {
  command = plan
  variables {
    raw_expire_after_days = 365.5
  }
  expect_failures = [var.raw_expire_after_days]
}

run "rejects_expiry_on_the_day_of_glacier" {
  command = plan
  variables {
    raw_expire_after_days  = 90
    raw_glacier_after_days = 90
  }
  expect_failures = [var.raw_expire_after_days]
}

run "rejects_expiry_before_glacier" {
  command = plan
  variables {
    raw_expire_after_days = 60
  }
  expect_failures = [var.raw_expire_after_days]
}

run "rejects_days_until_results_expire_below_1" {
  command = plan
  variables {
    athena_results_expire_days = 0
  }
  expect_failures = [var.athena_results_expire_days]
}

run "rejects_days_until_results_expire_above_365" {
  command = plan
  variables {
    athena_results_expire_days = 366
  }
  expect_failures = [var.athena_results_expire_days]
}

run "rejects_a_fraction_of_days_until_results_expire" {
  command = plan
  variables {
    athena_results_expire_days = 1.5
  }
  expect_failures = [var.athena_results_expire_days]
}
