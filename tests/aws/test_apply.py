"""The stack, applied to emulators: what exists afterwards is what it says, and is gone after destroy.

The tests share one stack, because applying it takes more than two minutes: the provider
sleeps for a while after it has made a VPC, a database and a replication task, however
soon these are ready.  They run in the order in which they stand here; the last one destroys.
"""

from __future__ import annotations

import gzip
import importlib.util
import json
import random
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from smartstream.testing.postgres import PostgresServer
from tests.aws.applied_stack import LocalStack, eventually, pack
from tests.aws.apply_drift import EXPECTED_DRIFT, covers, drift_of, is_expected
from tests.aws.emulators import ACCOUNT, REGION, Emulators, running_emulators
from tests.aws.inventory import inventory
from tests.aws.local_project import MODEL, Project
from tests.aws.source_workload import COMPARED, DATABASE, expected, folded, prepare, work
from tests.aws.terraform_runner import CANARY_PASSWORD, REQUIRED_VARIABLES, Terraform

# The defaults, but an address for alarms, and leave to delete what the data flow has left.
VARIABLES: Mapping[str, Any] = {"alarm_email": "alerts@example.org", "force_destroy_buckets": True}
TAGS = {"Project": "smartstream", "Environment": "dev", "ManagedBy": "terraform"}


@dataclass(frozen=True)
class Applied:
    """The stack as it was applied, and where to ask about it."""

    terraform: Terraform
    emulators: Emulators
    outputs: Mapping[str, Any]
    said: str
    before: frozenset[str]
    source: str

    def client(self, service: str) -> Any:
        """A client of boto3."""
        return self.emulators.client(service)

    def bucket(self) -> str:
        """The data lake's bucket."""
        return str(self.outputs["data_lake_bucket"])


@pytest.fixture(scope="module")
def stack(initialized_stack: Terraform, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Applied]:
    """The stack, applied to emulators that end with these tests."""
    if missing := [name for name in ("ministack", "jq") if importlib.util.find_spec(name) is None]:
        pytest.skip(f"{missing} not installed: they are among the extras of development")
    folder = tmp_path_factory.mktemp("apply")
    with PostgresServer.start(settings={"fsync": "off"}) as server:
        prepare(server.url)
        hosts = {"*": f"host=127.0.0.1 port={server.port}"}
        with running_emulators(folder / "emulators", hosts=hosts) as emulators:
            terraform = emulators.attach(initialized_stack.fork(folder / "stack"))
            pack(folder / "stack" / "build" / "lambdas")
            before = inventory(emulators)
            said = terraform.apply(VARIABLES)
            yield Applied(terraform, emulators, terraform.outputs(), said, before, server.url_of(DATABASE))


def _eventually(ask: Callable[[], Any], seconds: float = 20) -> Any:
    """The first answer that is not empty.

    Raises:
        AssertionError: there was none in time.
    """
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if answer := ask():
            return answer
        time.sleep(0.3)
    raise AssertionError(f"nothing came within {seconds} s")


def _denies_insecure_transport(policy: str) -> bool:
    return any(
        statement["Effect"] == "Deny"
        and statement["Principal"] in ("*", {"AWS": "*"})
        and statement.get("Condition", {}).get("Bool", {}).get("aws:SecureTransport") == "false"
        for statement in json.loads(policy)["Statement"]
    )


def test_every_output_has_a_value(stack: Applied) -> None:
    assert [name for name, value in stack.outputs.items() if value in (None, "", [], {})] == []
    assert stack.outputs["account_id"] == ACCOUNT
    assert stack.outputs["region"] == REGION
    assert stack.outputs["name_prefix"] == "smartstream-dev"


def test_buckets_are_encrypted_versioned_private_and_take_tls_only(stack: Applied) -> None:
    s3 = stack.client("s3")
    names = [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]]
    assert len(names) == 3
    for name in names:
        rules = s3.get_bucket_encryption(Bucket=name)["ServerSideEncryptionConfiguration"]["Rules"]
        assert rules[0]["ApplyServerSideEncryptionByDefault"]["SSEAlgorithm"] == "AES256", name
        assert s3.get_bucket_versioning(Bucket=name)["Status"] == "Enabled", name
        blocked = s3.get_public_access_block(Bucket=name)["PublicAccessBlockConfiguration"]
        assert len(blocked) == 4 and all(blocked.values()), name
        assert _denies_insecure_transport(s3.get_bucket_policy(Bucket=name)["Policy"]), name
        tags = {tag["Key"]: tag["Value"] for tag in s3.get_bucket_tagging(Bucket=name)["TagSet"]}
        assert tags == TAGS, name


def test_age_deletes_raw_files_and_never_those_of_iceberg(stack: Applied) -> None:
    rules = stack.client("s3").get_bucket_lifecycle_configuration(Bucket=stack.bucket())["Rules"]
    by_prefix = {rule["Filter"].get("Prefix", ""): rule for rule in rules}
    assert set(by_prefix) == {"raw/", "firehose-errors/", ""}
    assert by_prefix["raw/"]["Transitions"] == [{"Days": 90, "StorageClass": "GLACIER"}]
    assert by_prefix["raw/"]["Expiration"] == {"Days": 365}
    # The rule for the whole bucket is about versions that nothing names any more.
    assert by_prefix[""]["Expiration"] == {"ExpiredObjectDeleteMarker": True}
    assert "Transitions" not in by_prefix[""]
    assert by_prefix[""]["NoncurrentVersionExpiration"]["NoncurrentDays"] == 30


def test_new_raw_files_are_announced_to_a_queue_with_a_way_out(stack: Applied) -> None:
    found = stack.client("s3").get_bucket_notification_configuration(Bucket=stack.bucket())
    (announced,) = found["QueueConfigurations"]
    filters = {rule["Name"].lower(): rule["Value"] for rule in announced["Filter"]["Key"]["FilterRules"]}
    assert filters == {"prefix": "raw/", "suffix": ".json.gz"}
    assert announced["Events"] == ["s3:ObjectCreated:*"]

    sqs = stack.client("sqs")
    queue, dead = (
        sqs.get_queue_attributes(QueueUrl=stack.outputs[name], AttributeNames=["All"])["Attributes"]
        for name in ("transform_queue_url", "transform_dlq_url")
    )
    assert announced["QueueArn"] == queue["QueueArn"]
    redrive = json.loads(queue["RedrivePolicy"])
    assert redrive == {"deadLetterTargetArn": dead["QueueArn"], "maxReceiveCount": 5}
    assert json.loads(dead["RedriveAllowPolicy"])["sourceQueueArns"] == [queue["QueueArn"]]
    assert queue["SqsManagedSseEnabled"] == dead["SqsManagedSseEnabled"] == "true"
    assert _denies_insecure_transport(queue["Policy"])
    function = stack.client("lambda").get_function_configuration(
        FunctionName=stack.outputs["transform_function_name"]
    )
    assert int(queue["VisibilityTimeout"]) >= 6 * function["Timeout"]


def test_functions_are_configured_as_declared(stack: Applied) -> None:
    client = stack.client("lambda")
    for output, memory in (("transform_function_name", 512), ("ml_function_name", 1024)):
        found = client.get_function_configuration(FunctionName=stack.outputs[output])
        assert (found["Runtime"], found["Architectures"]) == ("python3.13", ["arm64"])
        assert found["Handler"] == "lambda_function.lambda_handler"
        assert found["MemorySize"] == memory
        assert found["TracingConfig"]["Mode"] == "Active"
        assert not found["VpcConfig"]["SubnetIds"]
        variables = found["Environment"]["Variables"]
        assert variables["WAREHOUSE"] == f"s3://{stack.bucket()}"
        assert variables["LOCK_TABLE"] == stack.outputs["table_lock_table"]
        assert variables["GLUE_CATALOG_PREFIX"] == "smartstream_dev"
    (mapping,) = client.list_event_source_mappings()["EventSourceMappings"]
    assert mapping["State"] == "Enabled"
    assert mapping["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
    assert mapping["ScalingConfig"]["MaximumConcurrency"] == 5


def test_tables_have_a_lock_that_expires(stack: Applied) -> None:
    dynamodb, name = stack.client("dynamodb"), stack.outputs["table_lock_table"]
    table = dynamodb.describe_table(TableName=name)["Table"]
    assert table["KeySchema"] == [{"AttributeName": "table_id", "KeyType": "HASH"}]
    assert table["SSEDescription"]["Status"] == "ENABLED"
    assert dynamodb.describe_time_to_live(TableName=name)["TimeToLiveDescription"] == {
        "TimeToLiveStatus": "ENABLED",
        "AttributeName": "expires_at",
    }


def test_the_stream_is_encrypted_and_firehose_reads_it(stack: Applied) -> None:
    name = stack.outputs["kinesis_stream_name"]
    stream = stack.client("kinesis").describe_stream_summary(StreamName=name)["StreamDescriptionSummary"]
    assert (stream["OpenShardCount"], stream["RetentionPeriodHours"]) == (2, 24)
    assert stream["EncryptionType"] == "KMS"

    found = stack.client("firehose").describe_delivery_stream(
        DeliveryStreamName=stack.outputs["firehose_name"]
    )["DeliveryStreamDescription"]
    source = found["Source"]["KinesisStreamSourceDescription"]
    assert source["KinesisStreamARN"] == stream["StreamARN"]
    target = found["Destinations"][0]["ExtendedS3DestinationDescription"]
    assert target["CompressionFormat"] == "GZIP"
    assert target["BufferingHints"] == {"SizeInMBs": 64, "IntervalInSeconds": 60}
    assert target["DynamicPartitioningConfiguration"]["Enabled"]
    assert target["Prefix"].startswith("raw/schema=!{partitionKeyFromQuery:schema}/table=")
    assert target["ErrorOutputPrefix"].startswith("firehose-errors/")
    assert target["CloudWatchLoggingOptions"]["Enabled"]


def test_the_catalogue_has_a_database_for_each_zone_and_crawlers_for_two(stack: Applied) -> None:
    glue = stack.client("glue")
    databases = {found["Name"]: found["LocationUri"] for found in glue.get_databases()["DatabaseList"]}
    zones = ("raw", "trusted", "quarantine", "analytics")
    assert databases == {f"smartstream_dev_{zone}": f"s3://{stack.bucket()}/{zone}/" for zone in zones}
    assert stack.outputs["glue_databases"] == {zone: f"smartstream_dev_{zone}" for zone in zones}
    crawlers = {found["DatabaseName"]: found for found in glue.get_crawlers()["Crawlers"]}
    assert set(crawlers) == {"smartstream_dev_trusted", "smartstream_dev_analytics"}
    for database, crawler in crawlers.items():
        (target,) = crawler["Targets"]["IcebergTargets"]
        assert target["Paths"] == [databases[database]]
        assert crawler["Schedule"]["ScheduleExpression"] == "cron(0 3 * * ? *)"
        assert crawler["Name"] in stack.outputs["glue_crawlers"]


def test_the_workgroup_limits_and_encrypts_queries(stack: Applied) -> None:
    athena, name = stack.client("athena"), stack.outputs["athena_workgroup"]
    settings = athena.get_work_group(WorkGroup=name)["WorkGroup"]["Configuration"]
    assert settings["EnforceWorkGroupConfiguration"]
    assert settings["BytesScannedCutoffPerQuery"] == 10240 * 1024**2
    assert settings["EngineVersion"]["SelectedEngineVersion"] == "Athena engine version 3"
    results = settings["ResultConfiguration"]
    assert results["OutputLocation"] == f"s3://{stack.outputs['athena_results_bucket']}/results/"
    assert results["EncryptionConfiguration"]["EncryptionOption"] == "SSE_S3"
    assert athena.list_named_queries(WorkGroup=name)["NamedQueryIds"]


def test_every_alarm_reaches_the_encrypted_topic(stack: Applied) -> None:
    topic = stack.outputs["sns_topic_arn"]
    cloudwatch = stack.client("cloudwatch")
    found = cloudwatch.describe_alarms(AlarmTypes=["MetricAlarm", "CompositeAlarm"], MaxRecords=100)
    assert len(found["MetricAlarms"]) >= 5
    (pipeline,) = found["CompositeAlarms"]
    for alarm in (*found["MetricAlarms"], pipeline):
        assert alarm["ActionsEnabled"] and alarm["AlarmActions"] == [topic], alarm["AlarmName"]
    for alarm in found["MetricAlarms"]:
        assert f'ALARM("{alarm["AlarmName"]}")' in pipeline["AlarmRule"]
    assert pipeline["AlarmArn"] == stack.outputs["composite_alarm_arn"]
    body = cloudwatch.get_dashboard(DashboardName=stack.outputs["dashboard_name"])["DashboardBody"]
    assert json.loads(body)["widgets"]

    sns = stack.client("sns")
    attributes = sns.get_topic_attributes(TopicArn=topic)["Attributes"]
    assert _denies_insecure_transport(attributes["Policy"])
    assert stack.client("kms").describe_key(KeyId=attributes["KmsMasterKeyId"])["KeyMetadata"]["Enabled"]
    (subscription,) = sns.list_subscriptions_by_topic(TopicArn=topic)["Subscriptions"]
    assert (subscription["Protocol"], subscription["Endpoint"]) == ("email", VARIABLES["alarm_email"])


def test_logs_are_kept_for_a_week_in_seven_groups(stack: Applied) -> None:
    groups = stack.client("logs").describe_log_groups()["logGroups"]
    assert {group["logGroupName"]: group.get("retentionInDays") for group in groups} == dict.fromkeys(
        (
            "/aws-glue/crawlers-role/smartstream-dev-glue-crawler-smartstream-dev",
            "/aws/kinesisfirehose/smartstream-dev-raw",
            "/aws/lambda/smartstream-dev-ml",
            "/aws/lambda/smartstream-dev-transform",
            "/aws/rds/instance/smartstream-dev/postgresql",
            "/aws/vpc/smartstream-dev/flow",
            "dms-tasks-smartstream-dev",
        ),
        7,
    )


def test_the_schedule_calls_the_ml_function(stack: Applied) -> None:
    _, group, name = stack.outputs["ml_schedule_arn"].split("/")
    schedule = stack.client("scheduler").get_schedule(GroupName=group, Name=name)
    assert schedule["ScheduleExpression"] == "rate(1 hour)"
    assert schedule["State"] == "ENABLED"
    assert schedule["Target"]["Arn"].endswith(f":function:{stack.outputs['ml_function_name']}")
    assert schedule["Target"]["DeadLetterConfig"]["Arn"].endswith("-ml-dlq")


def test_the_source_is_private_encrypted_and_ready_for_replication(stack: Applied) -> None:
    rds = stack.client("rds")
    (database,) = rds.describe_db_instances()["DBInstances"]
    assert database["StorageEncrypted"]
    assert not database["PubliclyAccessible"]
    assert database["DBName"] == stack.outputs["rds_database"]
    group = database["DBParameterGroups"][0]["DBParameterGroupName"]
    parameters = rds.describe_db_parameters(DBParameterGroupName=group, Source="user")["Parameters"]
    values = {found["ParameterName"]: found.get("ParameterValue") for found in parameters}
    assert values["rds.logical_replication"] == "1"
    assert values["rds.force_ssl"] == "1"
    assert int(values["max_slot_wal_keep_size"]) > 0


def test_dms_logs_in_with_the_secret_and_writes_to_the_stream(stack: Applied) -> None:
    found = stack.client("dms").describe_endpoints()["Endpoints"]
    endpoints = {endpoint["EndpointType"]: endpoint for endpoint in found}
    source, target = endpoints["source"], endpoints["target"]
    assert source["SslMode"] == "require"
    assert "Password" not in source and "Username" not in source
    postgres = source["PostgreSQLSettings"]
    assert postgres["SecretsManagerSecretId"] == stack.outputs["dms_source_secret_arn"]
    assert postgres["HeartbeatEnable"]
    assert postgres["PluginName"] == "test-decoding"
    kinesis = target["KinesisSettings"]
    assert kinesis["StreamArn"] == stack.outputs["kinesis_stream_arn"]
    assert kinesis["MessageFormat"] == "json-unformatted"
    for name in ("IncludeTransactionDetails", "IncludeNullAndEmpty", "UseLargeIntegerValue"):
        assert kinesis[name], name


def test_the_replication_task_is_ready_and_safe(stack: Applied) -> None:
    dms = stack.client("dms")
    (task,) = dms.describe_replication_tasks()["ReplicationTasks"]
    assert (task["Status"], task["MigrationType"]) == ("ready", "full-load-and-cdc")
    settings = json.loads(task["ReplicationTaskSettings"])
    assert settings["TargetMetadata"]["BatchApplyEnabled"] is False
    assert settings["BeforeImageSettings"]["EnableBeforeImage"] is True
    assert settings["BeforeImageSettings"]["FieldName"] == "before-image"
    assert settings["Logging"]["EnableLogging"] is True
    rules = json.loads(task["TableMappings"])["rules"]
    included = [rule["object-locator"] for rule in rules if rule["rule-action"] == "include"]
    assert included == [{"schema-name": "public", "table-name": "%"}]
    (instance,) = dms.describe_replication_instances()["ReplicationInstances"]
    assert not instance["PubliclyAccessible"]
    (subscription,) = dms.describe_event_subscriptions()["EventSubscriptionsList"]
    assert subscription["SnsTopicArn"] == stack.outputs["sns_topic_arn"]


def test_roles_are_those_of_the_parts_and_bound_to_the_account(stack: Applied) -> None:
    iam = stack.client("iam")
    roles = {role["RoleName"]: role for role in iam.list_roles()["Roles"]}
    parts = "dms-kinesis dms-secrets firehose flow-logs glue-crawler lambda-ml lambda-transform scheduler"
    named = {f"smartstream-dev-{part}" for part in parts.split()}
    assert set(roles) == named | {"dms-vpc-role", "dms-cloudwatch-logs-role"}
    for name in named:
        assert iam.list_role_policies(RoleName=name)["PolicyNames"], name
    for name, policy in (
        ("dms-vpc-role", "AmazonDMSVPCManagementRole"),
        ("dms-cloudwatch-logs-role", "AmazonDMSCloudWatchLogsRole"),
    ):
        attached = iam.list_attached_role_policies(RoleName=name)["AttachedPolicies"]
        assert [found["PolicyName"] for found in attached] == [policy]
    trust = roles["smartstream-dev-firehose"]["AssumeRolePolicyDocument"]["Statement"][0]
    assert trust["Condition"]["StringEquals"] == {"aws:SourceAccount": ACCOUNT}


def test_the_login_is_in_secrets_manager_and_nowhere_else(stack: Applied) -> None:
    secrets = stack.client("secretsmanager")
    secret = secrets.get_secret_value(SecretId=stack.outputs["dms_source_secret_arn"])["SecretString"]
    login = json.loads(secret)
    assert login["password"] == CANARY_PASSWORD == REQUIRED_VARIABLES["dms_source_password"]
    assert login["username"] == "dms_replication"
    assert (login["host"], login["port"]) == (stack.outputs["rds_endpoint"].split(":")[0], 5432)

    assert CANARY_PASSWORD not in stack.said
    folder = stack.terraform.folder
    assert (folder / "terraform.tfstate").exists()
    files = [path for path in folder.rglob("*") if path.is_file() and ".terraform" not in path.parts]
    assert [path.name for path in files if CANARY_PASSWORD.encode() in path.read_bytes()] == []


def test_the_source_becomes_trusted_tables_and_predictions(stack: Applied, tmp_path: Path, seed: str) -> None:
    flow = LocalStack(stack.source, stack.emulators, stack.terraform, stack.outputs)
    project = Project.of(flow, tmp_path / "project")
    url = ("--url", stack.source)
    # Each process of the function takes its time to start.
    client = stack.client("lambda")
    (mapping,) = client.list_event_source_mappings()["EventSourceMappings"]
    client.update_event_source_mapping(UUID=mapping["UUID"], ScalingConfig={"MaximumConcurrency": 2})
    assert project.aws("start", "--config", str(project.folder), "--definitions", *url)["ok"]
    done = work(stack.source, 25, random.Random(seed))
    eventually("the raw zone equals the source", lambda: folded(flow.raw_records()) == expected(stack.source))
    verified = project.aws("verify", *url, "--wait", "60")
    assert verified["ok"] and {one["table"] for one in verified["tables"]} == {
        f"public.{name}" for name in COMPARED
    }
    assert flow.call_schedule(MODEL).endswith("run of rate(1 hour) scored 100")
    client.update_event_source_mapping(UUID=mapping["UUID"], ScalingConfig=mapping["ScalingConfig"])
    flow.stop_task()
    sent = flow.sent()
    assert {name: sent[name] for name in done} == done
    # DMS writes its own schema-less record, and Firehose a place for it.
    names = {key.split("/dt=")[0] for key, _ in flow.objects("raw/")}
    tables = {f"raw/schema=public/table={name}" for name in COMPARED}
    assert names == tables | {"raw/schema=_none/table=awsdms_apply_exceptions"}
    assert list(flow.objects("firehose-errors/")) == []


def test_a_record_of_somebody_else_travels_to_the_function_which_puts_it_aside(stack: Applied) -> None:
    kinesis, s3 = stack.client("kinesis"), stack.client("s3")
    metadata = {"operation": "insert", "schema-name": "public", "table-name": "travellers"}
    line = json.dumps({"data": {"id": 7}, "metadata": metadata}).encode() + b"\n"
    kinesis.put_record(StreamName=stack.outputs["kinesis_stream_name"], Data=line, PartitionKey="7")

    def arrived() -> list[str]:
        found = s3.list_objects_v2(Bucket=stack.bucket(), Prefix="raw/schema=public/table=travellers/dt=")
        return [entry["Key"] for entry in found.get("Contents", ())]

    (key,) = _eventually(arrived)
    assert key.endswith(".json.gz")
    body = s3.get_object(Bucket=stack.bucket(), Key=key)["Body"].read()
    assert gzip.decompress(body) == line

    # It doesn't say where in the log it stands, so that the function puts it aside.
    catalog = LocalStack(stack.source, stack.emulators, stack.terraform, stack.outputs).catalog()

    def put_aside() -> list[str]:
        if not catalog.table_exists(("quarantine", "dms_records")):
            return []
        found = catalog.load_table(("quarantine", "dms_records")).scan().to_arrow()
        return [one for one in found["object"].to_pylist() if one == key]

    assert eventually("the record is in quarantine", put_aside) == [key]


@pytest.mark.parametrize("schema", ["", None], ids=["empty", "missing"])
def test_a_record_without_a_schema_is_delivered_apart(stack: Applied, schema: str | None) -> None:
    metadata = {"table-name": "awsdms_apply_exceptions"} | ({} if schema is None else {"schema-name": schema})
    line = json.dumps({"control": {"is": repr(schema)}, "metadata": metadata}).encode() + b"\n"
    name = stack.outputs["kinesis_stream_name"]
    stack.client("kinesis").put_record(StreamName=name, Data=line, PartitionKey="control")
    _eventually(lambda: _delivered(stack, "raw/schema=_none/table=awsdms_apply_exceptions/", line))


def test_a_record_that_is_not_json_is_put_aside(stack: Applied) -> None:
    name = stack.outputs["kinesis_stream_name"]
    stack.client("kinesis").put_record(StreamName=name, Data=b"not JSON", PartitionKey="bad")
    _eventually(lambda: _delivered(stack, "firehose-errors/processing-failed/", b""))


def _delivered(stack: Applied, prefix: str, content: bytes) -> bool:
    s3 = stack.client("s3")
    found = s3.list_objects_v2(Bucket=stack.bucket(), Prefix=prefix).get("Contents", ())
    bodies = (s3.get_object(Bucket=stack.bucket(), Key=entry["Key"])["Body"].read() for entry in found)
    return any(content in gzip.decompress(body) for body in bodies)


def test_a_second_plan_changes_only_what_emulators_forget(stack: Applied) -> None:
    plan = stack.terraform.plan_json(VARIABLES)
    assert CANARY_PASSWORD not in json.dumps(plan)
    drift = drift_of(plan)
    assert sorted(found for found in drift if not is_expected(*found)) == []
    stale = [
        (address, listed)
        for address, fields in EXPECTED_DRIFT.items()
        for listed in fields
        if not any(address == found and covers(listed, field) for found, field in drift)
    ]
    assert stale == [], "these entries of the allow-list drift no more"


def test_destroy_leaves_nothing(stack: Applied) -> None:
    # The second plan has just looked at everything.
    in_haste = stack.terraform.with_environment(TF_CLI_ARGS_destroy="-refresh=false")
    in_haste.destroy(VARIABLES)
    assert stack.terraform.run("state", "list", timeout_s=30).stdout == ""
    assert sorted(inventory(stack.emulators) - stack.before) == []
