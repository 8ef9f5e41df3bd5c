# A stack that may lose a zone without losing data, and that nobody deletes by mistake.
# Sizes are for some hundred changes a second: measure, then change them.

env = "prod"

# Three zones, so that losing one still leaves RDS its second. No way to the internet.
az_count         = 3
egress_mode      = "vpc_endpoints"
enable_flow_logs = true

# Whoever may read the data is decided in one key's policy, and each use of it is logged.
use_customer_managed_key = true
force_destroy_buckets    = false

# Raw files can rebuild every table: half a year at once, three years from Glacier.
raw_glacier_after_days     = 180
raw_expire_after_days      = 1095
athena_results_expire_days = 30

db_instance_class           = "db.m6g.large"
db_allocated_storage_gb     = 100
db_max_allocated_storage_gb = 1000
db_multi_az                 = true
db_deletion_protection      = true
db_backup_retention_days    = 35

# A week to notice and repair a broken delivery before records are lost.
kinesis_shards          = 4
kinesis_retention_hours = 168

dms_instance_class = "dms.r6i.large"
dms_multi_az       = true

transform_memory_mb       = 2048
transform_max_concurrency = 20
ml_memory_mb              = 2048

log_retention_days   = 365
athena_scan_limit_mb = 102400

# Put your own here, and confirm the e-mail that AWS sends to it.
alarm_email = "data-alarms@example.org"
