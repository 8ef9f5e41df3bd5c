"""Raw objects as Firehose delivers them: gzip, one JSON record a line."""

from __future__ import annotations

import gzip
import zlib
from typing import IO

from smartstream.errors import RawCorrupt

_PIECE_BYTES = 1 << 20


def count_lines(body: IO[bytes], name: str) -> int:
    """Return the number of lines of a gzip object, an unfinished last one included.

    Reads in pieces, so that memory does not depend on the object's size.  Does not
    look into the lines.

    Raises:
        RawCorrupt: ``name`` is not gzip, or ends too early.
    """
    count, last = 0, b"\n"
    try:
        with gzip.GzipFile(fileobj=body, mode="rb") as file:
            while piece := file.read(_PIECE_BYTES):
                count += piece.count(b"\n")
                last = piece[-1:]
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise RawCorrupt(f"{name} is not a whole gzip file") from error
    return count + (last != b"\n")
