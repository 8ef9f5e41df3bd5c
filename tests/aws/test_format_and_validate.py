"""The stack is formatted as Terraform formats, and valid without a warning."""

from __future__ import annotations

import shutil

import pytest

from tests.aws.terraform_runner import Terraform, TerraformFailed, describe


def test_every_file_is_formatted(initialized_stack: Terraform) -> None:
    done = initialized_stack.run("fmt", "-check", "-recursive", "-no-color", timeout_s=30, check=False)
    assert done.returncode == 0, f"run terraform fmt -recursive: {done.stdout.split()}{done.stderr}"


def test_a_file_that_is_not_formatted_is_noticed(terraform: Terraform) -> None:
    (terraform.folder / "examples" / "new.tfvars").write_text('env="dev"\n', encoding="utf-8")
    with pytest.raises(TerraformFailed, match=r"new\.tfvars"):
        terraform.run("fmt", "-check", "-recursive", "-no-color", timeout_s=30)


def test_the_stack_is_valid_without_a_warning(initialized_stack: Terraform) -> None:
    report = initialized_stack.validate()
    assert report["valid"] and not report["diagnostics"], describe(report["diagnostics"])


def test_the_stack_is_valid_before_the_lambda_packages_are_built(terraform: Terraform) -> None:
    shutil.rmtree(terraform.folder.parent / "build")
    report = terraform.validate()
    assert report["valid"] and not report["diagnostics"], describe(report["diagnostics"])


def test_an_argument_that_the_provider_does_not_know_is_noticed(terraform: Terraform) -> None:
    wrong = 'resource "aws_sqs_queue" "wrong" {\n  name    = "x"\n  visible = 1\n}\n'
    (terraform.folder / "wrong.tf").write_text(wrong, encoding="utf-8")
    report = terraform.validate()
    assert not report["valid"]
    assert "visible" in describe(report["diagnostics"])
