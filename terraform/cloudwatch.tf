# Logs, alarms, the topic they are told to, and a dashboard.
#
# There is no budget alarm: what a month may cost is a number that only its owner knows. Make one
# for the tag Project in AWS Budgets; the topic below takes other publishers if they are added to
# alert_publishers.

resource "aws_cloudwatch_log_group" "this" {
  for_each = local.log_groups

  name              = each.value
  retention_in_days = var.log_retention_days
  kms_key_id        = local.data_key_arn
}

locals {
  # CloudWatch for the alarms, DMS for the end of its task.
  alert_publishers = ["cloudwatch.amazonaws.com", "dms.amazonaws.com"]
}

# CloudWatch alarms can't publish to a topic that is encrypted with AWS's own key for SNS,
# because nobody can let them use it: an encrypted topic needs a key with a policy, for a
# dollar a month. It is a key of its own, so that whoever may read alerts can't decrypt the lake.
data "aws_iam_policy_document" "alerts_key" {
  statement {
    sid       = "AccountAdministersThroughIam"
    actions   = local.key_administration
    resources = ["*"]
    principals {
      type        = "AWS"
      identifiers = ["arn:${local.partition}:iam::${local.account_id}:root"]
    }
  }
  statement {
    sid       = "PublishersOfThisAccount"
    actions   = ["kms:Decrypt", "kms:GenerateDataKey"]
    resources = ["*"]
    principals {
      type        = "Service"
      identifiers = local.alert_publishers
    }
    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [local.account_id]
    }
  }
}

resource "aws_kms_key" "alerts" {
  description             = "${local.name}: the topic of alerts"
  policy                  = data.aws_iam_policy_document.alerts_key.json
  enable_key_rotation     = true
  deletion_window_in_days = 7
}

resource "aws_kms_alias" "alerts" {
  name          = "alias/${local.name}-alerts"
  target_key_id = aws_kms_key.alerts.key_id
}

resource "aws_sns_topic" "alerts" {
  name              = "${local.name}-alerts"
  kms_master_key_id = aws_kms_key.alerts.key_id
}

data "aws_iam_policy_document" "alerts" {
  statement {
    sid       = "PublishersOfThisAccount"
    actions   = ["sns:Publish"]
    resources = [aws_sns_topic.alerts.arn]
    principals {
      type        = "Service"
      identifiers = local.alert_publishers
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
    actions   = ["sns:Publish"]
    resources = [aws_sns_topic.alerts.arn]
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

resource "aws_sns_topic_policy" "alerts" {
  arn    = aws_sns_topic.alerts.arn
  policy = data.aws_iam_policy_document.alerts.json
}

resource "aws_sns_topic_subscription" "email" {
  count = var.alarm_email == null ? 0 : 1

  topic_arn = aws_sns_topic.alerts.arn
  protocol  = "email"
  endpoint  = var.alarm_email
}

locals {
  # How many hours may pass between two runs of the ML function: from rate(…), a day for a cron
  # that names no day or month, unknown for the others. Two missed runs are overdue. CloudWatch
  # looks back a week at most, so a schedule slower than that gets no alarm instead of a false one.
  ml_rate           = try(regex("^rate\\(([0-9]+) (minute|hour|day)s?\\)$", var.ml_schedule_expression), null)
  ml_daily_cron     = can(regex("^cron\\([^ ]+ [^ ]+ [*?] [*] [*?] [*]\\)$", var.ml_schedule_expression))
  ml_interval_hours = local.ml_rate != null ? tonumber(local.ml_rate[0]) * { minute = 1 / 60, hour = 1, day = 24 }[local.ml_rate[1]] : local.ml_daily_cron ? 24 : null
  ml_overdue_hours  = try(max(2, ceil(2 * local.ml_interval_hours)), null)
  ml_is_watched     = try(local.ml_overdue_hours <= 168, false)

  dimensions = {
    stream    = { StreamName = aws_kinesis_stream.cdc.name }
    firehose  = { DeliveryStreamName = aws_kinesis_firehose_delivery_stream.raw.name }
    transform = { FunctionName = aws_lambda_function.transform.function_name }
    ml        = { FunctionName = aws_lambda_function.ml.function_name }
    database  = { DBInstanceIdentifier = aws_db_instance.source.identifier }
    # The instance is called by its name here, the task by the end of its ARN.
    task = {
      ReplicationInstanceIdentifier = aws_dms_replication_instance.this.replication_instance_id
      ReplicationTaskIdentifier     = reverse(split(":", aws_dms_replication_task.this.replication_task_arn))[0]
    }
  }

  # What silence means (treat_missing_data) is chosen for each, and "silence" says why:
  #   notBreaching  nothing to report is how it should be
  #   breaching     something that always reports doesn't: it is gone
  #   ignore        silence says nothing, so the alarm stays as it was
  alarm_defaults = {
    statistic  = "Maximum"
    comparison = "GreaterThanThreshold"
    period     = 300
    periods    = 2
    missing    = "notBreaching"
  }
  alarms = { for name, alarm in local.alarms_declared : name => merge(local.alarm_defaults, alarm) }
  alarms_declared = merge({
    rds_slot_lag = {
      namespace = "AWS/RDS", metric = "OldestReplicationSlotLag", dimensions = local.dimensions.database
      threshold = local.slot_lag_alarm_bytes
      about     = "Half of the WAL that a slot may keep back is full. Is the DMS task running? At the limit the slot is lost, and with it the place to go on from."
      silence   = "There is no slot before the task has run."
    }
    rds_free_storage = {
      namespace = "AWS/RDS", metric = "FreeStorageSpace", dimensions = local.dimensions.database
      statistic = "Minimum", comparison = "LessThanThreshold", periods = 1
      threshold = local.free_storage_alarm_byte
      about     = "A fifth of the source's disk is left. A full disk stops the source."
      missing   = "breaching"
      silence   = "An instance that runs reports every minute."
    }
    rds_cpu = {
      namespace = "AWS/RDS", metric = "CPUUtilization", dimensions = local.dimensions.database
      statistic = "Average", periods = 3
      threshold = 80
      about     = "The source is busy. A burstable class slows down once its credits are gone."
      missing   = "ignore"
      silence   = "rds_free_storage tells of an instance that is gone; one alarm is enough."
    }
    dms_source_latency = {
      namespace = "AWS/DMS", metric = "CDCLatencySource", dimensions = local.dimensions.task
      periods   = 3
      threshold = 300
      about     = "DMS reads changes five minutes late."
      missing   = "ignore"
      silence   = "A task that was not started, or stopped, reports nothing; the event subscription tells when it ends."
    }
    dms_target_latency = {
      namespace = "AWS/DMS", metric = "CDCLatencyTarget", dimensions = local.dimensions.task
      periods   = 3
      threshold = 300
      about     = "Changes reach the stream five minutes late. More than the latency at the source means that the stream is the bottleneck: more shards."
      missing   = "ignore"
      silence   = "As for dms_source_latency."
    }
    kinesis_iterator_age = {
      namespace = "AWS/Kinesis", metric = "GetRecords.IteratorAgeMilliseconds", dimensions = local.dimensions.stream
      threshold = 600000
      about     = "Firehose is ten minutes behind. What it has not read when the stream's retention ends is lost."
      missing   = "breaching"
      silence   = "Firehose asks every second, also when there is nothing: silence is nobody reading."
      periods   = 3
    }
    kinesis_throttled = {
      namespace = "AWS/Kinesis", metric = "WriteProvisionedThroughputExceeded", dimensions = local.dimensions.stream
      statistic = "Sum"
      threshold = 0
      about     = "DMS writes more than the shards take, and waits: more shards, or ON_DEMAND."
      silence   = "Nobody writes."
    }
    firehose_freshness = {
      namespace = "AWS/Firehose", metric = "DeliveryToS3.DataFreshness", dimensions = local.dimensions.firehose
      threshold = max(900, 3 * var.firehose_buffer_interval_seconds)
      about     = "The oldest record that Firehose holds has waited three times as long as it should."
      silence   = "Without records there is nothing to be fresh."
    }
    firehose_partitions = {
      namespace = "AWS/Firehose", metric = "PartitionCountExceeded", dimensions = local.dimensions.firehose
      periods   = 1
      threshold = 0
      about     = "More than 500 tables at a time: Firehose puts the records of the others under firehose-errors/."
      silence   = "Reported only when it happens."
    }
    transform_errors = {
      namespace = "AWS/Lambda", metric = "Errors", dimensions = local.dimensions.transform
      statistic = "Sum"
      threshold = 0
      about     = "The transform function crashed or ran out of time. Its messages come again; its log says why."
      silence   = "It was not called."
    }
    transform_throttles = {
      namespace = "AWS/Lambda", metric = "Throttles", dimensions = local.dimensions.transform
      statistic = "Sum"
      threshold = 0
      about     = "The account's Lambda concurrency is used up. Throttled messages count as failed tries."
      silence   = "It was not called."
    }
    transform_backlog = {
      namespace = "AWS/SQS", metric = "ApproximateAgeOfOldestMessage", dimensions = { QueueName = aws_sqs_queue.transform.name }
      threshold = 2 * aws_sqs_queue.transform.visibility_timeout_seconds
      about     = "A raw file has waited for more than two tries: the lake falls behind."
      silence   = "SQS stops reporting on a queue that nobody has used for six hours."
    }
    transform_dlq = {
      namespace = "AWS/SQS", metric = "ApproximateNumberOfMessagesVisible", dimensions = { QueueName = aws_sqs_queue.transform_dlq.name }
      periods   = 1
      threshold = 0
      about     = "A raw file was given up. It is safe in S3: find out why, then redrive the queue."
      silence   = "Nothing was ever put aside."
    }
    transform_rejected = {
      namespace = local.metric_namespace, metric = local.rejected_metric, dimensions = {}
      statistic = "Sum", periods = 1
      threshold = 0
      about     = "The transform function could not process a message, or records in it. Its log says which, and the quarantine zone holds them."
      silence   = "Reported only when it happens."
    }
    ml_errors = {
      namespace = "AWS/Lambda", metric = "Errors", dimensions = local.dimensions.ml
      statistic = "Sum", periods = 1
      threshold = 0
      about     = "The ML function failed. Its log says why."
      silence   = "It was not called; ml_overdue sees to that."
    }
    ml_dlq = {
      namespace = "AWS/SQS", metric = "ApproximateNumberOfMessagesVisible", dimensions = { QueueName = aws_sqs_queue.ml_dlq.name }
      periods   = 1
      threshold = 0
      about     = "A run of the ML function was given up."
      silence   = "Nothing was ever put aside."
    }
    }, {
    for name, watched in { ml_overdue = local.ml_is_watched } : name => {
      namespace                       = "AWS/Lambda", metric = "Invocations", dimensions = local.dimensions.ml
      statistic                       = "Sum", comparison = "LessThanThreshold", period = 3600
      periods                         = coalesce(local.ml_overdue_hours, 2)
      threshold                       = 1
      about                           = "The ML function has missed two runs."
      missing                         = "breaching"
      silence                         = "A function that is not called reports nothing, which is exactly what this is about."
    } if watched
  })

  metric_namespace = "SmartStream/${local.name}"
  rejected_metric  = "RejectedRecords"
}

resource "aws_cloudwatch_metric_alarm" "this" {
  for_each = local.alarms

  alarm_name          = "${local.name}-${replace(each.key, "_", "-")}"
  alarm_description   = "${each.value.about} (No data: ${each.value.missing}. ${each.value.silence})"
  namespace           = each.value.namespace
  metric_name         = each.value.metric
  dimensions          = each.value.dimensions
  statistic           = each.value.statistic
  comparison_operator = each.value.comparison
  threshold           = each.value.threshold
  period              = each.value.period
  evaluation_periods  = each.value.periods
  treat_missing_data  = each.value.missing
  alarm_actions       = [aws_sns_topic.alerts.arn]
}

# One light for the whole pipeline. The alarms above tell what went wrong; this one tells as well
# when all of it is right again, which no single one of them can know.
resource "aws_cloudwatch_composite_alarm" "pipeline" {
  alarm_name        = "${local.name}-pipeline-unhealthy"
  alarm_description = "One or more of the pipeline's alarms are on"
  alarm_rule        = join(" OR ", [for alarm in aws_cloudwatch_metric_alarm.this : "ALARM(\"${alarm.alarm_name}\")"])
  alarm_actions     = [aws_sns_topic.alerts.arn]
  ok_actions        = [aws_sns_topic.alerts.arn]
}

# The function logs a line with event = "rejected" and how many it rejected.
resource "aws_cloudwatch_log_metric_filter" "transform_rejected" {
  name           = "${local.name}-rejected-records"
  log_group_name = aws_cloudwatch_log_group.this["transform"].name
  pattern        = "{ $.event = \"rejected\" }"

  metric_transformation {
    name      = local.rejected_metric
    namespace = local.metric_namespace
    value     = "$.count"
  }
}

# The alarms' states on top, then a graph for each with its threshold, then the last rejections.
locals {
  alarm_names    = keys(local.alarms)
  dashboard_rows = ceil(length(local.alarm_names) / 3)
  dashboard = {
    widgets = concat(
      [{
        type = "alarm", x = 0, y = 0, width = 24, height = 3
        properties = {
          title  = "Alarms"
          alarms = [for name in local.alarm_names : aws_cloudwatch_metric_alarm.this[name].arn]
        }
      }],
      [for i, name in local.alarm_names : {
        type = "metric", x = (i % 3) * 8, y = 3 + floor(i / 3) * 5, width = 8, height = 5
        properties = {
          title  = name
          region = var.region
          period = local.alarms[name].period
          stat   = local.alarms[name].statistic
          metrics = [concat(
            [local.alarms[name].namespace, local.alarms[name].metric],
            flatten([for dimension, value in local.alarms[name].dimensions : [dimension, value]])
          )]
          annotations = { horizontal = [{ label = "alarm", value = local.alarms[name].threshold }] }
        }
      }],
      [{
        type = "log", x = 0, y = 3 + local.dashboard_rows * 5, width = 24, height = 6
        properties = {
          title  = "Rejected by the transform function"
          region = var.region
          view   = "table"
          query  = "SOURCE '${local.log_groups["transform"]}' | fields @timestamp, error, reason, message_id | filter event = 'rejected' | sort @timestamp desc | limit 50"
        }
      }]
    )
  }
}

resource "aws_cloudwatch_dashboard" "this" {
  dashboard_name = local.name
  dashboard_body = jsonencode(local.dashboard)
}
