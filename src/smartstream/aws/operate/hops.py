"""How the stack is, hop by hop: what goes in and out, how late, and what went wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from itertools import islice
from typing import Any

from smartstream.aws.operate import crawl, dms, metrics
from smartstream.aws.operate.calls import Aws
from smartstream.aws.operate.metrics import Metric, Points
from smartstream.aws.operate.raw_zone import newest_object, objects_since
from smartstream.aws.operate.stack import StackOutputs
from smartstream.errors import AwsError, CredentialsUnusable

OK, IDLE, WARN, FAIL, UNKNOWN = "ok", "idle", "warn", "fail", "unknown"
HEALTHY, DEGRADED = "healthy", "degraded"
ERRORS_PREFIX = "firehose-errors/"
ERRORS_MAX = 1_000

# As the alarms of terraform/cloudwatch.tf.
CDC_LATENCY_S_MAX = 300.0
ITERATOR_AGE_S_MAX = 600.0
FRESHNESS_S_MAX = 900.0
QUEUE_AGE_S_MAX = 3_600.0


@dataclass(frozen=True, slots=True)
class Hop:
    """One part of the way from source to query.

    Attributes:
        state: ``ok``, ``idle`` (nothing has been started), ``warn``, ``fail`` or ``unknown`` (it could
            not be asked).
        records_in, records_out: within the window, in the part's own units; None where it does not count.
        lag_s: how far behind it is.
        errors: within the window.
        detail: what is worth knowing, in words.
    """

    name: str
    state: str
    detail: str
    records_in: int | None = None
    records_out: int | None = None
    lag_s: float | None = None
    errors: int = 0


@dataclass(frozen=True, slots=True)
class StackStatus:
    """All hops; ``window_s`` is how far back their figures reach."""

    hops: tuple[Hop, ...]
    window_s: float
    tables: tuple[dms.TableState, ...] = ()
    alarms: tuple[str, ...] = field(default=())

    @property
    def word(self) -> str:
        """``healthy``, ``idle`` (replication does not run, nothing else is wrong) or ``degraded``."""
        states = {hop.state for hop in self.hops}
        if states & {WARN, FAIL, UNKNOWN}:
            return DEGRADED
        return IDLE if self.hops and self.hops[0].state == IDLE else HEALTHY

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "ok": self.word != DEGRADED,
            "status": self.word,
            "window_s": self.window_s,
            "hops": [asdict(hop) for hop in self.hops],
            "tables": [asdict(one) for one in self.tables],
            "alarms": list(self.alarms),
        }


def status(aws: Aws, stack: StackOutputs, *, now: datetime, window: timedelta) -> StackStatus:
    """Ask every part of the stack how it is.

    A part that cannot be asked is ``unknown``, with the reason, and the others are asked all
    the same.

    Raises:
        CredentialsUnusable: nothing can be asked.
    """
    survey = _Survey(aws, stack, now, window)
    looks: Mapping[str, Callable[[], Hop]] = {
        "DMS": survey.capture,
        "Kinesis": survey.stream,
        "Firehose": survey.delivery,
        "S3 raw": survey.raw,
        "SQS": survey.queue,
        "transform": lambda: survey.function("transform", "transform_function_name"),
        "dead letters": survey.dead_letters,
        "Glue": survey.catalogue,
        "ml": lambda: survey.function("ml", "ml_function_name"),
        "alarms": survey.alarms,
    }
    hops = tuple(_look(name, look) for name, look in looks.items())
    return StackStatus(hops, window.total_seconds(), tuple(survey.tables), tuple(survey.in_alarm))


def _look(name: str, look: Callable[[], Hop]) -> Hop:
    """One hop, or why it is unknown."""
    try:
        return look()
    except CredentialsUnusable:
        raise
    except AwsError as error:
        return Hop(name, UNKNOWN, f"{error}. {error.hint}", errors=0)


class _Survey:
    """What is asked of one stack at one moment."""

    def __init__(self, aws: Aws, stack: StackOutputs, now: datetime, window: timedelta) -> None:
        self._aws, self._stack, self._now, self._window = aws, stack, now, window
        self.tables: list[dms.TableState] = []
        self.in_alarm: list[str] = []

    def capture(self) -> Hop:
        """The replication task."""
        task = dms.task(self._aws, self._stack)
        self.tables = dms.table_states(self._aws, self._stack)
        of_task = {
            "ReplicationInstanceIdentifier": self._stack.text("name_prefix"),
            "ReplicationTaskIdentifier": str(task["ReplicationTaskArn"]).rsplit(":", 1)[-1],
        }
        figures = self._read(
            {
                side: Metric("AWS/DMS", f"CDCLatency{side}", of_task, "Maximum")
                for side in ("Source", "Target")
            }
        )
        lags = [lag for points in figures.values() if (lag := metrics.newest(points)) is not None]
        lag = max(lags, default=None)
        status, broken = (
            str(task["Status"]),
            [one.table for one in self.tables if "error" in one.state.lower()],
        )
        percent = task.get("ReplicationTaskStats", {}).get("FullLoadProgressPercent")
        state = OK if status in ("running", "starting") else IDLE if status in ("ready", "stopped") else FAIL
        if broken:
            state = FAIL
        elif state == OK and lag is not None and lag > CDC_LATENCY_S_MAX:
            state = WARN
        told = [f"task {status}", f"{len(self.tables)} tables", f"full load {percent or 0} %"]
        told += [f"in error: {', '.join(broken)}"] if broken else []
        told += [str(task["LastFailureMessage"])] if task.get("LastFailureMessage") else []
        sent = sum(sum(one.sent.values()) for one in self.tables)
        return Hop("DMS", state, "; ".join(told), None, sent, lag, len(broken))

    def stream(self) -> Hop:
        """The stream."""
        of_stream = {"StreamName": self._stack.text("kinesis_stream_name")}
        figures = self._read(
            {
                "in": Metric("AWS/Kinesis", "IncomingRecords", of_stream, "Sum"),
                "out": Metric("AWS/Kinesis", "GetRecords.Records", of_stream, "Sum"),
                "age": Metric("AWS/Kinesis", "GetRecords.IteratorAgeMilliseconds", of_stream, "Maximum"),
                "refused": Metric("AWS/Kinesis", "WriteProvisionedThroughputExceeded", of_stream, "Sum"),
            }
        )
        age, refused = metrics.newest(figures["age"]), metrics.total(figures["refused"]) or 0
        lag = None if age is None else age / 1000
        state = WARN if refused or (lag or 0) > ITERATOR_AGE_S_MAX else OK
        detail = f"{refused} writes throttled: more kinesis_shards" if refused else "writes are taken"
        return Hop(
            "Kinesis",
            state,
            detail,
            metrics.total(figures["in"]),
            metrics.total(figures["out"]),
            lag,
            refused,
        )

    def delivery(self) -> Hop:
        """The delivery stream, and what it could not place."""
        name = self._stack.text("firehose_name")
        answer = self._aws.ask("firehose", "describe_delivery_stream", name, DeliveryStreamName=name)
        status = str(answer["DeliveryStreamDescription"]["DeliveryStreamStatus"])
        of_firehose = {"DeliveryStreamName": name}
        figures = self._read(
            {
                "in": Metric("AWS/Firehose", "DataReadFromKinesisStream.Records", of_firehose, "Sum"),
                "out": Metric("AWS/Firehose", "DeliveryToS3.Records", of_firehose, "Sum"),
                "lag": Metric("AWS/Firehose", "DeliveryToS3.DataFreshness", of_firehose, "Maximum"),
            }
        )
        recent = objects_since(self._aws, self._stack, ERRORS_PREFIX, self._now - self._window)
        failed = sum(1 for _ in islice(recent, ERRORS_MAX))
        lag = metrics.newest(figures["lag"])
        state = FAIL if status != "ACTIVE" else WARN if failed or (lag or 0) > FRESHNESS_S_MAX else OK
        detail = f"{status}; {failed} objects under {ERRORS_PREFIX}"
        return Hop(
            "Firehose",
            state,
            detail,
            metrics.total(figures["in"]),
            metrics.total(figures["out"]),
            lag,
            failed,
        )

    def raw(self) -> Hop:
        """The raw zone."""
        found = newest_object(self._aws, self._stack)
        if found is None:
            return Hop("S3 raw", OK, "empty")
        age_s = (self._now - found.written).total_seconds()
        return Hop("S3 raw", OK, f"newest object {found.key}, {_ago(age_s)}")

    def queue(self) -> Hop:
        """The queue of raw objects."""
        url = self._stack.text("transform_queue_url")
        waiting, working = self._depths(url)
        of_queue = {"QueueName": url.rsplit("/", 1)[-1]}
        figures = self._read(
            {
                "in": Metric("AWS/SQS", "NumberOfMessagesSent", of_queue, "Sum"),
                "out": Metric("AWS/SQS", "NumberOfMessagesDeleted", of_queue, "Sum"),
                "age": Metric("AWS/SQS", "ApproximateAgeOfOldestMessage", of_queue, "Maximum"),
            }
        )
        age = metrics.newest(figures["age"])
        state = WARN if (age or 0) > QUEUE_AGE_S_MAX else OK
        detail = f"{waiting} waiting, {working} being worked on"
        return Hop("SQS", state, detail, metrics.total(figures["in"]), metrics.total(figures["out"]), age)

    def dead_letters(self) -> Hop:
        """What the transform gave up."""
        count, working = self._depths(self._stack.text("transform_dlq_url"))
        told = (
            "`smartstream aws logs transform` says why, `smartstream aws replay --dead-letters` tries again"
        )
        if not count + working:
            return Hop("dead letters", OK, "none")
        return Hop("dead letters", FAIL, f"{count + working} messages: {told}", errors=count + working)

    def function(self, name: str, output: str) -> Hop:
        """A function, and when it was last called."""
        function = self._stack.text(output)
        of_function = {"FunctionName": function}
        figures = self._read(
            {
                one: Metric("AWS/Lambda", one, of_function, "Sum")
                for one in ("Invocations", "Errors", "Throttles")
            }
        )
        calls, errors, throttles = (metrics.total(points) or 0 for points in figures.values())
        group = f"/aws/lambda/{function}"
        streams = self._aws.ask(
            "logs",
            "describe_log_streams",
            f"log group {group}",
            logGroupName=group,
            orderBy="LastEventTime",
            descending=True,
            limit=1,
        )["logStreams"]
        last = streams[0].get("lastEventTimestamp") if streams else None
        when = "never called" if last is None else f"last run {_ago(self._now.timestamp() - last / 1000)}"
        detail = f"{when}; {errors} errors, {throttles} throttled"
        return Hop(name, WARN if errors or throttles else OK, detail, calls, calls - errors, None, errors)

    def catalogue(self) -> Hop:
        """The tables of each zone."""
        found = crawl.tables(self._aws, self._stack)
        return Hop("Glue", OK, ", ".join(f"{zone} {len(names)} tables" for zone, names in found.items()))

    def alarms(self) -> Hop:
        """The stack's alarms."""
        prefix = f"{self._stack.text('name_prefix')}-"
        answer = self._aws.ask(
            "cloudwatch",
            "describe_alarms",
            "*",
            AlarmNamePrefix=prefix,
            StateValue="ALARM",
            AlarmTypes=["MetricAlarm", "CompositeAlarm"],
        )
        listed = [*answer.get("MetricAlarms", ()), *answer.get("CompositeAlarms", ())]
        self.in_alarm = sorted(str(one["AlarmName"]) for one in listed if one.get("StateValue") == "ALARM")
        if not self.in_alarm:
            return Hop("alarms", OK, "none in ALARM")
        return Hop("alarms", FAIL, f"in ALARM: {', '.join(self.in_alarm)}", errors=len(self.in_alarm))

    def _read(self, wanted: Mapping[str, Metric]) -> dict[str, Points]:
        """Figures within the window."""
        return metrics.read(self._aws, wanted, start=self._now - self._window, end=self._now)

    def _depths(self, queue: str) -> tuple[int, int]:
        """Messages of a queue that can be received, and that somebody has."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        answer = self._aws.ask("sqs", "get_queue_attributes", queue, QueueUrl=queue, AttributeNames=names)
        return int(answer["Attributes"][names[0]]), int(answer["Attributes"][names[1]])


def _ago(seconds: float) -> str:
    """A time that has passed, for people."""
    whole = max(0, round(seconds))
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if whole >= 2 * size:
            return f"{whole // size} {unit} ago"
    return f"{whole} s ago"
