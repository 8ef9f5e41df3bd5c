"""A trusted table with durable changes laid over it that it does not hold yet."""

from __future__ import annotations

from collections.abc import Sequence

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from smartstream.change import COMMIT_LSN, UNTYPED
from smartstream.errors import VerifyError
from smartstream.manifest import RawFile
from smartstream.raw.reader import read_batches, read_schema
from smartstream.raw.store import Store
from smartstream.schema import Column, TableSchema
from smartstream.sql_text import quoted
from smartstream.transform.fold import NetChanges, fill, fold, wanted_keys


def column_name(column: Column) -> str:
    """The name of a source column in a table's SQL: free of clashes, and the same after a rename."""
    return f"c{column.attnum}"


def changes_before(
    store: Store, files: Sequence[RawFile], schema: TableSchema, lsn: int, bytes_max: int
) -> pa.Table | None:
    """Return the changes in ``files`` that committed before ``lsn``; None if there are none.

    Raises:
        VerifyError: they are more than ``bytes_max``, or of another schema.
        RawCorrupt: a file is damaged.
    """
    if sum(file.size_bytes for file in files) > bytes_max:
        raise VerifyError("too many changes wait to be applied; verify again when the lake has caught up")
    pieces = []
    for file in files:
        if _shape(read_schema(store, file)) != _shape(schema):
            raise VerifyError("its columns changed while it was compared; verify again")
        pieces += [pa.Table.from_batches([batch]) for batch in read_batches(store, file)]
    if not pieces:
        return None
    changes = pa.concat_tables(pieces)
    changes = changes.filter(pc.less(changes[COMMIT_LSN], lsn))
    return changes if changes.num_rows else None


def overlaid(
    connection: duckdb.DuckDBPyConnection, base: str, changes: pa.Table, schema: TableSchema, number: int
) -> str:
    """Return SQL for ``base`` after ``changes``: c<attnum> for each column, and ``_untyped``.

    Args:
        base: SQL with these columns.
        number: makes the names of registered tables unique on the connection.
    """
    net = fold(changes, schema)
    upserts = net.upserts
    if net.missing:
        upserts = fill(net, _old_rows(connection, base, net, schema, number), schema, exact=True).upserts
    names = [*(column_name(column) for column in schema.columns), UNTYPED]
    columns = ", ".join(names)
    added, touched = f"upserts_{number}", f"touched_{number}"
    upserts = upserts.select([*(column.name for column in schema.columns), UNTYPED])
    connection.register(added, upserts.rename_columns(names))
    if net.truncate:
        return f"SELECT {columns} FROM {added}"
    keys = [column_name(column) for column in schema.key_columns()]
    connection.register(touched, net.keys.rename_columns(keys))
    return (
        f"SELECT {columns} FROM ({base}) ANTI JOIN {touched} USING ({', '.join(keys)}) "
        f"UNION ALL SELECT {columns} FROM {added}"
    )


def _old_rows(
    connection: duckdb.DuckDBPyConnection, base: str, net: NetChanges, schema: TableSchema, number: int
) -> pa.Table:
    """The rows before the changes whose values an update left out."""
    keys = [column_name(column) for column in schema.key_columns()]
    name = f"origins_{number}"
    connection.register(name, wanted_keys(net, schema).rename_columns(keys))
    wanted = [*schema.key, *sorted({missing.column for missing in net.missing} - set(schema.key))]
    columns = [f"{column_name(schema.column(w))} AS {quoted(w)}" for w in wanted]
    live = f"({base}) SEMI JOIN {name} USING ({', '.join(keys)})"
    rows = connection.sql(f"SELECT {', '.join(columns)}, {UNTYPED} FROM {live}").to_arrow_table()
    fields = [pa.field(name, schema.column(name).type.arrow) for name in wanted]
    return rows.cast(pa.schema([*fields, pa.field(UNTYPED, pa.string())]))


def _shape(schema: TableSchema) -> object:
    """What must be the same to treat rows alike."""
    return [(c.name, c.attnum, str(c.type.arrow)) for c in schema.columns], schema.key
