# Change data capture and the stream it writes to.
# One run for each way to be wrong, and one for the values just inside.

mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  dms_source_password = "made-up-for-tests"
}

run "accepts_the_smallest_capture" {
  command = plan
  variables {
    kinesis_stream_mode     = "PROVISIONED"
    kinesis_shards          = 1
    kinesis_retention_hours = 24
    dms_instance_class      = "dms.t3.micro"
    dms_engine_version      = "3.5.4"
    dms_source_schemas      = ["a"]
    dms_source_password     = "sixteen-letters-"
  }
}

run "accepts_the_largest_capture" {
  command = plan
  variables {
    kinesis_stream_mode     = "ON_DEMAND"
    kinesis_shards          = 200
    kinesis_retention_hours = 8760
    dms_instance_class      = "dms.r6i.24xlarge"
    dms_engine_version      = "3.7.0"
    dms_source_schemas      = [for i in range(50) : "s${i}"]
    dms_source_password     = join("", [for i in range(8) : "aZ09!#$*()_.~^=-"])
  }
}

run "accepts_postgresql_17_with_dms_3_6_1" {
  command = plan
  variables {
    db_engine_version  = "17.2"
    dms_engine_version = "3.6.1"
  }
}

run "accepts_postgresql_16_with_dms_3_6_0" {
  command = plan
  variables {
    db_engine_version  = "16"
    dms_engine_version = "3.6.0"
  }
}

run "accepts_the_longest_schema_name" {
  command = plan
  variables {
    dms_source_schemas       = [format("_%062d", 0), "public"]
    dms_multi_az             = true
    dms_create_account_roles = false
    dms_start_task           = true
  }
}

run "rejects_an_unknown_stream_mode" {
  command = plan
  variables {
    kinesis_stream_mode = "on-demand"
  }
  expect_failures = [var.kinesis_stream_mode]
}

run "rejects_shards_below_1" {
  command = plan
  variables {
    kinesis_shards = 0
  }
  expect_failures = [var.kinesis_shards]
}

run "rejects_shards_above_200" {
  command = plan
  variables {
    kinesis_shards = 201
  }
  expect_failures = [var.kinesis_shards]
}

run "rejects_a_fraction_of_shards" {
  command = plan
  variables {
    kinesis_shards = 1.5
  }
  expect_failures = [var.kinesis_shards]
}

run "rejects_hours_of_retention_below_24" {
  command = plan
  variables {
    kinesis_retention_hours = 23
  }
  expect_failures = [var.kinesis_retention_hours]
}

run "rejects_hours_of_retention_above_8760" {
  command = plan
  variables {
    kinesis_retention_hours = 8761
  }
  expect_failures = [var.kinesis_retention_hours]
}

run "rejects_a_fraction_of_hours_of_retention" {
  command = plan
  variables {
    kinesis_retention_hours = 24.5
  }
  expect_failures = [var.kinesis_retention_hours]
}

run "rejects_a_replication_instance_class_without_dms" {
  command = plan
  variables {
    dms_instance_class = "t3.micro"
  }
  expect_failures = [var.dms_instance_class]
}

run "rejects_a_replication_instance_class_of_rds" {
  command = plan
  variables {
    dms_instance_class = "db.t3.micro"
  }
  expect_failures = [var.dms_instance_class]
}

run "rejects_an_unknown_size_of_replication_instance" {
  command = plan
  variables {
    dms_instance_class = "dms.t3.nano"
  }
  expect_failures = [var.dms_instance_class]
}

run "rejects_dms_3_5_3" {
  command = plan
  variables {
    dms_engine_version = "3.5.3"
  }
  expect_failures = [var.dms_engine_version]
}

run "rejects_a_dms_version_of_two_parts" {
  command = plan
  variables {
    dms_engine_version = "3.6"
  }
  expect_failures = [var.dms_engine_version]
}

run "rejects_dms_4" {
  command = plan
  variables {
    dms_engine_version = "4.0.0"
  }
  expect_failures = [var.dms_engine_version]
}

run "rejects_postgresql_17_with_dms_3_6_0" {
  command = plan
  variables {
    dms_engine_version = "3.6.0"
    db_engine_version  = "17"
  }
  expect_failures = [var.dms_engine_version]
}

run "rejects_postgresql_17_with_dms_3_5_4" {
  command = plan
  variables {
    dms_engine_version = "3.5.4"
    db_engine_version  = "17.2"
  }
  expect_failures = [var.dms_engine_version]
}

run "rejects_no_schemas" {
  command = plan
  variables {
    dms_source_schemas = []
  }
  expect_failures = [var.dms_source_schemas]
}

run "rejects_fifty_one_schemas" {
  command = plan
  variables {
    dms_source_schemas = [for i in range(51) : "s${i}"]
  }
  expect_failures = [var.dms_source_schemas]
}

run "rejects_a_schema_named_twice" {
  command = plan
  variables {
    dms_source_schemas = ["public", "shop", "public"]
  }
  expect_failures = [var.dms_source_schemas]
}

run "rejects_a_pattern_for_a_schema" {
  command = plan
  variables {
    dms_source_schemas = ["sales%"]
  }
  expect_failures = [var.dms_source_schemas]
}

run "rejects_an_upper_case_schema" {
  command = plan
  variables {
    dms_source_schemas = ["Sales"]
  }
  expect_failures = [var.dms_source_schemas]
}

run "rejects_a_schema_name_of_64_letters" {
  command = plan
  variables {
    dms_source_schemas = [format("a%063d", 0)]
  }
  expect_failures = [var.dms_source_schemas]
}

run "rejects_an_empty_schema_name" {
  command = plan
  variables {
    dms_source_schemas = [""]
  }
  expect_failures = [var.dms_source_schemas]
}

run "rejects_a_schema_that_is_null" {
  command = plan
  variables {
    dms_source_schemas = [null]
  }
  expect_failures = [var.dms_source_schemas]
}

run "rejects_a_schema_of_postgresql_itself" {
  command = plan
  variables {
    dms_source_schemas = ["pg_catalog"]
  }
  expect_failures = [var.dms_source_schemas]
}

run "rejects_the_information_schema" {
  command = plan
  variables {
    dms_source_schemas = ["information_schema"]
  }
  expect_failures = [var.dms_source_schemas]
}

run "rejects_a_password_of_15_letters" {
  command = plan
  variables {
    dms_source_password = "fifteen-letters"
  }
  expect_failures = [var.dms_source_password]
}

run "rejects_a_password_of_129_letters" {
  command = plan
  variables {
    dms_source_password = join("", [for i in range(129) : "a"])
  }
  expect_failures = [var.dms_source_password]
}

run "rejects_a_password_with_a_percent_sign" {
  command = plan
  variables {
    dms_source_password = "sixteen%letters-"
  }
  expect_failures = [var.dms_source_password]
}

run "rejects_a_password_with_a_semicolon" {
  command = plan
  variables {
    dms_source_password = "sixteen;letters-"
  }
  expect_failures = [var.dms_source_password]
}

run "rejects_a_password_with_a_plus_sign" {
  command = plan
  variables {
    dms_source_password = "sixteen+letters-"
  }
  expect_failures = [var.dms_source_password]
}

run "rejects_a_password_with_a_space" {
  command = plan
  variables {
    dms_source_password = "sixteen letters-"
  }
  expect_failures = [var.dms_source_password]
}

run "rejects_a_password_with_a_quote" {
  command = plan
  variables {
    dms_source_password = "sixteen\"letters-"
  }
  expect_failures = [var.dms_source_password]
}

run "rejects_a_password_with_an_umlaut" {
  command = plan
  variables {
    dms_source_password = "sixteen-lätters-"
  }
  expect_failures = [var.dms_source_password]
}
