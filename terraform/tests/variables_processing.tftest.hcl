# Delivery, the Lambda functions and when they run.
# One run for each way to be wrong, and one for the values just inside.

mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  dms_source_password = "made-up-for-tests"
}

run "accepts_the_smallest_functions" {
  command = plan
  variables {
    firehose_buffer_size_mb          = 64
    firehose_buffer_interval_seconds = 60
    transform_memory_mb              = 256
    transform_max_concurrency        = 2
    ml_memory_mb                     = 256
    ml_schedule_expression           = "rate(1 minute)"
  }
}

run "accepts_the_largest_functions" {
  command = plan
  variables {
    firehose_buffer_size_mb          = 128
    firehose_buffer_interval_seconds = 900
    transform_memory_mb              = 10240
    transform_max_concurrency        = 1000
    ml_memory_mb                     = 10240
    ml_schedule_expression           = "rate(365 days)"
  }
}

run "accepts_two_hours" {
  command = plan
  variables {
    ml_schedule_expression = "rate(2 hours)"
  }
}

run "accepts_ten_minutes" {
  command = plan
  variables {
    ml_schedule_expression = "rate(10 minutes)"
  }
}

run "accepts_one_day" {
  command = plan
  variables {
    ml_schedule_expression = "rate(1 day)"
  }
}

run "accepts_cron_at_its_smallest" {
  command = plan
  variables {
    ml_schedule_expression = "cron(0 0 1 1 ? 1970)"
  }
}

run "accepts_cron_at_its_largest" {
  command = plan
  variables {
    ml_schedule_expression = "cron(59 23 31 12 ? 2199)"
  }
}

run "accepts_cron_with_names_lists_and_steps" {
  command = plan
  variables {
    ml_schedule_expression = "cron(0/15 8-17 ? JAN,MAR-JUN MON-FRI 2026-2030)"
  }
}

run "accepts_the_last_weekday_of_the_month" {
  command = plan
  variables {
    ml_schedule_expression = "cron(0 6 LW * ? *)"
  }
}

run "accepts_the_third_friday" {
  command = plan
  variables {
    ml_schedule_expression = "cron(0 6 ? * FRI#3 *)"
  }
}

run "rejects_mb_of_buffer_below_64" {
  command = plan
  variables {
    firehose_buffer_size_mb = 63
  }
  expect_failures = [var.firehose_buffer_size_mb]
}

run "rejects_mb_of_buffer_above_128" {
  command = plan
  variables {
    firehose_buffer_size_mb = 129
  }
  expect_failures = [var.firehose_buffer_size_mb]
}

run "rejects_a_fraction_of_mb_of_buffer" {
  command = plan
  variables {
    firehose_buffer_size_mb = 64.5
  }
  expect_failures = [var.firehose_buffer_size_mb]
}

run "rejects_seconds_of_buffer_below_60" {
  command = plan
  variables {
    firehose_buffer_interval_seconds = 59
  }
  expect_failures = [var.firehose_buffer_interval_seconds]
}

run "rejects_seconds_of_buffer_above_900" {
  command = plan
  variables {
    firehose_buffer_interval_seconds = 901
  }
  expect_failures = [var.firehose_buffer_interval_seconds]
}

run "rejects_a_fraction_of_seconds_of_buffer" {
  command = plan
  variables {
    firehose_buffer_interval_seconds = 60.5
  }
  expect_failures = [var.firehose_buffer_interval_seconds]
}

run "rejects_delivery_without_buffering" {
  command = plan
  variables {
    firehose_buffer_interval_seconds = 0
  }
  expect_failures = [var.firehose_buffer_interval_seconds]
}

run "rejects_mb_of_transform_memory_below_256" {
  command = plan
  variables {
    transform_memory_mb = 255
  }
  expect_failures = [var.transform_memory_mb]
}

run "rejects_mb_of_transform_memory_above_10240" {
  command = plan
  variables {
    transform_memory_mb = 10241
  }
  expect_failures = [var.transform_memory_mb]
}

run "rejects_a_fraction_of_mb_of_transform_memory" {
  command = plan
  variables {
    transform_memory_mb = 256.5
  }
  expect_failures = [var.transform_memory_mb]
}

run "rejects_transforms_at_once_below_2" {
  command = plan
  variables {
    transform_max_concurrency = 1
  }
  expect_failures = [var.transform_max_concurrency]
}

run "rejects_transforms_at_once_above_1000" {
  command = plan
  variables {
    transform_max_concurrency = 1001
  }
  expect_failures = [var.transform_max_concurrency]
}

run "rejects_a_fraction_of_transforms_at_once" {
  command = plan
  variables {
    transform_max_concurrency = 2.5
  }
  expect_failures = [var.transform_max_concurrency]
}

run "rejects_mb_of_ml_memory_below_256" {
  command = plan
  variables {
    ml_memory_mb = 255
  }
  expect_failures = [var.ml_memory_mb]
}

run "rejects_mb_of_ml_memory_above_10240" {
  command = plan
  variables {
    ml_memory_mb = 10241
  }
  expect_failures = [var.ml_memory_mb]
}

run "rejects_a_fraction_of_mb_of_ml_memory" {
  command = plan
  variables {
    ml_memory_mb = 256.5
  }
  expect_failures = [var.ml_memory_mb]
}

run "rejects_one_in_the_plural" {
  command = plan
  variables {
    ml_schedule_expression = "rate(1 hours)"
  }
  expect_failures = [var.ml_schedule_expression]
}

run "rejects_many_in_the_singular" {
  command = plan
  variables {
    ml_schedule_expression = "rate(2 hour)"
  }
  expect_failures = [var.ml_schedule_expression]
}

run "rejects_ten_in_the_singular" {
  command = plan
  variables {
    ml_schedule_expression = "rate(10 minute)"
  }
  expect_failures = [var.ml_schedule_expression]
}

run "rejects_none_at_all" {
  command = plan
  variables {
    ml_schedule_expression = "rate(0 minutes)"
  }
  expect_failures = [var.ml_schedule_expression]
}

run "rejects_a_leading_zero" {
  command = plan
  variables {
    ml_schedule_expression = "rate(02 hours)"
  }
  expect_failures = [var.ml_schedule_expression]
}

run "rejects_a_fraction_of_hours" {
  command = plan
  variables {
    ml_schedule_expression = "rate(1.5 hours)"
  }
  expect_failures = [var.ml_schedule_expression]
}

run "rejects_an_unknown_unit" {
  command = plan
  variables {
    ml_schedule_expression = "rate(2 weeks)"
  }
  expect_failures = [var.ml_schedule_expression]
}

run "rejects_two_spaces" {
  command = plan
  variables {
    ml_schedule_expression = "rate(2  hours)"
  }
  expect_failures = [var.ml_schedule_expression]
}

run "rejects_a_rate_without_brackets" {
  command = plan
  variables {
    ml_schedule_expression = "2 hours"
  }
  expect_failures = [var.ml_schedule_expression]
}

run "rejects_one_time_only" {
  command = plan
  variables {
    ml_schedule_expression = "at(2030-01-01T00:00:00)"
  }
  expect_failures = [var.ml_schedule_expression]
}

run "rejects_cron_of_five_fields" {
  command = plan
  variables {
    ml_schedule_expression = "cron(0 3 * * ?)"
  }
  expect_failures = [var.ml_schedule_expression]
}

run "rejects_the_60th_minute" {
  command = plan
  variables {
    ml_schedule_expression = "cron(60 3 * * ? *)"
  }
  expect_failures = [var.ml_schedule_expression]
}

run "rejects_the_24th_hour" {
  command = plan
  variables {
    ml_schedule_expression = "cron(0 24 * * ? *)"
  }
  expect_failures = [var.ml_schedule_expression]
}

run "rejects_the_32nd_day" {
  command = plan
  variables {
    ml_schedule_expression = "cron(0 3 32 * ? *)"
  }
  expect_failures = [var.ml_schedule_expression]
}

run "rejects_the_13th_month" {
  command = plan
  variables {
    ml_schedule_expression = "cron(0 3 * 13 ? *)"
  }
  expect_failures = [var.ml_schedule_expression]
}

run "rejects_the_eighth_day_of_the_week" {
  command = plan
  variables {
    ml_schedule_expression = "cron(0 3 ? * 8 *)"
  }
  expect_failures = [var.ml_schedule_expression]
}

run "rejects_the_year_2200" {
  command = plan
  variables {
    ml_schedule_expression = "cron(0 3 * * ? 2200)"
  }
  expect_failures = [var.ml_schedule_expression]
}

run "rejects_a_step_of_zero" {
  command = plan
  variables {
    ml_schedule_expression = "cron(*/0 3 * * ? *)"
  }
  expect_failures = [var.ml_schedule_expression]
}

run "rejects_a_lower_case_month" {
  command = plan
  variables {
    ml_schedule_expression = "cron(0 3 * jan ? *)"
  }
  expect_failures = [var.ml_schedule_expression]
}

run "rejects_a_sixth_friday" {
  command = plan
  variables {
    ml_schedule_expression = "cron(0 3 ? * FRI#6 *)"
  }
  expect_failures = [var.ml_schedule_expression]
}

run "rejects_cron_without_a_question_mark" {
  command = plan
  variables {
    ml_schedule_expression = "cron(0 3 * * * *)"
  }
  expect_failures = [var.ml_schedule_expression]
}

run "rejects_cron_with_two_question_marks" {
  command = plan
  variables {
    ml_schedule_expression = "cron(0 3 ? * ? *)"
  }
  expect_failures = [var.ml_schedule_expression]
}
