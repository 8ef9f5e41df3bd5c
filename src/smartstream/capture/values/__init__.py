"""Values: PostgreSQL's text and binary forms as Arrow, exactly or flagged."""

from smartstream.capture.values.cast import cast
from smartstream.capture.values.rows import changelog, lacks_values
from smartstream.capture.values.snapshot import from_snapshot, snapshot_expression
from smartstream.capture.values.typed import Cast
from smartstream.capture.values.untyped import untyped_json

__all__ = [
    "Cast",
    "cast",
    "changelog",
    "from_snapshot",
    "lacks_values",
    "snapshot_expression",
    "untyped_json",
]
