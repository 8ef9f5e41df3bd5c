"""From the source to the trusted tables: seed, start, status, verify, stop, on PostgreSQL and emulators."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pyarrow as pa
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from smartstream.aws.operate.calls import Aws
from smartstream.aws.operate.compare import lake_catalog
from smartstream.aws.operate.stack import outputs_file
from smartstream.errors import ExitCode
from smartstream.schema import TableSchema
from tests.aws.local_dms_setup import Replication, replication
from tests.aws.operated_stack import OperatedStack, moto, operated
from tests.aws.terraform_runner import ROOT

CANARY = "canary-Pa55-word!"


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """One emulator for all tests here."""
    with moto() as found:
        yield found


@pytest.fixture
def stack(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> OperatedStack:
    """A stack of its own for each test."""
    return operated(address, tmp_path, monkeypatch, capsys)


@pytest.fixture
def source(database: str) -> Iterator[str]:
    """A database with RDS's role; DMS's login goes afterwards."""
    with psycopg.connect(database, autocommit=True) as admin:
        admin.execute("CREATE ROLE rds_replication")
        yield database
        admin.execute("DROP EVENT TRIGGER IF EXISTS awsdms_intercept_ddl")
        if admin.execute("SELECT FROM pg_roles WHERE rolname = 'dms_replication'").fetchone() is not None:
            admin.execute("DROP OWNED BY dms_replication CASCADE")
            admin.execute("DROP ROLE dms_replication")
        admin.execute("DROP ROLE rds_replication")


@pytest.fixture
def task(stack: OperatedStack, source: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Replication]:
    """A task between the source and the emulator's stream, known to the stack."""
    with replication(source, stack.address) as made:
        monkeypatch.setenv("AWS_ENDPOINT_URL_DATABASE_MIGRATION_SERVICE", made.dms.meta.endpoint_url)
        stack.change(
            dms_task_arn=made.task_arn,
            dms_replication_instance_arn=made.instance_arn,
            dms_source_endpoint_arn=made.endpoint_arns[0],
            dms_target_endpoint_arn=made.endpoint_arns[1],
        )
        yield made


def seeded(stack: OperatedStack, source: str, *options: str) -> dict[str, Any]:
    """Seed, and let the login make slots, which on RDS its role does."""
    ran = stack.run("seed", "--url", source, "--stack", str(ROOT / "terraform"), "--json", *options)
    assert ran.code == ExitCode.OK, ran.out
    with psycopg.connect(source, autocommit=True) as admin:
        password = conninfo_to_dict(source)["password"]
        admin.execute(f"ALTER ROLE dms_replication REPLICATION PASSWORD '{password}'")
    return dict(ran.json)


def test_seeding_twice_is_as_good_as_once_and_shows_no_password(
    stack: OperatedStack, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TF_VAR_dms_source_password", CANARY)
    rows = {"departments": 5, "employees": 100, "salaries": 100}
    stack_option = ("--stack", str(ROOT / "terraform"))
    for _ in range(2):
        ran = stack.run("seed", "--url", source, *stack_option)
        assert ran.code == ExitCode.OK, ran.err
        assert "departments 5, employees 100, salaries 100" in ran.out
        assert CANARY not in ran.out + ran.err
    login = make_conninfo(source, user="dms_replication", password=CANARY)
    with psycopg.connect(login) as as_dms:
        row = as_dms.execute("SELECT count(*) FROM employees").fetchone()
    assert row == (rows["employees"],)
    with psycopg.connect(source, autocommit=True) as admin:
        admin.execute("DELETE FROM employees WHERE id = 100")
    assert seeded(stack, source) == {"ok": True, "rows": rows, "password_set": True}
    with psycopg.connect(source, autocommit=True) as admin:
        stored = admin.execute(
            "SELECT rolpassword FROM pg_authid WHERE rolname = 'dms_replication'"
        ).fetchone()
    assert stored is not None and CANARY not in str(stored[0])


def test_seeding_fails_whole_and_without_the_url(stack: OperatedStack, database: str) -> None:
    # No rds_replication here: this is no RDS, and the setup says so.
    ran = stack.run("seed", "--url", database, "--stack", str(ROOT / "terraform"))
    assert ran.code == ExitCode.FAILED
    assert str(conninfo_to_dict(database)["password"]) not in ran.err
    with psycopg.connect(database) as admin:
        assert admin.execute("SELECT FROM pg_roles WHERE rolname = 'dms_replication'").fetchone() is None
    wrong = stack.run("seed", "--url", f"no url with {CANARY}", "--stack", str(ROOT / "terraform"))
    assert wrong.code == ExitCode.CONFIGURATION and CANARY not in wrong.err


def test_a_master_logs_in_with_the_secret_that_rds_keeps(stack: OperatedStack, source: str) -> None:
    facts = conninfo_to_dict(source)
    secret = stack.client("secretsmanager").create_secret(
        Name=f"master-{stack.outputs['name_prefix']}",
        SecretString=json.dumps({"username": facts["user"], "password": facts["password"]}),
    )
    stack.change(rds_master_secret_arn=secret["ARN"], rds_database=facts["dbname"])
    url = make_conninfo("", host=str(facts["host"]), port=str(facts["port"]))
    ran = stack.run("seed", "--url", url, "--master", "--no-sample", "--stack", str(ROOT / "terraform"))
    assert ran.code == ExitCode.OK, ran.err
    with psycopg.connect(source) as admin:
        assert admin.execute("SELECT to_regclass('public.employees')").fetchone() == (None,)


def test_start_status_and_stop_of_a_task_that_really_runs(
    stack: OperatedStack, source: str, task: Replication, tmp_path: Path
) -> None:
    seeded(stack, source)
    dry = stack.run("start", "--dry-run", "--json").json
    assert dry["would_call"][-1] == f"dms:StartReplicationTask {task.task_arn}"
    assert stack.run("status", "--json").json["status"] != "healthy"
    (tmp_path / "smartstream.yaml").write_text("source: {url: '${env:URL}'}\ntables: {'public.*': {}}\n")
    ran = stack.run("start", "--config", str(tmp_path), "--definitions", "--url", source, "--json")
    assert ran.code == ExitCode.OK, ran.out
    assert ran.json["connections"] == {"source": "successful", "target": "successful"}
    assert ran.json["started"] == "start-replication"
    keys = [one["key"] for one in ran.json["config"]]
    assert keys == [
        "config/smartstream.yaml",
        *(f"config/tables/public.{name}.json" for name in ("departments", "employees", "salaries")),
    ]
    body = stack.client("s3").get_object(Bucket=stack.outputs["data_lake_bucket"], Key=keys[2])["Body"]
    assert TableSchema.from_json(body.read().decode()).key == ("id",)
    again = stack.run("start", "--config", str(tmp_path), "--json").json
    assert again["started"] == "running" and [one["is_new"] for one in again["config"]] == [False]

    status = stack.run("status", "--json")
    hops = {hop["name"]: hop for hop in status.json["hops"]}
    assert hops["DMS"]["state"] == "ok" and hops["DMS"]["records_out"] == 205, hops["DMS"]
    assert {name for name, hop in hops.items() if hop["state"] != "ok"} == set(), hops
    assert (status.code, status.json["status"]) == (ExitCode.OK, "healthy")
    loaded = {one["table"]: one["sent"]["load"] for one in status.json["tables"]}
    assert loaded["public.employees"] == 100
    for_people = stack.run("status")
    assert "the stack is healthy" in for_people.out and "public.employees" in for_people.out

    stopped = stack.run("stop", "--json")
    assert stopped.json["was"] == "running" and task.task()["Status"] == "stopped"
    assert stack.run("status", "--json").json["status"] == "idle"
    assert stack.run("start", "--json").json["started"] == "resume-processing"
    assert stack.run("stop", "--json").code == ExitCode.OK


def test_status_is_degraded_by_what_needs_a_person(
    stack: OperatedStack, source: str, task: Replication
) -> None:
    seeded(stack, source)
    sqs, cloudwatch = stack.client("sqs"), stack.client("cloudwatch")
    sqs.send_message(QueueUrl=stack.outputs["transform_dlq_url"], MessageBody="given up")
    alarm = f"{stack.outputs['name_prefix']}-ml-errors"
    cloudwatch.put_metric_alarm(
        AlarmName=alarm,
        Namespace="AWS/Lambda",
        MetricName="Errors",
        Statistic="Sum",
        Period=60,
        EvaluationPeriods=1,
        Threshold=0,
        ComparisonOperator="GreaterThanThreshold",
    )
    cloudwatch.set_alarm_state(AlarmName=alarm, StateValue="ALARM", StateReason="tried out")
    key = "firehose-errors/processing-failed/one"
    stack.client("s3").put_object(Bucket=stack.outputs["data_lake_bucket"], Key=key, Body=b"?")
    ran = stack.run("status", "--json")
    assert (ran.code, ran.json["status"], ran.json["ok"]) == (ExitCode.DEGRADED, "degraded", False)
    states = {hop["name"]: (hop["state"], hop["errors"]) for hop in ran.json["hops"]}
    assert (states["dead letters"], states["alarms"], states["Firehose"]) == (
        ("fail", 1),
        ("fail", 1),
        ("warn", 1),
    )
    assert ran.json["alarms"] == [alarm]


def test_a_hop_that_cannot_be_asked_does_not_hide_the_others(
    stack: OperatedStack, source: str, task: Replication
) -> None:
    stack.change(firehose_name="gone")
    ran = stack.run("status", "--json")
    hops = {hop["name"]: hop for hop in ran.json["hops"]}
    assert hops["Firehose"]["state"] == "unknown" and "gone" in hops["Firehose"]["detail"]
    assert hops["SQS"]["state"] == "ok" and ran.code == ExitCode.DEGRADED


def trusted(stack: OperatedStack, source: str, name: str) -> Any:
    """A trusted table with the source's rows, made as another program would."""
    catalog = lake_catalog(Aws.connect(profile=None, region="eu-north-1"), outputs_file(stack.file))
    with psycopg.connect(source) as connection:
        cursor = connection.execute(f"SELECT * FROM {name} ORDER BY 1")
        assert cursor.description is not None
        names = [column.name for column in cursor.description]
        rows = [dict(zip(names, row, strict=True)) for row in cursor]
    rows_table = pa.Table.from_pylist(rows)
    if "hired" in names:
        at = names.index("hired")
        hired = rows_table["hired"].cast(pa.timestamp("us", tz="UTC"))
        rows_table = rows_table.set_column(at, "hired", hired)
    table = catalog.create_table(("trusted", name), rows_table.schema)
    table.append(rows_table)
    return table


def test_verify_finds_equal_tables_equal_and_names_the_keys_that_differ(
    stack: OperatedStack, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seeded(stack, source)
    names = ("departments", "employees", "salaries")
    tables = {name: trusted(stack, source, name) for name in names}
    wanted = [f"public.{name}" for name in names]
    ran = stack.run("verify", *wanted, "--url", source, "--json")
    assert ran.code == ExitCode.OK, ran.out + ran.err
    assert [(one["source_rows"], one["lake_rows"]) for one in ran.json["tables"]] == [
        (5, 5),
        (100, 100),
        (100, 100),
    ]

    with psycopg.connect(source, autocommit=True) as admin:
        admin.execute("UPDATE employees SET salary = salary + 1 WHERE id = 7")
    tables["salaries"].delete("employee_id = 9")
    ran = stack.run("verify", *wanted, "--url", source, "--wait", "0", "--json")
    assert ran.code == ExitCode.FAILED and not ran.json["ok"]
    found = {one["table"]: one for one in ran.json["tables"]}
    assert found["public.departments"]["equal"]
    assert found["public.employees"]["differing"] == [{"kind": "different", "key": {"id": "7"}}]
    (missing,) = found["public.salaries"]["differing"]
    assert missing["kind"] == "missing" and missing["key"]["employee_id"] == "9"

    counted = stack.run("verify", "public.employees", "--url", source, "--rows-max", "10", "--json")
    assert counted.code == ExitCode.OK and counted.json["counted"] == ["public.employees"]
    shown = stack.run("verify", "public.employees", "--url", source, "--wait", "0")
    assert "DIFFER" in shown.out and "id=7" in shown.out


def test_verify_says_what_the_lake_lacks(stack: OperatedStack, source: str) -> None:
    seeded(stack, source)
    ran = stack.run("verify", "public.employees", "--url", source, "--wait", "0", "--json")
    (one,) = ran.json["tables"]
    assert (one["equal"], one["source_rows"], one["reason"]) == (False, 100, "it is not in the lake yet")
    unknown = stack.run("verify", "public.nothing", "--url", source, "--json")
    assert unknown.json["error"]["type"] == "ConfigMissing"


def test_values_that_the_lake_keeps_as_text_are_compared_too(stack: OperatedStack, source: str) -> None:
    with psycopg.connect(source, autocommit=True) as admin:
        # Columns that are called as what the comparison joins.
        admin.execute("CREATE TABLE moments (id int PRIMARY KEY, at timestamptz, raw text, text text)")
        admin.execute("INSERT INTO moments VALUES (1, 'infinity', 'a', 'b'), (2, '2026-01-01Z', 'c', NULL)")
    catalog = lake_catalog(Aws.connect(profile=None, region="eu-north-1"), outputs_file(stack.file))
    rows = pa.table(
        {
            "id": pa.array([1, 2], pa.int32()),
            "at": pa.array([None, 1_767_225_600_000_000], pa.timestamp("us", tz="UTC")),
            "raw": ["a", "c"],
            "text": ["b", None],
            "_untyped": ['{"at": "infinity"}', None],
        }
    )
    table = catalog.create_table(("trusted", "moments"), rows.schema)
    table.append(rows)
    arguments = ("verify", "public.moments", "--url", source, "--wait", "0", "--json")
    ran = stack.run(*arguments)
    assert ran.code == ExitCode.OK, ran.out
    table.overwrite(rows.set_column(4, "_untyped", pa.array(['{"at": "-infinity"}', None])))
    (one,) = stack.run(*arguments).json["tables"]
    assert one["differing"] == [{"kind": "different", "key": {"id": "1"}}]
