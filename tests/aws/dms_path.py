"""The path of AWS in one process: a task of the stand-in for DMS, Firehose's objects, the transform."""

from __future__ import annotations

import gzip
import itertools
import json
import random
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from psycopg.conninfo import conninfo_to_dict

from smartstream.aws.operate.source import TunnelSource, source_tables
from smartstream.config import Settings
from smartstream.delivery.definitions import Definitions
from smartstream.delivery.handle import Announced, Transform
from smartstream.delivery.lock import ProcessLocks
from smartstream.delivery.records import Options
from smartstream.errors import SmartStreamError
from smartstream.raw.local_store import LocalStore
from smartstream.testing.local_dms import Quirks, source
from smartstream.testing.local_dms.capture import Plan
from smartstream.testing.local_dms.mappings import TableMappings
from smartstream.testing.local_dms.settings import KinesisOptions, SourceOptions, TaskOptions
from smartstream.testing.local_dms.target import Stream
from smartstream.testing.local_dms.task import ReplicationTask
from smartstream.trusted.catalog import LakeCatalog, open_catalog
from tests.aws.local_dms_setup import KINESIS_SETTINGS, TASK_SETTINGS, merged, prepared_source, selection

MARKS = "public.marks"
"""A table of the tests' own: its row arrives when everything before it has."""
NOW = datetime(2026, 1, 2, tzinfo=UTC)
SECONDS_MAX = 60.0
SHARDS = 3
_NUMBERS = itertools.count(1)


class MemoryStream:
    """Kinesis as far as DMS writes to it: records by shard, in the order of their arrival."""

    def __init__(self) -> None:
        self.shards: list[list[bytes]] = [[] for _ in range(SHARDS)]

    def put_records(self, StreamName: str, Records: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Take all of them."""
        for one in Records:
            self.shards[sum(one["PartitionKey"].encode()) % SHARDS].append(one["Data"])
        return {"Records": [{} for _ in Records]}

    def describe_stream(self, StreamName: str) -> dict[str, Any]:
        """It is there."""
        return {}


class DmsPath:
    """One database on its way through DMS into a lake of its own.

    Args:
        dsn: DMS's login.
        bare_updates: an update that kept its key has no before-image, in place of an empty one.
        task_settings: changed ones.
    """

    def __init__(
        self,
        dsn: str,
        database: str,
        folder: Path,
        rng: random.Random,
        *,
        bare_updates: bool = False,
        task_settings: dict[str, Any] | None = None,
    ) -> None:
        self._bare_updates = bare_updates
        self._rng, self._stream, self._database = rng, MemoryStream(), database
        login = conninfo_to_dict(dsn)
        login["username"] = login["user"]
        self._taken = [0] * SHARDS
        settings = {
            "source": {"url": "postgresql://read-by-dms"},
            "lake": {"warehouse": str(folder)},
            "tables": {"*.*": None},
        }
        self.settings = Settings.model_validate(settings)
        self.catalog: LakeCatalog = open_catalog(self.settings.lake)
        self.definitions = Definitions(LocalStore(str(folder)))
        self.objects: dict[str, bytes] = {}
        # As Terraform's function has them.
        self.options = Options(before_image_required=False)
        plan = Plan(
            f"PARITY{next(_NUMBERS)}",
            TableMappings.read(json.dumps({"rules": [selection("include", "public", "%")]})),
            SourceOptions.read({"CaptureDdls": True, "DdlArtifactsSchema": "awsdms"}),
            KinesisOptions.read({"StreamArn": "arn/changes", **KINESIS_SETTINGS}),
            TaskOptions.read(json.dumps(merged(TASK_SETTINGS, task_settings or {}))),
            Quirks(poll_seconds=0.02, duplicate_ratio=0.1, seed=rng.randrange(1 << 30)),
        )
        self.task = ReplicationTask(
            plan,
            "full-load-and-cdc",
            lambda: source.connect(source.local_conninfo(login, str(login["dbname"]), "")),
            lambda stopping: Stream(self._stream, "arn/changes", plan.quirks, stopping),
            lambda: datetime.now(UTC),
            lambda notice, moment: None,
        )

    def define(self) -> None:
        """As ``smartstream aws start --definitions`` does."""
        for schema in source_tables(TunnelSource(self._database)):
            self.definitions.put(schema)

    def start(self) -> None:
        """Begin, and wait for the full load."""
        self.task.start("start-replication")
        self._wait(lambda: self.task.described()["ReplicationTaskStats"]["FullLoadProgressPercent"] == 100)

    def catch_up(self) -> None:
        """Wait until all that is committed now has been put into the stream."""
        number = next(_NUMBERS)
        with closing(source.connect(self._database)) as connection:
            connection.execute(f"INSERT INTO {MARKS} VALUES ({number})")
        wanted = f'{{"data":{{"id":{number}}}'.encode()
        self._wait(lambda: any(one.startswith(wanted) for shard in self._stream.shards for one in shard))

    def _wait(self, done: Any) -> None:
        ends, pause = time.monotonic() + SECONDS_MAX, threading.Event()
        while not done():
            assert self.task.status in ("starting", "running"), self.task.described()
            assert time.monotonic() < ends, "DMS's stand-in did not get there"
            pause.wait(0.05)

    def stop(self) -> None:
        """Stop the task and drop its slot."""
        self.task.stop()
        assert self.task.wait()
        self.task.forget()

    def objects_from_stream(self) -> list[str]:
        """What has come since the last time, as Firehose's objects: by table, cut anywhere, shards mixed."""
        rows: defaultdict[tuple[str, str], list[bytes]] = defaultdict(list)
        for number, shard in enumerate(self._stream.shards):
            fresh, self._taken[number] = shard[self._taken[number] :], len(shard)
            for data in fresh:
                told = json.loads(data)["metadata"]
                if self._bare_updates:
                    data = data.replace(b',"before-image":{}', b"")
                rows[told["schema-name"], told["table-name"]].append(data)
        made = []
        for (schema, table), records in rows.items():
            self._rng.shuffle(records)
            while records:
                count = self._rng.randint(1, 60)
                taken, records = records[:count], records[count:]
                key = f"raw/schema={schema}/table={table}/{len(self.objects):05}.gz"
                self.objects[key] = gzip.compress(b"".join(taken))
                made.append(key)
        return made

    def deliver(self, keys: Sequence[str]) -> None:
        """Some come twice, all in any order, failures again, as from a queue; until nothing is left."""
        queue = [*keys, *self._rng.sample(list(keys), len(keys) // 4)]
        self._rng.shuffle(queue)
        tries: defaultdict[str, int] = defaultdict(int)
        while queue:
            count = self._rng.randint(1, 10)
            taken, queue = queue[:count], queue[count:]
            for key, error in self.transform(taken).items():
                tries[key] += 1
                assert tries[key] < 50, (key, repr(error))
                queue.insert(self._rng.randint(0, len(queue)), key)

    def transform(self, keys: Sequence[str]) -> dict[str, SmartStreamError]:
        """One call of the function; each object has a message of its name."""
        transform = Transform(
            self.settings,
            self.catalog,
            Definitions(self.definitions._store),
            locks=ProcessLocks(),
            clock=lambda: NOW,
            options=self.options,
        )
        return transform.apply([Announced(key, key) for key in keys], self.objects.__getitem__)

    def damaged(self) -> list[dict[str, Any]]:
        """The damaged records, each with what it says as ``parsed``."""
        if not self.catalog.table_exists(("quarantine", "dms_records")):
            return []
        rows = self.catalog.load_table(("quarantine", "dms_records")).scan().to_arrow().to_pylist()
        return [row | {"parsed": json.loads(row["record"])} for row in rows]


@contextmanager
def dms_path(database: str, folder: Path, rng: random.Random, **changed: Any) -> Iterator[DmsPath]:
    """A path whose task has not been started; it is stopped and its slot dropped at the end."""
    with closing(source.connect(database)) as connection:
        connection.execute(f"CREATE TABLE {MARKS} (id bigint PRIMARY KEY)")
    with prepared_source(database) as login:
        path = DmsPath(login, database, folder, rng, **changed)
        try:
            yield path
        finally:
            path.stop()
