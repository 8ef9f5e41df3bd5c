# The login that DMS reads the source with. RDS keeps the master user's password in a secret of
# its own, but DMS can't use that one: it names no host and no port, and RDS rotates it.
#
# The password comes in as an ephemeral variable and leaves through a write-only argument, so
# that neither state nor plan ever hold it.
#
# Rotation: change the role's password in PostgreSQL (psql's \password sends only its hash), then
#   terraform apply -replace=aws_secretsmanager_secret_version.dms_source
# with the new password in TF_VAR_dms_source_password, and stop and resume the task. It is not
# rotated by a schedule: that would take a function of its own inside the VPC, with the master
# user's rights, and break a running task at an hour that nobody chose.

locals {
  # Made in PostgreSQL once, by the master user; see dms.tf for what it may do.
  dms_login = "dms_replication"
  db_port   = 5432
}

resource "aws_secretsmanager_secret" "dms_source" {
  # A prefix, because a deleted secret keeps its name for the recovery window.
  name_prefix             = "${local.name}-dms-source-"
  description             = "DMS's login at the PostgreSQL source"
  kms_key_id              = local.data_key_arn
  recovery_window_in_days = local.is_prod ? 30 : 0
}

resource "aws_secretsmanager_secret_version" "dms_source" {
  secret_id = aws_secretsmanager_secret.dms_source.id
  secret_string_wo = jsonencode({
    username = local.dms_login
    password = var.dms_source_password
    host     = aws_db_instance.source.address
    port     = aws_db_instance.source.port
    dbname   = var.db_name
  })

  # Terraform can't compare what it doesn't keep: it writes again when this number changes. The
  # number stands for the parts that are no secret, so a database that moved is written at once.
  secret_string_wo_version = parseint(substr(sha256(join(" ", [
    aws_db_instance.source.address, aws_db_instance.source.port, var.db_name, local.dms_login
  ])), 0, 7), 16)
}
