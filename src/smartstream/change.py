"""What a change is: its operations, its total order, its columns in the changelog.

Changes are totally ordered by ``(_commit_lsn, _ordinal)``: transactions by the
LSN of their commit record, changes within one by their position in it.  Snapshot
rows carry the LSN at which their table's copy began and ordinal -1, so every
streamed change that matters to them comes after.
"""

from __future__ import annotations

from typing import Final

import pyarrow as pa

OP: Final = "_op"
COMMIT_LSN: Final = "_commit_lsn"
ORDINAL: Final = "_ordinal"
COMMIT_TS: Final = "_commit_ts"
XID: Final = "_xid"
UNCHANGED: Final = "_unchanged"
OLD_KEY: Final = "_old_key"
UNTYPED: Final = "_untyped"

READ: Final = "r"  # a row of the snapshot copy
INSERT: Final = "i"
UPDATE: Final = "u"
DELETE: Final = "d"
TRUNCATE: Final = "t"

SNAPSHOT_ORDINAL: Final = -1

CHANGE_FIELDS: Final[tuple[pa.Field, ...]] = (
    pa.field(OP, pa.string()),
    pa.field(COMMIT_LSN, pa.int64()),
    pa.field(ORDINAL, pa.int64()),
    pa.field(COMMIT_TS, pa.timestamp("us", tz="UTC")),
    pa.field(XID, pa.int64()),
    pa.field(UNCHANGED, pa.list_(pa.field("element", pa.string()))),
)
"""The changelog's leading fields.

``_unchanged`` lists the columns whose TOASTed value the server did not send
(null: all were sent).  After them come ``_old_key`` (a struct of the key columns
before an update or null when the key kept its value), ``_untyped`` (a JSON object
column → PostgreSQL's own text, for values that the column's Arrow type cannot
hold exactly; null when there are none) and the table's own columns.
"""
