"""A backlog from the slot into raw and into trusted, beside pg_recvlogical of the same backlog."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from typing import Any

from benchmarks.setting import (
    check,
    create_orders,
    create_slot,
    lake,
    make_backlog,
    receive,
    server,
    timed,
    wal_end,
)
from smartstream.capture.connect import connect
from smartstream.config import Settings
from smartstream.lsn import parse_lsn
from smartstream.pipeline import Pipeline, discover
from smartstream.pipeline.capture_loop import CaptureLoop
from smartstream.pipeline.drift import Drift
from smartstream.pipeline.journal import Journal
from smartstream.pipeline.progress import Meter
from smartstream.pipeline.tables import CapturedTables
from smartstream.raw.manifest_log import ManifestLog
from smartstream.raw.store import open_store
from smartstream.raw.writer import RawWriter


def run(changes: int) -> dict[str, Any]:
    """Changes per second of each, and the ratios to the baseline."""
    with server() as running, lake(running.url) as settings:
        create_orders(running.url, changes)
        Pipeline(settings).run(once=True)
        create_slot(running.url, "baseline")
        make_backlog(running.url, changes)
        end = wal_end(running.url)
        baseline = timed(lambda: receive(running, "baseline", end))
        raw = timed(lambda: _capture(settings, parse_lsn(end)))
        trusted = timed(lambda: Pipeline(settings).run(once=True))  # what was just captured
        make_backlog(running.url, changes)
        end = wal_end(running.url)
        baseline_again = timed(lambda: receive(running, "baseline", end))
        both = timed(lambda: Pipeline(settings).run(once=True))
        check(settings)
    return {
        "changes": changes,
        "pg_recvlogical_per_s": round(changes / baseline),
        "to_raw_per_s": round(changes / raw),
        "to_raw_ratio": round(baseline / raw, 2),
        "raw_to_trusted_per_s": round(changes / trusted),
        "pg_recvlogical_again_per_s": round(changes / baseline_again),
        "to_trusted_per_s": round(changes / both),
        "to_trusted_ratio": round(baseline_again / both, 2),
    }


def _capture(settings: Settings, target: int) -> None:
    """Read the slot into the raw zone, without an applier."""
    store = open_store(settings.lake)
    log = ManifestLog(store, lambda: datetime.now(UTC))
    log.load()
    with connect(settings.source) as connection:
        tables = CapturedTables(discover(connection, settings, {}))
    loop = CaptureLoop(
        settings,
        journal=Journal(log, payload_bytes_max=0),
        writer=RawWriter(store, lambda: datetime.now(UTC)),
        tables=tables,
        start_copy=lambda schema, **how: None,
        meter=Meter(),
        stop=threading.Event(),
        drift=Drift(),
    )
    loop.run(lambda: target)
