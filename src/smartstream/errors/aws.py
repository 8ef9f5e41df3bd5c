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


class TerraformInvalid(AwsError):
    """A Terraform variable, or a file that sets variables, is wrong."""

    exit_code = ExitCode.CONFIGURATION
    hint = "Correct it as terraform/variables.tf describes the variable, then try again."


class PriceUnknown(AwsError):
    """The price file has no price for something in the configuration."""

    exit_code = ExitCode.CONFIGURATION
    hint = "Choose a class that has a price, or add its price to src/smartstream/aws/cost/prices.json."
