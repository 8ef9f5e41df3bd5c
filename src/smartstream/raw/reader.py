"""Raw files back into changelog rows."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import pyarrow as pa
import pyarrow.parquet as pq

from smartstream.errors import LakeError, LakeNotWritable, RawCorrupt, StoreUnavailable
from smartstream.manifest import RawFile
from smartstream.raw.store import Store
from smartstream.raw.writer import CHECKSUM_KEY, SCHEMA_KEY
from smartstream.schema import TableSchema

_BATCH_ROWS = 65_536
_S3_ANSWER = "AWS Error"  # in the message of every failed request; damage reads otherwise
_S3_DENIAL = "ACCESS_DENIED"


def read_batches(
    store: Store, file: RawFile, columns: Sequence[str] | None = None
) -> Iterator[pa.RecordBatch]:
    """A raw file's rows, in order, in pieces of at most 65536 rows.

    Checks size, row count, column names and types, and the checksum of every page it
    reads: what it yields is what was written.  The error may come after some pieces.

    Args:
        columns: names of the columns to read; all when None.
    Raises:
        RawCorrupt: the file is missing or damaged, or holds other rows than the manifest says.
        StoreUnavailable, LakeNotWritable: the store can't be asked.
    """
    with _opened(store, file) as parquet:
        names = parquet.schema_arrow.names if columns is None else list(columns)
        missing = sorted(set(names).difference(parquet.schema_arrow.names))
        if missing:
            raise RawCorrupt(f"{file.path} has no column {', '.join(missing)}")
        row_count = 0
        for batch in parquet.iter_batches(batch_size=_BATCH_ROWS, columns=names, use_threads=False):
            row_count += batch.num_rows
            yield batch
        _check(file, "rows", row_count, file.row_count)


def read_chosen(
    store: Store,
    file: RawFile,
    columns: Sequence[str],
    choose: Callable[[pa.Table], pa.BooleanArray],
    *,
    skip: Callable[[pq.RowGroupMetaData], bool],
) -> tuple[TableSchema, pa.Table]:
    """The rows of a raw file that ``choose`` picks, in order, and their schema.

    Reads ``columns`` of the row groups that ``skip`` does not refuse, and all columns only
    where something was picked.

    Args:
        choose: (n, columns) → (n,) which rows.
    Raises:
        RawCorrupt, StoreUnavailable, LakeNotWritable: as ``read_batches``.
    """
    with _opened(store, file) as parquet:
        pieces = [parquet.schema_arrow.empty_table()]
        for group in range(parquet.num_row_groups):
            if skip(parquet.metadata.row_group(group)):
                continue
            chosen = choose(parquet.read_row_group(group, columns=list(columns), use_threads=False))
            if not chosen.true_count:
                continue
            start = 0
            for batch in parquet.iter_batches(_BATCH_ROWS, row_groups=[group], use_threads=False):
                pieces.append(pa.Table.from_batches([batch]).filter(chosen.slice(start, batch.num_rows)))
                start += batch.num_rows
        return _schema(parquet), pa.concat_tables(pieces)


def read_schema(store: Store, file: RawFile) -> TableSchema:
    """The schema of a raw file's rows.

    Raises:
        RawCorrupt, StoreUnavailable, LakeNotWritable: as ``read_batches``.
    """
    with _opened(store, file) as parquet:
        return _schema(parquet)


@contextmanager
def _opened(store: Store, file: RawFile) -> Iterator[pq.ParquetFile]:
    """The file, checked against its manifest entry."""
    remote = store.filesystem.type_name != "local"
    try:
        with store.filesystem.open_input_file(store.path(file.path)) as source:
            _check(file, "bytes", source.size(), file.size_bytes)
            parquet = pq.ParquetFile(source, pre_buffer=remote, page_checksum_verification=True)
            _check(file, "rows", parquet.metadata.num_rows, file.row_count)
            if not parquet.schema_arrow.equals(_schema(parquet).changelog_schema()):
                raise RawCorrupt(f"{file.path} is damaged: its columns are not its table's")
            yield parquet
    except FileNotFoundError:
        raise RawCorrupt(f"{file.path} is missing, but its manifest entry exists") from None
    except (pa.ArrowException, OSError, KeyError, ValueError, TypeError) as error:
        raise _mapped(error, file) from error


def _schema(parquet: pq.ParquetFile) -> TableSchema:
    """The table's schema that the file carries; ValueError or KeyError when it is damaged."""
    metadata = parquet.schema_arrow.metadata or {}
    text = metadata[SCHEMA_KEY]
    if int(metadata[CHECKSUM_KEY], 16) != zlib.crc32(text):
        raise ValueError("the schema's checksum differs")
    return TableSchema.from_json(text.decode())


def _check(file: RawFile, unit: str, found: int, expected: int) -> None:
    """Compare a size with the manifest's."""
    if found != expected:
        raise RawCorrupt(f"{file.path} holds {found} {unit}; its manifest entry says {expected}")


def _mapped(error: Exception, file: RawFile) -> LakeError:
    """Our error for one of Arrow: Arrow has no types of its own to tell damage from a store's trouble."""
    text = str(error)
    if isinstance(error, PermissionError) or _S3_DENIAL in text:
        return LakeNotWritable(f"{file.path} can't be read: permission denied")
    if _S3_ANSWER in text:
        return StoreUnavailable(f"{file.path} can't be read: S3 does not answer")
    if isinstance(error, OSError) and error.errno is not None:  # the system's; Arrow's own has no number
        return LakeError(f"{file.path} can't be read: {error.strerror}")
    return RawCorrupt(f"{file.path} is damaged: {type(error).__name__}")
