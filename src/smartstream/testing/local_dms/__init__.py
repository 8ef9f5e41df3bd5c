"""A stand-in for AWS DMS that really replicates: from a local PostgreSQL into a Kinesis API.

Terraform and boto3 talk to it as to DMS; its tasks load tables and follow a logical slot, and
put records of DMS's shape into the stream, with DMS's documented limits: no TRUNCATE, no
partitioned tables (only their partitions), plain NUMERIC as NUMERIC(28,6), large objects cut
off at LobMaxSize, integers of many digits through a double, unchanged TOASTed values lost
unless the table's replica identity is full, DDL only as the event trigger tells it, and
everything at least once.  It doesn't share code with what decodes these records.

What AWS documents nowhere, and what is therefore a guess: the bodies of control records other
than create-table's, the names of types besides INT32, STRING and TIMESTAMP, numbers that don't
fit, the two LSNs of a stream position in transactions of several changes.  ``values`` and
``records`` say which guess.  Left out: IAM, TLS, logs and validation, and changing a task that
was made.  Filters, transformations and mappings to documents are refused.
"""

from smartstream.testing.local_dms.api import LocalDms
from smartstream.testing.local_dms.resources import Refused
from smartstream.testing.local_dms.server import serve
from smartstream.testing.local_dms.settings import Quirks

__all__ = ["LocalDms", "Quirks", "Refused", "serve"]
