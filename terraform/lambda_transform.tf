# The transform function: raw files, announced by S3 through a queue, become trusted tables.

locals {
  # What both functions are told about the lake.
  lambda_environment = {
    WAREHOUSE           = local.lake_uri
    GLUE_CATALOG_PREFIX = local.catalog_prefix
    LOCK_TABLE          = aws_dynamodb_table.table_locks.name
    RAW_PREFIX          = local.raw_prefix
    LOG_LEVEL           = "INFO"
  }

  # A file holds at most firehose_buffer_size_mb of JSON, ten of them are one invocation.
  transform_timeout_seconds = 300
}

# Messages hold names of objects and nothing of what is in them, so that SQS's own key will do.
resource "aws_sqs_queue" "transform" {
  name                    = local.transform_name
  sqs_managed_sse_enabled = true
  # Lambda asks for six times the timeout: a message must not come back while an invocation that
  # has it is still being retried.
  visibility_timeout_seconds = 6 * local.transform_timeout_seconds
  # Four days, which is longer than a weekend.
  message_retention_seconds = 345600
  # Waiting for a table's lock counts as a failed try, so there are more than the usual three.
  redrive_policy = jsonencode({
    deadLetterTargetArn = aws_sqs_queue.transform_dlq.arn
    maxReceiveCount     = 5
  })
}

resource "aws_sqs_queue" "transform_dlq" {
  name                      = "${local.transform_name}-dlq"
  sqs_managed_sse_enabled   = true
  message_retention_seconds = 1209600 # 14 days, all that SQS offers
}

resource "aws_sqs_queue_redrive_allow_policy" "transform_dlq" {
  queue_url = aws_sqs_queue.transform_dlq.id
  redrive_allow_policy = jsonencode({
    redrivePermission = "byQueue"
    sourceQueueArns   = [aws_sqs_queue.transform.arn]
  })
}

data "aws_iam_policy_document" "transform_queue" {
  statement {
    sid       = "LakeAnnouncesObjects"
    actions   = ["sqs:SendMessage"]
    resources = [aws_sqs_queue.transform.arn]
    principals {
      type        = "Service"
      identifiers = ["s3.amazonaws.com"]
    }
    condition {
      test     = "ArnEquals"
      variable = "aws:SourceArn"
      values   = [aws_s3_bucket.this["data_lake"].arn]
    }
    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [local.account_id]
    }
  }
  statement {
    sid       = "DenyInsecureTransport"
    effect    = "Deny"
    actions   = ["sqs:*"]
    resources = [aws_sqs_queue.transform.arn]
    principals {
      type        = "*"
      identifiers = ["*"]
    }
    condition {
      test     = "Bool"
      variable = "aws:SecureTransport"
      values   = ["false"]
    }
  }
}

resource "aws_sqs_queue_policy" "transform" {
  queue_url = aws_sqs_queue.transform.id
  policy    = data.aws_iam_policy_document.transform_queue.json
}

# One writer for each table at a time: a function takes the table's item with a condition and
# gives it back. expires_at frees what a function that died has left; DynamoDB's TTL, which may
# take two days, only tidies up, and the condition looks at the time itself.
resource "aws_dynamodb_table" "table_locks" {
  name         = "${local.name}-table-locks"
  billing_mode = "PAY_PER_REQUEST"
  hash_key     = "table_id"

  attribute {
    name = "table_id"
    type = "S"
  }
  ttl {
    attribute_name = "expires_at"
    enabled        = true
  }
  server_side_encryption {
    enabled     = true
    kms_key_arn = local.data_key_arn
  }
}

resource "aws_lambda_function" "transform" {
  function_name = local.transform_name
  description   = "Applies raw change files to the trusted Iceberg tables"
  role          = aws_iam_role.lambda_transform.arn
  # arm64 is a fifth cheaper, and 3.13 the first on Amazon Linux 2023 whose C library pyarrow's
  # wheels accept (3.11 is on Amazon Linux 2).
  runtime          = "python3.13"
  architectures    = ["arm64"]
  handler          = "lambda_function.lambda_handler"
  s3_bucket        = aws_s3_object.lambda_package["transform"].bucket
  s3_key           = aws_s3_object.lambda_package["transform"].key
  source_code_hash = local.lambda_source_hashes["transform"]
  memory_size      = var.transform_memory_mb
  timeout          = local.transform_timeout_seconds
  kms_key_arn      = local.data_key_arn

  # Room for DuckDB to spill what doesn't fit into memory.
  ephemeral_storage {
    size = 1024
  }
  environment {
    # How DMS was told to write: where it cuts values off, and whether the old key of an update is told.
    variables = merge(local.lambda_environment, {
      LOB_BYTES_MAX    = tostring(local.dms_lob_kb_max * 1024)
      DMS_BEFORE_IMAGE = local.dms_task_settings.BeforeImageSettings.EnableBeforeImage ? local.dms_task_settings.BeforeImageSettings.FieldName : ""
    })
  }
  tracing_config {
    mode = "Active"
  }
  logging_config {
    log_format = "JSON"
    log_group  = aws_cloudwatch_log_group.this["transform"].name
  }

  depends_on = [aws_iam_role_policy.lambda_transform]
}

resource "aws_lambda_event_source_mapping" "transform" {
  event_source_arn = aws_sqs_queue.transform.arn
  function_name    = aws_lambda_function.transform.arn
  # Few, large commits: Iceberg keeps a snapshot of each.
  batch_size                         = 10
  maximum_batching_window_in_seconds = 30
  # Only the messages that failed come again.
  function_response_types = ["ReportBatchItemFailures"]
  # Here and not as reserved concurrency, which would make SQS run into throttles and count them
  # as failed tries.
  scaling_config {
    maximum_concurrency = var.transform_max_concurrency
  }
}
