"""Names and texts as SQL writes them, the same in PostgreSQL and DuckDB."""

from __future__ import annotations


def quoted(name: str) -> str:
    """Return ``name`` as a SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """Return ``text`` as a SQL string."""
    return "'" + text.replace("'", "''") + "'"
