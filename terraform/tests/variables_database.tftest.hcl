# The PostgreSQL source.
# One run for each way to be wrong, and one for the values just inside.

mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  dms_source_password = "made-up-for-tests"
}

run "accepts_the_smallest_database" {
  command = plan
  variables {
    db_engine_version           = "14"
    db_instance_class           = "db.t4g.micro"
    db_allocated_storage_gb     = 20
    db_max_allocated_storage_gb = 22
    db_name                     = "a"
    db_username                 = "b"
    db_backup_retention_days    = 1
  }
}

run "accepts_the_largest_database" {
  command = plan
  variables {
    db_engine_version           = "16.10"
    db_instance_class           = "db.r6id.32xlarge"
    db_allocated_storage_gb     = 59578
    db_max_allocated_storage_gb = 65536
    db_name                     = format("a_%061d", 0)
    db_username                 = format("b_%061d", 0)
    db_backup_retention_days    = 35
  }
}

run "accepts_a_full_disk_that_does_not_grow" {
  command = plan
  variables {
    db_allocated_storage_gb     = 65536
    db_max_allocated_storage_gb = 0
    db_engine_version           = "15"
  }
}

run "accepts_the_least_that_prod_allows" {
  command = plan
  variables {
    env                      = "prod"
    db_multi_az              = true
    db_deletion_protection   = true
    db_backup_retention_days = 7
  }
}

run "rejects_postgresql_13" {
  command = plan
  variables {
    db_engine_version = "13"
  }
  expect_failures = [var.db_engine_version]
}

run "rejects_postgresql_18" {
  command = plan
  variables {
    db_engine_version = "18"
  }
  expect_failures = [var.db_engine_version]
}

run "rejects_a_version_with_three_parts" {
  command = plan
  variables {
    db_engine_version = "16.4.1"
  }
  expect_failures = [var.db_engine_version]
}

run "rejects_a_version_with_words" {
  command = plan
  variables {
    db_engine_version = "16-latest"
  }
  expect_failures = [var.db_engine_version]
}

run "rejects_an_instance_class_without_db" {
  command = plan
  variables {
    db_instance_class = "t3.micro"
  }
  expect_failures = [var.db_instance_class]
}

run "rejects_an_unknown_size_of_instance" {
  command = plan
  variables {
    db_instance_class = "db.t3.tiny"
  }
  expect_failures = [var.db_instance_class]
}

run "rejects_an_instance_class_of_dms" {
  command = plan
  variables {
    db_instance_class = "dms.t3.micro"
  }
  expect_failures = [var.db_instance_class]
}

run "rejects_gb_of_storage_below_20" {
  command = plan
  variables {
    db_allocated_storage_gb     = 19
    db_max_allocated_storage_gb = 0
  }
  expect_failures = [var.db_allocated_storage_gb]
}

run "rejects_gb_of_storage_above_65536" {
  command = plan
  variables {
    db_allocated_storage_gb     = 65537
    db_max_allocated_storage_gb = 0
  }
  expect_failures = [var.db_allocated_storage_gb]
}

run "rejects_a_fraction_of_gb_of_storage" {
  command = plan
  variables {
    db_allocated_storage_gb     = 20.5
    db_max_allocated_storage_gb = 0
  }
  expect_failures = [var.db_allocated_storage_gb]
}

run "rejects_a_storage_limit_above_65536" {
  command = plan
  variables {
    db_max_allocated_storage_gb = 65537
  }
  expect_failures = [var.db_max_allocated_storage_gb]
}

run "rejects_a_fraction_of_storage_limit" {
  command = plan
  variables {
    db_max_allocated_storage_gb = 100.5
  }
  expect_failures = [var.db_max_allocated_storage_gb]
}

run "rejects_a_negative_storage_limit" {
  command = plan
  variables {
    db_max_allocated_storage_gb = -1
  }
  expect_failures = [var.db_max_allocated_storage_gb]
}

run "rejects_a_storage_limit_below_the_storage" {
  command = plan
  variables {
    db_max_allocated_storage_gb = 20
    db_allocated_storage_gb     = 50
  }
  expect_failures = [var.db_max_allocated_storage_gb]
}

run "rejects_a_storage_limit_less_than_a_tenth_above" {
  command = plan
  variables {
    db_max_allocated_storage_gb = 21
    db_allocated_storage_gb     = 20
  }
  expect_failures = [var.db_max_allocated_storage_gb]
}

run "rejects_an_empty_database_name" {
  command = plan
  variables {
    db_name = ""
  }
  expect_failures = [var.db_name]
}

run "rejects_a_database_name_of_64_letters" {
  command = plan
  variables {
    db_name = format("a%063d", 0)
  }
  expect_failures = [var.db_name]
}

run "rejects_a_database_name_with_a_hyphen" {
  command = plan
  variables {
    db_name = "smart-stream"
  }
  expect_failures = [var.db_name]
}

run "rejects_a_database_name_that_starts_with_a_digit" {
  command = plan
  variables {
    db_name = "1db"
  }
  expect_failures = [var.db_name]
}

run "rejects_an_upper_case_database_name" {
  command = plan
  variables {
    db_name = "Shop"
  }
  expect_failures = [var.db_name]
}

run "rejects_the_database_of_rds_itself" {
  command = plan
  variables {
    db_name = "rdsadmin"
  }
  expect_failures = [var.db_name]
}

run "rejects_a_template_for_a_database" {
  command = plan
  variables {
    db_name = "template1"
  }
  expect_failures = [var.db_name]
}

run "rejects_an_empty_user_name" {
  command = plan
  variables {
    db_username = ""
  }
  expect_failures = [var.db_username]
}

run "rejects_a_user_name_of_64_letters" {
  command = plan
  variables {
    db_username = format("a%063d", 0)
  }
  expect_failures = [var.db_username]
}

run "rejects_a_user_name_with_a_space" {
  command = plan
  variables {
    db_username = "smart stream"
  }
  expect_failures = [var.db_username]
}

run "rejects_the_user_that_everybody_guesses" {
  command = plan
  variables {
    db_username = "postgres"
  }
  expect_failures = [var.db_username]
}

run "rejects_a_user_name_that_postgresql_reserves" {
  command = plan
  variables {
    db_username = "pg_admin"
  }
  expect_failures = [var.db_username]
}

run "rejects_a_user_name_that_rds_reserves" {
  command = plan
  variables {
    db_username = "rdsadmin"
  }
  expect_failures = [var.db_username]
}

run "rejects_the_user_of_dms" {
  command = plan
  variables {
    db_username = "dms_replication"
  }
  expect_failures = [var.db_username]
}

run "rejects_one_zone_in_prod" {
  command = plan
  variables {
    db_multi_az            = false
    env                    = "prod"
    db_deletion_protection = true
  }
  expect_failures = [var.db_multi_az]
}

run "rejects_days_of_backups_below_1" {
  command = plan
  variables {
    db_backup_retention_days = 0
  }
  expect_failures = [var.db_backup_retention_days]
}

run "rejects_days_of_backups_above_35" {
  command = plan
  variables {
    db_backup_retention_days = 36
  }
  expect_failures = [var.db_backup_retention_days]
}

run "rejects_a_fraction_of_days_of_backups" {
  command = plan
  variables {
    db_backup_retention_days = 1.5
  }
  expect_failures = [var.db_backup_retention_days]
}

run "rejects_six_days_of_backups_in_prod" {
  command = plan
  variables {
    db_backup_retention_days = 6
    env                      = "prod"
    db_multi_az              = true
    db_deletion_protection   = true
  }
  expect_failures = [var.db_backup_retention_days]
}

run "rejects_an_unprotected_database_in_prod" {
  command = plan
  variables {
    db_deletion_protection = false
    env                    = "prod"
    db_multi_az            = true
  }
  expect_failures = [var.db_deletion_protection]
}
