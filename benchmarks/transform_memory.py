"""The transform function in a process of its own, with what its package holds: how soon, and in what memory.

AWS is moto on this machine.  The package is built from the wheels that ``make lambdas`` has
downloaded for this machine; without them the function runs from this environment.
"""

from __future__ import annotations

import gzip
import json
import runpy
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import boto3
from moto.server import ThreadedMotoServer

from benchmarks.dms import ORDERS, record

ROOT = Path(__file__).resolve().parents[1]
BUCKET, PREFIX, LOCKS = "lake", "bench", "locks"
RUNTIME_HAS = ("boto3", "botocore", "jmespath", "s3transfer", "urllib3", "dateutil", "six.py")
TIMEOUT_S = 900.0
MB = 1_000_000

# Runs with nothing but the package and what Lambda's runtime has on its path.
CHILD = """
import json, os, sys, time
began = float(os.environ["BEGAN"])
package, runtime, event = json.loads(sys.stdin.read())
sys.path[:0] = [package, runtime]
import lambda_function
imported = time.time() - began
answer = lambda_function.lambda_handler(event, None)
done = time.time() - began
(line,) = (line for line in open("/proc/self/status") if line.startswith("VmHWM:"))
print("\\n" + json.dumps([answer, imported, done, int(line.split()[1]) / 1024]))
"""


def run(objects: int, object_bytes: int, large_bytes: int) -> dict[str, Any]:
    """Seconds and peak memory of a first call for a batch of objects, and for one large object.

    Each in a process that has just been started; bytes are of JSON, as Firehose's buffer counts
    them.  ``again`` is the same batch of objects once more: redelivered, each row an update.
    """
    with _aws() as (url, client), tempfile.TemporaryDirectory(prefix="smartstream-bench-") as folder:
        package = _package(Path(folder))
        small = [f"raw/small/{number}.gz" for number in range(objects)]
        per_object = _count(object_bytes)
        for number, key in enumerate(small):
            client.put_object(Bucket=BUCKET, Key=key, Body=_object(number * per_object, per_object))
        client.put_object(Bucket=BUCKET, Key="raw/large.gz", Body=_object(0, _count(large_bytes)))
        first = _call(package, Path(folder), url, small)
        again = _call(package, Path(folder), url, small)
        large = _call(package, Path(folder), url, ["raw/large.gz"])
    return {
        "records": objects * per_object,
        "large_records": _count(large_bytes),
        "import_s": round(first[0], 2),
        "cold_start_s": round(first[1], 2),
        "again_s": round(again[1], 2),
        "large_s": round(large[1], 2),
        "peak_rss_mib": round(first[2]),
        "peak_rss_mib_again": round(again[2]),
        "peak_rss_mib_large": round(large[2]),
    }


def _count(size_bytes: int) -> int:
    """As many records as make an object of so many bytes."""
    return size_bytes // len(record(10_000_000))


def _object(first: int, count: int) -> bytes:
    """Records of consecutive rows."""
    return gzip.compress("".join(record(first + n) for n in range(count)).encode(), compresslevel=1)


def _call(package: Path, folder: Path, url: str, keys: list[str]) -> tuple[float, float, float]:
    """One call in a fresh process: seconds until imported and until done, MiB at most."""
    told = [{"s3": {"bucket": {"name": BUCKET}, "object": {"key": key}}} for key in keys]
    bodies = [json.dumps({"Records": [{"eventName": "ObjectCreated:Put", **one}]}) for one in told]
    event = {"Records": [{"messageId": key, "body": body} for key, body in zip(keys, bodies, strict=True)]}
    done = subprocess.run(
        [
            sys.executable,
            "-I",
            "-S",
            "-c",
            f"import time, os; os.environ['BEGAN'] = str(time.time())\n{CHILD}",
        ],
        input=json.dumps([str(package), str(_runtime(folder)), event]),
        env=_environment(url, folder),
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
    )
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    answer, imported, ended, peak = json.loads(done.stdout.splitlines()[-1])
    assert answer == {"batchItemFailures": []}, done.stdout[-2000:]
    return imported, ended, peak


def _package(folder: Path) -> Path:
    """The function's package for this machine, unpacked."""
    build = runpy.run_path(str(ROOT / "tools" / "build_lambdas.py"))
    package = folder / "package"
    with ExitStack() as open_wheels:
        build["write_folder"](build["collect"]("transform", build["HERE"], open_wheels), package)
    return package


def _runtime(folder: Path) -> Path:
    """What Lambda's runtime has beside a package."""
    runtime = folder / "runtime"
    if not runtime.exists():
        runtime.mkdir()
        for name in RUNTIME_HAS:
            (runtime / name).symlink_to(Path(sysconfig.get_path("purelib")) / name)
    return runtime


def _environment(url: str, folder: Path) -> dict[str, str]:
    """What Terraform gives the function, and credentials for the emulator."""
    return {
        "AWS_ENDPOINT_URL": url,
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "bench",
        "AWS_SECRET_ACCESS_KEY": "bench",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "512",
        "WAREHOUSE": f"s3://{BUCKET}",
        "RAW_PREFIX": "raw",
        "GLUE_CATALOG_PREFIX": PREFIX,
        "LOCK_TABLE": LOCKS,
        "DMS_BEFORE_IMAGE": "before-image",
        "TMPDIR": str(folder),
    }


@contextmanager
def _aws() -> Iterator[tuple[str, Any]]:
    """An emulator with a lake and its locks, and a client of S3."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        url = f"http://{host}:{port}"
        named = {"region_name": "us-east-1", "endpoint_url": url}
        keys = {"aws_access_key_id": "bench", "aws_secret_access_key": "bench"}
        client = boto3.client("s3", **named, **keys)
        client.create_bucket(Bucket=BUCKET)
        boto3.client("dynamodb", **named, **keys).create_table(
            TableName=LOCKS,
            KeySchema=[{"AttributeName": "table_id", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "table_id", "AttributeType": "S"}],
            BillingMode="PAY_PER_REQUEST",
        )
        text = json.dumps(json.loads(ORDERS.to_json())).encode()
        client.put_object(Bucket=BUCKET, Key="config/tables/public.orders.json", Body=text)
        yield url, client
    finally:
        server.stop()
