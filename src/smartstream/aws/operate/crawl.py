"""Glue: crawlers, and the tables of the catalogue."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from smartstream.aws.operate.calls import Aws, code_of
from smartstream.aws.operate.stack import StackOutputs
from smartstream.aws.operate.waiting import Patience
from smartstream.errors import AwsRefused


@dataclass(frozen=True, slots=True)
class Crawled:
    """How a crawler's last run ended.

    Attributes:
        status: in Glue's words, ``SUCCEEDED``.
        reason: Glue's message, None without one.
    """

    crawler: str
    status: str
    reason: str | None

    @property
    def ok(self) -> bool:
        """Whether it did its work."""
        return self.status == "SUCCEEDED"


def crawl(aws: Aws, stack: StackOutputs, patience: Patience) -> list[Crawled]:
    """Start every crawler of the stack that does not run, and wait until all have ended.

    Raises:
        AwsTooSlow: one has not ended in time; it goes on.
    """
    names = stack.texts("glue_crawlers")
    for name in names:
        try:
            aws.change("glue", "start_crawler", f"crawler {name}", Name=name)
        except AwsRefused as error:
            if code_of(error) != "CrawlerRunningException":
                raise
    if aws.is_dry:
        return []
    return [patience.until(f"crawler {name}", partial(_ended, aws, name)) for name in names]


def tables(aws: Aws, stack: StackOutputs) -> dict[str, tuple[str, ...]]:
    """Return the names of the catalogue's tables by zone."""
    found = {}
    for zone, database in stack.mapping("glue_databases").items():
        listed = aws.pages("glue", "get_tables", f"database {database}", "TableList", DatabaseName=database)
        found[zone] = tuple(sorted(str(one["Name"]) for one in listed))
    return found


def _ended(aws: Aws, name: str) -> tuple[Crawled | None, str]:
    """How a crawler's run ended, None while it runs."""
    found: Mapping[str, Any] = aws.ask("glue", "get_crawler", f"crawler {name}", Name=name)["Crawler"]
    state, last = str(found["State"]), found.get("LastCrawl") or {}
    if state != "READY":
        return None, state.lower()
    status = str(last.get("Status", "SUCCEEDED"))
    return Crawled(name, status, last.get("ErrorMessage")), status.lower()
