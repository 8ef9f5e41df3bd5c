# The catalogue: one database for each zone that is queried.

locals {
  # The transform and ML functions register their tables in the last three themselves.
  databases = {
    raw        = { prefix = local.raw_prefix, about = "what arrived, line by line" }
    trusted    = { prefix = local.trusted_prefix, about = "the source's tables as they are now" }
    quarantine = { prefix = local.quarantine_prefix, about = "records that could not be applied" }
    analytics  = { prefix = local.analytics_prefix, about = "what was derived from trusted tables" }
  }
  crawled_zones = toset(["trusted", "analytics"])

  # Tables that Glue shall maintain, by "zone/table", for example "trusted/employees". An optimizer
  # is bound to a table that exists, and at the first apply none does: list them after the load.
  # Empty, because SmartStream maintains its tables itself (compaction by key, expiry of snapshots,
  # removal of orphans) at no extra price; this is for whoever writes tables by other means. Take
  # one or the other: two compactions of a table keep conflicting with each other.
  optimized_tables = toset([])
  optimizations = {
    for pair in setproduct(local.optimized_tables, ["compaction", "retention", "orphan_file_deletion"]) :
    "${pair[0]}/${pair[1]}" => { zone = split("/", pair[0])[0], table = split("/", pair[0])[1], type = pair[1] }
  }
}

resource "aws_glue_catalog_database" "zone" {
  for_each = local.databases

  name         = "${local.catalog_prefix}_${each.key}"
  description  = "${local.name}: ${each.value.about}"
  location_uri = "${local.lake_uri}/${each.value.prefix}/"
}

# Raw files as a table, for looking into them. The partitions are computed from the query and not
# kept in the catalogue, so that no crawler has to run: a query must name schema and table.
resource "aws_glue_catalog_table" "raw" {
  name          = "raw_cdc"
  description   = "Records of DMS as Firehose delivered them; data, metadata and the others are JSON texts"
  database_name = aws_glue_catalog_database.zone["raw"].name
  table_type    = "EXTERNAL_TABLE"

  parameters = {
    EXTERNAL                        = "TRUE"
    classification                  = "json"
    compressionType                 = "gzip"
    "projection.enabled"            = "true"
    "projection.source_schema.type" = "injected"
    "projection.source_table.type"  = "injected"
    "projection.dt.type"            = "date"
    "projection.dt.format"          = "yyyy-MM-dd"
    "projection.dt.range"           = "NOW-${var.raw_expire_after_days}DAYS,NOW"
    "projection.dt.interval"        = "1"
    "projection.dt.interval.unit"   = "DAYS"
    "storage.location.template"     = "${local.lake_uri}/${local.raw_prefix}/schema=$${source_schema}/table=$${source_table}/dt=$${dt}/"
  }

  dynamic "partition_keys" {
    for_each = ["source_schema", "source_table", "dt"]
    content {
      name = partition_keys.value
      type = "string"
    }
  }

  storage_descriptor {
    location      = "${local.lake_uri}/${local.raw_prefix}/"
    input_format  = "org.apache.hadoop.mapred.TextInputFormat"
    output_format = "org.apache.hadoop.hive.ql.io.HiveIgnoreKeyTextOutputFormat"

    ser_de_info {
      serialization_library = "org.openx.data.jsonserde.JsonSerDe"
      parameters = {
        # A column is called Id or id in the source for a reason.
        "case.insensitive"      = "FALSE"
        "ignore.malformed.json" = "FALSE"
        "mapping.before_image"  = "before-image"
      }
    }
    dynamic "columns" {
      for_each = ["data", "before_image", "metadata", "control"]
      content {
        name = columns.value
        type = "string"
      }
    }
  }
}

# It encrypts nothing without a key of ours, and is there for its other effect: a crawler that has
# one writes to a log group of its own instead of the one that all crawlers of an account share.
resource "aws_glue_security_configuration" "this" {
  name = local.name

  encryption_configuration {
    cloudwatch_encryption {
      cloudwatch_encryption_mode = var.use_customer_managed_key ? "SSE-KMS" : "DISABLED"
      kms_key_arn                = local.data_key_arn
    }
    job_bookmarks_encryption {
      job_bookmarks_encryption_mode = var.use_customer_managed_key ? "CSE-KMS" : "DISABLED"
      kms_key_arn                   = local.data_key_arn
    }
    s3_encryption {
      s3_encryption_mode = var.use_customer_managed_key ? "SSE-KMS" : "SSE-S3"
      kms_key_arn        = local.data_key_arn
    }
  }
}

# A crawler finds Iceberg tables that the catalogue doesn't know: those of other writers, or all of
# them after the catalogue was lost. update_behavior is LOG because a table that it does know
# points to its newest commit already; a crawler that sets this pointer from a listing could put
# back a commit that happened meanwhile.
resource "aws_glue_crawler" "zone" {
  for_each = local.crawled_zones

  name                   = "${local.name}-${each.key}"
  description            = "Registers Iceberg tables of the ${each.key} zone that the catalogue does not know"
  role                   = aws_iam_role.glue.arn
  database_name          = aws_glue_catalog_database.zone[each.key].name
  schedule               = var.crawler_schedule
  security_configuration = aws_glue_security_configuration.this.name

  # zone/table/metadata
  iceberg_target {
    paths                   = ["${local.lake_uri}/${local.databases[each.key].prefix}/"]
    maximum_traversal_depth = 3
  }
  schema_change_policy {
    delete_behavior = "LOG"
    update_behavior = "LOG"
  }

  depends_on = [aws_cloudwatch_log_group.this, aws_iam_role_policy.glue]
}

resource "aws_glue_catalog_table_optimizer" "this" {
  for_each = local.optimizations

  catalog_id    = local.account_id
  database_name = aws_glue_catalog_database.zone[each.value.zone].name
  table_name    = each.value.table
  type          = each.value.type

  configuration {
    role_arn = aws_iam_role.glue_optimizer[0].arn
    enabled  = true

    dynamic "retention_configuration" {
      for_each = each.value.type == "retention" ? [1] : []
      content {
        iceberg_configuration {
          snapshot_retention_period_in_days = 7
          number_of_snapshots_to_retain     = 50
          clean_expired_files               = true
        }
      }
    }
    dynamic "orphan_file_deletion_configuration" {
      for_each = each.value.type == "orphan_file_deletion" ? [1] : []
      content {
        iceberg_configuration {
          # Longer than any commit takes: its files are orphans until it is done.
          orphan_file_retention_period_in_days = 3
          location                             = "${local.lake_uri}/${local.databases[each.value.zone].prefix}/${each.value.table}/"
        }
      }
    }
  }

  depends_on = [aws_iam_role_policy.glue_optimizer]
}
