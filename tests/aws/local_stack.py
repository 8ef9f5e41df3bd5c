"""The whole stack on this machine: from a live PostgreSQL to equal rows in Iceberg, and predictions.

    python -m tests.aws.local_stack

The unmodified HCL on emulators, our functions in the emulator's Lambda, our commands from outside.
Loopback only, within ``--seconds``, and whatever it started has ended with it.
"""

from __future__ import annotations

import argparse
import random
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

import psycopg
from pyiceberg.exceptions import NoSuchTableError

from smartstream.delivery.records.options import UNKNOWN_COLUMN
from smartstream.testing.local_dms import Quirks
from tests.aws.applied_stack import VARIABLES, LocalStack, LocalStackFailed, eventually, local_stack, timed
from tests.aws.apply_drift import drift_of, is_expected
from tests.aws.local_project import MODEL, Project
from tests.aws.source_workload import (
    COMPARED,
    add_columns,
    expected,
    folded,
    work,
    work_on_new_columns,
)

TIME_LIMIT_SECONDS = 480  # on a machine with other work it may need more
DRAIN_SECONDS_MAX = 240.0
# AWS wants six times the function's timeout: half an hour until a message comes again.  Nothing here
# runs so long, and what comes again, five times until it is given up, is to be seen.
VISIBILITY_SECONDS = 12
POISON = "no announcement of S3"
PAY_BY_DEPARTMENT = (
    "SELECT d.name, count(*) AS people, CAST(sum(e.salary) AS varchar) AS pay,"
    " CAST(sum(e.bonus) AS varchar) AS bonuses"
    " FROM employees e JOIN departments d ON d.id = e.department_id GROUP BY d.name ORDER BY d.name"
)


def run(folder: Path, *, packages: Path | None, transactions: int, seed: int, quirks: Quirks) -> list[str]:
    """Apply, load, work, compare, score, plan, destroy; the lines of the report.

    Raises:
        LocalStackFailed: a hop lost something or took too long, or destroying left something.
    """
    choices = random.Random(seed)
    with local_stack(folder, packages=packages, quirks=quirks) as stack:
        project = Project.of(stack, folder / "project")
        visibility = _set_visibility(stack, str(VISIBILITY_SECONDS))
        with timed(stack.times, "smartstream aws start: connections and full load"):
            started = project.aws("start", "--config", str(project.folder), "--definitions", *_url(stack))
        stack.client("sqs").send_message(QueueUrl=stack.outputs["transform_queue_url"], MessageBody=POISON)
        with timed(stack.times, "the loaded rows in Iceberg, row for row, and their predictions"):
            loaded = _verified(stack, project, waiting=1)
            first = stack.call_schedule(MODEL)
        with timed(stack.times, f"{transactions} transactions and DDL, to Iceberg, row for row"):
            done = work(stack.source, transactions, choices)
            add_columns(stack.source)
            done += work_on_new_columns(stack.source, transactions, choices)
            done += work(stack.source, transactions // 4, choices)
            widened = _defined_anew(stack, project)
            changed = _verified(stack, project)
        with timed(stack.times, "the schedule's call, and the same by a local run"):
            second = stack.call_schedule(MODEL)
            project.aws("stop")
            predictions = _predictions(stack, folder)
        answer = _sql(stack, folder)
        hops = _hops(stack, done)
        _set_visibility(stack, visibility)
        with timed(stack.times, "terraform plan"):
            drift = _drift(stack)
    return [
        f"start         {started['connections']}, {started['started']}, {len(started['config'])} files",
        *_tables("after load", loaded),
        *hops,
        f"ADD COLUMN    {widened}",
        *_tables("after changes", changed),
        f"SQL           {answer}",
        f"predictions   {first}, then {second}; {predictions}",
        *drift,
        "destroy       has left nothing",
        *(f"{seconds:7.1f} s  {step}" for step, seconds in stack.times.items()),
        f"{sum(stack.times.values()):7.1f} s  together",
    ]


def _url(stack: LocalStack) -> tuple[str, str]:
    return "--url", stack.source


def _set_visibility(stack: LocalStack, seconds: str) -> str:
    """Let messages that failed come again after so long; how long it was."""
    sqs, queue = stack.client("sqs"), stack.outputs["transform_queue_url"]
    name = "VisibilityTimeout"
    before = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=[name])["Attributes"][name]
    sqs.set_queue_attributes(QueueUrl=queue, Attributes={name: seconds})
    return str(before)


def _verified(stack: LocalStack, project: Project, *, waiting: int = 0) -> dict[str, Any]:
    """What ``smartstream aws verify`` says once no more messages than so many wait."""
    _drain(stack, waiting)
    found = project.aws("verify", *_url(stack), "--wait", "60")
    ids = {one["table"] for one in found["tables"]}
    if not found["ok"] or found["counted"] or ids != {f"public.{name}" for name in COMPARED}:
        raise LocalStackFailed(f"verify: {found}")
    return found


def _drain(stack: LocalStack, waiting: int = 0) -> None:
    """Wait until the function has had all that DMS has sent."""
    eventually("Firehose delivers it all", lambda: _is_delivered(stack), DRAIN_SECONDS_MAX)
    queue = "transform_queue_url"
    eventually("the queue is empty", lambda: stack.queue_count(queue) <= waiting, DRAIN_SECONDS_MAX)


def _defined_anew(stack: LocalStack, project: Project) -> str:
    """What docs/formats/dms.md tells to do about a column whose values came before its definition.

    Control records are not ordered with the data, so that it is chance how many records wait.

    Raises:
        LocalStackFailed: something else is in quarantine.
    """
    _drain(stack, waiting=1)
    reasons = Counter(_quarantined(stack))
    if set(reasons) - {UNKNOWN_COLUMN}:
        raise LocalStackFailed(f"in quarantine: {reasons}")
    project.aws("start", "--definitions", *_url(stack))
    again = project.aws("replay", "--table", "public.employees")
    came = f"{reasons.total()} records came before their column's definition"
    return f"{came}; replayed {again['objects']} objects"


def _is_delivered(stack: LocalStack) -> bool:
    """Whether the raw zone has the source's rows, and all that DMS has sent until now."""
    records = stack.raw_records()
    return folded(records) == expected(stack.source) and len(records) >= stack.stream_count()


def _predictions(stack: LocalStack, folder: Path) -> str:
    """Have the local pipeline copy the same source and score it with the same project; both must agree."""
    asked = f"SELECT id, prediction, _model_sha256, _features_hash FROM analytics.{MODEL} ORDER BY id"
    local = Project.of(stack, folder / "local-project")
    local.run("run", "--once", "--progress", "plain")
    local.run("model", "run", MODEL)
    ours, theirs = local.sql(asked), Project.in_stack(stack, folder / "stack-project").sql(asked)
    if not ours or ours != theirs:
        raise LocalStackFailed(
            f"{len(ours)} predictions of the local run, {len(theirs)} of the function differ"
        )
    return f"{len(ours)} equal those of the local pipeline"


def _sql(stack: LocalStack, folder: Path) -> str:
    """The same question to the tables in Glue, through our own engine, and to the source."""
    theirs = Project.in_stack(stack, folder / "sql-project").sql(PAY_BY_DEPARTMENT)
    with psycopg.connect(stack.source) as connection:
        ours = connection.execute(PAY_BY_DEPARTMENT).fetchall()
    if not ours or [tuple(map(str, row.values())) for row in theirs] != [
        tuple(map(str, row)) for row in ours
    ]:
        raise LocalStackFailed(f"SQL: {theirs} of the lake, {ours} of the source")
    return f"{len(ours)} departments with {sum(row[1] for row in ours)} people, as in PostgreSQL"


def _hops(stack: LocalStack, done: Counter[str]) -> list[str]:
    """What each hop counts; the lines of the report.

    Raises:
        LocalStackFailed: some hop has other records than the one before it.
    """
    sent, records, stream_count = stack.sent(), stack.raw_records(), stack.stream_count()
    arrived = Counter(record["metadata"]["operation"] for record in records)
    errors = [name for name, _ in stack.objects("firehose-errors/")]
    for operation in ("insert", "update", "delete"):
        if not done[operation] == sent[operation] <= arrived[operation]:
            raise LocalStackFailed(f"{operation}s: {done}, then {sent}, then {arrived}")
    if stream_count != len(records) or errors:
        raise LocalStackFailed(f"{stream_count} records, {len(records)} in S3, errors {errors}")
    objects = sum(1 for _ in stack.objects("raw/"))
    waiting, dead = (stack.queue_count(name) for name in ("transform_queue_url", "transform_dlq_url"))
    if (waiting, dead) != (0, 1):
        raise LocalStackFailed(f"{waiting} messages wait and {dead} are dead, not only the poison message")
    said = list(_log(stack, "transform_function_name"))
    calls, refused = (sum(word in line for line in said) for word in ("REPORT Req", "message not processed"))
    if left := _quarantined(stack):
        raise LocalStackFailed(f"in quarantine: {Counter(left)}")
    catalog = stack.catalog()
    commits = {name: len(catalog.load_table(("trusted", name)).snapshots()) for name in COMPARED}
    return [
        f"workload      {dict(done)}, and ALTER TABLE … ADD COLUMN",
        f"DMS           {dict(sent)}",
        f"Kinesis       {stream_count} records",
        f"Firehose, S3  {len(records)} records in {objects} objects, {len(errors)} errors: {dict(arrived)}",
        f"SQS           {waiting} waiting; dead letters {dead}, the poison message",
        f"Lambda        {calls} calls of transform, {refused} messages refused",
        f"Iceberg       commits {commits}, nothing in quarantine",
    ]


def _log(stack: LocalStack, function: str) -> Iterator[str]:
    """The lines that a function logged."""
    pages = stack.client("logs").get_paginator("filter_log_events")
    for page in pages.paginate(logGroupName=f"/aws/lambda/{stack.outputs[function]}"):
        for event in page["events"]:
            yield event["message"]


def _quarantined(stack: LocalStack) -> list[str]:
    """Why records are in quarantine, once for each."""
    try:
        found = stack.catalog().load_table(("quarantine", "dms_records"))
    except NoSuchTableError:
        return []
    return list(found.scan(selected_fields=("reason",)).to_arrow()["reason"].to_pylist())


def _tables(when: str, found: Mapping[str, Any]) -> list[str]:
    """One line for each table that was compared."""
    return [
        f"verify        {when}: {one['table']}: {one['source_rows']} rows = {one['lake_rows']},"
        f" checksum {one['lake_checksum']}"
        for one in found["tables"]
    ]


def _drift(stack: LocalStack) -> list[str]:
    """What a plan would change now; it must be what emulators are known to forget."""
    drift = sorted(drift_of(stack.terraform.plan_json(VARIABLES)))
    if unknown := [one for one in drift if not is_expected(*one)]:
        raise LocalStackFailed(f"a plan after the apply wants to change {unknown}")
    return [f"drift         {address}: {field}" for address, field in drift]


def _out_of_time(number: int, frame: FrameType | None) -> None:
    raise LocalStackFailed("not done in time")


def main() -> None:
    """Run it, and print the report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--transactions", type=int, default=60)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    parser.add_argument("--packages", type=Path, help="folder of Lambda packages, such as build/lambdas")
    parser.add_argument("--duplicates", type=float, default=0.05, help="share of records that come twice")
    parser.add_argument("--seconds", type=int, default=TIME_LIMIT_SECONDS, help="after which it gives up")
    told = parser.parse_args()
    signal.signal(signal.SIGALRM, _out_of_time)
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(1))
    signal.alarm(told.seconds)
    print(f"seed {told.seed}")
    with tempfile.TemporaryDirectory(prefix="smartstream-aws-local-") as folder:
        quirks = Quirks(duplicate_ratio=told.duplicates, seed=told.seed)
        options = {"packages": told.packages, "transactions": told.transactions, "seed": told.seed}
        for line in run(Path(folder), quirks=quirks, **options):
            print(line)


if __name__ == "__main__":
    main()
