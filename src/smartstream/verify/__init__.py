"""Verify: proof that the lake holds what the source holds, row for row.

The walk: ``source`` reads the source as of one exact LSN; ``lake`` brings the trusted
tables to the same LSN (``overlay``); both make the same text of each value
(``canonical``) and sum up hashes of rows; ``compare`` looks for differences.
"""

from smartstream.verify.compare import verify
from smartstream.verify.report import DifferingKey, Report, TableReport

__all__ = ["DifferingKey", "Report", "TableReport", "verify"]
