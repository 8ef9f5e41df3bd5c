"""Query: SQL over the lake with DuckDB, read-only.

The walk: ``duckdb.open_lake`` plans every table and makes a view of it
(``relation`` is the SQL of one); ``statement.run_sql`` checks one statement, runs
it within its time and hands out the result as text or Parquet.
"""

from smartstream.query.duckdb import open_lake
from smartstream.query.statement import OUTPUTS, run_sql

__all__ = ["OUTPUTS", "open_lake", "run_sql"]
