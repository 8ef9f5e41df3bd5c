"""The Lambda packages: reproducible, small enough, complete, and nothing big in them for nothing."""

from __future__ import annotations

import json
import re
import runpy
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
FUNCTIONS = ("ml", "transform")
HANDLER_LINES_MAX = 40
BIG_BYTES = 1_000_000
ARM64 = 183  # e_machine of AArch64

# What the runtime brings: boto3 and what it needs.
RUNTIME_HAS = ("boto3", "botocore", "s3transfer", "jmespath", "urllib3", "dateutil", "six.py")
# Of libraries, what the functions call in the end: reading objects, committing to Iceberg through Glue.
CALLED = (
    "pyiceberg.catalog.glue",
    "pyiceberg.io.pyarrow",
    "pyarrow.dataset",
    "pyarrow.fs",
    "pyarrow.json",
    "pyarrow.parquet",
)
OWN = {"transform": "smartstream.delivery.handle", "ml": "smartstream.inference.score"}
NEVER = ("psycopg", "adbc_driver_manager", "typer", "rich", "sqlalchemy", "pytest")
ENVIRONMENT = {
    "WAREHOUSE": "s3://lake",
    "RAW_PREFIX": "raw",
    "GLUE_CATALOG_PREFIX": "smartstream_dev",
    "LOCK_TABLE": "smartstream-dev-table-locks",
}

build = SimpleNamespace(**runpy.run_path(str(ROOT / "tools" / "build_lambdas.py")))

# Runs with nothing but a package and the stand-in of the runtime on its path, and tells what it loaded.
PROBE = """
import importlib, json, os, sys
package, runtime, modules, events = json.loads(sys.stdin.read())
sys.path[:0] = [package, runtime]
import lambda_function
early = sorted(sys.modules)
answers = [lambda_function.lambda_handler(event, None) for event in events]
for name in modules:
    importlib.import_module(name)
maps = open("/proc/self/maps").read() if os.path.exists("/proc/self/maps") else ""
files = {getattr(module, "__file__", None) or "" for module in list(sys.modules.values())}
files |= {line.split(maxsplit=5)[-1] for line in maps.splitlines()}
found = {"early": early, "answers": answers, "files": sorted(files), "path": sys.path}
sys.stdout.write(json.dumps(found))
"""
USE = """
import io, sys
package, runtime = sys.argv[1:]
sys.path[:0] = [package, runtime]
import duckdb, numpy as np, pyarrow as pa, pyarrow.parquet as pq, zstandard
from pyroaring import BitMap
rows = pa.table({"id": np.arange(1000), "text": ["x" * 9] * 1000})
file = io.BytesIO()
pq.write_table(rows, file, compression="zstd")
again = pq.read_table(io.BytesIO(file.getvalue()))
total = duckdb.connect().from_arrow(again).sum("id").fetchall()[0][0]
assert total == rows["id"].to_numpy().sum() == np.ones(1000) @ np.arange(1000), total
assert zstandard.decompress(zstandard.compress(b"abc" * 99)) == b"abc" * 99
assert len(BitMap(range(7))) == 7
"""


def _events(name: str) -> list[dict[str, Any]]:
    """Test events of a function that it can answer without AWS; ml asks S3 for its models first."""
    if name == "ml":
        return []
    sent = json.dumps({"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "lake"})
    messages = [("a", sent), ("b", "not JSON")]
    return [{"Records": [{"messageId": key, "body": body, "attributes": {}} for key, body in messages]}]


def _answers(name: str) -> list[dict[str, Any]]:
    return [] if name == "ml" else [{"batchItemFailures": [{"itemIdentifier": "b"}]}]


@pytest.fixture(scope="module", params=FUNCTIONS)
def package(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real package of a function, built from the pinned wheels."""
    target: Path = tmp_path_factory.mktemp("lambdas") / f"{request.param}.zip"
    with ExitStack() as open_wheels:
        try:
            entries = build.collect(request.param, build.LAMBDA, open_wheels)
        except build.DownloadFailed as error:
            pytest.skip(f"the wheels can't be downloaded: {error}")
        build.write_zip(entries, target)
    return target


@pytest.fixture(scope="module", params=FUNCTIONS)
def unpacked(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same for this machine, as a folder, in a folder of the function's name."""
    folder: Path = tmp_path_factory.mktemp("here") / str(request.param)
    with ExitStack() as open_wheels:
        try:
            entries = build.collect(request.param, build.HERE, open_wheels)
        except build.DownloadFailed as error:
            pytest.skip(f"the wheels can't be downloaded: {error}")
        build.write_folder(entries, folder)
    return folder


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What stands beside a package on Lambda: boto3 and its requirements, nothing else."""
    folder = tmp_path_factory.mktemp("runtime")
    for name in RUNTIME_HAS:
        (folder / name).symlink_to(Path(sysconfig.get_path("purelib")) / name)
    return folder


def _run(script: str, *arguments: str, given: str = "") -> subprocess.CompletedProcess[str]:
    """Python without site-packages, user settings or our environment."""
    return subprocess.run(
        [sys.executable, "-I", "-S", "-c", script, *arguments],
        input=given,
        capture_output=True,
        text=True,
        env={**ENVIRONMENT, "AWS_DEFAULT_REGION": "eu-north-1"},
        timeout=120,
        check=False,
    )


def _probe(unpacked: Path, runtime: Path) -> dict[str, Any]:
    """What the function answers and loads, with its package alone on the path."""
    lazy = ["onnxruntime"] if unpacked.name == "ml" else []
    modules = [*CALLED, *lazy, *_own_modules(unpacked)]
    given = json.dumps([str(unpacked), str(runtime), modules, _events(unpacked.name)])
    ended = _run(PROBE, given=given)
    assert ended.returncode == 0, ended.stderr
    found: dict[str, Any] = json.loads(ended.stdout)
    return found


def _own_modules(folder: Path) -> list[str]:
    """Every module of ours in a package."""
    paths = sorted((folder / "smartstream").rglob("*.py"))
    return [".".join(path.relative_to(folder).with_suffix("").parts) for path in paths]


def _any_platform(path: str) -> str:
    """The name of a shared library without the tags of interpreter, platform and build."""
    path = re.sub(r"\.(cpython-\d+-[\w-]+|abi3)(?=\.so)", "", path)
    return re.sub(r"-[0-9a-f]{8}(-[0-9a-f]{8})?(?=\.so)", "", path)


def test_each_handler_is_thin_and_each_function_has_one() -> None:
    assert build.names() == sorted(FUNCTIONS)
    for name in FUNCTIONS:
        lines = (ROOT / "lambdas" / name / "lambda_function.py").read_text(encoding="utf-8").splitlines()
        assert len(lines) <= HANDLER_LINES_MAX


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_pins_are_those_that_everything_else_is_tested_with(name: str) -> None:
    locked = build.pins(ROOT / "requirements.lock")
    pinned = build.pins(ROOT / "lambdas" / name / "requirements.txt")
    assert pinned.items() <= locked.items()
    assert not {part.split(".")[0] for part in RUNTIME_HAS} - {"six", "dateutil"} & pinned.keys()


def test_a_line_that_pins_nothing_is_refused_with_its_place(tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text("# comment\nnumpy>=2\n")
    with pytest.raises(build.BuildFailed, match=r"requirements\.txt:2: expected name==version"):
        build.pins(tmp_path / "requirements.txt")


def test_an_unknown_function_is_answered_with_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    assert build.main(["tranform", "--stub"]) == 1
    assert "functions: ml, transform" in capsys.readouterr().err


@pytest.fixture
def small_root(tmp_path: Path) -> Path:
    """A repository with one function and one wheel that has everything a wheel can have."""
    root = tmp_path / "repository"
    shutil.copytree(ROOT / "lambdas" / "ml", root / "lambdas" / "ml")
    (root / "lambdas" / "ml" / "requirements.txt").write_text("Thing.one==1.0\n")
    shutil.copytree(ROOT / "src", root / "src")
    wheel = root / "build" / "wheels" / build.LAMBDA.name / "thing_one-1.0-py3-none-any.whl"
    wheel.parent.mkdir(parents=True)
    members = ("tests/test_a.py", "a.py", "a.pyi", "fast.h", "testing.py", "__pycache__/a.cpython-313.pyc")
    with zipfile.ZipFile(wheel, "w") as archive:
        for name in members:
            archive.writestr(f"thing/{name}", name)
        for name in ("RECORD", "INSTALLER", "METADATA", "licenses/LICENSE", "WHEEL"):
            archive.writestr(f"thing_one-1.0.dist-info/{name}", name)
        archive.writestr("thing_one-1.0.data/platlib/native.py", "native")
        archive.writestr("thing_one-1.0.data/scripts/thing", "script")
    return root


def _zip(root: Path, target: Path, *, stub: bool = False) -> Path:
    with ExitStack() as open_wheels:
        build.write_zip(build.collect("ml", build.LAMBDA, open_wheels, root=root, stub=stub), target)
    return target


def test_the_same_input_gives_the_same_bytes(small_root: Path, tmp_path: Path) -> None:
    first = _zip(small_root, tmp_path / "first.zip").read_bytes()
    for path in (small_root / "src").rglob("*.py"):
        path.touch()
        path.chmod(0o700)
    (small_root / "src/smartstream/__pycache__").mkdir(exist_ok=True)
    (small_root / "src/smartstream/__pycache__/lsn.cpython-313.pyc").write_bytes(b"compiled")
    assert _zip(small_root, tmp_path / "second.zip").read_bytes() == first
    (small_root / "src/smartstream/lsn.py").write_text("changed")
    assert _zip(small_root, tmp_path / "third.zip").read_bytes() != first


def test_a_wheel_is_unpacked_without_what_is_never_imported(small_root: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(_zip(small_root, tmp_path / "ml.zip")) as archive:
        names = archive.namelist()
        assert {info.external_attr >> 16 for info in archive.infolist()} == {0o100644}
    assert names == sorted(names)
    assert [name for name in names if not name.startswith("smartstream/")] == [
        "lambda_function.py",
        "native.py",
        "thing/a.py",
        "thing/testing.py",
        "thing_one-1.0.dist-info/METADATA",
        "thing_one-1.0.dist-info/licenses/LICENSE",
    ]


def test_a_stub_needs_no_wheels(small_root: Path, tmp_path: Path) -> None:
    shutil.rmtree(small_root / "build")
    with zipfile.ZipFile(_zip(small_root, tmp_path / "ml.zip", stub=True)) as archive:
        assert {name.split("/")[0] for name in archive.namelist()} == {"lambda_function.py", "smartstream"}


def test_two_wheels_with_the_same_file_are_refused(small_root: Path, tmp_path: Path) -> None:
    (small_root / "lambdas/ml/requirements.txt").write_text("Thing.one==1.0\nother==2\n")
    folder = small_root / "build" / "wheels" / build.LAMBDA.name
    with zipfile.ZipFile(folder / "other-2-py3-none-any.whl", "w") as archive:
        archive.writestr("thing/a.py", "another")
    with pytest.raises(build.BuildFailed, match=r"thing/a\.py is in two wheels"):
        _zip(small_root, tmp_path / "ml.zip")


def test_a_package_that_lambda_would_refuse_is_not_written(small_root: Path, tmp_path: Path) -> None:
    wheel = small_root / "build" / "wheels" / build.LAMBDA.name / "thing_one-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "a", zipfile.ZIP_DEFLATED) as archive, archive.open("big", "w") as file:
        for _ in range(251):
            file.write(bytes(1_000_000))
    with pytest.raises(build.BuildFailed, match="bytes unzipped, more than 250,000,000"):
        _zip(small_root, tmp_path / "ml.zip")
    assert not (tmp_path / "ml.zip").exists()


def test_the_real_package_fits_and_is_for_arm64_alone(package: Path) -> None:
    with zipfile.ZipFile(package) as archive:
        members = archive.infolist()
        machines = {
            int.from_bytes(archive.open(member).read(20)[18:20], "little")
            for member in members
            if ".so" in member.filename
        }
    assert sum(member.file_size for member in members) < 250_000_000
    assert machines == {ARM64}
    names = {member.filename for member in members}
    assert {"lambda_function.py", "smartstream/trusted/table.py", "pyarrow/__init__.py"} <= names
    assert not [name for name in names if name.endswith((".pyc", "/RECORD", "/INSTALLER"))]
    assert not [name for name in names if name.split("/")[0] in ("boto3", "botocore", "psycopg", "typer")]


def test_the_function_answers_with_its_package_alone_on_the_path(unpacked: Path, runtime: Path) -> None:
    found = _probe(unpacked, runtime)
    assert found["answers"] == _answers(unpacked.name)
    outside = [
        path
        for path in found["files"]
        if "site-packages" in path and not any(f"/site-packages/{name}" in path for name in RUNTIME_HAS)
    ]
    assert not outside
    assert not [name for name in found["path"] if "site-packages" in name]


def test_a_handler_imports_at_its_start_what_it_needs(unpacked: Path, runtime: Path) -> None:
    """Lambda gives a function a whole CPU until its handler is imported, and only a part of one later."""
    early = set(_probe(unpacked, runtime)["early"])
    assert {OWN[unpacked.name], "boto3", "pyarrow", "pyiceberg"} <= early
    assert not {name.split(".")[0] for name in early} & set(NEVER)


def test_the_pruned_libraries_work(unpacked: Path, runtime: Path) -> None:
    ended = _run(USE, str(unpacked), str(runtime))
    assert ended.returncode == 0, ended.stderr


def test_what_is_imported_is_in_the_package_and_nothing_big_is_unused(unpacked: Path, runtime: Path) -> None:
    loaded = {
        _any_platform(path.removeprefix(f"{unpacked}/"))
        for path in _probe(unpacked, runtime)["files"]
        if path.startswith(f"{unpacked}/")
    }
    with ExitStack() as open_wheels:
        try:
            entries = build.collect(unpacked.name, build.LAMBDA, open_wheels)
        except build.DownloadFailed as error:
            pytest.skip(f"the wheels can't be downloaded: {error}")
    packed = {_any_platform(path): entry.size_bytes for path, entry in entries.items()}
    assert len(loaded) > 300
    ours = {path for path in loaded if not path.startswith("numpy.libs/")}  # compilers' own differ
    assert ours <= packed.keys()
    if sys.platform == "linux":
        unused = [path for path, size in packed.items() if size > BIG_BYTES and path not in loaded]
        assert not unused
