"""SmartStream as a process of its own, to be started, killed and looked at."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

CONFIG = """
version: 1
name: test
source:
  url: "${{env:TEST_SOURCE_URL}}"
  discover_every: 1s
lake: {{warehouse: ./lake}}
tables:
  {pattern}: {{}}
maintenance: {{every: 2s, small_files_max: 6, grace: 5s}}
"""


class Daemon:
    """``smartstream`` in a folder with its own configuration."""

    def __init__(self, folder: Path, url: str, pattern: str = "public.*") -> None:
        self._folder = folder
        self._environment = {**os.environ, "TEST_SOURCE_URL": url}
        (folder / "smartstream.yaml").write_text(CONFIG.format(pattern=pattern))
        self._process: subprocess.Popen[bytes] | None = None
        self._log_start = 0

    def start(self) -> None:
        """Begin ``run``."""
        self._log_start = len(self.log())
        log = open(self._folder / "run.log", "ab")  # noqa: SIM115 - the process keeps it
        with log:
            self._process = subprocess.Popen(
                self._command("run"), env=self._environment, cwd=self._folder, stdout=log, stderr=log
            )

    def wait_running(self, timeout_s: float = 30.0) -> None:
        """Wait for its first line of progress since ``start``."""
        pause = threading.Event()
        for _ in range(int(timeout_s / 0.1)):
            if "tables ready" in self.log()[self._log_start :]:
                return
            pause.wait(0.1)
        raise TimeoutError(self.log())

    def end(self, sent: signal.Signals) -> int:
        """Send a signal and return the exit code; negative: ended by that signal."""
        assert self._process is not None
        self._process.send_signal(sent)
        return self._process.wait(30)

    def alive(self) -> bool:
        """Whether ``run`` goes on."""
        return self._process is not None and self._process.poll() is None

    def log(self) -> str:
        """What ``run`` printed."""
        path = self._folder / "run.log"
        return path.read_text() if path.exists() else ""

    def configure(self, change: Callable[[str], str]) -> None:
        """Rewrite the configuration."""
        path = self._folder / "smartstream.yaml"
        path.write_text(change(path.read_text()))

    def call(self, *arguments: str, verbose: bool = True) -> subprocess.CompletedProcess[str]:
        """Run another command to its end."""
        return subprocess.run(
            self._command(*arguments, verbose=verbose),
            env=self._environment,
            cwd=self._folder,
            capture_output=True,
            text=True,
            check=False,
        )

    def verify(self) -> dict[str, Any]:
        """Catch up, then compare source and lake."""
        once = self.call("run", "--once")
        assert once.returncode == 0, once.stderr + once.stdout
        done = self.call("verify", "--json", "--rows")
        result: dict[str, Any] = json.loads(done.stdout)
        assert done.returncode == (0 if result.get("ok") else 1), done.stderr
        return result

    def _command(self, *arguments: str, verbose: bool = True) -> list[str]:
        return [sys.executable, "-m", "smartstream", *(["-v"] if verbose else []), *arguments]
