# Who and where we are, and every name that more than one file uses.

data "aws_caller_identity" "current" {}

data "aws_partition" "current" {}

data "aws_availability_zones" "available" {
  state = "available"

  # Local and wavelength zones are listed too once an account has opted in, and RDS and DMS
  # are not offered there.
  filter {
    name   = "opt-in-status"
    values = ["opt-in-not-required"]
  }
}

locals {
  name       = "${var.project_name}-${var.env}"
  account_id = data.aws_caller_identity.current.account_id
  partition  = data.aws_partition.current.partition
  dns_suffix = data.aws_partition.current.dns_suffix
  azs        = slice(data.aws_availability_zones.available.names, 0, var.az_count)
  is_prod    = var.env == "prod"

  default_tags = merge(var.extra_tags, {
    Project     = var.project_name
    Environment = var.env
    ManagedBy   = "terraform"
  })

  # The zones of the data lake: prefixes in the bucket, and the last part of a Glue database's
  # name. Lifecycle rules, IAM policies, crawlers and the Lambda environment all read these.
  raw_prefix        = "raw"
  trusted_prefix    = "trusted"
  quarantine_prefix = "quarantine"
  analytics_prefix  = "analytics"
  artifacts_prefix  = "artifacts"
  config_prefix     = "config"
  errors_prefix     = "firehose-errors"

  # Glue and Athena take a hyphen in a database's name only between quotes.
  catalog_prefix = replace(local.name, "-", "_")
  lake_uri       = "s3://${local.buckets["data_lake"]}"

  # Names that a resource and its log group must agree on.
  transform_name       = "${local.name}-transform"
  ml_name              = "${local.name}-ml"
  firehose_name        = "${local.name}-raw"
  glue_role_name       = "${local.name}-glue-crawler"
  replication_instance = local.name

  # The groups are made here, before their services would make them, because a group that a
  # service makes keeps its logs for ever. RDS, DMS and Glue choose the names themselves.
  log_groups = merge(
    {
      firehose  = "/aws/kinesisfirehose/${local.firehose_name}"
      transform = "/aws/lambda/${local.transform_name}"
      ml        = "/aws/lambda/${local.ml_name}"
      rds       = "/aws/rds/instance/${local.name}/postgresql"
      dms       = "dms-tasks-${local.replication_instance}"
      # Only a crawler with a security configuration has a group of its own; the others of the
      # account share one.
      crawlers = "/aws-glue/crawlers-role/${local.glue_role_name}-${local.name}"
    },
    var.enable_flow_logs ? { vpc_flow = "/aws/vpc/${local.name}/flow" } : {}
  )

  # null means AWS's own key for the service, which costs nothing and can't be administered.
  data_key_arn = one(aws_kms_key.data[*].arn)

  # Terraform's own name for a list with or without one element, for dynamic blocks.
  if_data_key = var.use_customer_managed_key ? [1] : []
}
