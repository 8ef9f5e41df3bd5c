"""DuckDB as the engine of joins and sorts over a trusted table's files."""

from __future__ import annotations

import tempfile

import duckdb

from smartstream.scratch import scratch_folder


class Engine:
    """One in-memory DuckDB with a memory limit, shared by all tables of a process.

    Spills to a folder of its own, removed with the engine.  Never downloads an
    extension.  Thread-safe: each use takes its own cursor.
    """

    def __init__(self, *, memory_bytes: int = 256 << 20, threads: int = 2) -> None:
        self._spill = tempfile.TemporaryDirectory(prefix="spill-", dir=scratch_folder())
        self._connection = duckdb.connect(
            config={
                "memory_limit": f"{memory_bytes}B",
                "threads": threads,
                "temp_directory": self._spill.name,
                "preserve_insertion_order": False,
                "autoinstall_known_extensions": False,
                "autoload_known_extensions": False,
            }
        )

    def cursor(self) -> duckdb.DuckDBPyConnection:
        """Return a connection for one use; the caller closes it."""
        cursor = self._connection.cursor()
        cursor.execute("SET TimeZone = 'UTC'")
        return cursor

    def close(self) -> None:
        """Close DuckDB and remove what it spilled."""
        self._connection.close()
        self._spill.cleanup()
