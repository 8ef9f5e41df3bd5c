"""Start ministack with a few things made as AWS has them.

They are ministack's private functions: where a new version has renamed one, this fails at the
start and says which.  Ends when its standard input does, so that it never outlives the tests.
"""

from __future__ import annotations

import gzip
import os
import re
import sys
import tempfile
import threading
from collections import OrderedDict
from typing import Any

import jq
from ministack import app as gateway
from ministack.core import lambda_runtime
from ministack.services import firehose, kinesis, rds

ANSWERS_MAX = 500
_SECOND_TRY = re.compile(rb"attempt=(?!1\b)")

_now_delivering = threading.local()
_answers: OrderedDict[bytes, list[dict[str, Any]]] = OrderedDict()


def partition_keys(config: dict[str, Any], data: bytes) -> dict[str, str] | None:
    """What the stack's own query says of a record; ministack's jq knows paths only."""
    processing = config.get("ProcessingConfiguration") or {}
    parameters = {
        parameter["ParameterName"]: parameter["ParameterValue"]
        for processor in processing.get("Processors", ())
        if processor["Type"] == "MetadataExtraction"
        for parameter in processor["Parameters"]
    }
    if not processing.get("Enabled") or not parameters:
        return None
    try:
        found = jq.compile(parameters["MetadataExtractionQuery"]).input_text(data.decode()).first()
    except ValueError as problem:
        raise firehose._DeliveryError("processing-failed", str(problem)) from problem
    if any(not isinstance(value, str) or not value for value in found.values()):
        raise firehose._DeliveryError("processing-failed", f"no partition in {found}")
    return dict(found)


def deliver(stream: dict[str, Any], destination: dict[str, Any], *rest: Any) -> None:
    """Deliver, and remember how the object is to be compressed."""
    _now_delivering.compression = destination["config"].get("CompressionFormat")
    _deliver(stream, destination, *rest)


def put_object(bucket: str, key: str, body: bytes) -> None:
    """Write an object of Firehose, compressed as its settings say; ministack leaves it as it is."""
    _put_object(bucket, key, gzip.compress(body) if _now_delivering.compression == "GZIP" else body)


def create_stream(request: dict[str, Any]) -> Any:
    """Make a stream with its tags.

    Terraform makes streams so; ministack takes tags for a stream that exists only.  Without
    them the stream would change in each plan, and with it the policies that depend on it.
    """
    answer = _create_stream(request)
    if answer[0] == 200 and request.get("Tags"):
        kinesis._add_tags({"StreamName": request["StreamName"], "Tags": request["Tags"]})
    return answer


def delete_database(request: Any) -> Any:
    """Delete a database and answer that there is none.

    The provider sleeps a minute before it looks whether a database is gone, and is spared
    that when it is told so at once.
    """
    answer = _delete_database(request)
    return rds._error("DBInstanceNotFound", "deleted", 404) if answer[0] == 200 else answer


async def answer(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Answer a call; one that is made again, because its answer got lost, is not carried out again.

    The SDK says of each call which try it is.  Otherwise what the first try has made would be in
    the way of the second: "already exists", from a loaded machine on which a connection broke.
    """
    headers = dict(scope.get("headers", ()))
    call = headers.get(b"amz-sdk-invocation-id")
    if call is None:
        await _answer(scope, receive, send)
        return
    if _SECOND_TRY.match(headers.get(b"amz-sdk-request", b"")) and _is_final(_answers.get(call)):
        print(f"answered again: {headers.get(b'x-amz-target', b'').decode()} {scope['path']}", flush=True)
        while (await receive()).get("more_body"):
            pass
        for message in _answers[call]:
            await send(message)
        return
    said = _answers[call] = []
    while len(_answers) > ANSWERS_MAX:
        _answers.popitem(last=False)

    async def send_and_keep(message: dict[str, Any]) -> None:
        said.append(message)
        await send(message)

    await _answer(scope, receive, send_and_keep)


def _is_final(said: list[dict[str, Any]] | None) -> bool:
    """Whether a call has been answered whole, and not by an error."""
    if not said or said[-1]["type"] != "http.response.body" or said[-1].get("more_body"):
        return False
    return bool(said[0]["status"] < 300)


def credentials(config: dict[str, Any]) -> dict[str, str]:
    """What a new process of a function is given: credentials, and a /tmp that it shares with no other."""
    return _credentials(config) | {"TMPDIR": tempfile.mkdtemp(prefix="function-")}


_answer = gateway.app
_credentials = lambda_runtime.execution_credentials
_deliver = firehose._deliver_to_s3
_put_object = firehose._put_s3_object
_create_stream = kinesis._create_stream
_delete_database = rds._delete_db_instance_impl
gateway.app = answer
lambda_runtime.execution_credentials = credentials
firehose._metadata_extraction_keys = partition_keys
firehose._deliver_to_s3 = deliver
firehose._put_s3_object = put_object
kinesis._create_stream = create_stream
rds._delete_db_instance_impl = delete_database


def _end_with_input() -> None:
    os.read(sys.stdin.fileno(), 1)  # Blocks: nobody writes.
    os._exit(0)


if __name__ == "__main__":
    threading.Thread(target=_end_with_input, daemon=True).start()
    gateway.main()
