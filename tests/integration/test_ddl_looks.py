"""A look at the catalog that is older than what the stream, or a copy, has told since."""

from __future__ import annotations

import threading
from pathlib import Path

import psycopg
import pytest

from smartstream.pipeline.capture_loop import CaptureLoop
from smartstream.schema import TableSchema
from tests.running_pipeline import assert_equal, running, settings_for, wait_until


@pytest.mark.parametrize("default", ["0", "(random() * 100)::int"], ids=["told_by_a_row", "told_by_a_copy"])
def test_a_look_never_takes_a_younger_column_away(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, default: str
) -> None:
    follows, apply = threading.Event(), CaptureLoop._apply_findings
    follows.set()
    monkeypatch.setattr(
        CaptureLoop, "_apply_findings", lambda loop: apply(loop) if follows.is_set() else None
    )
    settings = settings_for(database, tmp_path)
    with psycopg.connect(database, autocommit=True) as admin:
        admin.execute("CREATE TABLE t (id int PRIMARY KEY)")
        admin.execute("INSERT INTO t SELECT generate_series(1, 5)")
        with running(settings) as pipeline:

            def logged() -> list[str]:
                assert pipeline._journal is not None
                schema = TableSchema.from_json(pipeline._journal.state.tables["public.t"].schema)
                return [column.name for column in schema.columns]

            assert_equal(settings)
            follows.clear()
            admin.execute("ALTER TABLE t ADD COLUMN older int")
            wait_until(lambda: bool(pipeline._drift))
            with monkeypatch.context() as blind:
                blind.setattr(pipeline, "_discover", lambda capture: None)
                admin.execute(f"ALTER TABLE t ADD COLUMN younger int DEFAULT {default}".encode())
                admin.execute("UPDATE t SET younger = -id WHERE id < 4")
                wait_until(lambda: "younger" in logged())
                follows.set()
                wait_until(lambda: not pipeline._drift)
                assert logged() == ["id", "older", "younger"]
            assert_equal(settings)
