"""One copy worker's connections to the source, kept while it has work."""

from __future__ import annotations

from contextlib import suppress

import adbc_driver_postgresql.dbapi as adbc
import psycopg

from smartstream.capture.connect import ADBC_ERRORS, Source, adbc_connect, connect


class CopySessions:
    """A connection for questions and one for rows, opened when they are first needed.

    Opening them takes longer than copying a small table.  They are closed after an
    error, and when nothing is left to copy: a server that shuts down waits for them.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._plain: psycopg.Connection[tuple[object, ...]] | None = None
        self._bulk: adbc.Connection | None = None

    def plain(self) -> psycopg.Connection[tuple[object, ...]]:
        """For questions; in autocommit.

        Raises:
            as ``connect``.
        """
        if self._plain is None:
            self._plain = connect(self._source)
        return self._plain

    def bulk(self) -> adbc.Connection:
        """For rows.

        Raises:
            as ``adbc_connect``.
        """
        if self._bulk is None:
            self._bulk = adbc_connect(self._source)
        return self._bulk

    def close(self) -> None:
        """Close what is open; it is opened again when it is needed."""
        plain, bulk, self._plain, self._bulk = self._plain, self._bulk, None, None
        if plain is not None:
            plain.close()
        if bulk is not None:
            with suppress(*ADBC_ERRORS):  # it is broken already
                bulk.close()
