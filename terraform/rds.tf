# The PostgreSQL source.
#
# No prevent_destroy, for the reason in s3.tf: db_deletion_protection does it, is a variable, and
# must be true in prod. (Terraform itself can't delete a protected instance.)

locals {
  # A slot whose reader is gone keeps WAL until the disk is full and the source stops. Up to a
  # quarter of the disk may go to it; beyond that PostgreSQL gives the slot up, and DMS must load
  # anew: the source goes first. The alarm comes at half of that.
  slot_wal_mb_max         = floor(var.db_allocated_storage_gb * 1024 / 4)
  slot_lag_alarm_bytes    = local.slot_wal_mb_max * 1048576 / 2
  free_storage_alarm_byte = floor(var.db_allocated_storage_gb * 1073741824 / 5)
}

resource "aws_db_subnet_group" "this" {
  name        = local.name
  description = "${local.name}: private subnets"
  subnet_ids  = aws_subnet.private[*].id
}

resource "aws_db_parameter_group" "this" {
  name_prefix = "${local.name}-"
  description = "${local.name}: logical replication, TLS only"
  family      = "postgres${split(".", var.db_engine_version)[0]}"

  # Static: a new instance starts with it; an instance that gets this group later needs a reboot.
  parameter {
    name         = "rds.logical_replication"
    value        = "1"
    apply_method = "pending-reboot"
  }
  # The default from PostgreSQL 15 on, and wanted in 14 as well.
  parameter {
    name  = "rds.force_ssl"
    value = "1"
  }
  # DMS takes 0 or at least 10 s here. Five minutes survive a stall of DMS, and let go of a
  # connection whose other end has died, which 0 never would: the slot stays taken with it.
  parameter {
    name  = "wal_sender_timeout"
    value = "300000"
  }
  parameter {
    name  = "max_slot_wal_keep_size"
    value = tostring(local.slot_wal_mb_max)
  }
  # Statements are not logged: their texts hold row values, and passwords in CREATE ROLE.
  parameter {
    name  = "log_statement"
    value = "none"
  }
  # Who came and went, on the other hand, holds nothing of the kind.
  parameter {
    name  = "log_connections"
    value = "1"
  }
  parameter {
    name  = "log_disconnections"
    value = "1"
  }

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_db_instance" "source" {
  identifier     = local.name
  engine         = "postgres"
  engine_version = var.db_engine_version
  # A major version takes minor ones as they come. A minor one that was named stays: an upgrade
  # behind Terraform's back would be planned away again, and there is no downgrade.
  auto_minor_version_upgrade = length(split(".", var.db_engine_version)) == 1
  instance_class             = var.db_instance_class

  storage_type          = "gp3"
  allocated_storage     = var.db_allocated_storage_gb
  max_allocated_storage = var.db_max_allocated_storage_gb
  storage_encrypted     = true
  kms_key_id            = local.data_key_arn

  db_name  = var.db_name
  username = var.db_username
  port     = local.db_port
  # RDS makes the master password, keeps it in Secrets Manager and rotates it.
  manage_master_user_password         = true
  master_user_secret_kms_key_id       = one(aws_kms_key.data[*].key_id)
  iam_database_authentication_enabled = true
  ca_cert_identifier                  = "rds-ca-rsa2048-g1"

  db_subnet_group_name   = aws_db_subnet_group.this.name
  vpc_security_group_ids = [aws_security_group.rds.id]
  publicly_accessible    = false
  multi_az               = var.db_multi_az
  parameter_group_name   = aws_db_parameter_group.this.name

  backup_retention_period   = var.db_backup_retention_days
  backup_window             = "02:00-02:30"
  maintenance_window        = "sun:03:00-sun:04:00"
  copy_tags_to_snapshot     = true
  deletion_protection       = var.db_deletion_protection
  skip_final_snapshot       = !local.is_prod
  final_snapshot_identifier = local.is_prod ? "${local.name}-final" : null
  apply_immediately         = !local.is_prod

  # The upgrade log would be an eighth group for a few lines a year; RDS shows it anyway.
  enabled_cloudwatch_logs_exports = ["postgresql"]
  # Seven days are free on every class that PostgreSQL runs on. Enhanced monitoring is off: it
  # bills a log line a second for what the alarms don't read.
  performance_insights_enabled          = true
  performance_insights_retention_period = 7
  performance_insights_kms_key_id       = local.data_key_arn

  depends_on = [aws_cloudwatch_log_group.this]
}
