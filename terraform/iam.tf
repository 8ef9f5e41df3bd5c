# Roles: one for each thing that acts, with the actions it needs by name and the resources by ARN.
# "*" stands only where AWS knows no resource for an action.

locals {
  lake_arn = aws_s3_bucket.this["data_lake"].arn

  # Who may assume a role, and on whose behalf: without a condition another account could have the
  # service use our role for its own purposes (the confused deputy). Where the service says which
  # resource it acts for, the role is bound to that as well.
  trusts = {
    dms = { service = "dms.${local.dns_suffix}", account = true, source_arn = null }
    # DMS reads secrets as its regional self, and Lambda runs functions, without saying on whose
    # behalf. A role can only be passed to a task or function of its own account, so there is no
    # other deputy to confuse; a condition would lock out our own.
    dms_secrets = { service = "dms.${var.region}.${local.dns_suffix}", account = false, source_arn = null }
    lambda      = { service = "lambda.amazonaws.com", account = false, source_arn = null }
    glue        = { service = "glue.amazonaws.com", account = true, source_arn = null }
    firehose = {
      service    = "firehose.amazonaws.com"
      account    = true
      source_arn = "arn:${local.partition}:firehose:${var.region}:${local.account_id}:deliverystream/${local.firehose_name}"
    }
    scheduler = {
      service    = "scheduler.amazonaws.com"
      account    = true
      source_arn = "arn:${local.partition}:scheduler:${var.region}:${local.account_id}:schedule-group/${local.name}"
    }
    flow_logs = {
      service    = "vpc-flow-logs.amazonaws.com"
      account    = true
      source_arn = "arn:${local.partition}:ec2:${var.region}:${local.account_id}:vpc-flow-log/*"
    }
  }

  # A database, its tables, and the catalogue above them, which Glue checks all three.
  glue_arn      = "arn:${local.partition}:glue:${var.region}:${local.account_id}"
  catalog_arn   = "${local.glue_arn}:catalog"
  database_arns = { for zone, database in aws_glue_catalog_database.zone : zone => database.arn }
  table_arns    = { for zone, database in aws_glue_catalog_database.zone : zone => "${local.glue_arn}:table/${database.name}/*" }
}

data "aws_iam_policy_document" "trust" {
  for_each = local.trusts

  statement {
    actions = ["sts:AssumeRole"]
    principals {
      type        = "Service"
      identifiers = [each.value.service]
    }
    dynamic "condition" {
      for_each = each.value.account ? [1] : []
      content {
        test     = "StringEquals"
        variable = "aws:SourceAccount"
        values   = [local.account_id]
      }
    }
    dynamic "condition" {
      for_each = each.value.source_arn == null ? [] : [each.value.source_arn]
      content {
        test     = "ArnLike"
        variable = "aws:SourceArn"
        values   = [condition.value]
      }
    }
  }
}

# DMS: two roles of the account. DMS looks for exactly these names, and an account has them once.
resource "aws_iam_role" "dms_vpc" {
  count = var.dms_create_account_roles ? 1 : 0

  name               = "dms-vpc-role"
  description        = "Lets DMS put its instances into VPCs of this account"
  assume_role_policy = data.aws_iam_policy_document.trust["dms"].json
}

resource "aws_iam_role_policy_attachment" "dms_vpc" {
  count = var.dms_create_account_roles ? 1 : 0

  role       = aws_iam_role.dms_vpc[0].name
  policy_arn = "arn:${local.partition}:iam::aws:policy/service-role/AmazonDMSVPCManagementRole"
}

resource "aws_iam_role" "dms_logs" {
  count = var.dms_create_account_roles ? 1 : 0

  name               = "dms-cloudwatch-logs-role"
  description        = "Lets DMS write the logs of its tasks"
  assume_role_policy = data.aws_iam_policy_document.trust["dms"].json
}

resource "aws_iam_role_policy_attachment" "dms_logs" {
  count = var.dms_create_account_roles ? 1 : 0

  role       = aws_iam_role.dms_logs[0].name
  policy_arn = "arn:${local.partition}:iam::aws:policy/service-role/AmazonDMSCloudWatchLogsRole"
}

# DMS: reads the source's login.
resource "aws_iam_role" "dms_secrets" {
  name               = "${local.name}-dms-secrets"
  description        = "DMS reads the login of the source"
  assume_role_policy = data.aws_iam_policy_document.trust["dms_secrets"].json
}

data "aws_iam_policy_document" "dms_secrets" {
  statement {
    sid       = "ReadLogin"
    actions   = ["secretsmanager:DescribeSecret", "secretsmanager:GetSecretValue"]
    resources = [aws_secretsmanager_secret.dms_source.arn]
  }
  dynamic "statement" {
    for_each = local.if_data_key
    content {
      sid       = "DecryptLogin"
      actions   = ["kms:Decrypt", "kms:DescribeKey"]
      resources = [local.data_key_arn]
      condition {
        test     = "StringEquals"
        variable = "kms:ViaService"
        values   = ["secretsmanager.${var.region}.amazonaws.com"]
      }
    }
  }
}

resource "aws_iam_role_policy" "dms_secrets" {
  name   = "read-source-login"
  role   = aws_iam_role.dms_secrets.id
  policy = data.aws_iam_policy_document.dms_secrets.json
}

# DMS: writes to the stream.
resource "aws_iam_role" "dms_kinesis" {
  name               = "${local.name}-dms-kinesis"
  description        = "DMS writes changes to the stream"
  assume_role_policy = data.aws_iam_policy_document.trust["dms"].json
}

data "aws_iam_policy_document" "dms_kinesis" {
  statement {
    sid       = "WriteStream"
    actions   = ["kinesis:DescribeStream", "kinesis:PutRecord", "kinesis:PutRecords"]
    resources = [aws_kinesis_stream.cdc.arn]
  }
  dynamic "statement" {
    for_each = local.if_data_key
    content {
      sid       = "EncryptStream"
      actions   = ["kms:GenerateDataKey"]
      resources = [local.data_key_arn]
      condition {
        test     = "StringEquals"
        variable = "kms:ViaService"
        values   = ["kinesis.${var.region}.amazonaws.com"]
      }
    }
  }
}

resource "aws_iam_role_policy" "dms_kinesis" {
  name   = "write-stream"
  role   = aws_iam_role.dms_kinesis.id
  policy = data.aws_iam_policy_document.dms_kinesis.json
}

# Firehose: from the stream to raw/ and firehose-errors/.
resource "aws_iam_role" "firehose" {
  name               = "${local.name}-firehose"
  description        = "Firehose delivers the stream to the data lake"
  assume_role_policy = data.aws_iam_policy_document.trust["firehose"].json
}

data "aws_iam_policy_document" "firehose" {
  statement {
    sid = "ReadStream"
    actions = [
      "kinesis:DescribeStream", "kinesis:DescribeStreamSummary", "kinesis:GetRecords",
      "kinesis:GetShardIterator", "kinesis:ListShards",
    ]
    resources = [aws_kinesis_stream.cdc.arn]
  }
  statement {
    sid       = "FindBucket"
    actions   = ["s3:GetBucketLocation", "s3:ListBucket", "s3:ListBucketMultipartUploads"]
    resources = [local.lake_arn]
  }
  statement {
    sid       = "WriteRaw"
    actions   = ["s3:AbortMultipartUpload", "s3:GetObject", "s3:PutObject"]
    resources = ["${local.lake_arn}/${local.raw_prefix}/*", "${local.lake_arn}/${local.errors_prefix}/*"]
  }
  statement {
    sid       = "WriteLog"
    actions   = ["logs:PutLogEvents"]
    resources = ["${aws_cloudwatch_log_group.this["firehose"].arn}:log-stream:*"]
  }
  dynamic "statement" {
    for_each = local.if_data_key
    content {
      sid       = "DecryptStreamEncryptFiles"
      actions   = ["kms:Decrypt", "kms:GenerateDataKey"]
      resources = [local.data_key_arn]
      condition {
        test     = "StringEquals"
        variable = "kms:ViaService"
        values   = ["kinesis.${var.region}.amazonaws.com", "s3.${var.region}.amazonaws.com"]
      }
    }
  }
}

resource "aws_iam_role_policy" "firehose" {
  name   = "deliver"
  role   = aws_iam_role.firehose.id
  policy = data.aws_iam_policy_document.firehose.json
}

# What both functions need: the lock table, X-Ray, and the lake's key.
data "aws_iam_policy_document" "lambda_shared" {
  statement {
    sid       = "LockTables"
    actions   = ["dynamodb:DeleteItem", "dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:UpdateItem"]
    resources = [aws_dynamodb_table.table_locks.arn]
  }
  # pyiceberg makes sure of its namespaces by creating them; they exist, and it goes on.
  statement {
    sid     = "FindDatabases"
    actions = ["glue:CreateDatabase", "glue:GetDatabase"]
    resources = concat([local.catalog_arn], [
      for zone in ["trusted", "quarantine", "analytics"] : local.database_arns[zone]
    ])
  }
  # smartstream.yaml with the models and the SQL files that it names, and the tables' definitions.
  statement {
    sid       = "ReadConfig"
    actions   = ["s3:GetObject"]
    resources = ["${local.lake_arn}/${local.config_prefix}/*"]
  }
  # X-Ray has no resources to name.
  statement {
    sid       = "Trace"
    actions   = ["xray:PutTelemetryRecords", "xray:PutTraceSegments"]
    resources = ["*"]
  }
  dynamic "statement" {
    for_each = local.if_data_key
    content {
      sid       = "UseDataKey"
      actions   = ["kms:Decrypt", "kms:GenerateDataKey"]
      resources = [local.data_key_arn]
      condition {
        test     = "StringEquals"
        variable = "kms:ViaService"
        values = [
          "dynamodb.${var.region}.amazonaws.com", "lambda.${var.region}.amazonaws.com",
          "s3.${var.region}.amazonaws.com",
        ]
      }
    }
  }
}

# The transform function: reads raw files, writes trusted and quarantined tables.
resource "aws_iam_role" "lambda_transform" {
  name               = "${local.name}-lambda-transform"
  description        = "The transform function applies raw files to trusted tables"
  assume_role_policy = data.aws_iam_policy_document.trust["lambda"].json
}

data "aws_iam_policy_document" "lambda_transform" {
  source_policy_documents = [data.aws_iam_policy_document.lambda_shared.json]

  statement {
    sid = "TakeMessages"
    actions = [
      "sqs:ChangeMessageVisibility", "sqs:DeleteMessage", "sqs:GetQueueAttributes", "sqs:ReceiveMessage",
    ]
    resources = [aws_sqs_queue.transform.arn]
  }
  statement {
    sid       = "ReadRaw"
    actions   = ["s3:GetObject"]
    resources = ["${local.lake_arn}/${local.raw_prefix}/*"]
  }
  # Deleting is part of maintenance: compaction and snapshots that have expired.
  statement {
    sid     = "WriteTables"
    actions = ["s3:AbortMultipartUpload", "s3:DeleteObject", "s3:GetObject", "s3:PutObject"]
    resources = [
      "${local.lake_arn}/${local.trusted_prefix}/*", "${local.lake_arn}/${local.quarantine_prefix}/*",
    ]
  }
  # DMS says what a table looks like when it begins to load it.
  statement {
    sid       = "KeepDefinitions"
    actions   = ["s3:PutObject"]
    resources = ["${local.lake_arn}/${local.config_prefix}/tables/*"]
  }
  # Without it S3 answers "forbidden" for a file that doesn't exist, and nobody could tell.
  statement {
    sid       = "ListZones"
    actions   = ["s3:ListBucket"]
    resources = [local.lake_arn]
    condition {
      test     = "StringLike"
      variable = "s3:prefix"
      values = [
        for prefix in [local.raw_prefix, local.trusted_prefix, local.quarantine_prefix, local.config_prefix] :
        "${prefix}/*"
      ]
    }
  }
  statement {
    sid     = "CommitTables"
    actions = ["glue:CreateTable", "glue:GetTable", "glue:GetTables", "glue:UpdateTable"]
    resources = concat([local.catalog_arn], flatten([
      for zone in ["trusted", "quarantine"] : [local.database_arns[zone], local.table_arns[zone]]
    ]))
  }
  statement {
    sid       = "WriteLog"
    actions   = ["logs:CreateLogStream", "logs:PutLogEvents"]
    resources = ["${aws_cloudwatch_log_group.this["transform"].arn}:*"]
  }
}

resource "aws_iam_role_policy" "lambda_transform" {
  name   = "transform"
  role   = aws_iam_role.lambda_transform.id
  policy = data.aws_iam_policy_document.lambda_transform.json
}

# The ML function: reads trusted tables, writes those of the analytics zone.
resource "aws_iam_role" "lambda_ml" {
  name               = "${local.name}-lambda-ml"
  description        = "The ML function writes analytics tables"
  assume_role_policy = data.aws_iam_policy_document.trust["lambda"].json
}

data "aws_iam_policy_document" "lambda_ml" {
  source_policy_documents = [data.aws_iam_policy_document.lambda_shared.json]

  statement {
    sid       = "ReadTrusted"
    actions   = ["s3:GetObject"]
    resources = ["${local.lake_arn}/${local.trusted_prefix}/*"]
  }
  statement {
    sid       = "WriteAnalytics"
    actions   = ["s3:AbortMultipartUpload", "s3:DeleteObject", "s3:GetObject", "s3:PutObject"]
    resources = ["${local.lake_arn}/${local.analytics_prefix}/*"]
  }
  statement {
    sid       = "ListZones"
    actions   = ["s3:ListBucket"]
    resources = [local.lake_arn]
    condition {
      test     = "StringLike"
      variable = "s3:prefix"
      values = [
        for prefix in [local.trusted_prefix, local.analytics_prefix, local.config_prefix] : "${prefix}/*"
      ]
    }
  }
  statement {
    sid     = "FindTables"
    actions = ["glue:GetTable", "glue:GetTables"]
    resources = concat([local.catalog_arn], flatten([
      for zone in ["trusted", "analytics"] : [local.database_arns[zone], local.table_arns[zone]]
    ]))
  }
  statement {
    sid       = "CommitTables"
    actions   = ["glue:CreateTable", "glue:UpdateTable"]
    resources = [local.catalog_arn, local.database_arns["analytics"], local.table_arns["analytics"]]
  }
  statement {
    sid       = "PutAsideFailures"
    actions   = ["sqs:SendMessage"]
    resources = [aws_sqs_queue.ml_dlq.arn]
  }
  statement {
    sid       = "WriteLog"
    actions   = ["logs:CreateLogStream", "logs:PutLogEvents"]
    resources = ["${aws_cloudwatch_log_group.this["ml"].arn}:*"]
  }
}

resource "aws_iam_role_policy" "lambda_ml" {
  name   = "ml"
  role   = aws_iam_role.lambda_ml.id
  policy = data.aws_iam_policy_document.lambda_ml.json
}

# The scheduler: calls the ML function.
resource "aws_iam_role" "scheduler" {
  name               = "${local.name}-scheduler"
  description        = "EventBridge Scheduler calls the ML function"
  assume_role_policy = data.aws_iam_policy_document.trust["scheduler"].json
}

data "aws_iam_policy_document" "scheduler" {
  statement {
    sid       = "CallMl"
    actions   = ["lambda:InvokeFunction"]
    resources = [aws_lambda_function.ml.arn]
  }
  statement {
    sid       = "PutAsideFailures"
    actions   = ["sqs:SendMessage"]
    resources = [aws_sqs_queue.ml_dlq.arn]
  }
  dynamic "statement" {
    for_each = local.if_data_key
    content {
      sid       = "DecryptSchedule"
      actions   = ["kms:Decrypt"]
      resources = [local.data_key_arn]
      condition {
        test     = "StringEquals"
        variable = "kms:ViaService"
        values   = ["scheduler.${var.region}.amazonaws.com"]
      }
    }
  }
}

resource "aws_iam_role_policy" "scheduler" {
  name   = "call-ml"
  role   = aws_iam_role.scheduler.id
  policy = data.aws_iam_policy_document.scheduler.json
}

# Glue's crawlers: read the tables' metadata, register what is new, change nothing in S3.
resource "aws_iam_role" "glue" {
  name               = local.glue_role_name
  description        = "Crawlers register Iceberg tables of the trusted and analytics zones"
  assume_role_policy = data.aws_iam_policy_document.trust["glue"].json
}

data "aws_iam_policy_document" "glue" {
  statement {
    sid       = "ReadZones"
    actions   = ["s3:GetObject"]
    resources = [for zone in local.crawled_zones : "${local.lake_arn}/${local.databases[zone].prefix}/*"]
  }
  statement {
    sid       = "ListZones"
    actions   = ["s3:GetBucketLocation", "s3:ListBucket"]
    resources = [local.lake_arn]
  }
  statement {
    sid     = "RegisterTables"
    actions = ["glue:CreateTable", "glue:GetDatabase", "glue:GetTable", "glue:GetTables", "glue:UpdateTable"]
    resources = concat([local.catalog_arn], flatten([
      for zone in local.crawled_zones : [local.database_arns[zone], local.table_arns[zone]]
    ]))
  }
  # Glue has no ARN for a security configuration.
  statement {
    sid       = "ReadOwnSettings"
    actions   = ["glue:GetSecurityConfiguration"]
    resources = ["*"]
  }
  statement {
    sid       = "WriteLog"
    actions   = ["logs:AssociateKmsKey", "logs:CreateLogStream", "logs:PutLogEvents"]
    resources = ["${aws_cloudwatch_log_group.this["crawlers"].arn}:*"]
  }
  dynamic "statement" {
    for_each = local.if_data_key
    content {
      sid       = "DecryptZones"
      actions   = ["kms:Decrypt"]
      resources = [local.data_key_arn]
      condition {
        test     = "StringEquals"
        variable = "kms:ViaService"
        values   = ["s3.${var.region}.amazonaws.com"]
      }
    }
  }
}

resource "aws_iam_role_policy" "glue" {
  name   = "crawl"
  role   = aws_iam_role.glue.id
  policy = data.aws_iam_policy_document.glue.json
}

# Glue's table optimizers, as long as there are any (glue.tf).
resource "aws_iam_role" "glue_optimizer" {
  count = length(local.optimized_tables) > 0 ? 1 : 0

  name               = "${local.name}-glue-optimizer"
  description        = "Glue compacts, expires and tidies the tables named in optimized_tables"
  assume_role_policy = data.aws_iam_policy_document.trust["glue"].json
}

data "aws_iam_policy_document" "glue_optimizer" {
  count = length(local.optimized_tables) > 0 ? 1 : 0

  statement {
    sid       = "RewriteTables"
    actions   = ["s3:DeleteObject", "s3:GetObject", "s3:PutObject"]
    resources = [for table in local.optimized_tables : "${local.lake_arn}/${table}/*"]
  }
  statement {
    sid       = "ListZones"
    actions   = ["s3:ListBucket"]
    resources = [local.lake_arn]
  }
  statement {
    sid     = "CommitTables"
    actions = ["glue:GetTable", "glue:UpdateTable"]
    resources = concat([local.catalog_arn], flatten([
      for zone in local.crawled_zones : [local.database_arns[zone], local.table_arns[zone]]
    ]))
  }
  # Glue chooses this group itself, and all optimizers of an account share it.
  statement {
    sid       = "WriteLog"
    actions   = ["logs:CreateLogGroup", "logs:CreateLogStream", "logs:PutLogEvents"]
    resources = ["arn:${local.partition}:logs:${var.region}:${local.account_id}:log-group:/aws-glue/iceberg-*"]
  }
  dynamic "statement" {
    for_each = local.if_data_key
    content {
      sid       = "UseDataKey"
      actions   = ["kms:Decrypt", "kms:GenerateDataKey"]
      resources = [local.data_key_arn]
      condition {
        test     = "StringEquals"
        variable = "kms:ViaService"
        values   = ["s3.${var.region}.amazonaws.com"]
      }
    }
  }
}

resource "aws_iam_role_policy" "glue_optimizer" {
  count = length(local.optimized_tables) > 0 ? 1 : 0

  name   = "optimize"
  role   = aws_iam_role.glue_optimizer[0].id
  policy = data.aws_iam_policy_document.glue_optimizer[0].json
}

# VPC flow logs: write to their group.
resource "aws_iam_role" "flow_logs" {
  count = var.enable_flow_logs ? 1 : 0

  name               = "${local.name}-flow-logs"
  description        = "The VPC writes its flow log"
  assume_role_policy = data.aws_iam_policy_document.trust["flow_logs"].json
}

data "aws_iam_policy_document" "flow_logs" {
  count = var.enable_flow_logs ? 1 : 0

  statement {
    sid       = "WriteLog"
    actions   = ["logs:CreateLogStream", "logs:DescribeLogStreams", "logs:PutLogEvents"]
    resources = ["${aws_cloudwatch_log_group.this["vpc_flow"].arn}:*"]
  }
}

resource "aws_iam_role_policy" "flow_logs" {
  count = var.enable_flow_logs ? 1 : 0

  name   = "write-flow-log"
  role   = aws_iam_role.flow_logs[0].id
  policy = data.aws_iam_policy_document.flow_logs[0].json
}
