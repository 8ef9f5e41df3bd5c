# The least that a stack which runs all month can cost. What is given up is said at each line.

env = "test"

# The NAT gateway is the default stack's largest cost, about 37 dollars a month with its
# address. Endpoints cost about 29 in two zones, and data through them less.
egress_mode      = "vpc_endpoints"
az_count         = 2
enable_flow_logs = false

# One shard: 1 MB or 1000 changes a second, half the stream's price.
kinesis_shards          = 1
kinesis_retention_hours = 24

# Graviton is about a tenth cheaper than the same size of t3. One zone, one day of backups,
# and a disk that doesn't grow: the alarm on free storage comes first.
db_instance_class           = "db.t4g.micro"
db_allocated_storage_gb     = 20
db_max_allocated_storage_gb = 0
db_multi_az                 = false
db_backup_retention_days    = 1

dms_instance_class = "dms.t3.micro"
dms_multi_az       = false

# Crawlers by hand only: the transform registers its tables itself, and each run of a
# crawler is billed for ten minutes.
crawler_schedule = null

# Fewer and larger files make fewer Lambda runs and S3 requests; data is up to 15 minutes old.
firehose_buffer_size_mb          = 128
firehose_buffer_interval_seconds = 900
ml_schedule_expression           = "rate(1 day)"

raw_glacier_after_days     = 30
raw_expire_after_days      = 120
athena_results_expire_days = 1
athena_scan_limit_mb       = 1024
log_retention_days         = 3
