# Names, places and tags.
# One run for each way to be wrong, and one for the values just inside.

mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  dms_source_password = "made-up-for-tests"
}

run "accepts_the_shortest_names" {
  command = plan
  variables {
    project_name = "abc"
    env          = "dev"
    region       = "us-east-1"
    extra_tags   = {}
  }
}

run "accepts_the_longest_names" {
  command = plan
  variables {
    project_name = "a2345678-012345678-0ab"
    env          = "staging"
    region       = "us-gov-west-1"
    extra_tags   = { "Owner" = "data@example.org", "cost centre" = "", "a.b:c/d" = "1 + 1 = 2", "Stage" = "x", "Team" = "y", "Ünit" = "z", "Seven" = "7" }
  }
}

run "accepts_the_other_environments" {
  command = plan
  variables {
    env          = "test"
    region       = "ap-southeast-2"
    project_name = "s3-lake"
  }
}

run "accepts_tags_at_their_longest" {
  command = plan
  variables {
    extra_tags = { (format("%0128d", 0)) = format("%0256d", 0) }
  }
}

run "rejects_a_project_name_of_two_letters" {
  command = plan
  variables {
    project_name = "ab"
  }
  expect_failures = [var.project_name]
}

run "rejects_a_project_name_of_23_letters" {
  command = plan
  variables {
    project_name = "a2345678-012345678-0abc"
  }
  expect_failures = [var.project_name]
}

run "rejects_an_upper_case_project_name" {
  command = plan
  variables {
    project_name = "SmartStream"
  }
  expect_failures = [var.project_name]
}

run "rejects_a_project_name_with_two_hyphens_in_a_row" {
  command = plan
  variables {
    project_name = "smart--stream"
  }
  expect_failures = [var.project_name]
}

run "rejects_a_project_name_that_ends_with_a_hyphen" {
  command = plan
  variables {
    project_name = "smart-"
  }
  expect_failures = [var.project_name]
}

run "rejects_a_project_name_that_starts_with_a_digit" {
  command = plan
  variables {
    project_name = "1smart"
  }
  expect_failures = [var.project_name]
}

run "rejects_a_project_name_with_an_underscore" {
  command = plan
  variables {
    project_name = "smart_stream"
  }
  expect_failures = [var.project_name]
}

run "rejects_a_project_name_that_s3_reserves" {
  command = plan
  variables {
    project_name = "sthree-lake"
  }
  expect_failures = [var.project_name]
}

run "rejects_a_project_name_of_s3_examples" {
  command = plan
  variables {
    project_name = "amzn-s3-demo-lake"
  }
  expect_failures = [var.project_name]
}

run "rejects_an_unknown_environment" {
  command = plan
  variables {
    env = "production"
  }
  expect_failures = [var.env]
}

run "rejects_an_upper_case_environment" {
  command = plan
  variables {
    env = "PROD"
  }
  expect_failures = [var.env]
}

run "rejects_a_zone_for_a_region" {
  command = plan
  variables {
    region = "eu-north-1a"
  }
  expect_failures = [var.region]
}

run "rejects_a_region_without_its_number" {
  command = plan
  variables {
    region = "eu-north"
  }
  expect_failures = [var.region]
}

run "rejects_a_region_of_no_direction" {
  command = plan
  variables {
    region = "eu-nroth-1"
  }
  expect_failures = [var.region]
}

run "rejects_an_upper_case_region" {
  command = plan
  variables {
    region = "EU-NORTH-1"
  }
  expect_failures = [var.region]
}

run "rejects_eight_extra_tags" {
  command = plan
  variables {
    extra_tags = { "Key0" = "v", "Key1" = "v", "Key2" = "v", "Key3" = "v", "Key4" = "v", "Key5" = "v", "Key6" = "v", "Key7" = "v" }
  }
  expect_failures = [var.extra_tags]
}

run "rejects_a_tag_key_of_129_letters" {
  command = plan
  variables {
    extra_tags = { (format("%0129d", 0)) = "v" }
  }
  expect_failures = [var.extra_tags]
}

run "rejects_a_tag_value_of_257_letters" {
  command = plan
  variables {
    extra_tags = { Owner = format("%0257d", 0) }
  }
  expect_failures = [var.extra_tags]
}

run "rejects_a_tag_with_a_comma" {
  command = plan
  variables {
    extra_tags = { "Owner" = "me, myself" }
  }
  expect_failures = [var.extra_tags]
}

run "rejects_a_tag_without_a_key" {
  command = plan
  variables {
    extra_tags = { "" = "v" }
  }
  expect_failures = [var.extra_tags]
}

run "rejects_a_tag_key_that_aws_reserves" {
  command = plan
  variables {
    extra_tags = { "AWS:owner" = "v" }
  }
  expect_failures = [var.extra_tags]
}

run "rejects_another_value_for_our_own_tag" {
  command = plan
  variables {
    extra_tags = { "project" = "v" }
  }
  expect_failures = [var.extra_tags]
}
