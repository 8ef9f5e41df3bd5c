"""What a task tells its subscribers: a message to an SNS topic when it starts, stops or fails."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime

from botocore.exceptions import ClientError

from smartstream.testing.local_dms.endpoints import Clients
from smartstream.testing.local_dms.resources import Body

_LINK = "http://docs.aws.amazon.com/dms/latest/userguide/CHAP_Events.html#"


@dataclass(frozen=True)
class Notice:
    """An event: its number, category and message are those of AWS's list."""

    number: str
    category: str
    message: str


STARTED = Notice("DMS-EVENT-0069", "state change", "The replication task has started.")
STOPPED = Notice("DMS-EVENT-0079", "state change", "The replication task has stopped.")
FAILED = Notice("DMS-EVENT-0078", "failure", "A replication task has failed.")


@dataclass(frozen=True)
class Publisher:
    """Sends events to the topics of those who subscribed.

    Attributes:
        subscriptions: what there is of them when it is asked, as DMS describes them.
    """

    clients: Clients
    region: str
    subscriptions: Callable[[], Iterable[Body]]

    def publish(self, task: str, notice: Notice, moment: datetime) -> None:
        """Send an event of a task to each topic that waits for its category.

        A topic that doesn't take it is told in the subscription's status.
        """
        for subscription in self.subscriptions():
            if not _waits(subscription, notice, task):
                continue
            console = f"https://console.aws.amazon.com/dms/home?region={self.region}"
            body = {
                "Event Source": "replication-task",
                "Event Time": f"{moment:%Y-%m-%d %H:%M:%S}.{moment.microsecond // 1000:03d}",
                "Identifier Link": f"{console}#tasks:ids={task}",
                "SourceId": task,
                "Event ID": _LINK + notice.number,
                "Event Message": notice.message,
            }
            try:
                self.clients("sns").publish(
                    TopicArn=subscription["SnsTopicArn"],
                    Subject="DMS Notification Message",
                    Message=json.dumps(body),
                )
            except ClientError:
                subscription["Status"] = "topic-not-exist"


def _waits(subscription: Body, notice: Notice, task: str) -> bool:
    """Whether a subscription is for this event; without names or categories it is for all."""
    return (
        subscription.get("Enabled", True)
        and subscription.get("SourceType") in (None, "replication-task")
        and (not subscription.get("SourceIdsList") or task in subscription["SourceIdsList"])
        and (
            not subscription.get("EventCategoriesList")
            or notice.category in subscription["EventCategoriesList"]
        )
    )
