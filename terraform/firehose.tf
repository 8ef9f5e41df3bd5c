# Firehose: from the stream to raw/ in the data lake.

locals {
  raw_suffix = ".json.gz"

  # DMS writes "" for the schema of its own tables, and control records may lack a name: an empty
  # partition would put a record among the failed ones. (jq's // only replaces null and false.)
  partition_query = join("", ["{", join(",", [
    for key, field in { schema = "schema-name", table = "table-name" } :
    "${key}:(if (.metadata.\"${field}\" == null) or (.metadata.\"${field}\" == \"\") then \"_none\" else .metadata.\"${field}\" end)"
  ]), "}"])
}

resource "aws_cloudwatch_log_stream" "firehose" {
  name           = "S3Delivery"
  log_group_name = aws_cloudwatch_log_group.this["firehose"].name
}

resource "aws_kinesis_firehose_delivery_stream" "raw" {
  name        = local.firehose_name
  destination = "extended_s3"

  # Firehose begins at the stream's newest record: what was written before it existed, it never
  # delivers. So the replication task depends on this resource (dms.tf), and replacing it while
  # the task runs loses what comes in between: stop the task first.
  kinesis_source_configuration {
    kinesis_stream_arn = aws_kinesis_stream.cdc.arn
    role_arn           = aws_iam_role.firehose.arn
  }

  extended_s3_configuration {
    role_arn   = aws_iam_role.firehose.arn
    bucket_arn = aws_s3_bucket.this["data_lake"].arn

    prefix              = "${local.raw_prefix}/schema=!{partitionKeyFromQuery:schema}/table=!{partitionKeyFromQuery:table}/dt=!{timestamp:yyyy-MM-dd}/"
    error_output_prefix = "${local.errors_prefix}/!{firehose:error-output-type}/dt=!{timestamp:yyyy-MM-dd}/"
    buffering_size      = var.firehose_buffer_size_mb
    buffering_interval  = var.firehose_buffer_interval_seconds
    compression_format  = "GZIP"
    file_extension      = local.raw_suffix

    # At most 500 partitions (schema, table, day) at a time; beyond that records go to the error
    # prefix, and the firehose_partitions alarm says so.
    dynamic_partitioning_configuration {
      enabled        = true
      retry_duration = 300
    }
    # DMS writes one record a message, with a newline (json-unformatted): there is nothing to take
    # apart, and another newline would put an empty line between the records.
    processing_configuration {
      enabled = true
      processors {
        type = "MetadataExtraction"
        parameters {
          parameter_name  = "JsonParsingEngine"
          parameter_value = "JQ-1.6"
        }
        parameters {
          parameter_name  = "MetadataExtractionQuery"
          parameter_value = local.partition_query
        }
      }
    }

    cloudwatch_logging_options {
      enabled         = true
      log_group_name  = aws_cloudwatch_log_group.this["firehose"].name
      log_stream_name = aws_cloudwatch_log_stream.firehose.name
    }
  }

  depends_on = [aws_iam_role_policy.firehose]
}
