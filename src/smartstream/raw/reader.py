"""Raw files back into changelog rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pyarrow as pa
import pyarrow.parquet as pq

from smartstream.errors import RawCorrupt, StoreUnavailable
from smartstream.manifest import RawFile
from smartstream.raw.store import Store
from smartstream.raw.writer import SCHEMA_KEY
from smartstream.schema import TableSchema

_BATCH_ROWS = 65_536


def read_batches(
    store: Store, file: RawFile, columns: Sequence[str] | None = None
) -> Iterator[pa.RecordBatch]:
    """A raw file's rows, in order, in pieces of bounded size.

    Raises:
        RawCorrupt: the file is missing or damaged, or holds other rows than the manifest says.
    """
    with _opened(store, file) as parquet:
        names = None if columns is None else list(columns)
        yield from parquet.iter_batches(batch_size=_BATCH_ROWS, columns=names)


def read_schema(store: Store, file: RawFile) -> TableSchema:
    """The schema of a raw file's rows.

    Raises:
        RawCorrupt: as ``read_batches``.
    """
    with _opened(store, file) as parquet:
        metadata = parquet.schema_arrow.metadata or {}
        return TableSchema.from_json(metadata[SCHEMA_KEY].decode())


@contextmanager
def _opened(store: Store, file: RawFile) -> Iterator[pq.ParquetFile]:
    """The file, checked against its manifest entry."""
    try:
        with store.filesystem.open_input_file(store.path(file.path)) as source:
            parquet = pq.ParquetFile(source)
            if parquet.metadata.num_rows != file.row_count:
                found = parquet.metadata.num_rows
                raise RawCorrupt(f"{file.path} holds {found} rows; its manifest entry says {file.row_count}")
            yield parquet
    except FileNotFoundError:
        raise RawCorrupt(f"{file.path} is missing, but its manifest entry exists") from None
    except (pa.ArrowInvalid, KeyError, ValueError) as error:
        raise RawCorrupt(f"{file.path} is damaged: {type(error).__name__}") from error
    except OSError as error:
        if store.filesystem.type_name != "local":
            raise StoreUnavailable(f"{file.path}: {type(error).__name__}") from error
        raise RawCorrupt(f"{file.path} can't be read: {type(error).__name__}") from error
