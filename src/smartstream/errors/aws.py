"""The stack on AWS."""

from __future__ import annotations

from smartstream.errors.base import ExitCode, Retry, SmartStreamError


class AwsError(SmartStreamError):
    """The stack on AWS."""

    hint = "Look at the function's log group in CloudWatch, and at the alarms of the stack."


class EventMalformed(AwsError):
    """A Lambda function was called with an event that is not the one it is there for."""

    retry = Retry.NEVER
    hint = "The message ends in the dead-letter queue: look at it there, and find out what sends it."


class AwsUnavailable(AwsError):
    """A service of AWS does not answer, or refuses."""

    retry = Retry.TRANSIENT
    hint = "The message is delivered again; the log names a right that is missing."


class TableBusy(AwsError):
    """A table is being written by another function for longer than this one waits."""

    retry = Retry.TRANSIENT
    hint = "The message is delivered again; a lock whose holder died ends by itself after some minutes."


class DefinitionMissing(AwsError):
    """Changes of a table came before anything said what the table looks like."""

    retry = Retry.TRANSIENT
    hint = (
        "The message is delivered again. If no definition comes, put one below config/tables/ of the lake "
        "(`smartstream aws start --definitions` does), then `smartstream aws replay`."
    )


class DefinitionChanged(AwsError):
    """A table got another definition while a function was reading its records with the old one."""

    retry = Retry.TRANSIENT
    hint = "The records are read again with the new definition; the message is delivered again if need be."


class TerraformInvalid(AwsError):
    """A Terraform variable, or a file that sets variables, is wrong."""

    exit_code = ExitCode.CONFIGURATION
    hint = "Correct it as terraform/variables.tf describes the variable, then try again."


class PriceUnknown(AwsError):
    """The price file has no price for something in the configuration."""

    exit_code = ExitCode.CONFIGURATION
    hint = "Choose a class that has a price, or add its price to src/smartstream/aws/cost/prices.json."


class TerraformUnusable(AwsError):
    """Terraform is not installed, or ended with an error."""

    exit_code = ExitCode.CONFIGURATION
    hint = (
        "Install Terraform 1.11 or newer, run `terraform init` in the stack's folder, or give --outputs FILE."
    )


class StackMissing(AwsError):
    """The stack has not been applied, or lacks an output."""

    exit_code = ExitCode.CONFIGURATION
    hint = "Run `terraform apply` in the stack's folder; --stack DIR names another one."


class CredentialsUnusable(AwsError):
    """There are no credentials for AWS, or they have expired."""

    exit_code = ExitCode.CONFIGURATION
    hint = "Log in again (`aws sso login`, `aws configure`), or name a profile with --profile."


class AwsRightMissing(AwsError):
    """AWS refuses an action to these credentials."""

    hint = "Add the action on the resource to a policy of the role or user that you work as."


class AwsRefused(AwsError):
    """AWS refuses a call for another reason than a missing right."""

    hint = "The message names the call and AWS's code; `smartstream aws status` shows how the stack is."


class AwsTooSlow(AwsError):
    """Something in the stack has not come to where it should within the time given."""

    retry = Retry.TRANSIENT
    hint = "It goes on in AWS: look with `smartstream aws status`, or run it again with a longer --timeout."


class CaptureFailed(AwsError):
    """DMS or Firehose is not able to do its part."""

    hint = "docs/aws.md has a table of causes; `smartstream aws status` shows each hop."


class AthenaFailed(AwsError):
    """Athena could not answer a query."""

    hint = "Correct the statement; `smartstream aws crawl` lists the tables there are."
