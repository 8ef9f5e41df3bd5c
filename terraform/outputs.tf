# What deployment scripts, smartstream aws and people need to find what was made.
#
# Where it is

output "account_id" {
  description = "The AWS account that the stack is in."
  value       = local.account_id
}

output "region" {
  description = "The AWS region that the stack is in."
  value       = var.region
}

output "name_prefix" {
  description = "What every name of the stack begins with."
  value       = local.name
}

# Network

output "vpc_id" {
  description = "The VPC of the source and of DMS."
  value       = aws_vpc.this.id
}

output "private_subnet_ids" {
  description = "The subnets without a public address, one in each zone."
  value       = aws_subnet.private[*].id
}

output "public_subnet_ids" {
  description = "The subnets of the NAT gateway; none with egress_mode vpc_endpoints."
  value       = aws_subnet.public[*].id
}

output "nat_public_ip" {
  description = "The address that DMS has on the internet; null with egress_mode vpc_endpoints."
  value       = one(aws_eip.nat[*].public_ip)
}

output "rds_security_group_id" {
  description = "The security group of the database: give a bastion a rule in it to reach PostgreSQL."
  value       = aws_security_group.rds.id
}

output "dms_security_group_id" {
  description = "The security group of the replication instance."
  value       = aws_security_group.dms.id
}

# The lake

output "data_lake_bucket" {
  description = "The bucket with the raw, trusted, quarantine and analytics zones."
  value       = aws_s3_bucket.this["data_lake"].id
}

output "data_lake_bucket_arn" {
  description = "The lake bucket's ARN, for policies of those who read it."
  value       = aws_s3_bucket.this["data_lake"].arn
}

output "raw_s3_uri" {
  description = "Where Firehose delivers the changes as DMS wrote them."
  value       = "s3://${aws_s3_bucket.this["data_lake"].id}/${local.raw_prefix}/"
}

output "trusted_s3_uri" {
  description = "Where the Iceberg tables are that equal the source's."
  value       = "s3://${aws_s3_bucket.this["data_lake"].id}/${local.trusted_prefix}/"
}

output "analytics_s3_uri" {
  description = "Where the ML function writes its results."
  value       = "s3://${aws_s3_bucket.this["data_lake"].id}/${local.analytics_prefix}/"
}

output "athena_results_bucket" {
  description = "The bucket with the results of Athena's queries."
  value       = aws_s3_bucket.this["athena_results"].id
}

# The source

output "rds_endpoint" {
  description = "The database's host and port, reachable inside the VPC only."
  value       = aws_db_instance.source.endpoint
}

output "rds_database" {
  description = "The database's name."
  value       = aws_db_instance.source.db_name
}

output "rds_master_secret_arn" {
  description = "The secret with the master user's password, which RDS made and rotates."
  value       = try(aws_db_instance.source.master_user_secret[0].secret_arn, null)
}

output "dms_source_secret_arn" {
  description = "The secret that DMS logs in with: the user dms_replication and dms_source_password."
  value       = aws_secretsmanager_secret.dms_source.arn
}

# Capture and delivery

output "kinesis_stream_name" {
  description = "The stream that DMS writes changes to."
  value       = aws_kinesis_stream.cdc.name
}

output "kinesis_stream_arn" {
  description = "The stream's ARN, for policies of further consumers."
  value       = aws_kinesis_stream.cdc.arn
}

output "dms_replication_instance_arn" {
  description = "The replication instance, to test connections from."
  value       = aws_dms_replication_instance.this.replication_instance_arn
}

output "dms_task_arn" {
  description = "The replication task, which dms_start_command starts."
  value       = aws_dms_replication_task.this.replication_task_arn
}

output "dms_source_endpoint_arn" {
  description = "DMS's endpoint for PostgreSQL; its connection is to be tested before the start."
  value       = aws_dms_endpoint.source.endpoint_arn
}

output "dms_target_endpoint_arn" {
  description = "DMS's endpoint for Kinesis; its connection is to be tested before the start."
  value       = aws_dms_endpoint.target.endpoint_arn
}

output "dms_start_command" {
  description = "What starts replication where smartstream isn't installed."
  value       = "aws dms start-replication-task --start-replication-task-type start-replication --replication-task-arn ${aws_dms_replication_task.this.replication_task_arn} --region ${var.region}"
}

output "firehose_name" {
  description = "The delivery stream from Kinesis to the raw zone."
  value       = aws_kinesis_firehose_delivery_stream.raw.name
}

# Processing

output "transform_function_name" {
  description = "The function that turns raw files into tables."
  value       = aws_lambda_function.transform.function_name
}

output "transform_queue_url" {
  description = "The queue of raw files that wait for the transform."
  value       = aws_sqs_queue.transform.url
}

output "transform_dlq_url" {
  description = "The queue of raw files that the transform gave up on; it should be empty."
  value       = aws_sqs_queue.transform_dlq.url
}

output "table_lock_table" {
  description = "The DynamoDB table with a lock for each trusted table that is being written."
  value       = aws_dynamodb_table.table_locks.name
}

output "ml_function_name" {
  description = "The function that computes predictions on schedule."
  value       = aws_lambda_function.ml.function_name
}

output "ml_schedule_arn" {
  description = "The schedule of the ML function."
  value       = aws_scheduler_schedule.ml.arn
}

# Catalogue and queries

output "glue_databases" {
  description = "The databases of the raw, trusted, quarantine and analytics zones, by zone."
  value       = { for zone, database in aws_glue_catalog_database.zone : zone => database.name }
}

output "glue_crawlers" {
  description = "The crawlers of the trusted and analytics zones, to start by hand."
  value       = [for crawler in aws_glue_crawler.zone : crawler.name]
}

output "athena_workgroup" {
  description = "The workgroup to query in: it limits what a query reads and encrypts its result."
  value       = aws_athena_workgroup.this.name
}

# Operation

output "sns_topic_arn" {
  description = "The topic that all alarms go to; subscribe to it whatever should hear of them."
  value       = aws_sns_topic.alerts.arn
}

output "dashboard_name" {
  description = "The CloudWatch dashboard of the pipeline."
  value       = aws_cloudwatch_dashboard.this.dashboard_name
}

output "composite_alarm_arn" {
  description = "The one alarm that says whether the pipeline is well."
  value       = aws_cloudwatch_composite_alarm.pipeline.arn
}
