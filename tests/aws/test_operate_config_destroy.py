"""What ``aws start`` copies into the lake, and how ``aws destroy`` ends a stack."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from smartstream.aws.lambda_lake import LambdaConfig, lake_of
from smartstream.aws.lambda_settings import LambdaSettings
from smartstream.aws.operate import config_upload
from smartstream.aws.operate.calls import Aws
from smartstream.aws.operate.stack import outputs_file
from smartstream.cli import main
from smartstream.errors import ConfigInvalid, ConfigMissing, ExitCode
from smartstream.raw.store import open_store
from tests.aws.local_dms_setup import Replication, replication
from tests.aws.operated_stack import OperatedStack, moto, operated

MODEL = "a" * 64
YAML = f"""\
source: {{url: "${{file:secret.txt}}"}}
tables:
  public.*: {{}}
models:
  - name: risk
    uri: models/risk.onnx
    sha256: {MODEL}
    features: models/risk.sql
    key: [id]
"""


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
def project(tmp_path: Path) -> Path:
    """A project's folder with a model, its query, a secret, and a file that nothing names."""
    folder = tmp_path / "project"
    (folder / "models").mkdir(parents=True)
    (folder / "smartstream.yaml").write_text(YAML)
    for name in ("models/risk.onnx", "models/risk.sql", "secret.txt", "notes.txt"):
        (folder / name).write_text(f"this is {name}")
    return folder


def test_the_file_and_what_it_names_are_copied_but_no_secret(stack: OperatedStack, project: Path) -> None:
    aws, found = Aws.connect(profile=None, region="eu-north-1"), outputs_file(stack.file)
    keys = ["config/models/risk.onnx", "config/models/risk.sql", "config/smartstream.yaml"]
    assert [(one.key, one.is_new) for one in config_upload.upload(aws, found, project)] == [
        (key, True) for key in keys
    ]
    listed = stack.client("s3").list_objects_v2(Bucket=found.bucket, Prefix="config/")["Contents"]
    assert [one["Key"] for one in listed] == keys
    (project / "models" / "risk.sql").write_text("THIS is models/risk.sql")  # as long as before
    again = config_upload.upload(aws, found, project)
    assert [one.key for one in again if one.is_new] == ["config/models/risk.sql"]


def test_a_function_reads_what_was_copied(
    stack: OperatedStack, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    aws, found = Aws.connect(profile=None, region="eu-north-1"), outputs_file(stack.file)
    config_upload.upload(aws, found, project)
    monkeypatch.setenv("AWS_REGION", "eu-north-1")
    environment = {"AWS_ENDPOINT_URL": stack.address, "AWS_REGION": "eu-north-1"}
    lake = lake_of(LambdaSettings(found.bucket, "raw", "shop", "locks", "INFO"), environment)
    settings = LambdaConfig(open_store(lake), lake, tmp_path / "copy").settings()
    assert [model.name for model in settings.models] == ["risk"]
    assert (tmp_path / "copy" / "models" / "risk.onnx").read_text() == "this is models/risk.onnx"


def test_a_dry_run_copies_nothing(stack: OperatedStack, project: Path) -> None:
    aws = Aws.connect(profile=None, region="eu-north-1", is_dry=True)
    found = outputs_file(stack.file)
    assert all(one.is_new for one in config_upload.upload(aws, found, project))
    assert aws.planned[0] == f"s3:PutObject arn:aws:s3:::{found.bucket}/config/models/risk.onnx"
    assert stack.client("s3").list_objects_v2(Bucket=found.bucket)["KeyCount"] == 0


def test_a_secret_in_the_file_itself_is_not_copied(project: Path) -> None:
    text = YAML.replace("${file:secret.txt}", "postgresql://me:canary@host/db")
    (project / "smartstream.yaml").write_text(text)
    with pytest.raises(ConfigInvalid, match="a secret stands in the file") as raised:
        config_upload.files_of(project)
    assert "canary" not in str(raised.value)


def test_a_file_outside_of_the_folder_is_refused(project: Path) -> None:
    (project.parent / "risk.sql").write_text("SELECT 1")
    (project / "smartstream.yaml").write_text(YAML.replace("models/risk.sql", "../risk.sql"))
    with pytest.raises(ConfigInvalid, match="outside its folder"):
        config_upload.files_of(project)


def test_a_wrong_file_is_refused_before_anything_is_copied(project: Path) -> None:
    (project / "smartstream.yaml").write_text(YAML.replace("tables:", "tabels:"))
    with pytest.raises(ConfigInvalid, match="tabels"):
        config_upload.files_of(project)
    (project / "smartstream.yaml").unlink()
    with pytest.raises(ConfigMissing):
        config_upload.files_of(project)


@pytest.fixture
def fake_terraform(stack: OperatedStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A terraform that knows the stack's outputs, and writes down what else it is asked."""
    folder = tmp_path / "bin"
    folder.mkdir()
    log = folder / "calls"
    program = folder / "terraform"
    program.write_text(
        f'#!/bin/sh\nif [ "$2" = output ]; then cat {stack.file}; else echo "$@" >> {log}; fi\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=":")
    return log


@pytest.fixture
def task(stack: OperatedStack, database: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Replication]:
    """A task that was never started."""
    with replication(database, stack.address) as made:
        monkeypatch.setenv("AWS_ENDPOINT_URL_DATABASE_MIGRATION_SERVICE", made.dms.meta.endpoint_url)
        stack.change(dms_task_arn=made.task_arn)
        yield made


def _destroy(stack: OperatedStack, *arguments: str) -> int:
    stack.capsys.readouterr()
    return main(["aws", "destroy", "--stack", str(stack.file.parent), *arguments])


def test_destroy_asks_for_the_name_and_does_nothing_without_it(
    stack: OperatedStack, task: Replication, fake_terraform: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import io

    stack.put_raw("employees", 1)
    monkeypatch.setattr("sys.stdin", io.StringIO("another\n"))
    assert _destroy(stack, "--empty-buckets") == ExitCode.FAILED
    said = stack.capsys.readouterr()
    assert "1 versions of objects" in said.out and "nothing was changed" in said.err
    assert not fake_terraform.exists()
    assert stack.client("s3").list_objects_v2(Bucket=stack.outputs["data_lake_bucket"])["KeyCount"] == 1


def test_a_dry_run_of_destroy_says_what_it_would_call(
    stack: OperatedStack, task: Replication, fake_terraform: Path
) -> None:
    stack.put_raw("employees", 1)
    assert _destroy(stack, "--empty-buckets", "--dry-run", "--json") == ExitCode.OK
    said = json.loads(stack.capsys.readouterr().out)
    lake = stack.outputs["data_lake_bucket"]
    assert said["would_call"] == [
        f"athena:DeleteWorkGroup workgroup {stack.outputs['athena_workgroup']}",
        f"s3:DeleteObjectVersion arn:aws:s3:::{lake}/*",
        f"terraform destroy in {stack.file.parent}",
    ]
    assert not fake_terraform.exists()


@pytest.mark.parametrize("empties", [False, True])
def test_destroy_empties_buckets_only_when_told(
    stack: OperatedStack, task: Replication, fake_terraform: Path, empties: bool
) -> None:
    stack.put_raw("employees", 1)
    options = ("--empty-buckets",) if empties else ()
    assert _destroy(stack, "--yes", *options) == ExitCode.OK
    (call,) = fake_terraform.read_text().splitlines()
    assert call == f"-chdir={stack.file.parent} destroy -auto-approve -input=false"
    left = stack.client("s3").list_objects_v2(Bucket=stack.outputs["data_lake_bucket"])["KeyCount"]
    assert left == (0 if empties else 1)


def test_a_protected_database_keeps_everything(
    stack: OperatedStack, task: Replication, fake_terraform: Path
) -> None:
    stack.put_raw("employees", 1)
    stack.client("rds").create_db_instance(
        DBInstanceIdentifier=stack.outputs["name_prefix"],
        DBInstanceClass="db.t3.micro",
        Engine="postgres",
        MasterUsername="master",
        MasterUserPassword="not-of-anything",
        AllocatedStorage=20,
        DeletionProtection=True,
    )
    assert _destroy(stack, "--empty-buckets", "--yes") == ExitCode.FAILED
    assert "protected from deletion" in stack.capsys.readouterr().err
    assert stack.client("s3").list_objects_v2(Bucket=stack.outputs["data_lake_bucket"])["KeyCount"] == 1
    assert not fake_terraform.exists()
