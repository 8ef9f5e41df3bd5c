"""Trusted tables: the current, clean state of each source table, in Apache Iceberg.

The walk: ``catalog`` opens the catalog; ``table`` is one trusted table; ``files``
writes its data files; ``locate`` finds the rows that a batch of changes replaces;
``rowdelta`` swaps the metadata: new files, position deletes and the position in
the stream become visible in one step; ``maintenance`` keeps it fast and small.
pyiceberg is used here and nowhere else.
"""

from smartstream.trusted.catalog import open_catalog
from smartstream.trusted.engine import Engine
from smartstream.trusted.locate import Located
from smartstream.trusted.maintenance import MaintenanceReport, maintain
from smartstream.trusted.position import Position
from smartstream.trusted.table import TrustedTable

__all__ = [
    "Engine",
    "Located",
    "MaintenanceReport",
    "Position",
    "TrustedTable",
    "maintain",
    "open_catalog",
]
