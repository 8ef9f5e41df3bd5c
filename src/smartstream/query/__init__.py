"""Query: SQL over the lake with DuckDB, read-only.

The walk: ``duckdb.open_lake`` plans every table and makes a view of it
(``relation`` is the SQL of one); ``statement.run_sql`` checks one statement, runs
it within its time and hands out the result as text or Parquet.

The past comes from the raw zone: ``past`` says which files tell about a table,
``version_index`` and ``versions`` make its versions of them, ``cleaning`` leads these
through the rules, ``history`` makes views of them; ``as_of`` finds the LSN of a moment.
``life`` and ``why`` tell of one row.
"""

from smartstream.query.as_of import parse_moment
from smartstream.query.duckdb import open_lake
from smartstream.query.statement import OUTPUTS, run_sql

__all__ = ["OUTPUTS", "open_lake", "parse_moment", "run_sql"]
