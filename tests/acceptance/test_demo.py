"""``smartstream demo`` proves itself, can be interrupted, and fails when a row differs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from smartstream.config import Settings, load
from smartstream.demo import run as demo
from smartstream.verify import Report, verify

SOURCE = Path(demo.__file__).parents[2]
KEYS = {"verified", "tables", "rows", "changes", "changes_per_s", "lag_ms_p50", "lag_ms_p99", "predictions"}


@pytest.fixture
def temporary() -> Iterator[Path]:
    """A folder for temporary files that the server's user can enter, too."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def start(*arguments: str, temporary: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "smartstream", "demo", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(SOURCE), "TMPDIR": str(temporary)},
        # Where the tests run in the background of a shell, Ctrl-C is ignored, and by what they start as well.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def test_the_demo_verifies_every_row_and_says_so_in_json(temporary: Path) -> None:
    run = start("--seconds", "6", "--rows", "2000", "--json", temporary=temporary)
    output, errors = run.communicate(timeout=120)
    assert run.returncode == 0, errors
    found: dict[str, Any] = json.loads(output)
    assert set(found) == KEYS
    assert found["verified"] is True
    assert found["tables"] == 6
    assert found["rows"] > 6000
    assert found["changes"] > 1000
    assert 0 < found["lag_ms_p50"] <= found["lag_ms_p99"]
    assert not errors
    # onnxruntime leaves a file of its own, .ses, wherever it is imported.
    left = [path for path in temporary.iterdir() if path.name != ".ses"]
    assert left == [], "what nobody is told of is removed"


def test_ctrl_c_ends_the_demo_cleanly(temporary: Path) -> None:
    run = start("--seconds", "600", "--rows", "1000", temporary=temporary)
    assert run.stdout is not None
    for line in run.stdout:
        if line.startswith("3."):
            break
    time.sleep(1)
    begin = time.monotonic()
    run.send_signal(signal.SIGINT)
    _, errors = run.communicate(timeout=60)
    assert run.returncode == 130
    assert time.monotonic() - begin < 20
    assert "Traceback" not in errors
    left = [path.name for path in temporary.iterdir() if path.name.startswith("smartstream-pg")]
    assert left == [], "the server and its folder are gone"


def test_a_row_that_differs_fails_the_demo(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def verify_after_damage(settings: Settings, **options: Any) -> Report:
        """Change a row behind the stream's back, as a lost change would."""
        report = verify(settings, **options)
        assert report.ok
        with psycopg.connect(settings.source.url.reveal()) as connection:
            connection.execute("ALTER PUBLICATION smartstream DROP TABLE badges")
            connection.execute(
                "UPDATE badges SET employee_id = -1 WHERE code = (SELECT min(code) FROM badges)"
            )
        return verify(settings, **options)

    monkeypatch.setattr(demo, "verify", verify_after_damage)
    code = demo.run_demo(seconds=3, rows=1000, json_output=True, directory=tmp_path / "demo")
    assert code == 1
    assert json.loads(capsys.readouterr().out)["verified"] is False


def test_the_demo_leaves_a_project_in_which_commands_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "demo"
    assert demo.run_demo(seconds=3, rows=1000, directory=folder) == 0
    shown = capsys.readouterr().out
    assert "every row equal" in shown
    assert str(folder / "lake") in shown
    for question, _ in demo.QUESTIONS:
        assert question in shown
    assert load(folder / "smartstream.yaml").lake.warehouse == str(folder / "lake")
    assert (folder / "source-url").stat().st_mode & 0o777 == 0o600
    answer = subprocess.run(
        [
            sys.executable,
            "-m",
            "smartstream",
            "sql",
            "SELECT count(*) AS n FROM departments",
            "-o",
            "json",
        ],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
    )
    assert "40" in answer.stdout
