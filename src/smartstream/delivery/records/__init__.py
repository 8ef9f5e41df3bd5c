"""Records of DMS, as Firehose writes them into objects, decoded.

Read in this order: ``lines`` (bytes to lines), ``parsed`` (the fast way) and ``exact`` (the
slow one), ``values`` (a column back to PostgreSQL's text and types), ``place`` (where a change
stands), ``rows`` (a changelog, and what is damaged), ``control`` (definitions), ``decode``.
Pure: nothing here opens a file or asks AWS.
"""

from smartstream.delivery.records.decode import DAMAGED_SCHEMA, Decoded, read_object
from smartstream.delivery.records.options import Options

__all__ = ["DAMAGED_SCHEMA", "Decoded", "Options", "read_object"]
