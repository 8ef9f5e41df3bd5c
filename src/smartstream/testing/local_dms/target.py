"""The Kinesis stream behind a target endpoint."""

from __future__ import annotations

import random
from collections.abc import Sequence
from threading import Event
from typing import Any

from smartstream.testing.local_dms.records import Record
from smartstream.testing.local_dms.settings import Quirks

RECORDS_MAX = 500
BYTES_MAX = 5 << 20
DUPLICATES_AT_ONCE = 4  # So few that no batch of them is too large.
ATTEMPTS_MAX = 10
PAUSE_SECONDS = 0.05


class StreamRefuses(Exception):
    """The stream has not taken a record after ATTEMPTS_MAX tries."""


class Stream:
    """Puts records in batches of what PutRecords takes at once.

    Args:
        kinesis: a client of boto3.
        stopping: cuts pauses short; what was added is put all the same.
    """

    def __init__(self, kinesis: Any, stream_arn: str, quirks: Quirks, stopping: Event) -> None:
        self._kinesis, self._name = kinesis, stream_arn.rpartition("/")[2]
        self._quirks, self._stopping = quirks, stopping
        self._random = random.Random(quirks.seed)
        self._waiting: list[Record] = []
        self._size = 0
        self._again: list[Record] = []
        self.put_count = 0

    def check(self) -> None:
        """See that the stream is there.

        Raises:
            botocore.exceptions.ClientError: it isn't.
        """
        self._kinesis.describe_stream(StreamName=self._name)

    def add(self, record: Record) -> None:
        """Put a record, now or with the next ones.

        Raises:
            StreamRefuses, botocore.exceptions.ClientError: a batch couldn't be put.
        """
        size = len(record.data) + len(record.partition_key.encode())
        if len(self._waiting) == RECORDS_MAX or self._size + size > BYTES_MAX:
            self._put_waiting()
        self._waiting.append(record)
        self._size += size

    def flush(self) -> None:
        """Put what is still waiting, the duplicates that were drawn among it."""
        self._put_waiting()
        again, self._again = self._again, []
        for start in range(0, len(again), DUPLICATES_AT_ONCE):
            self._put(again[start : start + DUPLICATES_AT_ONCE])

    def _put_waiting(self) -> None:
        waiting, self._waiting, self._size = self._waiting, [], 0
        self._put(waiting)
        if self._quirks.duplicate_ratio:
            ratio = self._quirks.duplicate_ratio
            self._again += [record for record in waiting if self._random.random() < ratio]
            while len(self._again) > RECORDS_MAX:
                self._put(self._again[:DUPLICATES_AT_ONCE])
                del self._again[:DUPLICATES_AT_ONCE]

    def _put(self, records: Sequence[Record]) -> None:
        """Put a batch; what the stream didn't take is tried again, behind what it took."""
        for attempt in range(ATTEMPTS_MAX):
            if not records:
                return
            self._stopping.wait(self._quirks.delay_seconds + attempt * PAUSE_SECONDS)
            answer = self._kinesis.put_records(
                StreamName=self._name,
                Records=[{"Data": record.data, "PartitionKey": record.partition_key} for record in records],
            )
            failed = [
                record
                for record, result in zip(records, answer["Records"], strict=True)
                if result.get("ErrorCode")
            ]
            self.put_count += len(records) - len(failed)
            records = failed
        if records:
            raise StreamRefuses(f"the stream refuses {len(records)} records")
