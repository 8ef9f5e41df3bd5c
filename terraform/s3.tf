# Three buckets: the data lake with its zones, Athena's results, and who read either of them.
#
# None has prevent_destroy: Terraform takes only a constant there, so that it would also stop a
# dev stack from being removed. What protects the lake is that S3 deletes no bucket that holds
# anything, unless force_destroy_buckets says so, and that variable is refused in prod.

locals {
  buckets = {
    data_lake      = "${local.name}-lake-${local.account_id}"
    athena_results = "${local.name}-athena-${local.account_id}"
    access_logs    = "${local.name}-access-logs-${local.account_id}"
  }
  logged_buckets = ["data_lake", "athena_results"]
}

resource "aws_s3_bucket" "this" {
  for_each = local.buckets

  bucket        = each.value
  force_destroy = var.force_destroy_buckets
}

resource "aws_s3_bucket_ownership_controls" "this" {
  for_each = local.buckets

  bucket = aws_s3_bucket.this[each.key].id
  rule {
    object_ownership = "BucketOwnerEnforced"
  }
}

resource "aws_s3_bucket_public_access_block" "this" {
  for_each = local.buckets

  bucket                  = aws_s3_bucket.this[each.key].id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_versioning" "this" {
  for_each = local.buckets

  bucket = aws_s3_bucket.this[each.key].id
  versioning_configuration {
    status = "Enabled"
  }
}

resource "aws_s3_bucket_server_side_encryption_configuration" "this" {
  for_each = local.buckets

  bucket = aws_s3_bucket.this[each.key].id
  rule {
    apply_server_side_encryption_by_default {
      # S3 can't deliver access logs to a bucket whose default is KMS.
      sse_algorithm     = var.use_customer_managed_key && each.key != "access_logs" ? "aws:kms" : "AES256"
      kms_master_key_id = each.key != "access_logs" ? local.data_key_arn : null
    }
    # One data key for a bucket and a while instead of one for each object: KMS bills requests.
    bucket_key_enabled = true
  }
}

data "aws_iam_policy_document" "bucket" {
  for_each = aws_s3_bucket.this

  statement {
    sid       = "DenyInsecureTransport"
    effect    = "Deny"
    actions   = ["s3:*"]
    resources = [each.value.arn, "${each.value.arn}/*"]
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
  statement {
    sid       = "DenyOldTls"
    effect    = "Deny"
    actions   = ["s3:*"]
    resources = [each.value.arn, "${each.value.arn}/*"]
    principals {
      type        = "*"
      identifiers = ["*"]
    }
    condition {
      test     = "NumericLessThan"
      variable = "s3:TlsVersion"
      values   = ["1.2"]
    }
  }
  dynamic "statement" {
    for_each = each.key == "access_logs" ? [1] : []
    content {
      sid       = "AccessLogDelivery"
      actions   = ["s3:PutObject"]
      resources = ["${each.value.arn}/*"]
      principals {
        type        = "Service"
        identifiers = ["logging.s3.amazonaws.com"]
      }
      condition {
        test     = "ArnEquals"
        variable = "aws:SourceArn"
        values   = [for key in local.logged_buckets : aws_s3_bucket.this[key].arn]
      }
      condition {
        test     = "StringEquals"
        variable = "aws:SourceAccount"
        values   = [local.account_id]
      }
    }
  }
}

resource "aws_s3_bucket_policy" "this" {
  for_each = local.buckets

  bucket     = aws_s3_bucket.this[each.key].id
  policy     = data.aws_iam_policy_document.bucket[each.key].json
  depends_on = [aws_s3_bucket_public_access_block.this]
}

# Laid out by bucket and day of the request, as Athena wants to read them.
resource "aws_s3_bucket_logging" "this" {
  for_each = toset(local.logged_buckets)

  bucket        = aws_s3_bucket.this[each.key].id
  target_bucket = aws_s3_bucket.this["access_logs"].id
  target_prefix = "s3/"
  target_object_key_format {
    partitioned_prefix {
      partition_date_source = "EventTime"
    }
  }
  depends_on = [aws_s3_bucket_policy.this]
}

# Age moves and deletes what is append-only: raw/ and firehose-errors/. The files of an Iceberg
# table (trusted/, quarantine/, analytics/) are alive as long as a snapshot names them, however
# old they are; only the table's own maintenance may delete these.
resource "aws_s3_bucket_lifecycle_configuration" "data_lake" {
  bucket = aws_s3_bucket.this["data_lake"].id

  rule {
    id     = "raw-to-glacier"
    status = "Enabled"
    filter {
      prefix = "${local.raw_prefix}/"
    }
    transition {
      days          = var.raw_glacier_after_days
      storage_class = "GLACIER"
    }
    expiration {
      days = var.raw_expire_after_days
    }
  }
  # Kept as long as raw files, because that is how long they can be put back among them.
  rule {
    id     = "firehose-errors-expire"
    status = "Enabled"
    filter {
      prefix = "${local.errors_prefix}/"
    }
    expiration {
      days = var.raw_expire_after_days
    }
  }
  # For the whole bucket. A version becomes noncurrent when somebody overwrote or deleted the
  # object, and no snapshot names it any more; the month is for undoing a mistake.
  rule {
    id     = "housekeeping"
    status = "Enabled"
    filter {}
    noncurrent_version_expiration {
      noncurrent_days = 30
    }
    abort_incomplete_multipart_upload {
      days_after_initiation = 7
    }
    # Not objects: the markers that deletions leave behind once the last version is gone.
    expiration {
      expired_object_delete_marker = true
    }
  }
  depends_on = [aws_s3_bucket_versioning.this]
}

# Results and access logs are of use for a while only; who read what is asked a month later, too.
resource "aws_s3_bucket_lifecycle_configuration" "short_lived" {
  for_each = {
    athena_results = var.athena_results_expire_days
    access_logs    = max(var.log_retention_days, 30)
  }

  bucket = aws_s3_bucket.this[each.key].id
  rule {
    id     = "expire"
    status = "Enabled"
    filter {}
    expiration {
      days = each.value
    }
    noncurrent_version_expiration {
      noncurrent_days = 1
    }
    abort_incomplete_multipart_upload {
      days_after_initiation = 1
    }
  }
  depends_on = [aws_s3_bucket_versioning.this]
}

# Through a queue and not straight to Lambda: a file that can't be processed waits in sight.
resource "aws_s3_bucket_notification" "data_lake" {
  bucket = aws_s3_bucket.this["data_lake"].id

  queue {
    id            = "raw-object-created"
    queue_arn     = aws_sqs_queue.transform.arn
    events        = ["s3:ObjectCreated:*"]
    filter_prefix = "${local.raw_prefix}/"
    filter_suffix = local.raw_suffix
  }
  depends_on = [aws_sqs_queue_policy.transform]
}

# The Lambda packages. They are larger than what Lambda takes directly, so they go through S3,
# under the hash of what they hold: a new package is a new object, and the old one stays until
# the function has changed over.
locals {
  lambda_packages = {
    for name in ["transform", "ml"] : name => "${path.module}/../build/lambdas/${name}.zip"
  }
  # A missing package must not fail here with a function's error, but below with what to do.
  lambda_hashes = {
    for name, path in local.lambda_packages : name => fileexists(path) ? filesha256(path) : null
  }
  lambda_source_hashes = {
    for name, path in local.lambda_packages : name => fileexists(path) ? filebase64sha256(path) : null
  }
}

resource "aws_s3_object" "lambda_package" {
  for_each = local.lambda_packages

  bucket       = aws_s3_bucket.this["data_lake"].id
  key          = "${local.artifacts_prefix}/lambdas/${each.key}-${substr(coalesce(local.lambda_hashes[each.key], "missing"), 0, 16)}.zip"
  source       = each.value
  source_hash  = local.lambda_hashes[each.key]
  content_type = "application/zip"

  lifecycle {
    create_before_destroy = true
    precondition {
      condition     = local.lambda_hashes[each.key] != null
      error_message = "The package of the ${each.key} function, build/lambdas/${each.key}.zip, has not been built: run \"make lambdas\" first."
    }
  }
  depends_on = [
    aws_s3_bucket_server_side_encryption_configuration.this,
    aws_s3_bucket_versioning.this,
  ]
}

# The key for all data of the stack, when use_customer_managed_key asks for one.

locals {
  # What the account's administrators may do with a key, spelled out: "kms:*" would also hand
  # out whatever KMS learns to do next. Without this statement a key would be lost to everyone.
  key_administration = [
    "kms:CancelKeyDeletion", "kms:CreateAlias", "kms:CreateGrant", "kms:Decrypt", "kms:DeleteAlias",
    "kms:DescribeKey", "kms:DisableKey", "kms:DisableKeyRotation", "kms:EnableKey", "kms:EnableKeyRotation",
    "kms:Encrypt", "kms:GenerateDataKey", "kms:GenerateDataKeyWithoutPlaintext", "kms:GetKeyPolicy",
    "kms:GetKeyRotationStatus", "kms:ListGrants", "kms:ListKeyPolicies", "kms:ListKeyRotations",
    "kms:ListResourceTags", "kms:PutKeyPolicy", "kms:ReEncryptFrom", "kms:ReEncryptTo", "kms:RetireGrant",
    "kms:RevokeGrant", "kms:RotateKeyOnDemand", "kms:ScheduleKeyDeletion", "kms:TagResource",
    "kms:UntagResource", "kms:UpdateAlias", "kms:UpdateKeyDescription",
  ]
}

# In a key's policy "*" means this key: the policy is attached to nothing else.
data "aws_iam_policy_document" "data_key" {
  statement {
    sid       = "AccountAdministersThroughIam"
    actions   = local.key_administration
    resources = ["*"]
    principals {
      type        = "AWS"
      identifiers = ["arn:${local.partition}:iam::${local.account_id}:root"]
    }
  }
  # CloudWatch Logs encrypts as itself, not as a role of ours, and says for which group.
  statement {
    sid       = "LogGroupsOfThisAccount"
    actions   = ["kms:Decrypt", "kms:DescribeKey", "kms:Encrypt", "kms:GenerateDataKey", "kms:ReEncryptFrom", "kms:ReEncryptTo"]
    resources = ["*"]
    principals {
      type        = "Service"
      identifiers = ["logs.${var.region}.${local.dns_suffix}"]
    }
    condition {
      test     = "ArnLike"
      variable = "kms:EncryptionContext:aws:logs:arn"
      values   = ["arn:${local.partition}:logs:${var.region}:${local.account_id}:log-group:*"]
    }
  }
}

resource "aws_kms_key" "data" {
  count = var.use_customer_managed_key ? 1 : 0

  description             = "${local.name}: the lake, the source, the stream, the secret and the logs"
  policy                  = data.aws_iam_policy_document.data_key.json
  enable_key_rotation     = true
  deletion_window_in_days = 30
}

resource "aws_kms_alias" "data" {
  count = var.use_customer_managed_key ? 1 : 0

  name          = "alias/${local.name}-data"
  target_key_id = aws_kms_key.data[0].key_id
}
