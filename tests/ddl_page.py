"""docs/schema-changes.md, made from the table of cases that the tests run."""

from __future__ import annotations

import sys

from tests.ddl_cases import CASES

HEAD = """# Changes of a table's schema

What SmartStream does when the source's tables change, while rows are written all the time. This page is
made from the table that the tests run: each change below is made on a real server under a writer that never
rests, then every row of the lake is compared with the source's.

*follows it*: no row is read again and nothing is replayed; the change takes effect in the lake at its place
among the changes of rows. *copies the table anew*: PostgreSQL rewrote rows, or rows came or went, without
a word in the stream; SmartStream sees it in the catalog (`source.discover_every`) and reads the table again
beside the running stream; until that is done readers see the table as it was before. Where several changes
between two looks leave a doubt, the table is copied.

| change | SmartStream | the lake has |
|---|---|---|
"""

TAIL = """
## What stops the pipeline, and what isn't seen

- A table that **loses its key** (`DROP CONSTRAINT …_pkey`, `REPLICA IDENTITY NOTHING`, the index of its
  replica identity dropped, another `REPLICA IDENTITY` of one partition) can't be followed: its updates and
  deletes name no row. A typed error names it.
- A change that a table's **[contract](contracts.md)** refuses stops the pipeline with `SchemaFrozen`, which
  names table, column and LSN.
- Another **key** is followed where rows have values in it. A table that has rows in the
  [quarantine](transform.md) is copied anew, and so is one whose new key has a column that was added and
  dropped again before the pipeline looked: nobody knows its default any more.
- A column that was **added with a default and dropped** before the pipeline looked is null, in history, in
  rows that nobody wrote meanwhile.
- A table whose **copy fails again and again**, though it does not change, stops the pipeline with
  `CopyFailed`.
- A table that is **renamed, or moved to another schema**, is another table: it is copied under its new
  name, the old one stays in the lake as it was. `exclude` and `include` patterns are of the new name.
- `ALTER COLUMN … TYPE bigint USING n * 2`, a **wider type with other values** at once, can't be told from the
  plain widening in PostgreSQL's catalog: run `smartstream resync TABLE` after such a statement.
  `smartstream verify --rows` shows whether it is needed.
- A **partition that comes, is written to and leaves again** (detached or dropped), all before the pipeline
  looked (`source.discover_every`), leaves in the lake what was written while it was one: its rows arrive as
  the root's, and afterwards the catalog knows nothing of it. Run `smartstream resync TABLE` after such a job.
- When a name **passes to another table** (dropped and created again, or two tables renamed in one
  transaction), the stream is followed to that point first; what the table before wrote just before its end
  stays with it.
"""


def page() -> str:
    """docs/schema-changes.md."""
    rows = []
    for case in CASES:
        change = case.change + (f" (PostgreSQL {case.needs})" if case.needs else "")
        rows.append(f"| {change} | {case.effect.value} | {case.sees} |\n")
    return HEAD + "".join(rows) + TAIL


if __name__ == "__main__":
    sys.stdout.write(page())
