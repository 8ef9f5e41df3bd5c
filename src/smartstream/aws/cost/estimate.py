"""What a configuration of the stack costs a month: quantities times list prices."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

from smartstream.aws.cost.prices import Price, Prices
from smartstream.aws.cost.schedules import runs_per_month
from smartstream.errors import TerraformInvalid

HOURS = 730
"""Of a month, as AWS's own calculator has it."""
SECONDS = HOURS * 3600
GB = 1 << 30
RECORD_BYTES_MAX = 1 << 20

# What the stack always has; a test compares these with the plan.
ALARMS = 17
COMPOSITE_ALARMS = 1
METRIC_FILTERS = 1
DASHBOARDS = 1
KEYS = 1
SECRETS = 2
CRAWLERS = 2
INTERFACE_ENDPOINTS = ("kinesis-streams", "secretsmanager")

# What depends on the work, and is assumed.
CRAWL_HOURS, CRAWL_DPUS = 10 / 60, 2
OBJECTS_PER_BATCH = 10
TRANSFORM_S, ML_S = 2.0, 10.0
LOCK_WRITES = 2
SQS_REQUESTS = 3
TRUSTED_PUTS = 4
GZIP_SHARE = 0.2
LOGS_GB = 1.0

ASSUMPTIONS = (
    "A month has 730 hours, and 30 runs of a daily schedule",
    "Changes come evenly over the month and over the tables; Firehose bills each in steps of 5 KB",
    f"The transform function takes {OBJECTS_PER_BATCH} objects at once, needs {TRANSFORM_S:g} s for them and"
    f" writes {TRUSTED_PUTS} objects; the ML function needs {ML_S:g} s",
    f"Raw objects shrink to {GZIP_SHARE:.0%} by gzip; S3 holds those of the first month, and more each month",
    "AWS bills 10 minutes for a run of a crawler at least; with 2 DPUs it needs no more",
    f"{LOGS_GB:g} GB of logs, and as much of flow logs when they are on",
)
NOT_INCLUDED = (
    "tax, discounts, support",
    "the trusted tables' size in S3, and Glue's table optimizers (by DPU-hour of use)",
    "Athena (by TB scanned; athena_scan_limit_mb caps each query)",
    "traffic between zones and out of AWS, backups beyond the database's size, requests to KMS, traces",
)


@dataclass(frozen=True, slots=True)
class Load:
    """How much the source changes.

    Attributes:
        records_per_s: changes a second, over all tables.
        record_bytes: of one change as DMS writes it.
        tables: that change all the time; each has a Firehose partition of its own.
    """

    records_per_s: float = 1.0
    record_bytes: int = 1024
    tables: int = 3


@dataclass(frozen=True, slots=True)
class Configuration:
    """The stack's variables that cost money, under their Terraform names."""

    region: str
    egress_mode: str
    az_count: int
    enable_flow_logs: bool
    use_customer_managed_key: bool
    db_instance_class: str
    db_allocated_storage_gb: int
    db_multi_az: bool
    dms_instance_class: str
    dms_multi_az: bool
    kinesis_stream_mode: str
    kinesis_shards: int
    kinesis_retention_hours: int
    firehose_buffer_size_mb: int
    firehose_buffer_interval_seconds: int
    transform_memory_mb: int
    ml_memory_mb: int
    ml_schedule_expression: str
    crawler_schedule: str | None

    @staticmethod
    def of(values: Mapping[str, Any]) -> Configuration:
        """Take what costs money out of the values of all variables.

        Raises:
            TerraformInvalid: one is missing, negative, or a mode that does not exist.
        """
        names = [field.name for field in fields(Configuration)]
        missing = [name for name in names if name not in values]
        if missing:
            raise TerraformInvalid(f"the stack has no value for {', '.join(missing)}")
        made = Configuration(**{name: values[name] for name in names})
        for name in names:
            value = getattr(made, name)
            if value is None and name != "crawler_schedule":  # null: crawlers run by hand
                raise TerraformInvalid(f"{name} is null")
            if isinstance(value, int | float) and value < 0:
                raise TerraformInvalid(f"{name} is negative")
        _one_of(made, "egress_mode", ("nat", "vpc_endpoints"))
        _one_of(made, "kinesis_stream_mode", ("PROVISIONED", "ON_DEMAND"))
        return made


@dataclass(frozen=True, slots=True)
class Line:
    """One position of the bill."""

    service: str
    item: str
    quantity: float
    price: Price

    @property
    def monthly_usd(self) -> float:
        """Quantity times price."""
        return self.quantity * self.price.usd


@dataclass(frozen=True, slots=True)
class Estimate:
    """The bill of a configuration under a load."""

    configuration: Configuration
    load: Load
    lines: tuple[Line, ...]
    notes: tuple[str, ...]

    @property
    def monthly_usd(self) -> float:
        """The sum."""
        return sum(line.monthly_usd for line in self.lines)

    def by_service(self) -> dict[str, float]:
        """The sum of each service, in the order of the lines."""
        sums: dict[str, float] = {}
        for line in self.lines:
            sums[line.service] = sums.get(line.service, 0.0) + line.monthly_usd
        return sums


class Usage(NamedTuple):
    """What a load makes in a month."""

    records: float
    bytes: float
    gb: float
    objects: float
    invocations: float


def estimate(configuration: Configuration, load: Load, prices: Prices) -> Estimate:
    """Return what a configuration costs a month under a load.

    Prices that the file lacks for the region are the reference region's, marked as
    estimates; a note says so.  Lines without quantity are left out.

    Raises:
        PriceUnknown: an instance class has no price anywhere.
        TerraformInvalid: a schedule is not understood.
    """
    used = usage(configuration, load)

    def price(item: str) -> Price:
        return prices.of(item, configuration.region)

    lines: list[Line] = []
    for part in _PARTS:
        lines += part(configuration, load, used, price)
    kept = tuple(line for line in lines if line.quantity > 0)
    return Estimate(configuration, load, kept, tuple(_notes(configuration, load, prices)))


def usage(configuration: Configuration, load: Load) -> Usage:
    """What a load makes in a month: Firehose ends an object when its time or its size is full."""
    records = load.records_per_s * SECONDS
    size = records * load.record_bytes
    interval_s = max(configuration.firehose_buffer_interval_seconds, 1)
    by_time = min(records, load.tables * SECONDS / interval_s)
    by_size = size / (max(configuration.firehose_buffer_size_mb, 1) << 20)
    objects = max(by_time, by_size)
    # The objects of one interval arrive together and share batches.
    batches = max(objects / OBJECTS_PER_BATCH, min(objects, SECONDS / interval_s))
    return Usage(records, size, size / GB, objects, batches)


_PriceOf = Callable[[str], Price]
_Part = Callable[[Configuration, Load, Usage, _PriceOf], Iterator[Line]]


def _network(of: Configuration, load: Load, used: Usage, price: _PriceOf) -> Iterator[Line]:
    """The way from the private subnets to AWS's services, which DMS takes."""
    if of.egress_mode == "nat":
        yield Line("Network", "NAT gateway", HOURS, price("nat.hour"))
        yield Line("Network", "data through it", used.gb, price("nat.gb"))
        yield Line("Network", "public IPv4 address", HOURS, price("ipv4.hour"))
        return
    count = len(INTERFACE_ENDPOINTS) * of.az_count
    yield Line("Network", f"{count} interface endpoints", count * HOURS, price("endpoint.hour"))
    yield Line("Network", "data through them", used.gb, price("endpoint.gb"))


def _database(of: Configuration, load: Load, used: Usage, price: _PriceOf) -> Iterator[Line]:
    """The source; a standby costs as much again."""
    copies, words = (2, " with standby") if of.db_multi_az else (1, "")
    hours = copies * HOURS
    yield Line("RDS", f"{of.db_instance_class}{words}", hours, price(f"rds.{of.db_instance_class}"))
    yield Line("RDS", f"gp3 storage{words}", copies * of.db_allocated_storage_gb, price("rds.gp3"))


def _dms(of: Configuration, load: Load, used: Usage, price: _PriceOf) -> Iterator[Line]:
    """The replication instance; 50 GB and more of storage come with it."""
    copies, words = (2, " with standby") if of.dms_multi_az else (1, "")
    hours = copies * HOURS
    yield Line("DMS", f"{of.dms_instance_class}{words}", hours, price(f"dms.{of.dms_instance_class}"))


def _kinesis(of: Configuration, load: Load, used: Usage, price: _PriceOf) -> Iterator[Line]:
    """The stream: by shard, or on demand by data; retention beyond a day costs extra."""
    days = of.kinesis_retention_hours / 24
    if of.kinesis_stream_mode == "PROVISIONED":
        units = used.records * math.ceil(load.record_bytes / 25_600) / 1e6
        hours = of.kinesis_shards * HOURS
        name = "1 shard" if of.kinesis_shards == 1 else f"{of.kinesis_shards} shards"
        yield Line("Kinesis", name, hours, price("kinesis.shard"))
        yield Line("Kinesis", "records written", units, price("kinesis.put"))
        yield Line("Kinesis", "retention over a day", hours * (days > 1), price("kinesis.extended"))
    else:
        written = used.records * math.ceil(load.record_bytes / 1024) * 1024 / GB
        held = written / (SECONDS / 86_400) * max(0.0, min(days, 7) - 1)
        yield Line("Kinesis", "stream on demand", HOURS, price("kinesis.stream"))
        yield Line("Kinesis", "data written", written, price("kinesis.in"))
        yield Line("Kinesis", "data read by Firehose", used.gb, price("kinesis.out"))
        yield Line("Kinesis", "retention over a day", held, price("kinesis.on_demand_extended"))
    kept = used.gb / (SECONDS / 86_400) * max(0.0, days - 7)
    yield Line("Kinesis", "retention over a week", kept, price("kinesis.long_term"))


def _firehose(of: Configuration, load: Load, used: Usage, price: _PriceOf) -> Iterator[Line]:
    """Delivery to S3, partitioned by schema and table."""
    billed = used.records * math.ceil(load.record_bytes / 5120) * 5120 / GB
    yield Line("Firehose", "data delivered", billed, price("firehose.gb"))
    yield Line("Firehose", "data partitioned", used.gb, price("firehose.partition_gb"))
    yield Line("Firehose", "objects partitioned", used.objects / 1000, price("firehose.partition_objects"))


def _storage(of: Configuration, load: Load, used: Usage, price: _PriceOf) -> Iterator[Line]:
    """The lake's bucket."""
    puts = used.objects + used.invocations * TRUSTED_PUTS
    yield Line("S3", "raw objects, one month's", used.gb * GZIP_SHARE, price("s3.gb"))
    yield Line("S3", "requests that write", puts / 1000, price("s3.put"))
    yield Line("S3", "requests that read", (used.objects + puts) / 1000, price("s3.get"))


def _functions(of: Configuration, load: Load, used: Usage, price: _PriceOf) -> Iterator[Line]:
    """The two functions, the queue before the first, and its locks."""
    ml_runs = runs_per_month(of.ml_schedule_expression, "ml_schedule_expression")
    transform = used.invocations * TRANSFORM_S * of.transform_memory_mb / 1024
    ml = ml_runs * ML_S * of.ml_memory_mb / 1024
    yield Line("Lambda", f"transform, {of.transform_memory_mb} MB", transform, price("lambda.gb_second"))
    yield Line("Lambda", f"ML, {of.ml_memory_mb} MB", ml, price("lambda.gb_second"))
    yield Line("Lambda", "calls", (used.invocations + ml_runs) / 1e6, price("lambda.request"))
    yield Line("Lambda", "queue", used.objects * SQS_REQUESTS / 1e6, price("sqs.request"))
    locks = used.invocations * LOCK_WRITES / 1e6
    yield Line("Lambda", "table locks", locks, price("dynamodb.write"))


def _glue(of: Configuration, load: Load, used: Usage, price: _PriceOf) -> Iterator[Line]:
    """The crawlers."""
    runs = CRAWLERS * runs_per_month(of.crawler_schedule, "crawler_schedule")
    yield Line("Glue", f"{runs:,.0f} crawler runs", runs * CRAWL_HOURS * CRAWL_DPUS, price("glue.dpu"))


def _watching(of: Configuration, load: Load, used: Usage, price: _PriceOf) -> Iterator[Line]:
    """Alarms, metrics and logs."""
    yield Line("CloudWatch", "alarms", ALARMS, price("cloudwatch.alarm"))
    yield Line("CloudWatch", "composite alarm", COMPOSITE_ALARMS, price("cloudwatch.composite"))
    yield Line("CloudWatch", "metric of the logs", METRIC_FILTERS, price("cloudwatch.metric"))
    logs = LOGS_GB * (2 if of.enable_flow_logs else 1)
    yield Line("CloudWatch", "logs", logs, price("cloudwatch.logs"))
    yield Line("CloudWatch", "dashboard", DASHBOARDS, price("cloudwatch.dashboard"))


def _secrets(of: Configuration, load: Load, used: Usage, price: _PriceOf) -> Iterator[Line]:
    """Two passwords, the key of the alerts, and one of the data when it is the customer's own."""
    yield Line("Secrets and keys", "secrets", SECRETS, price("secrets.secret"))
    keys = KEYS + (1 if of.use_customer_managed_key else 0)
    yield Line("Secrets and keys", "keys", keys, price("kms.key"))


_PARTS: tuple[_Part, ...] = (
    _network,
    _database,
    _dms,
    _kinesis,
    _firehose,
    _storage,
    _functions,
    _glue,
    _watching,
    _secrets,
)


def _notes(of: Configuration, load: Load, prices: Prices) -> Iterator[str]:
    """What a reader must know about this estimate."""
    reference = prices.reference_region
    if not prices.knows(of.region):
        yield f"There are no prices for {of.region}: all are those of {reference}, as an estimate."
    elif of.region != reference:
        yield f"Lines with ~ are estimates: most have the price of {reference}."
    needed = max(load.records_per_s * load.record_bytes / (1 << 20), load.records_per_s / 1000)
    if of.kinesis_stream_mode == "PROVISIONED" and needed > of.kinesis_shards:
        shards = math.ceil(needed)
        yield f"This load needs {shards} shards; {of.kinesis_shards} would throttle it (kinesis_shards)."


def _one_of(configuration: Configuration, name: str, known: tuple[str, ...]) -> None:
    """Refuse a mode that does not exist."""
    value = getattr(configuration, name)
    if value not in known:
        raise TerraformInvalid(f"{name} is {value}; it can be {' or '.join(known)}")
