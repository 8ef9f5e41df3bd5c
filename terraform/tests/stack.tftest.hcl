# The stack as a whole: what its defaults make, and what the larger switches change.

mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  dms_source_password = "made-up-for-tests"
}

run "defaults_make_the_seeds_pipeline" {
  command = plan

  assert {
    condition     = output.name_prefix == "smartstream-dev" && output.region == "eu-north-1"
    error_message = "Names begin with project and environment, in the default region; planned: ${output.name_prefix}, ${output.region}."
  }
  assert {
    condition     = aws_kinesis_stream.cdc.shard_count == 2
    error_message = "The stream has two shards; planned: ${aws_kinesis_stream.cdc.shard_count}."
  }
  assert {
    condition     = aws_lambda_function.transform.memory_size == 512 && aws_lambda_function.ml.memory_size == 1024
    error_message = "The functions have 512 and 1024 MB."
  }
  assert {
    condition     = length(aws_cloudwatch_log_group.this) == 7
    error_message = "There are seven log groups; planned: ${length(aws_cloudwatch_log_group.this)}."
  }
  assert {
    condition     = length(aws_subnet.public) == 2 && length(aws_subnet.private) == 2
    error_message = "There are two public and two private subnets."
  }
  assert {
    condition     = aws_scheduler_schedule.ml.schedule_expression == "rate(1 hour)"
    error_message = "The ML function runs each hour; planned: ${aws_scheduler_schedule.ml.schedule_expression}."
  }
  assert {
    condition     = !aws_dms_replication_task.this.start_replication_task
    error_message = "Replication is started by command."
  }
}

run "a_nat_gateway_is_the_only_way_out" {
  command = plan

  variables {
    egress_mode = "nat"
  }
  assert {
    condition     = length(aws_nat_gateway.this) == 1 && length(aws_vpc_endpoint.interface) == 0
    error_message = "With nat there is one gateway and no interface endpoint."
  }
}

run "endpoints_make_the_nat_gateway_unnecessary" {
  command = plan

  variables {
    egress_mode = "vpc_endpoints"
  }
  assert {
    condition     = toset(keys(aws_vpc_endpoint.interface)) == toset(["kinesis-streams", "secretsmanager"])
    error_message = "Each endpoint costs: only those that DMS needs are wanted; planned: ${join(", ", keys(aws_vpc_endpoint.interface))}."
  }
  assert {
    condition     = length(aws_nat_gateway.this) + length(aws_internet_gateway.this) + length(aws_eip.nat) + length(aws_subnet.public) == 0
    error_message = "Without NAT nothing in the VPC has a way to the internet."
  }
  assert {
    condition     = output.nat_public_ip == null && length(output.public_subnet_ids) == 0
    error_message = "Outputs of what isn't there are empty."
  }
}

run "three_zones_have_three_subnets_each" {
  command = plan

  variables {
    az_count = 3
    vpc_cidr = "10.0.0.0/22"
  }
  assert {
    condition     = length(distinct(concat(aws_subnet.private[*].cidr_block, aws_subnet.public[*].cidr_block))) == 6
    error_message = "Subnets have different addresses: ${join(", ", concat(aws_subnet.private[*].cidr_block, aws_subnet.public[*].cidr_block))}."
  }
  assert {
    condition     = length(distinct(aws_subnet.private[*].availability_zone)) == 3
    error_message = "Subnets are in different zones."
  }
}

run "a_key_of_the_customers_own_encrypts_all_data" {
  command = plan

  variables {
    use_customer_managed_key = true
  }
  assert {
    condition     = alltrue(concat([length(aws_kms_key.data) == 1], aws_kms_key.data[*].enable_key_rotation))
    error_message = "There is one key for data, and it is renewed each year."
  }
}

run "without_flow_logs_there_is_no_group_for_them" {
  command = plan

  variables {
    enable_flow_logs = false
  }
  assert {
    condition     = length(aws_flow_log.this) == 0 && length(aws_cloudwatch_log_group.this) == 6
    error_message = "Neither flow logs nor their group are planned."
  }
}

run "an_account_that_has_dms_roles_keeps_its_own" {
  command = plan

  variables {
    dms_create_account_roles = false
  }
  assert {
    condition     = length(aws_iam_role.dms_vpc) + length(aws_iam_role.dms_logs) == 0
    error_message = "The account's roles are not made a second time."
  }
}

run "a_stream_on_demand_has_no_shards_of_its_own" {
  command = plan

  variables {
    kinesis_stream_mode = "ON_DEMAND"
  }
  assert {
    condition     = one(aws_kinesis_stream.cdc.stream_mode_details[*].stream_mode) == "ON_DEMAND"
    error_message = "The stream is on demand."
  }
}

run "somebody_is_told_of_alarms_when_an_address_is_given" {
  command = plan

  variables {
    alarm_email = "someone@example.org"
  }
  assert {
    condition     = one(aws_sns_topic_subscription.email[*].endpoint) == "someone@example.org"
    error_message = "The address is subscribed to the topic."
  }
}
