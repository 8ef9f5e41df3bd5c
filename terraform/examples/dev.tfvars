# A stack to try things out in and throw away: everything runs, in its smallest size.
# Prepare the profile's plan with: terraform plan -var-file=examples/dev.tfvars

env = "dev"

# Nothing in the VPC needs the internet, and endpoints cost less than a NAT gateway.
egress_mode      = "vpc_endpoints"
enable_flow_logs = false

# So that terraform destroy leaves nothing behind and nothing in the way.
force_destroy_buckets    = true
db_deletion_protection   = false
db_backup_retention_days = 1

# Test data is small and soon of no interest.
raw_glacier_after_days     = 30
raw_expire_after_days      = 60
athena_results_expire_days = 1
kinesis_shards             = 1
log_retention_days         = 3

# A query that reads more than a gigabyte is a mistake here.
athena_scan_limit_mb = 1024
