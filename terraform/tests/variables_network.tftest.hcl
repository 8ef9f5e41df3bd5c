# The network.
# One run for each way to be wrong, and one for the values just inside.

mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  dms_source_password = "made-up-for-tests"
}

run "accepts_the_largest_network" {
  command = plan
  variables {
    vpc_cidr         = "10.0.0.0/16"
    az_count         = 3
    egress_mode      = "nat"
    enable_flow_logs = false
  }
}

run "accepts_the_smallest_network" {
  command = plan
  variables {
    vpc_cidr    = "172.31.252.0/22"
    az_count    = 2
    egress_mode = "vpc_endpoints"
  }
}

run "accepts_the_third_private_range" {
  command = plan
  variables {
    vpc_cidr = "192.168.0.0/16"
  }
}

run "accepts_the_first_network_of_172" {
  command = plan
  variables {
    vpc_cidr = "172.16.0.0/16"
  }
}

run "rejects_an_address_without_a_size" {
  command = plan
  variables {
    vpc_cidr = "10.20.0.0"
  }
  expect_failures = [var.vpc_cidr]
}

run "rejects_a_network_with_host_bits" {
  command = plan
  variables {
    vpc_cidr = "10.20.0.1/16"
  }
  expect_failures = [var.vpc_cidr]
}

run "rejects_a_number_above_255" {
  command = plan
  variables {
    vpc_cidr = "10.256.0.0/16"
  }
  expect_failures = [var.vpc_cidr]
}

run "rejects_an_ipv6_network" {
  command = plan
  variables {
    vpc_cidr = "fd00::/16"
  }
  expect_failures = [var.vpc_cidr]
}

run "rejects_a_network_of_15_bits" {
  command = plan
  variables {
    vpc_cidr = "10.20.0.0/15"
  }
  expect_failures = [var.vpc_cidr]
}

run "rejects_a_network_of_23_bits" {
  command = plan
  variables {
    vpc_cidr = "10.20.0.0/23"
  }
  expect_failures = [var.vpc_cidr]
}

run "rejects_a_public_network" {
  command = plan
  variables {
    vpc_cidr = "11.0.0.0/16"
  }
  expect_failures = [var.vpc_cidr]
}

run "rejects_the_network_below_the_second_private_range" {
  command = plan
  variables {
    vpc_cidr = "172.15.0.0/16"
  }
  expect_failures = [var.vpc_cidr]
}

run "rejects_the_network_above_the_second_private_range" {
  command = plan
  variables {
    vpc_cidr = "172.32.0.0/16"
  }
  expect_failures = [var.vpc_cidr]
}

run "rejects_the_network_above_the_third_private_range" {
  command = plan
  variables {
    vpc_cidr = "192.169.0.0/16"
  }
  expect_failures = [var.vpc_cidr]
}

run "rejects_one_zone" {
  command = plan
  variables {
    az_count = 1
  }
  expect_failures = [var.az_count]
}

run "rejects_four_zones" {
  command = plan
  variables {
    az_count = 4
  }
  expect_failures = [var.az_count]
}

run "rejects_two_and_a_half_zones" {
  command = plan
  variables {
    az_count = 2.5
  }
  expect_failures = [var.az_count]
}

run "rejects_an_unknown_egress" {
  command = plan
  variables {
    egress_mode = "internet"
  }
  expect_failures = [var.egress_mode]
}

run "rejects_an_upper_case_egress" {
  command = plan
  variables {
    egress_mode = "NAT"
  }
  expect_failures = [var.egress_mode]
}
