"""A process of its own for code that is not ours: limited, cut off from secrets, ended when late."""

from __future__ import annotations

import contextlib
import json
import os
import re
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from smartstream.errors import ModelFailed, ModelOutOfMemory, ModelTimeout
from smartstream.inference.models import worker
from smartstream.scratch import scratch_folder

_ENVIRONMENT = ("PATH", "LANG", "LC_ALL", "TZ", "SYSTEMROOT")
ANSWER_BYTES_MAX = 1 << 30
STDERR_BYTES_MAX = 16 << 10
_PIECE = 1 << 20
_NO_MEMORY = re.compile(rb"bad_alloc|MemoryError|Cannot allocate memory|out of memory", re.IGNORECASE)
# A place in a traceback: all of what the code printed that is shown, since the rest may be row values.
_PLACE = re.compile(rb'File "[^"\n]*?([\w.-]+)", line (\d+)')


class WorkerProcess:
    """A running worker (see ``worker``); one question at a time."""

    def __init__(
        self,
        what: str,
        files: Mapping[str, bytes],
        order: Mapping[str, Any],
        *,
        memory: int,
        timeout_s: float,
    ) -> None:
        """Start it.

        Args:
            what: whose code it is, for messages.
            files: written to a private folder, by their names; the order's ``folder`` names it.
            order: what to load; see ``worker``.
            memory: its address space, in bytes.
            timeout_s: of loading, and of each question.
        Raises:
            ModelFailed, ModelTimeout, ModelOutOfMemory: it does not load.
        """
        self._what, self._memory, self._timeout_s = what, memory, timeout_s
        self._stderr, self._is_open = bytearray(), True
        self._folder = tempfile.TemporaryDirectory(prefix="model-", dir=scratch_folder())
        home, place = (Path(self._folder.name) / name for name in ("home", "model"))
        for path in (home, place):
            path.mkdir()
        for name, data in files.items():
            path = place / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        self._process = self._start(home)
        self.ask(json.dumps({**order, "folder": str(place), "memory": memory}).encode())

    def ask(self, data: bytes) -> bytes:
        """Send a message, wait for its answer.

        Raises:
            ModelFailed: the code raises, or its process is gone.
            ModelTimeout, ModelOutOfMemory: it was ended for that.
        """
        if not self._is_open:
            raise ModelFailed(f"{self._what}: its process has ended")
        deadline = time.monotonic() + self._timeout_s
        try:
            self._write(len(data).to_bytes(8, "big") + data, deadline)
            size = int.from_bytes(self._read(8, deadline), "big")
            if not 0 < size <= ANSWER_BYTES_MAX:
                raise ModelFailed(f"{self._what}: its answer is larger than {ANSWER_BYTES_MAX >> 20} MiB")
            answer = self._read(size, deadline)
        except BaseException:
            self.close()  # what was half said can't be continued
            raise
        kind, rest = answer[:1], answer[1:]
        if kind == worker.ANSWER:
            return rest
        self.close()
        if kind == worker.OUT_OF_MEMORY:
            raise self._too_large()
        raise ModelFailed(f"{self._what}: its code fails: {rest.decode(errors='replace')}")

    def close(self) -> None:
        """End the process and what it has started."""
        if not self._is_open:
            return
        self._is_open = False
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()
        self._folder.cleanup()

    def _start(self, home: Path) -> subprocess.Popen[bytes]:
        """Start the worker in a group of its own, with none of our environment's secrets."""
        environment = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
        environment |= {
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            "PYTHONDONTWRITEBYTECODE": "1",
            "HOME": str(home),
            "TMPDIR": str(home),
            "OMP_NUM_THREADS": "2",
            "OPENBLAS_NUM_THREADS": "2",
        }
        # By its path, and without that in sys.path: a file beside it must not pass for a library.
        process = subprocess.Popen(
            [sys.executable, "-P", worker.__file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=home,
            env=environment,
            bufsize=0,
            start_new_session=True,
        )
        assert process.stdin is not None
        os.set_blocking(process.stdin.fileno(), False)
        return process

    def _write(self, data: bytes, deadline: float) -> None:
        """Send all of ``data``."""
        pipe, left = self._process.stdin, memoryview(data)
        while left:
            self._wait(pipe, selectors.EVENT_WRITE, deadline)
            try:
                left = left[os.write(pipe.fileno(), left[:_PIECE]) :]  # type: ignore[union-attr]
            except BrokenPipeError as error:
                raise self._died() from error

    def _read(self, size: int, deadline: float) -> bytes:
        """Exactly ``size`` bytes of the answer."""
        pipe, data = self._process.stdout, bytearray()
        while len(data) < size:
            self._wait(pipe, selectors.EVENT_READ, deadline)
            piece = os.read(pipe.fileno(), min(_PIECE, size - len(data)))  # type: ignore[union-attr]
            if not piece:
                raise self._died()
            data += piece
        return bytes(data)

    def _wait(self, pipe: IO[bytes] | None, event: int, deadline: float) -> None:
        """Wait until a pipe is ready; meanwhile take what the code prints, or it would stop there."""
        assert pipe is not None and self._process.stderr is not None
        with selectors.DefaultSelector() as selector:
            selector.register(pipe, event)
            selector.register(self._process.stderr, selectors.EVENT_READ)
            while True:
                ready = selector.select(max(0.0, deadline - time.monotonic()))
                if not ready:
                    raise ModelTimeout(f"{self._what} took longer than {self._timeout_s:g} s")
                files = [key.fileobj for key, _ in ready]
                if self._process.stderr in files and not self._take_stderr():
                    selector.unregister(self._process.stderr)
                if pipe in files:
                    return

    def _take_stderr(self) -> bool:
        """Keep the end of what is printed; False when nothing will come any more."""
        assert self._process.stderr is not None
        piece = os.read(self._process.stderr.fileno(), 1 << 16)
        self._stderr += piece
        del self._stderr[:-STDERR_BYTES_MAX]
        return bool(piece)

    def _died(self) -> ModelFailed | ModelOutOfMemory:
        """Why the process is gone."""
        try:
            code = self._process.wait(1.0)
        except subprocess.TimeoutExpired:
            return ModelFailed(f"{self._what}: its process closed its pipes")
        os.set_blocking(self._process.stderr.fileno(), False)  # type: ignore[union-attr]
        with contextlib.suppress(BlockingIOError):  # what it started may still hold the pipe
            while self._take_stderr():
                pass
        # Nobody but the system kills it from outside, and it does so for memory.
        if code == -signal.SIGKILL or _NO_MEMORY.search(self._stderr):
            return self._too_large()
        how = f"by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
        places = _PLACE.findall(self._stderr)
        where = f", at line {places[0][1].decode()} of {places[0][0].decode()}" if places else ""
        return ModelFailed(f"{self._what}: its process ended by itself, {how}{where}")

    def _too_large(self) -> ModelOutOfMemory:
        """It asked for more memory than it may have."""
        return ModelOutOfMemory(f"{self._what} needs more than {self._memory >> 20} MiB")
