# Everything that can be set. A wrong value is rejected here, with what is allowed
# and what was given, and never changed to a right one: a plan means what it says.
#
# Names and places

variable "project_name" {
  description = "What this is called: the first part of every resource's name."
  type        = string
  default     = "smartstream"
  nullable    = false

  # A DMS identifier may not end with a hyphen nor hold two in a row, and the longest
  # bucket name (project, environment, purpose, account) must stay below 64 characters.
  validation {
    condition = (
      can(regex("^[a-z][a-z0-9]*(-[a-z0-9]+)*$", var.project_name)) &&
      length(var.project_name) >= 3 && length(var.project_name) <= 22
    )
    error_message = "project_name must be 3 to 22 lower-case letters, digits and single hyphens, starting with a letter and not ending with a hyphen; given: ${jsonencode(var.project_name)}."
  }
  validation {
    condition     = !startswith(var.project_name, "sthree-") && !startswith(var.project_name, "amzn-s3-demo-")
    error_message = "project_name must not start with sthree- or amzn-s3-demo-, which S3 keeps for itself; given: ${jsonencode(var.project_name)}."
  }
}

variable "env" {
  description = "Which environment this is: the second part of every name. In prod, settings that lose data are rejected."
  type        = string
  default     = "dev"
  nullable    = false

  validation {
    condition     = contains(["dev", "test", "staging", "prod"], var.env)
    error_message = "env must be dev, test, staging or prod; given: ${jsonencode(var.env)}."
  }
}

variable "region" {
  description = "The AWS region that everything is made in."
  type        = string
  default     = "eu-north-1"
  nullable    = false

  validation {
    condition     = can(regex("^[a-z]{2}(-gov|-iso[a-z]?)?-(north|south|central|east|west|northeast|northwest|southeast|southwest)-[1-9]$", var.region))
    error_message = "region must be the code of a region like eu-north-1 or us-gov-west-1, not of a zone; given: ${jsonencode(var.region)}."
  }
}

variable "extra_tags" {
  description = "Tags for every resource, besides Project, Environment and ManagedBy, which are always there."
  type        = map(string)
  default     = {}
  nullable    = false

  # The Lambda packages are S3 objects, and an S3 object carries ten tags at most.
  validation {
    condition     = length(var.extra_tags) <= 7
    error_message = "extra_tags may hold 7 tags: an S3 object carries 10, and 3 are always set; given: ${length(var.extra_tags)}."
  }
  validation {
    condition = alltrue([
      for key, value in var.extra_tags :
      can(regex("^[\\p{L}\\p{N} _.:/=+@-]{1,128}$", key)) && can(regex("^[\\p{L}\\p{N} _.:/=+@-]{0,256}$", value))
    ])
    error_message = "extra_tags must have keys of 1 to 128 and values of at most 256 letters, digits, spaces and _ . : / = + - @; given: ${jsonencode(var.extra_tags)}."
  }
  # IAM takes Owner and owner for one key, so the names are compared without their case.
  validation {
    condition = alltrue([
      for key in keys(var.extra_tags) :
      !startswith(lower(key), "aws:") && !contains(["project", "environment", "managedby"], lower(key))
    ])
    error_message = "extra_tags must not start with aws: nor set Project, Environment or ManagedBy again; given: ${join(", ", keys(var.extra_tags))}."
  }
}

# Network

variable "vpc_cidr" {
  description = "The addresses of the VPC; each subnet gets a sixteenth of them."
  type        = string
  default     = "10.20.0.0/16"
  nullable    = false

  validation {
    condition     = can(cidrnetmask(var.vpc_cidr)) && try(cidrhost(var.vpc_cidr, 0) == split("/", var.vpc_cidr)[0], false)
    error_message = "vpc_cidr must be an IPv4 network whose host bits are zero, like 10.20.0.0/16; given: ${jsonencode(var.vpc_cidr)}."
  }
  # A VPC is a /16 at most; a sixteenth of a /22 is 64 addresses, of which AWS keeps five.
  validation {
    condition     = try(tonumber(split("/", var.vpc_cidr)[1]) >= 16 && tonumber(split("/", var.vpc_cidr)[1]) <= 22, false)
    error_message = "vpc_cidr must be between a /16 and a /22; given: ${jsonencode(var.vpc_cidr)}."
  }
  validation {
    condition     = can(regex("^(10\\.|192\\.168\\.|172\\.(1[6-9]|2[0-9]|3[01])\\.)", var.vpc_cidr))
    error_message = "vpc_cidr must be private (10.0.0.0/8, 172.16.0.0/12 or 192.168.0.0/16); given: ${jsonencode(var.vpc_cidr)}."
  }
}

variable "az_count" {
  description = "How many availability zones have subnets; RDS and DMS want two at least."
  type        = number
  default     = 2
  nullable    = false

  validation {
    condition     = contains([2, 3], var.az_count)
    error_message = "az_count must be 2 or 3; given: ${var.az_count}."
  }
}

variable "egress_mode" {
  description = "How DMS reaches AWS's services: nat (a NAT gateway) or vpc_endpoints (no way to the internet at all)."
  type        = string
  default     = "nat"
  nullable    = false

  validation {
    condition     = contains(["nat", "vpc_endpoints"], var.egress_mode)
    error_message = "egress_mode must be nat or vpc_endpoints; given: ${jsonencode(var.egress_mode)}."
  }
}

variable "enable_flow_logs" {
  description = "Whether the VPC's traffic is logged, for finding out later who talked to whom."
  type        = bool
  default     = true
  nullable    = false
}

# Storage

variable "use_customer_managed_key" {
  description = "Whether data is encrypted with a KMS key of this stack (about a dollar a month) instead of AWS's own keys."
  type        = bool
  default     = false
  nullable    = false
}

variable "force_destroy_buckets" {
  description = "Whether terraform destroy also deletes what the buckets hold."
  type        = bool
  default     = false
  nullable    = false

  validation {
    condition     = !(var.force_destroy_buckets && var.env == "prod")
    error_message = "force_destroy_buckets must be false in prod: the lake is not to vanish with one command; given: ${var.force_destroy_buckets}."
  }
}

variable "raw_glacier_after_days" {
  description = "Age at which raw files go to S3 Glacier. Until then they can be replayed at once."
  type        = number
  default     = 90
  nullable    = false

  validation {
    condition     = var.raw_glacier_after_days >= 30 && var.raw_glacier_after_days <= 3650 && floor(var.raw_glacier_after_days) == var.raw_glacier_after_days
    error_message = "raw_glacier_after_days must be a whole number from 30 to 3650; given: ${var.raw_glacier_after_days}."
  }
}

variable "raw_expire_after_days" {
  description = "Age at which raw files are deleted. Glacier bills 90 days for each file, however soon it goes."
  type        = number
  default     = 365
  nullable    = false

  validation {
    condition     = var.raw_expire_after_days <= 3650 && floor(var.raw_expire_after_days) == var.raw_expire_after_days
    error_message = "raw_expire_after_days must be a whole number up to 3650; given: ${var.raw_expire_after_days}."
  }
  validation {
    condition     = var.raw_expire_after_days > var.raw_glacier_after_days
    error_message = "raw_expire_after_days must be greater than raw_glacier_after_days (${var.raw_glacier_after_days}); given: ${var.raw_expire_after_days}."
  }
}

variable "athena_results_expire_days" {
  description = "Age at which Athena's query results are deleted."
  type        = number
  default     = 7
  nullable    = false

  validation {
    condition     = var.athena_results_expire_days >= 1 && var.athena_results_expire_days <= 365 && floor(var.athena_results_expire_days) == var.athena_results_expire_days
    error_message = "athena_results_expire_days must be a whole number from 1 to 365; given: ${var.athena_results_expire_days}."
  }
}

# The PostgreSQL source

variable "db_engine_version" {
  description = "PostgreSQL's version: a major one, which takes RDS's newest minor version, or one like 16.4."
  type        = string
  default     = "16"
  nullable    = false

  validation {
    condition     = can(regex("^(14|15|16|17)(\\.[0-9]{1,2})?$", var.db_engine_version))
    error_message = "db_engine_version must be 14, 15, 16 or 17, with or without a minor version; given: ${jsonencode(var.db_engine_version)}."
  }
}

variable "db_instance_class" {
  description = "Size of the RDS instance."
  type        = string
  default     = "db.t3.micro"
  nullable    = false

  validation {
    condition     = can(regex("^db\\.[a-z][a-z0-9]*\\.(micro|small|medium|large|[0-9]*xlarge)$", var.db_instance_class))
    error_message = "db_instance_class must look like db.t3.micro or db.m6g.2xlarge; given: ${jsonencode(var.db_instance_class)}."
  }
}

variable "db_allocated_storage_gb" {
  description = "Size of the database's disk to begin with."
  type        = number
  default     = 20
  nullable    = false

  validation {
    condition     = var.db_allocated_storage_gb >= 20 && var.db_allocated_storage_gb <= 65536 && floor(var.db_allocated_storage_gb) == var.db_allocated_storage_gb
    error_message = "db_allocated_storage_gb must be a whole number from 20 to 65536; given: ${var.db_allocated_storage_gb}."
  }
}

variable "db_max_allocated_storage_gb" {
  description = "Size that the database's disk may grow to by itself, or 0 so that it doesn't grow."
  type        = number
  default     = 100
  nullable    = false

  validation {
    condition     = var.db_max_allocated_storage_gb >= 0 && var.db_max_allocated_storage_gb <= 65536 && floor(var.db_max_allocated_storage_gb) == var.db_max_allocated_storage_gb
    error_message = "db_max_allocated_storage_gb must be 0 or a whole number up to 65536; given: ${var.db_max_allocated_storage_gb}."
  }
  # RDS refuses a limit that leaves less than a tenth to grow.
  validation {
    condition     = var.db_max_allocated_storage_gb == 0 || var.db_max_allocated_storage_gb >= 1.1 * var.db_allocated_storage_gb
    error_message = "db_max_allocated_storage_gb must be 0 or at least 10 % above db_allocated_storage_gb (${var.db_allocated_storage_gb}); given: ${var.db_max_allocated_storage_gb}."
  }
}

variable "db_name" {
  description = "Name of the database in the RDS instance."
  type        = string
  default     = "smartstream"
  nullable    = false

  validation {
    condition     = can(regex("^[a-z][a-z0-9_]{0,62}$", var.db_name))
    error_message = "db_name must be 1 to 63 lower-case letters, digits and underscores, starting with a letter; given: ${jsonencode(var.db_name)}."
  }
  validation {
    condition     = !contains(["rdsadmin", "template0", "template1"], var.db_name)
    error_message = "db_name must not be rdsadmin, template0 or template1, which exist already; given: ${jsonencode(var.db_name)}."
  }
}

variable "db_username" {
  description = "Name of the database's master user. RDS makes its password and keeps it in Secrets Manager."
  type        = string
  default     = "smartstream_admin"
  nullable    = false

  validation {
    condition     = can(regex("^[a-z][a-z0-9_]{0,62}$", var.db_username))
    error_message = "db_username must be 1 to 63 lower-case letters, digits and underscores, starting with a letter; given: ${jsonencode(var.db_username)}."
  }
  validation {
    condition     = !can(regex("^(pg_|rds)", var.db_username)) && !contains(["admin", "postgres", "root", "user", "public", "dms_replication"], var.db_username)
    error_message = "db_username must not start with pg_ or rds, nor be admin, postgres, root, user, public or dms_replication (reserved, easily guessed, or DMS's own); given: ${jsonencode(var.db_username)}."
  }
}

variable "db_multi_az" {
  description = "Whether a second RDS instance stands by in another zone, at twice the price."
  type        = bool
  default     = false
  nullable    = false

  validation {
    condition     = var.db_multi_az || var.env != "prod"
    error_message = "db_multi_az must be true in prod: a lost zone must not stop the source; given: ${var.db_multi_az}."
  }
}

variable "db_backup_retention_days" {
  description = "How many days RDS keeps its daily backups and the log between them."
  type        = number
  default     = 7
  nullable    = false

  validation {
    condition     = var.db_backup_retention_days >= 1 && var.db_backup_retention_days <= 35 && floor(var.db_backup_retention_days) == var.db_backup_retention_days
    error_message = "db_backup_retention_days must be a whole number from 1 to 35; given: ${var.db_backup_retention_days}."
  }
  validation {
    condition     = var.db_backup_retention_days >= 7 || var.env != "prod"
    error_message = "db_backup_retention_days must be at least 7 in prod; given: ${var.db_backup_retention_days}."
  }
}

variable "db_deletion_protection" {
  description = "Whether the database refuses to be deleted until this is false again."
  type        = bool
  default     = false
  nullable    = false

  validation {
    condition     = var.db_deletion_protection || var.env != "prod"
    error_message = "db_deletion_protection must be true in prod; given: ${var.db_deletion_protection}."
  }
}

# The stream

variable "kinesis_stream_mode" {
  description = "PROVISIONED (kinesis_shards, cheapest at a steady load) or ON_DEMAND (AWS scales it, and it costs more)."
  type        = string
  default     = "PROVISIONED"
  nullable    = false

  validation {
    condition     = contains(["PROVISIONED", "ON_DEMAND"], var.kinesis_stream_mode)
    error_message = "kinesis_stream_mode must be PROVISIONED or ON_DEMAND; given: ${jsonencode(var.kinesis_stream_mode)}."
  }
}

variable "kinesis_shards" {
  description = "Shards of the stream when it is PROVISIONED: each takes 1 MB or 1000 records a second."
  type        = number
  default     = 2
  nullable    = false

  validation {
    condition     = var.kinesis_shards >= 1 && var.kinesis_shards <= 200 && floor(var.kinesis_shards) == var.kinesis_shards
    error_message = "kinesis_shards must be a whole number from 1 to 200; given: ${var.kinesis_shards}."
  }
}

variable "kinesis_retention_hours" {
  description = "How long the stream keeps records: the longest that Firehose may be down without losing any."
  type        = number
  default     = 24
  nullable    = false

  validation {
    condition     = var.kinesis_retention_hours >= 24 && var.kinesis_retention_hours <= 8760 && floor(var.kinesis_retention_hours) == var.kinesis_retention_hours
    error_message = "kinesis_retention_hours must be a whole number from 24 to 8760; given: ${var.kinesis_retention_hours}."
  }
}

# Change data capture

variable "dms_instance_class" {
  description = "Size of the DMS replication instance."
  type        = string
  default     = "dms.t3.micro"
  nullable    = false

  validation {
    condition     = can(regex("^dms\\.[a-z][a-z0-9]*\\.(micro|small|medium|large|[0-9]*xlarge)$", var.dms_instance_class))
    error_message = "dms_instance_class must look like dms.t3.micro or dms.r6i.2xlarge; given: ${jsonencode(var.dms_instance_class)}."
  }
}

variable "dms_engine_version" {
  description = "Version of DMS."
  type        = string
  default     = "3.6.1"
  nullable    = false

  # AWS makes no new instances of older versions.
  validation {
    condition     = can(regex("^3\\.(5\\.[4-9]|[6-9]\\.[0-9])$", var.dms_engine_version))
    error_message = "dms_engine_version must be a version 3 from 3.5.4 on, in full, like 3.6.1; given: ${jsonencode(var.dms_engine_version)}."
  }
  validation {
    condition     = !startswith(var.db_engine_version, "17") || !can(regex("^3\\.(5\\.|6\\.0)", var.dms_engine_version))
    error_message = "dms_engine_version must be 3.6.1 or later to read PostgreSQL 17 (db_engine_version ${var.db_engine_version}); given: ${jsonencode(var.dms_engine_version)}."
  }
}

variable "dms_multi_az" {
  description = "Whether a second replication instance stands by. Without one, capture stops with its zone and goes on from its slot."
  type        = bool
  default     = false
  nullable    = false
}

variable "dms_source_schemas" {
  description = "Schemas whose tables are replicated."
  type        = list(string)
  default     = ["public"]
  nullable    = false

  # Each schema takes a rule number out of each hundred in the task's table mappings.
  validation {
    condition     = length(var.dms_source_schemas) >= 1 && length(var.dms_source_schemas) <= 50
    error_message = "dms_source_schemas must name 1 to 50 schemas; given: ${length(var.dms_source_schemas)}."
  }
  validation {
    condition     = length(distinct(var.dms_source_schemas)) == length(var.dms_source_schemas)
    error_message = "dms_source_schemas must name each schema once; given: ${jsonencode(var.dms_source_schemas)}."
  }
  # DMS would take % and _% for patterns, and the names become folders in S3.
  validation {
    condition     = alltrue([for schema in var.dms_source_schemas : can(regex("^[a-z_][a-z0-9_]{0,62}$", schema))])
    error_message = "dms_source_schemas must be names of 1 to 63 lower-case letters, digits and underscores, without patterns; given: ${jsonencode(var.dms_source_schemas)}."
  }
  validation {
    condition     = alltrue([for schema in var.dms_source_schemas : schema == null ? true : !startswith(schema, "pg_") && schema != "information_schema"])
    error_message = "dms_source_schemas must not name PostgreSQL's own schemas (pg_…, information_schema); given: ${jsonencode(var.dms_source_schemas)}."
  }
}

variable "dms_source_password" {
  description = "Password of the user that DMS reads the source with. It goes to Secrets Manager and nowhere else: give it as TF_VAR_dms_source_password, never in a file."
  type        = string
  ephemeral   = true
  sensitive   = true
  nullable    = false

  validation {
    condition     = length(var.dms_source_password) >= 16 && length(var.dms_source_password) <= 128
    error_message = "dms_source_password must have 16 to 128 characters."
  }
  # DMS refuses + % ; and some more in a PostgreSQL password, and quotes are trouble everywhere;
  # what is allowed here is fewer than what works, and enough.
  validation {
    condition     = can(regex("^[A-Za-z0-9!#$*()_.~^=-]*$", var.dms_source_password))
    error_message = "dms_source_password may hold letters, digits and ! # $ * ( ) _ . ~ ^ = - only."
  }
}

variable "dms_create_account_roles" {
  description = "Whether to make dms-vpc-role and dms-cloudwatch-logs-role. An account has each once: false where they exist."
  type        = bool
  default     = true
  nullable    = false
}

variable "dms_start_task" {
  description = "Whether Terraform starts replication. Better not: test the connections first, then start it by command (output dms_start_command)."
  type        = bool
  default     = false
  nullable    = false
}

# Delivery to S3

variable "firehose_buffer_size_mb" {
  description = "How much Firehose gathers for a file, before compression."
  type        = number
  default     = 64
  nullable    = false

  # Firehose demands 64 when it partitions by schema and table.
  validation {
    condition     = var.firehose_buffer_size_mb >= 64 && var.firehose_buffer_size_mb <= 128 && floor(var.firehose_buffer_size_mb) == var.firehose_buffer_size_mb
    error_message = "firehose_buffer_size_mb must be a whole number from 64 (dynamic partitioning needs that much) to 128; given: ${var.firehose_buffer_size_mb}."
  }
}

variable "firehose_buffer_interval_seconds" {
  description = "How long Firehose gathers for a file at most: fresh data against few, large files."
  type        = number
  default     = 60
  nullable    = false

  # Delivery without buffering doesn't go together with dynamic partitioning.
  validation {
    condition     = var.firehose_buffer_interval_seconds >= 60 && var.firehose_buffer_interval_seconds <= 900 && floor(var.firehose_buffer_interval_seconds) == var.firehose_buffer_interval_seconds
    error_message = "firehose_buffer_interval_seconds must be a whole number from 60 (dynamic partitioning can't deliver sooner) to 900; given: ${var.firehose_buffer_interval_seconds}."
  }
}

# The Lambda functions

variable "transform_memory_mb" {
  description = "Memory of the transform function, and processor with it: a whole one at 1769 MB."
  type        = number
  default     = 512
  nullable    = false

  # Its libraries alone take about 150 MB.
  validation {
    condition     = var.transform_memory_mb >= 256 && var.transform_memory_mb <= 10240 && floor(var.transform_memory_mb) == var.transform_memory_mb
    error_message = "transform_memory_mb must be a whole number from 256 to 10240; given: ${var.transform_memory_mb}."
  }
}

variable "transform_max_concurrency" {
  description = "How many transform functions SQS runs at once. A table has one writer, so more than there are busy tables only wait."
  type        = number
  default     = 5
  nullable    = false

  validation {
    condition     = var.transform_max_concurrency >= 2 && var.transform_max_concurrency <= 1000 && floor(var.transform_max_concurrency) == var.transform_max_concurrency
    error_message = "transform_max_concurrency must be a whole number from 2 to 1000 (SQS's limits); given: ${var.transform_max_concurrency}."
  }
}

variable "ml_memory_mb" {
  description = "Memory of the ML function, and processor with it."
  type        = number
  default     = 1024
  nullable    = false

  validation {
    condition     = var.ml_memory_mb >= 256 && var.ml_memory_mb <= 10240 && floor(var.ml_memory_mb) == var.ml_memory_mb
    error_message = "ml_memory_mb must be a whole number from 256 to 10240; given: ${var.ml_memory_mb}."
  }
}

variable "ml_schedule_expression" {
  description = "When the ML function runs: rate(…) or cron(…), in UTC."
  type        = string
  default     = "rate(1 hour)"
  nullable    = false

  # EventBridge says 1 hour and 2 hours, and refuses 1 hours.
  validation {
    condition = (
      can(regex("^rate\\((1 (minute|hour|day)|([2-9]|[1-9][0-9]+) (minutes|hours|days))\\)$", var.ml_schedule_expression)) ||
      can(regex(local.cron_pattern, var.ml_schedule_expression))
    )
    error_message = "ml_schedule_expression must be rate(1 minute|hour|day), rate(N minutes|hours|days) with N from 2 on, or cron(minute hour day-of-month month day-of-week year); given: ${jsonencode(var.ml_schedule_expression)}."
  }
  validation {
    condition     = !can(regex(local.cron_pattern, var.ml_schedule_expression)) || can(regex(local.cron_one_day_pattern, var.ml_schedule_expression))
    error_message = "ml_schedule_expression must have a ? in exactly one of cron's day-of-month and day-of-week; given: ${jsonencode(var.ml_schedule_expression)}."
  }
}

# Catalogue and queries

variable "crawler_schedule" {
  description = "When the Glue crawlers run, in UTC: cron(…), or null for by hand only. Each run costs ten minutes at least, so hourly is about $200 a month and daily $9."
  type        = string
  default     = "cron(0 3 * * ? *)"

  validation {
    condition     = var.crawler_schedule == null || can(regex(local.cron_pattern, var.crawler_schedule))
    error_message = "crawler_schedule must be null or cron(minute hour day-of-month month day-of-week year); given: ${jsonencode(var.crawler_schedule)}."
  }
  validation {
    condition     = !can(regex(local.cron_pattern, var.crawler_schedule)) || can(regex(local.cron_one_day_pattern, var.crawler_schedule))
    error_message = "crawler_schedule must have a ? in exactly one of cron's day-of-month and day-of-week; given: ${jsonencode(var.crawler_schedule)}."
  }
}

variable "athena_scan_limit_mb" {
  description = "How much one query may read before Athena stops it: 10240 is about five cents."
  type        = number
  default     = 10240
  nullable    = false

  validation {
    condition     = var.athena_scan_limit_mb >= 10 && var.athena_scan_limit_mb <= 10485760 && floor(var.athena_scan_limit_mb) == var.athena_scan_limit_mb
    error_message = "athena_scan_limit_mb must be a whole number from 10 (Athena's least) to 10485760 (10 TB); given: ${var.athena_scan_limit_mb}."
  }
}

# Operation

variable "log_retention_days" {
  description = "How long the logs are kept."
  type        = number
  default     = 7
  nullable    = false

  # 0 would keep them for ever, and is not among these on purpose.
  validation {
    condition = contains(
      [1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653],
      var.log_retention_days
    )
    error_message = "log_retention_days must be one of CloudWatch's: 1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288 or 3653; given: ${var.log_retention_days}."
  }
}

variable "alarm_email" {
  description = "Who is told of alarms; they must confirm a first e-mail. null tells nobody, and the topic can have other subscribers."
  type        = string
  default     = null

  validation {
    condition     = var.alarm_email == null || can(regex("^[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]+@([A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?\\.)+[A-Za-z]{2,}$", var.alarm_email))
    error_message = "alarm_email must be one e-mail address like someone@example.org, or null; given: ${jsonencode(var.alarm_email)}."
  }
}

# EventBridge and Glue write cron alike. The grammar stands here, beside the only two
# variables that are held to it, piece by piece because in one line nobody could read it.
locals {
  cron_values = [
    "[0-5]?[0-9]",
    "(?:[01]?[0-9]|2[0-3])",
    "(?:0?[1-9]|[12][0-9]|3[01])",
    "(?:0?[1-9]|1[0-2]|JAN|FEB|MAR|APR|MAY|JUN|JUL|AUG|SEP|OCT|NOV|DEC)",
    "(?:[1-7]|SUN|MON|TUE|WED|THU|FRI|SAT)",
    "(?:19[7-9][0-9]|20[0-9]{2}|21[0-9]{2})",
  ]
  # What a field may hold besides values, ranges, lists and steps.
  cron_specials = [
    "",
    "",
    "|\\?|L|LW|(?:0?[1-9]|[12][0-9]|3[01])W",
    "",
    "|\\?|L|(?:[1-7]|SUN|MON|TUE|WED|THU|FRI|SAT)(?:L|#[1-5])",
    "",
  ]
  cron_items = [for value in local.cron_values : "(?:\\*|${value}(?:-${value})?)(?:/[1-9][0-9]*)?"]
  cron_fields = [
    for i, item in local.cron_items : "(?:${item}(?:,${item})*${local.cron_specials[i]})"
  ]
  cron_pattern         = "^cron\\(${join(" ", local.cron_fields)}\\)$"
  cron_one_day_pattern = "^cron\\([^ ]+ [^ ]+ (?:\\? [^ ]+ [^ ?]+|[^ ?]+ [^ ]+ \\?) [^ ]+\\)$"
}
