# DMS: a full load, then changes, from PostgreSQL into the stream.
#
# The source needs once, by the master user (DEPLOYMENT_CHECKLIST.md has the commands):
# the role dms_replication with LOGIN and rds_replication and SELECT on the tables, a schema
# awsdms that it owns, and in that schema the table and the event trigger by which DMS sees DDL,
# because only rds_superuser may create an event trigger. So DMS never gets the master user.

locals {
  dms_schema = "awsdms"

  # Text, json and bytea beyond this arrive cut off, and the transform function quarantines what
  # is as long as this. A message holds 1 MiB, with all columns of a row in it.
  dms_lob_kb_max = 64

  # An underscore in DMS's patterns stands for any character.
  dms_schema_patterns = [for schema in var.dms_source_schemas : replace(schema, "_", "[_]")]

  dms_table_mappings = {
    rules = concat(
      [for i, pattern in local.dms_schema_patterns : {
        "rule-type"      = "selection"
        "rule-id"        = tostring(i + 1)
        "rule-name"      = "include-${var.dms_source_schemas[i]}"
        "object-locator" = { "schema-name" = pattern, "table-name" = "%" }
        "rule-action"    = "include"
      }],
      # DMS's own tables, wherever they were made.
      [{
        "rule-type"      = "selection"
        "rule-id"        = "101"
        "rule-name"      = "exclude-own-tables"
        "object-locator" = { "schema-name" = "%", "table-name" = "awsdms[_]%" }
        "rule-action"    = "exclude"
      }],
      # By primary key, so that one busy table uses all shards. Changes of a row stay in order;
      # between rows the order comes from stream-position.
      [for i, pattern in local.dms_schema_patterns : {
        "rule-type"          = "object-mapping"
        "rule-id"            = tostring(i + 201)
        "rule-name"          = "map-${var.dms_source_schemas[i]}"
        "object-locator"     = { "schema-name" = pattern, "table-name" = "%" }
        "rule-action"        = "map-record-to-record"
        "mapping-parameters" = { "partition-key-type" = "primary-key" }
      }]
    )
  }

  # Every section, because DMS fills what is left out with defaults that differ by version.
  dms_task_settings = {
    TargetMetadata = {
      # BatchApply may lose changes when the target is Kinesis.
      BatchApplyEnabled = false
      # Limited size: full LOB mode would look up each value in the source, row by row.
      SupportLobs        = true
      FullLobMode        = false
      LimitedSizeLobMode = true
      LobMaxSize         = local.dms_lob_kb_max
      # Threads to the stream. They also make changes be partitioned by primary key; without
      # them CDC uses schema and table, and a table is bound to one shard.
      ParallelLoadThreads          = 4
      ParallelLoadBufferSize       = 100
      ParallelLoadQueuesPerThread  = 5
      ParallelApplyThreads         = 4
      ParallelApplyBufferSize      = 100
      ParallelApplyQueuesPerThread = 4
    }
    FullLoadSettings = {
      # A stream has no tables to drop or empty.
      TargetTablePrepMode = "DO_NOTHING"
      # Small: DMS reserves LobMaxSize for each LOB of each row in a batch, and a t3.micro has 1 GB.
      MaxFullLoadSubTasks = 4
      CommitRate          = 1000
      # Goes on to changes by itself.
      StopTaskCachedChangesApplied    = false
      StopTaskCachedChangesNotApplied = false
      # How long it waits for the source's open transactions before it loads without them.
      TransactionConsistencyTimeout = 600
    }
    # The old key of a row whose key was updated stands nowhere else. Only keys: other columns
    # would double the stream.
    BeforeImageSettings = {
      EnableBeforeImage = true
      FieldName         = "before-image"
      ColumnFilter      = "pk-only"
    }
    # The default level. Detailed debug would write row values to the log.
    # The group is dms-tasks-<instance>; DMS refuses a CloudWatchLogGroup when a task is created.
    Logging = {
      EnableLogging = true
      LogComponents = [
        for component in ["SOURCE_UNLOAD", "SOURCE_CAPTURE", "TARGET_LOAD", "TARGET_APPLY", "TASK_MANAGER"] :
        { Id = component, Severity = "LOGGER_SEVERITY_DEFAULT" }
      ]
    }
    # Would be sent into the stream as tables without a schema.
    ControlTablesSettings = {
      HistoryTableEnabled           = false
      SuspendedTablesTableEnabled   = false
      StatusTableEnabled            = false
      FullLoadExceptionTableEnabled = false
    }
    ChangeProcessingDdlHandlingPolicy = {
      HandleSourceTableDropped   = true
      HandleSourceTableTruncated = true
      HandleSourceTableAltered   = true
    }
    # Half of DMS's defaults for memory, for the same t3.micro: what exceeds it goes to the disk.
    ChangeProcessingTuning = {
      MinTransactionSize = 1000
      CommitTimeout      = 1
      MemoryLimitTotal   = 512
      MemoryKeepTime     = 60
      StatementCacheSize = 50
    }
    StreamBufferSettings = {
      StreamBufferCount        = 3
      StreamBufferSizeInMB     = 8
      CtrlStreamBufferSizeInMB = 5
    }
    # By default DMS logs a bad row or suspends its table, and goes on: rows would be missing and
    # nobody would know. A stopped task is told to the topic, and goes on from its slot.
    ErrorBehavior = {
      DataErrorPolicy        = "STOP_TASK"
      TableErrorPolicy       = "STOP_TASK"
      FailOnNoTablesCaptured = true
      # A LOB that was cut off is found by its length, and doesn't stop all the others.
      DataTruncationErrorPolicy = "LOG_ERROR"
      # A lost connection is tried again for ever, with pauses of up to half an hour; the alarms
      # on latency and on the slot tell how it goes.
      RecoverableErrorCount                       = -1
      RecoverableErrorInterval                    = 5
      RecoverableErrorThrottling                  = true
      RecoverableErrorThrottlingMax               = 1800
      RecoverableErrorStopRetryAfterThrottlingMax = false
    }
    # DMS can't read a stream back; "smartstream verify" compares the lake with the source.
    ValidationSettings = {
      EnableValidation = false
    }
  }
}

resource "aws_dms_replication_subnet_group" "this" {
  replication_subnet_group_id          = local.name
  replication_subnet_group_description = "${local.name}: private subnets"
  subnet_ids                           = aws_subnet.private[*].id

  # Without dms-vpc-role and its policy DMS refuses to make the group.
  depends_on = [aws_iam_role_policy_attachment.dms_vpc]
}

resource "aws_dms_replication_instance" "this" {
  replication_instance_id    = local.replication_instance
  replication_instance_class = var.dms_instance_class
  engine_version             = var.dms_engine_version
  # An upgrade behind Terraform's back would be planned away again, and restart capture at an
  # hour that nobody chose.
  auto_minor_version_upgrade = false
  # As much as comes with the instance's price. Changes wait here while the stream can't take them.
  allocated_storage            = 50
  kms_key_arn                  = local.data_key_arn
  multi_az                     = var.dms_multi_az
  publicly_accessible          = false
  replication_subnet_group_id  = aws_dms_replication_subnet_group.this.id
  vpc_security_group_ids       = [aws_security_group.dms.id]
  preferred_maintenance_window = "sun:04:00-sun:05:00"

  depends_on = [aws_iam_role_policy_attachment.dms_logs, aws_cloudwatch_log_group.this]
}

resource "aws_dms_endpoint" "source" {
  endpoint_id   = "${local.name}-source"
  endpoint_type = "source"
  engine_name   = "postgres"
  database_name = var.db_name
  # rds.force_ssl refuses anything less.
  ssl_mode                        = "require"
  kms_key_arn                     = local.data_key_arn
  secrets_manager_arn             = aws_secretsmanager_secret.dms_source.arn
  secrets_manager_access_role_arn = aws_iam_role.dms_secrets.arn

  postgres_settings {
    # An idle database confirms nothing, and its slot would keep the WAL of its neighbours.
    heartbeat_enable    = true
    heartbeat_frequency = 5
    heartbeat_schema    = local.dms_schema
    # pglogical doesn't work with REPLICA IDENTITY FULL.
    plugin_name          = "test-decoding"
    capture_ddls         = true
    ddl_artifacts_schema = local.dms_schema
    # Cut off and quarantined instead: one large value must not stop the others.
    fail_tasks_on_lob_truncation = false
  }

  depends_on = [aws_iam_role_policy.dms_secrets, aws_secretsmanager_secret_version.dms_source]
}

resource "aws_dms_endpoint" "target" {
  endpoint_id   = "${local.name}-target"
  endpoint_type = "target"
  engine_name   = "kinesis"
  kms_key_arn   = local.data_key_arn

  kinesis_settings {
    stream_arn              = aws_kinesis_stream.cdc.arn
    service_access_role_arn = aws_iam_role.dms_kinesis.arn
    # One line and a newline for each record, as Firehose puts them into files.
    message_format = "json-unformatted"
    # The order of changes: transaction-id, stream-position and commit-timestamp.
    include_transaction_details = true
    include_partition_value     = true
    # Without the table, equal keys of two tables would share their place.
    partition_include_schema_table = true
    # Hints about DDL, with the columns' types. They aren't ordered with the data.
    include_table_alter_operations = true
    include_control_details        = true
    # A null must be told from a column that isn't there.
    include_null_and_empty = true
    # Otherwise a bigint beyond 16 digits becomes 1.2345E+17, and is another number.
    use_large_integer_value = true
  }

  depends_on = [aws_iam_role_policy.dms_kinesis]
}

resource "aws_dms_replication_task" "this" {
  replication_task_id       = local.name
  migration_type            = "full-load-and-cdc"
  replication_instance_arn  = aws_dms_replication_instance.this.replication_instance_arn
  source_endpoint_arn       = aws_dms_endpoint.source.endpoint_arn
  target_endpoint_arn       = aws_dms_endpoint.target.endpoint_arn
  start_replication_task    = var.dms_start_task
  table_mappings            = jsonencode(local.dms_table_mappings)
  replication_task_settings = jsonencode(local.dms_task_settings)

  lifecycle {
    # DMS answers with settings of its own added, so every plan would show a change. The price:
    # a changed setting isn't noticed either. Stop the task, then
    #   terraform apply -replace=aws_dms_replication_task.this
    # makes it anew, with a full load; aws dms modify-replication-task changes it in place.
    ignore_changes = [replication_task_settings]
  }

  # Firehose reads only what comes after it exists: it must be there before the first record, or
  # the full load is lost. The way out of the VPC must be there before DMS wants to use it.
  depends_on = [
    aws_kinesis_firehose_delivery_stream.raw,
    aws_route.private_nat,
    aws_route_table_association.private,
    aws_vpc_endpoint.interface,
    aws_vpc_security_group_egress_rule.dms_https,
    aws_vpc_security_group_egress_rule.dms_to_endpoints,
    aws_vpc_security_group_egress_rule.dms_to_rds,
    aws_vpc_security_group_ingress_rule.endpoints_from_dms,
    aws_vpc_security_group_ingress_rule.rds_from_dms,
  ]
}

# A task that stops reports no metrics any more, so that no alarm sees it: DMS itself must tell.
resource "aws_dms_event_subscription" "task" {
  name             = "${local.name}-task"
  enabled          = true
  source_type      = "replication-task"
  source_ids       = [aws_dms_replication_task.this.replication_task_id]
  event_categories = ["failure", "state change"]
  sns_topic_arn    = aws_sns_topic.alerts.arn
}
