"""The end of a stack: what would be lost, empty buckets, and Terraform's destroy."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from smartstream.aws.operate import crawl
from smartstream.aws.operate.calls import Aws, code_of
from smartstream.aws.operate.stack import StackOutputs
from smartstream.errors import AwsRefused, TerraformUnusable

COUNTED_MAX = 100_000
"""Versions of objects that are counted before one says "more than"."""
_BATCH = 1_000
"""Versions that S3 deletes at once."""

Run = Callable[..., "subprocess.CompletedProcess[Any]"]


@dataclass(frozen=True, slots=True)
class Loss:
    """Something that goes with the stack."""

    what: str
    detail: str


def buckets(stack: StackOutputs) -> tuple[str, ...]:
    """Return the stack's buckets: lake, results, access logs; the last is named as the others are."""
    lake, results = stack.bucket, stack.text("athena_results_bucket")
    logs = f"{stack.text('name_prefix')}-access-logs-{stack.text('account_id')}"
    return lake, results, logs


def check_unprotected(aws: Aws, stack: StackOutputs) -> None:
    """Make sure that Terraform can destroy the database, before anything is deleted.

    Raises:
        AwsRefused: it is protected from deletion, as in prod.
    """
    name = stack.text("name_prefix")
    try:
        found = aws.ask("rds", "describe_db_instances", f"db:{name}", DBInstanceIdentifier=name)
    except AwsRefused as error:
        if code_of(error).startswith("DBInstanceNotFound"):
            return
        raise
    if any(one.get("DeletionProtection") for one in found["DBInstances"]):
        raise AwsRefused(
            f"the database {name} is protected from deletion; nothing was deleted",
            hint="docs/aws.md, Removing the stack, says how a protected stack is removed on purpose.",
        )


def losses(aws: Aws, stack: StackOutputs) -> list[Loss]:
    """Return what destroying deletes for good; changes nothing."""
    found = [
        Loss("database", f"{stack.text('rds_database')} at {stack.text('rds_endpoint')}, with its backups")
    ]
    for bucket in buckets(stack):
        count = _count(aws, bucket)
        more = "more than " if count >= COUNTED_MAX else ""
        found.append(Loss(f"bucket {bucket}", f"{more}{count:,} versions of objects"))
    for zone, names in crawl.tables(aws, stack).items():
        if names:
            found.append(Loss(f"Glue zone {zone}", f"{len(names)} tables: {', '.join(names[:10])}"))
    return found


def empty(aws: Aws, bucket: str, tell: Callable[[str], None]) -> int:
    """Delete every version of every object of a bucket; return how many.

    Raises:
        AwsRefused: S3 does not delete one of them.
    """
    versions = _versions(aws, bucket)
    deleted = 0
    while batch := list(islice(versions, _BATCH)):
        answer = aws.change(
            "s3",
            "delete_objects",
            f"arn:aws:s3:::{bucket}/*",
            Bucket=bucket,
            Delete={"Objects": batch, "Quiet": True},
        )
        if refused := answer.get("Errors"):
            raise AwsRefused(f"S3 does not delete an object of {bucket}: {refused[0].get('Code')}")
        deleted += len(batch)
        tell(f"emptying {bucket}: {deleted:,} versions {'to delete' if aws.is_dry else 'deleted'}")
    return deleted


def delete_workgroup(aws: Aws, stack: StackOutputs) -> None:
    """Delete Athena's workgroup with the queries it remembers, which Terraform would not."""
    name = stack.text("athena_workgroup")
    aws.change("athena", "delete_work_group", f"workgroup {name}", WorkGroup=name, RecursiveDeleteOption=True)


def run_terraform(
    folder: Path,
    var_files: Sequence[Path],
    *,
    may_ask: bool,
    is_quiet: bool = False,
    run: Run = subprocess.run,
) -> None:
    """Run ``terraform destroy`` with its output shown as it comes.

    Args:
        may_ask: let Terraform ask for what is missing, such as dms_source_password.
        is_quiet: show its output on stderr, because stdout is for programs.
    Raises:
        TerraformUnusable: it is not installed, or has not destroyed everything.
    """
    command = ["terraform", f"-chdir={folder}", "destroy", "-auto-approve"]
    command += [] if may_ask else ["-input=false"]
    command += [f"-var-file={path.resolve()}" for path in var_files]
    try:
        ended = run(command, check=False, stdout=sys.stderr if is_quiet else None)
    except FileNotFoundError as error:
        raise TerraformUnusable("terraform is not installed, or not on the PATH") from error
    if ended.returncode:
        raise TerraformUnusable(
            "terraform destroy has not destroyed everything; its output says why",
            hint="docs/aws.md, Removing the stack, has the usual causes; then run it again.",
        )


def _count(aws: Aws, bucket: str) -> int:
    """Versions of a bucket, up to COUNTED_MAX."""
    return sum(1 for _ in islice(_versions(aws, bucket), COUNTED_MAX))


def _versions(aws: Aws, bucket: str) -> Any:
    """Versions and markers of deletion, as S3 takes them to delete; none of a bucket that is gone."""
    for key in ("Versions", "DeleteMarkers"):
        listed = aws.pages("s3", "list_object_versions", f"arn:aws:s3:::{bucket}", key, Bucket=bucket)
        try:
            for one in listed:
                yield {"Key": one["Key"], "VersionId": one["VersionId"]}
        except AwsRefused as error:
            if code_of(error) != "NoSuchBucket":
                raise
