terraform {
  # 1.11 brought write-only arguments, which keep the source's password out of state and plan.
  required_version = ">= 1.11.0, < 2.0.0"

  # There is no .terraform.lock.hcl in the repository on purpose: its checksums are those of
  # one place to install from, and people install from the registry and from mirrors of their
  # own, on different systems. Whoever deploys commits the one that terraform init writes.
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.100.0, < 7.0.0"
    }
  }
}
