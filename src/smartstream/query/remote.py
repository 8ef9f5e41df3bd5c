"""Files in S3 for DuckDB, through pyarrow: the DuckDB wheel carries no S3 client."""

from __future__ import annotations

from typing import Any

import duckdb
import pyarrow.fs
from fsspec.implementations.arrow import ArrowFSWrapper


class _S3(ArrowFSWrapper):  # type: ignore[misc]  # fsspec has no types
    """pyarrow's S3 filesystem under the protocol ``s3``, read-only."""

    protocol = "s3"
    root_marker = ""

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return path.removeprefix("s3://")

    def _open(self, path: str, mode: str = "rb", **options: Any) -> Any:
        if "r" not in mode or "+" in mode:
            raise PermissionError("the lake is open for reading only")
        return super()._open(path, mode, **options)


def register_s3(connection: duckdb.DuckDBPyConnection, filesystem: pyarrow.fs.FileSystem) -> None:
    """Let ``connection`` read ``s3://`` paths through ``filesystem``."""
    connection.register_filesystem(_S3(filesystem))
