# The profiles of examples/, each planned with the values of its file. (Terraform can't read
# another file here; the Python tests compare the two.)

mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  dms_source_password = "made-up-for-tests"
}

run "profile_dev" {
  command = plan

  variables {
    env                        = "dev"
    egress_mode                = "vpc_endpoints"
    enable_flow_logs           = false
    force_destroy_buckets      = true
    db_deletion_protection     = false
    db_backup_retention_days   = 1
    raw_glacier_after_days     = 30
    raw_expire_after_days      = 60
    athena_results_expire_days = 1
    kinesis_shards             = 1
    log_retention_days         = 3
    athena_scan_limit_mb       = 1024
  }
  assert {
    condition     = output.name_prefix == "smartstream-dev"
    error_message = "Names begin with smartstream-dev; planned: ${output.name_prefix}."
  }
  assert {
    condition     = aws_s3_bucket.this["data_lake"].force_destroy && !aws_db_instance.source.deletion_protection
    error_message = "Everything can be destroyed."
  }
  assert {
    condition     = length(aws_nat_gateway.this) == 0
    error_message = "No NAT gateway runs while nobody works."
  }
}

run "profile_prod" {
  command = plan

  variables {
    env                         = "prod"
    az_count                    = 3
    egress_mode                 = "vpc_endpoints"
    enable_flow_logs            = true
    use_customer_managed_key    = true
    force_destroy_buckets       = false
    raw_glacier_after_days      = 180
    raw_expire_after_days       = 1095
    athena_results_expire_days  = 30
    db_instance_class           = "db.m6g.large"
    db_allocated_storage_gb     = 100
    db_max_allocated_storage_gb = 1000
    db_multi_az                 = true
    db_deletion_protection      = true
    db_backup_retention_days    = 35
    kinesis_shards              = 4
    kinesis_retention_hours     = 168
    dms_instance_class          = "dms.r6i.large"
    dms_multi_az                = true
    transform_memory_mb         = 2048
    transform_max_concurrency   = 20
    ml_memory_mb                = 2048
    log_retention_days          = 365
    athena_scan_limit_mb        = 102400
    alarm_email                 = "data-alarms@example.org"
  }
  assert {
    condition     = aws_db_instance.source.multi_az && aws_dms_replication_instance.this.multi_az
    error_message = "Source and capture survive the loss of a zone."
  }
  assert {
    condition     = aws_db_instance.source.deletion_protection && !aws_db_instance.source.skip_final_snapshot
    error_message = "The source can't be deleted without a trace."
  }
  assert {
    condition     = !anytrue([for bucket in aws_s3_bucket.this : bucket.force_destroy])
    error_message = "Buckets with files in them stay."
  }
  assert {
    condition     = length(aws_kms_key.data) == 1
    error_message = "There is a key of the stack's own."
  }
  assert {
    condition     = length(aws_nat_gateway.this) == 0
    error_message = "The VPC has no way to the internet."
  }
  assert {
    condition     = length(aws_sns_topic_subscription.email) == 1
    error_message = "Somebody is told of alarms."
  }
}

run "profile_low_cost" {
  command = plan

  variables {
    env                              = "test"
    egress_mode                      = "vpc_endpoints"
    az_count                         = 2
    enable_flow_logs                 = false
    kinesis_shards                   = 1
    kinesis_retention_hours          = 24
    db_instance_class                = "db.t4g.micro"
    db_allocated_storage_gb          = 20
    db_max_allocated_storage_gb      = 0
    db_multi_az                      = false
    db_backup_retention_days         = 1
    dms_instance_class               = "dms.t3.micro"
    dms_multi_az                     = false
    crawler_schedule                 = null
    firehose_buffer_size_mb          = 128
    firehose_buffer_interval_seconds = 900
    ml_schedule_expression           = "rate(1 day)"
    raw_glacier_after_days           = 30
    raw_expire_after_days            = 120
    athena_results_expire_days       = 1
    athena_scan_limit_mb             = 1024
    log_retention_days               = 3
  }
  assert {
    condition     = length(aws_nat_gateway.this) == 0
    error_message = "The largest cost is gone."
  }
  assert {
    condition     = aws_kinesis_stream.cdc.shard_count == 1
    error_message = "The stream has one shard."
  }
  assert {
    condition     = alltrue([for crawler in aws_glue_crawler.zone : crawler.schedule == null])
    error_message = "Crawlers run by hand only."
  }
  assert {
    condition     = length(aws_flow_log.this) == 0
    error_message = "Traffic isn't logged."
  }
}
