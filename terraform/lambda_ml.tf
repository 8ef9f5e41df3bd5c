# The ML function: reads trusted tables on a schedule and writes to the analytics zone.

# Takes what the scheduler couldn't hand over, and what the function failed at.
resource "aws_sqs_queue" "ml_dlq" {
  name                      = "${local.ml_name}-dlq"
  sqs_managed_sse_enabled   = true
  message_retention_seconds = 1209600 # 14 days, all that SQS offers
}

resource "aws_lambda_function" "ml" {
  function_name    = local.ml_name
  description      = "Scores trusted tables into the analytics zone"
  role             = aws_iam_role.lambda_ml.arn
  runtime          = "python3.13"
  architectures    = ["arm64"]
  handler          = "lambda_function.lambda_handler"
  s3_bucket        = aws_s3_object.lambda_package["ml"].bucket
  s3_key           = aws_s3_object.lambda_package["ml"].key
  source_code_hash = local.lambda_source_hashes["ml"]
  memory_size      = var.ml_memory_mb
  timeout          = 300
  kms_key_arn      = local.data_key_arn

  environment {
    variables = local.lambda_environment
  }
  dead_letter_config {
    target_arn = aws_sqs_queue.ml_dlq.arn
  }
  tracing_config {
    mode = "Active"
  }
  logging_config {
    log_format = "JSON"
    log_group  = aws_cloudwatch_log_group.this["ml"].name
  }

  depends_on = [aws_iam_role_policy.lambda_ml]
}

# One more try and not the default two: the next run does the same work anyway.
resource "aws_lambda_function_event_invoke_config" "ml" {
  function_name                = aws_lambda_function.ml.function_name
  maximum_retry_attempts       = 1
  maximum_event_age_in_seconds = 3600
}

# A group of our own, so that the role below can be bound to it.
resource "aws_scheduler_schedule_group" "this" {
  name = local.name
}

resource "aws_scheduler_schedule" "ml" {
  name                         = local.ml_name
  description                  = "Runs the ML function"
  group_name                   = aws_scheduler_schedule_group.this.name
  schedule_expression          = var.ml_schedule_expression
  schedule_expression_timezone = "UTC"
  kms_key_arn                  = local.data_key_arn

  flexible_time_window {
    mode = "OFF"
  }
  target {
    arn      = aws_lambda_function.ml.arn
    role_arn = aws_iam_role.scheduler.arn
    retry_policy {
      maximum_retry_attempts       = 2
      maximum_event_age_in_seconds = 3600
    }
    dead_letter_config {
      arn = aws_sqs_queue.ml_dlq.arn
    }
  }

  depends_on = [aws_iam_role_policy.scheduler]
}
