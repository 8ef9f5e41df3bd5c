# Credentials come from the environment, a profile or a role, never from here.
provider "aws" {
  region = var.region

  # Tags are set in this one place, so that no resource can be without them.
  default_tags {
    tags = local.default_tags
  }
}
