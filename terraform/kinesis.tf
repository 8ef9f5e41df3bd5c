# The stream between DMS and Firehose.

resource "aws_kinesis_stream" "cdc" {
  name             = "${local.name}-cdc"
  shard_count      = var.kinesis_stream_mode == "PROVISIONED" ? var.kinesis_shards : null
  retention_period = var.kinesis_retention_hours
  encryption_type  = "KMS"
  kms_key_id       = coalesce(local.data_key_arn, "alias/aws/kinesis")

  # No shard-level metrics: they are billed one by one, and the alarms read the stream's own.
  stream_mode_details {
    stream_mode = var.kinesis_stream_mode
  }
}
